"""Train a model: ``python tools/train.py configs/mini.yaml data.shards=runs/shards``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from avfake import AvfakeError
from avfake.config import load_config
from avfake.training.loop import train

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} CONFIG.yaml [key=value ...]")
    try:
        print(f"checkpoint: {train(load_config(Path(sys.argv[1]), sys.argv[2:]))}")
    except AvfakeError as error:
        sys.exit(str(error))
