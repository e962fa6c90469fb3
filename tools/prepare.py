"""Cut the clips of a manifest into shards: ``python tools/prepare.py M.jsonl -o SHARDS`` is ``avfake prepare``."""

from __future__ import annotations

import sys

from avfake.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "prepare")
    main()
