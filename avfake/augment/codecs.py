"""Round trips through real codecs, in memory: what is lost is what a messenger, a platform or a telephone loses.

PyAV brings the encoders. Pictures and voices come back as many and where they were: what an audio encoder puts in
front (priming) is measured once a process, by correlation, and taken off, so that lips and voice stay aligned.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import av
import cv2
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, AvfakeError
from avfake.augment.voice import band_limit, bounded, resample

BLOCK = 16
"""Side in pixels of the blocks that video codecs work on."""

TELEPHONE = (300.0, 3400.0, 8000)
"""Pass band in Hz and sample rate of a telephone line."""


class CodecError(AvfakeError):
    """This build of PyAV lacks an encoder."""


class _Video(NamedTuple):
    encoder: str
    decoder: str
    options: dict[str, str]  # {} stands for the level
    levels: tuple[int, int]  # best, worst


class _Audio(NamedTuple):
    encoder: str
    decoder: str
    format: str


# Key frames: the first picture only, as in the few seconds that a clip is cut from, so that errors move along.
VIDEO_CODECS = {
    # Without lookahead: x264's macroblock tree gives small pictures other bits from run to run.
    "h264": _Video("libx264", "h264", {"preset": "veryfast", "crf": "{}", "rc-lookahead": "0", "g": "250"}, (0, 51)),
    "mpeg4": _Video("mpeg4", "mpeg4", {"qmin": "{}", "qmax": "{}", "g": "250"}, (1, 31)),
    "vp9": _Video(
        "libvpx-vp9",
        "vp9",
        {"crf": "{}", "b": "0", "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "250"},
        (0, 63),
    ),
}
AUDIO_CODECS = {
    "aac": _Audio("aac", "aac", "fltp"),
    "mp3": _Audio("libmp3lame", "mp3float", "fltp"),
    "opus": _Audio("libopus", "opus", "flt"),
}
_G711 = _Audio("pcm_mulaw", "pcm_mulaw", "s16")


def compress_lips(
    lips: NDArray[np.uint8], codec: str, level: int, origin: tuple[int, int] = (0, 0)
) -> NDArray[np.uint8]:
    """Encode and decode a run of RGB crops uint8 (T, 96, 96, 3) as one group of pictures, 4:2:0.

    ``codec`` and ``level``: ``h264`` with CRF 0 to 51, ``mpeg4`` with quantiser 1 to 31, ``vp9`` with CRF 0 to 63; more
    is worse. ``origin`` (x, y), each 0 to 15: where on the codec's grid of blocks the crop's corner lies.

    Raises ``ValueError`` for another codec, level or origin, and ``CodecError`` when PyAV lacks the encoder.
    """
    if codec not in VIDEO_CODECS:
        raise ValueError(f"codec must be one of {', '.join(VIDEO_CODECS)}, not {codec!r}")
    kind = VIDEO_CODECS[codec]
    if not kind.levels[0] <= level <= kind.levels[1]:
        raise ValueError(f"level of {codec} must be {kind.levels[0]} to {kind.levels[1]}, not {level}")
    left, top = origin
    if not (0 <= left < BLOCK and 0 <= top < BLOCK):
        raise ValueError(f"origin must be two numbers from 0 to {BLOCK - 1}, not {origin}")
    height, width = lips.shape[1:3]
    right, below = -(left + width) % BLOCK, -(top + height) % BLOCK

    encoder: VideoCodecContext = _create(kind.encoder)
    encoder.width, encoder.height, encoder.pix_fmt = left + width + right, top + height + below, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
    encoder.options = {key: value.format(level) for key, value in kind.options.items()}
    encoder.thread_count = 1  # small pictures: threads cost more than they give
    packets = []
    for t, picture in enumerate(lips):
        if origin != (0, 0):
            picture = cv2.copyMakeBorder(picture, top, below, left, right, cv2.BORDER_REPLICATE)
        frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p", threads=1)
        frame.pts, frame.time_base = t, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)

    decoder: Any = av.CodecContext.create(kind.decoder, "r")
    decoder.thread_count = 1
    decoder.extradata = encoder.extradata
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    out = np.empty_like(lips)
    for picture, frame in zip(out, frames, strict=True):
        decoded = frame.reformat(format="rgb24", threads=1).to_ndarray()
        picture[:] = decoded[top : top + height, left : left + width]
    return out


def compress_voice(audio: NDArray[np.float32], codec: str, bits_per_s: int) -> NDArray[np.float32]:
    """Encode and decode a voice (N,) float32 at 16 kHz with ``aac``, ``mp3`` or ``opus``; it stays where it was.

    ``bits_per_s``: 8000 to 64000 makes sense for one channel; MP3 takes the nearest rate it knows.
    Raises ``ValueError`` for another codec and ``CodecError`` when PyAV lacks the encoder.
    """
    if codec not in AUDIO_CODECS:
        raise ValueError(f"codec must be one of {', '.join(AUDIO_CODECS)}, not {codec!r}")
    delay = _delay(codec)
    out = _round_trip(np.pad(audio, (0, delay)), AUDIO_CODECS[codec], SAMPLE_RATE, bits_per_s)
    return bounded(out[delay : delay + len(audio)])


def telephone(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Send a voice (N,) float32 at 16 kHz over a telephone line: 300 to 3400 Hz, 8 kHz, G.711 mu-law."""
    low, high, rate = TELEPHONE
    narrow = resample(band_limit(audio, low, high, 12), rate / SAMPLE_RATE)
    out = resample(_round_trip(bounded(narrow), _G711, rate, None), SAMPLE_RATE / rate)
    return bounded(np.pad(out, (0, max(0, len(audio) - len(out))))[: len(audio)])


