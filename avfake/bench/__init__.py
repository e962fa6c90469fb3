"""What detection costs on this machine: the stages of one file, and the runtimes that can run a model (docs/speed.md).

Both are measured from outside, in processes of their own, so nothing in the pipeline knows that it is measured.
"""

from __future__ import annotations

from pathlib import Path

from avfake.bench.measuring import BenchError, in_fresh_process, peak_bytes

__all__ = ["BenchError", "bench", "in_fresh_process", "peak_bytes"]


def bench(path: Path | None, *, model: str | None) -> None:
    """Print what each stage costs on a clip of 10 to 60 s with a face, what each runtime of a model costs, or both.

    A clip alone is measured by stages, with the model mini; a model alone by its runtimes, on a clip that comes with
    avfake; with both, the stages are those of that model and its runtimes run on that clip. Raises ``ValueError``
    for neither, ``AvfakeError`` where the clip or the model cannot be read, and where runtimes find no face in it.
    """
    if path is None and model is None:
        raise ValueError("bench needs a clip, a model or both")
    if path is not None:
        from avfake.bench.stages import print_stages

        print_stages(path, model or "mini")
    if model is not None:
        from avfake.bench.runtimes import print_runtimes

        print_runtimes(path, model)
