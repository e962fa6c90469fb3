"""Where somebody speaks: silero-vad (Silero Team 2021), by an ONNX file of its package, so that torch stays away."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from avfake import FPS, SAMPLES_PER_FRAME
from avfake.judging import runs
from avfake.runtimes.graphs import session

SPEECH_P = 0.5  # silero-vad's own threshold
STEP = 512  # samples that it judges at 16 kHz
CONTEXT = 64  # samples before a step that it sees with it
STATE = np.zeros((1, 1, 128), np.float32)  # what its recurrent layer begins with


class SpeechFinder:
    """Finds speech with silero-vad."""

    def __init__(self, *, threads: int = 1) -> None:
        package = find_spec("silero_vad")  # not imported, for that would import torch
        assert package is not None
        assert package.origin is not None
        model = Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx"
        self._session = session(model.read_bytes(), threads)

    def __call__(self, audio: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return which frames (T,) of audio (640 T,) hold speech; pauses inside of up to 0.25 s are part of it."""
        probability = self.probability(audio)
        frames = len(audio) // SAMPLES_PER_FRAME
        middle = (np.arange(frames) * SAMPLES_PER_FRAME + SAMPLES_PER_FRAME // 2) // STEP
        speech = probability[middle.clip(max=len(probability) - 1)] > SPEECH_P
        for start, end in runs(~speech):
            if start > 0 and end < frames and end - start <= FPS // 4:
                speech[start:end] = True
        return np.asarray(speech)

    def probability(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return P(speech) of every 512 samples of audio (n,) at 16 kHz, the last ones filled up with silence."""
        steps = -(-len(audio) // STEP)
        padded = np.zeros(CONTEXT + steps * STEP, np.float32)
        padded[CONTEXT : CONTEXT + len(audio)] = audio
        parts = np.ascontiguousarray(sliding_window_view(padded, CONTEXT + STEP)[::STEP])
        probability: NDArray[np.float32] = self._session.run(None, {"input": parts, "h": STATE, "c": STATE})[0]
        return probability
