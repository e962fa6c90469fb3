"""Train a model: ``python tools/train.py CONFIG.yaml data.sources.main.shards=runs/shards`` is ``avfake train``."""

from __future__ import annotations

import sys

from avfake.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
