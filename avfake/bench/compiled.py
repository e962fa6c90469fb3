"""torch.compile as a runtime: eager torch with both halves compiled by inductor."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._dynamo.exc import TorchDynamoException

from avfake.bench.measuring import BenchError
from avfake.models import Checkpoint, Scores
from avfake.models.checkpoint import first_line
from avfake.runtimes.eager import TorchRuntime


class CompiledRuntime(TorchRuntime):
    """Compiles each half when it is first asked for: the lip tower for any number of pictures, the rest for a length.

    ``cache`` is a folder for what was compiled. Both methods raise ``BenchError`` where there is no C++ compiler, or
    torch fails to compile for another reason.
    """

    def __init__(self, checkpoint: Checkpoint, cache: Path, *, threads: int) -> None:
        super().__init__(checkpoint, threads=threads)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
        for library in ("torch", "transformers"):
            logging.getLogger(library).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module="torch")  # of what a compiler sees in transformers
        compiled = torch.compile(self._lip_tower.embed_few)

        def embed_few(pictures: Tensor) -> Tensor:
            torch._dynamo.maybe_mark_dynamic(pictures, 0)  # else it is compiled anew for the last few of a clip
            return compiled(pictures)

        self._lip_tower.embed_few = embed_few  # type: ignore[method-assign]
        self.model.score = torch.compile(self.model.score)  # type: ignore[method-assign]

    def embed(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See ``Runtime.embed``."""
        with _failures_told():
            return super().embed(pictures)

    def score(
        self,
        frames: NDArray[np.float32],
        audio: NDArray[np.float32],
        has_lips: NDArray[np.bool_],
        has_audio: NDArray[np.bool_],
    ) -> Scores[NDArray[np.float32]]:
        """See ``Runtime.score``."""
        with _failures_told():
            return super().score(frames, audio, has_lips, has_audio)


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except TorchDynamoException as error:
        raise BenchError(f"torch.compile fails ({first_line(error)})") from error