@lru_cache
def _delay(codec: str) -> int:
    """Samples by which a codec's output lags: encoders tell it each in another way, and decoders hide some of it."""
    rng = np.random.default_rng(0)
    probe = 0.2 * rng.standard_normal(SAMPLE_RATE).astype(np.float32)
    probe = band_limit(probe, 200, 3000, 6) * np.repeat(rng.uniform(0, 1, 25), SAMPLE_RATE // 25).astype(np.float32)
    out = _round_trip(np.pad(probe, (0, 4096)), AUDIO_CODECS[codec], SAMPLE_RATE, 64_000)
    size = len(probe) + len(out)
    match = np.fft.irfft(np.fft.rfft(out, size) * np.fft.rfft(probe, size).conj(), size)
    return int(match[:4096].argmax())


def _round_trip(audio: NDArray[np.float32], kind: _Audio, rate: int, bits_per_s: int | None) -> NDArray[np.float32]:
    """Encode and decode; what comes back begins with the encoder's delay and is at least as long as ``audio``."""
    encoder: AudioCodecContext = _create(kind.encoder)
    encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", kind.format
    encoder.time_base = Fraction(1, rate)
    if bits_per_s is not None:
        encoder.bit_rate = bits_per_s
    encoder.open()
    size = encoder.frame_size or rate // FPS
    # The last packets hold what the encoder still owes: without silence after it the end would be lost.
    samples = np.pad(audio, (0, size + -len(audio) % size))
    if kind.format == "s16":
        samples = np.rint(samples * 32767).astype(np.int16)
    packets = []
    for begin in range(0, len(samples), size):
        frame = AudioFrame.from_ndarray(samples[None, begin : begin + size], format=kind.format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, begin, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)

    decoder: Any = av.CodecContext.create(kind.decoder, "r")
    decoder.sample_rate, decoder.layout, decoder.extradata = rate, "mono", encoder.extradata
    frames = [frame for packet in packets for frame in decoder.decode(packet)] + decoder.decode(None)
    out = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    if out.dtype == np.int16:
        out = out.astype(np.float32) / 32767
    if frames[0].sample_rate != rate:  # Opus always comes back at 48 kHz
        out = resample(out, rate / frames[0].sample_rate)
    return out.astype(np.float32)


def _create(name: str) -> Any:
    try:
        return av.CodecContext.create(name, "w")
    except UnknownCodecError as error:
        raise CodecError(f"This build of PyAV has no encoder {name}: install the wheel, pip install av.") from error
