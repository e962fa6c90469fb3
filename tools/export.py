"""Write a model as one file: ``python tools/export.py --model M --format onnx -o FILE`` is ``avfake export``."""

from __future__ import annotations

import sys

from avfake.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "export")
    main()
