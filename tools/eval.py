"""Measure a model: ``python tools/eval.py CONFIG.yaml [key=value ...] [--corruptions]`` is ``avfake eval``."""

from __future__ import annotations

import sys

from avfake.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "eval")
    main()
