"""Controlled damage to media files: what happens to clips on their way, in families of five severities.

``corrupt`` reads a clip and writes it damaged. Whole pictures are damaged before any face is looked for, so that
finding faces is put to the test too. The clip is read with ``avfake.media.Decoder``, which gives what detection sees
and hears: upright pictures at 25 fps and 16 kHz mono sound on one clock, whatever the rotation, the rates and the start
offsets of the streams were, so nothing can move in time. The price: codecs work at 25 fps and 16 kHz, whatever the file
had. ``CLEAN`` takes the same way without damage.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zlib import crc32

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.codec import UnknownCodecError
from av.video.frame import VideoFrame
from numpy.random import Generator
from numpy.typing import NDArray

from avfake import FPS, SAMPLE_RATE, AvfakeError
from avfake.augment import picture, voice
from avfake.augment.codecs import VIDEO_CODECS, CodecError, compress_voice, telephone
from avfake.media import Decoder, Frame

SEVERITIES = (1, 2, 3, 4, 5)

Image = NDArray[np.uint8]
"""A whole picture, RGB (h, w, 3)."""
Pictures = Iterator[tuple[int, Image]]
"""Pictures, each with its tick: it is shown from tick / 25 s on."""
Audio = NDArray[np.float32]
"""16 kHz samples (n,) in [-1, 1]."""


class CorruptionError(AvfakeError):
    """A damaged clip cannot be written."""


class Condition(NamedTuple):
    """A family of ``FAMILIES`` and a severity 1 to 5; as text, ``noise-3``."""

    family: str
    severity: int

    def __str__(self) -> str:
        return f"{self.family}-{self.severity}" if self.severity else self.family


VERSION = 1
"""Raised whenever what some condition does to a clip changes."""

CLEAN = Condition("clean", 0)
"""No damage, by the same lossless route: what the damaged clips are to be compared with."""


@dataclass(frozen=True)
class Family:
    """One kind of damage. ``pictures`` and ``voice`` take a severity's parameter and a generator."""

    title: str
    kind: Literal["video", "audio", "both"]
    severities: tuple[Any, Any, Any, Any, Any]
    """Parameters, mildest first; those of several numbers are tuples."""
    words: str
    """Text with a place for each number of a parameter, with its unit."""
    source: str
    pictures: Callable[[Pictures, Any, Generator], Pictures] | None = None
    voice: Callable[[Audio, Any, Generator], Audio] | None = None
    scale: Callable[[Any], float] = lambda _: 1.0
    """Side of the pictures relative to the original's."""
    fps: Callable[[Any], int] = lambda _: FPS

    def parameter(self, severity: int) -> Any:
        """Return the parameter of a severity 1 to 5."""
        return self.severities[severity - 1]

    def describe(self, severity: int) -> str:
        """Say in words what a severity 1 to 5 does."""
        parameter = self.parameter(severity)
        return self.words.format(*parameter if isinstance(parameter, tuple) else (parameter,))


def conditions(families: Sequence[str] = (), severities: Sequence[int] = SEVERITIES) -> list[Condition]:
    """Return every severity of every family, family by family; no ``families`` stands for all.

    Raises ``ValueError``, with what may have been meant, for an unknown family, and for a severity that is not 1 to 5.
    """
    for family in families:
        if family not in FAMILIES:
            close = get_close_matches(family, FAMILIES, 1)
            cure = f"did you mean {close[0]}?" if close else f"the families are {', '.join(FAMILIES)}"
            raise ValueError(f"there is no corruption family {family!r}; {cure}")
    for severity in severities:
        if severity not in SEVERITIES:
            raise ValueError(f"there is no severity {severity!r}; severities are 1, the mildest, to 5")
    return [Condition(family, severity) for family in families or FAMILIES for severity in severities]


def applies(condition: Condition, has_video: bool, has_audio: bool) -> bool:
    """Whether a condition can change a clip with these streams; ``CLEAN`` is of use for every clip."""
    if condition == CLEAN:
        return True
    kind = FAMILIES[condition.family].kind
    return (has_video and kind != "audio") or (has_audio and kind != "video")


def corrupt(
    condition: Condition,
    video: str | None,
    audio: str | None,
    out: Path,
    *,
    seconds: float | None = None,
    seed: int = 0,
) -> Path:
    """Write a clip, or its first ``seconds``, under a condition as the Matroska file ``out``; return ``out``.

    ``video`` and ``audio`` are files as in ``manifest.Row``: without ``audio`` the sound is that of ``video``. The
    output is lossless (RGB H.264, 16-bit PCM) and whole, or not there at all. It follows from the condition, ``seed``
    and the clip. A family changes its own stream alone, and does nothing to a
    clip without it, see ``applies``. Memory does not grow with the duration.

    Raises ``MediaError`` when the clip cannot be read, ``CorruptionError`` when ``out`` cannot be written and
    ``CodecError`` when PyAV lacks an encoder; ``ValueError`` where there is nothing to read.
    """
    source = video or audio
    if source is None:
        raise ValueError("give a video, a sound or both")
    part = out.with_name(f"{out.name}.part")
    try:
        with closing(Decoder(source, sound=audio if video else None)) as decoder:
            _write(condition, decoder, part, seconds, [seed])
        os.replace(part, out)
    except UnknownCodecError as error:
        raise CodecError(
            f"{source} cannot be damaged as {condition}: this build of PyAV has no {error}; pip install av."
        ) from error
    except (OSError, av.FFmpegError) as error:
        raise CorruptionError(
            f"{source} under {condition} cannot be written to {out} ({error.strerror}); check the folder and its disk."
        ) from error
    finally:
        with suppress(OSError):
            part.unlink()
    return out


def _write(condition: Condition, decoder: Decoder, path: Path, seconds: float | None, seeds: list[int]) -> None:
    family = _UNDAMAGED if condition == CLEAN else FAMILIES[condition.family]
    parameter = None if condition == CLEAN else family.parameter(condition.severity)
    # Without the severity: a family's severities share their randomness, and so differ in strength alone.
    seeds = [*seeds, crc32(condition.family.encode())]
    ticks = islice(decoder, None if seconds is None else max(1, round(seconds * FPS)))
    info = decoder.info
    # bitexact leaves out the random identifiers that would make every file differ.
    with av.open(str(path), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
        size, fps, picture_stream, sound = (0, 0), family.fps(parameter), None, None
        if info.video is not None:
            width, height = info.video.width, info.video.height
            # A picture of one or two pixels is none that anything could be seen in.
            scale = min(1.0, max(family.scale(parameter), 16 / min(width, height)))
            size = max(1, round(width * scale)), max(1, round(height * scale))
            picture_stream = _picture_stream(container, size)
        if info.audio is not None:
            change = family.voice and partial(_voice, family.voice, parameter, seeds)
            sound = _Sound(container, change or (lambda samples: samples))

        def watched() -> Pictures:
            last: tuple[int, Frame] | None = None
            for tick in ticks:
                if sound is not None and tick.audio is not None:
                    sound.push(tick.audio)
                if tick.frame is None:
                    continue
                # Of 25 pictures fps are kept, each at its own time.
                if tick.index * fps // FPS != (tick.index - 1) * fps // FPS:
                    yield tick.index, _whole(tick.frame, size)
                    last = None
                else:
                    last = tick.index, tick.frame
            if last is not None:  # the clip stays as long as it is
                yield last[0], _whole(last[1], size)

        pictures = watched()
        if family.pictures is not None:
            pictures = family.pictures(pictures, parameter, np.random.default_rng(seeds))
        for tick, image in pictures:
            assert picture_stream is not None
            frame = VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, FPS)
            container.mux(picture_stream.encode(frame))
        if picture_stream is not None:
            container.mux(picture_stream.encode(None))
        if sound is not None:
            sound.close()


def _voice(change: Callable[[Audio, Any, Generator], Audio], parameter: Any, seeds: list[int], samples: Audio) -> Audio:
    return change(samples, parameter, np.random.default_rng(seeds))


def _picture_stream(container: Any, size: tuple[int, int]) -> Any:
    # RGB: what was drawn or decoded comes back to the bit; ultrafast is several times faster than FFV1.
    stream = container.add_stream("libx264rgb", rate=FPS, options={"qp": "0", "preset": "ultrafast"})
    stream.width, stream.height, stream.pix_fmt = *size, "rgb24"
    stream.codec_context.time_base = Fraction(1, FPS)
    stream.codec_context.thread_count = 1
    return stream


def _whole(frame: Frame, size: tuple[int, int]) -> Image:
    """Return an upright picture with square pixels at ``size`` (width, height)."""
    x, y = frame.width / size[0], frame.height / size[1]
    return frame.sample(np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2]]), size)


class _Sound:
    """The sound of the output, changed in long stretches so that memory stays bounded.

    Neighbours share ``2 * LAP`` samples, so that codecs, filters and rooms have settled where one fades into the other.
    A clip of up to a minute is one stretch.
    """

    STRETCH, LAP, FADE = 60 * SAMPLE_RATE, 2 * SAMPLE_RATE, SAMPLE_RATE // 50

    def __init__(self, container: Any, change: Callable[[Audio], Audio]) -> None:
        self._container, self._change = container, change
        self._stream = container.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        self._pieces: list[Audio] = []  # not changed yet
        self._count = 0  # samples in them
        self._tail: Audio | None = None  # changed, not written: what the next stretch fades into
        self._written = 0

    def push(self, samples: Audio) -> None:
        self._pieces.append(samples)
        self._count += len(samples)
        if self._count >= self.STRETCH:
            stretch, changed = self._faded()
            self._tail = changed[-2 * self.LAP :]
            self._write(changed[: -2 * self.LAP])
            self._pieces = [stretch[-2 * self.LAP :]]
            self._count = 2 * self.LAP

    def close(self) -> None:
        if self._pieces:
            self._write(self._faded()[1])
        self._container.mux(self._stream.encode(None))

    def _faded(self) -> tuple[Audio, Audio]:
        """Change what has gathered; where it begins, fade in from the stretch before."""
        stretch = np.concatenate(self._pieces)
        changed = self._change(stretch)
        if self._tail is not None:
            share = np.clip((np.arange(2 * self.LAP) - self.LAP) / self.FADE + 0.5, 0, 1)
            changed = changed.copy()
            changed[: 2 * self.LAP] = share * changed[: 2 * self.LAP] + (1 - share) * self._tail
        return stretch, changed

    def _write(self, samples: Audio) -> None:
        whole = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)  # as avfake.clips hears it
        for begin in range(0, len(whole), SAMPLE_RATE):  # Matroska tells times in ms: each packet begins on one
            frame = AudioFrame.from_ndarray(whole[None, begin : begin + SAMPLE_RATE], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, self._written
            frame.time_base = Fraction(1, SAMPLE_RATE)
            self._container.mux(self._stream.encode(frame))
            self._written += frame.samples


# ------------------------------------------------------------------------------------------------- pictures


def _each(change: Callable[[Image, Any, Generator], Any]) -> Callable[[Pictures, Any, Generator], Pictures]:
    """Make a change of single pictures one of a stream."""

    def changed(pictures: Pictures, parameter: Any, rng: Generator) -> Pictures:
        for tick, image in pictures:
            yield tick, change(image, parameter, rng)

    return changed


def _blocks(image: Image, count: int, rng: Generator) -> Image:
    """Cover ``count`` squares for each 256 pixels of the short side with grey, elsewhere in each picture."""
    height, width = image.shape[:2]
    count *= max(1, min(height, width) // 256)  # the official code leaves pictures below 256 pixels undamaged
    corners = rng.integers(0, [max(1, height - _BLOCK), max(1, width - _BLOCK)], (count, 2))
    for y, x in corners:
        image[y : y + _BLOCK, x : x + _BLOCK] = 128
    return image


_BLOCK = 8  # pixels

# The official code adds noise to Y, Cb and Cr after dividing them by 255 once more than meant: a variance of v is
# a standard deviation of sqrt(v) times 255 * 255 / 219 levels of Y, and 255 * 255 / 224 of Cb and Cr.
_YCBCR_NOISE = np.array([[1, 0, 1.402], [1, -0.344, -0.714], [1, 1.772, 0]]) * 255**2 / np.array([219, 224, 224])


def _noise(image: Image, variance: float, rng: Generator) -> Any:
    """Add noise that is independent in Y, Cb and Cr, from pixel to pixel and from picture to picture."""
    noise = rng.standard_normal(image.shape, np.float32)
    return cv2.add(image, cv2.transform(noise, _YCBCR_NOISE * math.sqrt(variance)), dtype=cv2.CV_8U)


def _pixelate(image: Image, divisor: int, rng: Generator) -> Any:
    height, width = image.shape[:2]
    small = cv2.resize(image, (max(1, width // divisor), max(1, height // divisor)))
    return cv2.resize(small, (width, height))


def _recoded(pictures: Pictures, codec: str, level: int, **options: str) -> Pictures:
    """Encode and decode a stream of pictures, 4:2:0; ``codec`` and ``level`` as for ``codecs.compress_lips``."""
    kind = VIDEO_CODECS[codec]
    decoder: Any = av.CodecContext.create(kind.decoder, "r")
    decoder.thread_count = 1
    encoder: Any = None
    ticks: deque[int] = deque()
    shape = (0, 0)

    def decoded(packets: Iterable[Any]) -> Pictures:
        for packet in packets:
            for frame in decoder.decode(packet):
                image = frame.reformat(format="rgb24", threads=1).to_ndarray()
                yield ticks.popleft(), image[: shape[0], : shape[1]]

    for tick, image in pictures:
        if encoder is None:
            shape = image.shape[:2]
            encoder = av.CodecContext.create(kind.encoder, "w")
            encoder.height, encoder.width = (side + side % 2 for side in shape)  # 4:2:0 has no odd sides
            encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, FPS), Fraction(FPS)
            encoder.options = {key: value.format(level) for key, value in kind.options.items()} | options
            encoder.thread_count = 1  # threads change what comes out
            encoder.open()
            decoder.extradata = encoder.extradata
        even: Any = cv2.copyMakeBorder(image, 0, shape[0] % 2, 0, shape[1] % 2, cv2.BORDER_REPLICATE)
        frame = VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", threads=1)
        frame.pts, frame.time_base = tick, encoder.time_base
        ticks.append(tick)
        yield from decoded(encoder.encode(frame))
    if encoder is not None:
        yield from decoded(encoder.encode(None))
        yield from decoded([None])


def _uploaded(pictures: Pictures, levels: tuple[int, int, int, int], rng: Generator) -> Pictures:
    return _recoded(_recoded(pictures, "h264", levels[0]), "vp9", levels[1])


def _distracted(pictures: Pictures, count: int, rng: Generator) -> Pictures:
    """Lay ``count`` texts, shapes and lines over the whole picture; every other one drifts, around the edges.

    They are drawn on black and on white, small, and enlarged: the difference says how much of the picture shows.
    """
    way = rng.uniform(-1.5, 1.5, 2)  # pixels a tick of the small picture
    layers: list[list[Image]] = []
    for tick, image in pictures:
        height, width = image.shape[:2]
        scale = _SMALL / min(height, width)
        if not layers:
            grounds = [np.zeros((2, round(height * scale), round(width * scale), 3), np.uint8) for _ in range(2)]
            for ground in grounds:
                ground[1] = 255
            for index in range(count):
                kind = picture.DISTRACTORS[rng.integers(3)]
                grounds[index % 2] = picture.distract(grounds[index % 2], kind, False, rng)
            layers = [[cv2.resize(x, (width, height)) for x in ground] for ground in grounds]
        shift = np.rint(way * tick / scale).astype(int)
        for (black, white), moved in zip(layers, ((0, 0), tuple(shift)), strict=True):
            on_black, on_white = (np.roll(x, moved, (0, 1)) for x in (black, white))
            image = np.asarray(cv2.add(cv2.multiply(image, cv2.subtract(on_white, on_black), scale=1 / 255), on_black))
        yield tick, image


_SMALL = 192  # pixels of the short side: a distractor for a mouth crop is then 1/40 to 1/3 of the picture's


# ------------------------------------------------------------------------------------------------- sound


def _compressed(codec: str) -> Callable[[Audio, int, Generator], Audio]:
    return lambda samples, kbit, rng: compress_voice(samples, codec, 1000 * kbit)


def _telephoned(samples: Audio, lost: float, rng: Generator) -> Audio:
    count = round(lost / 100 * len(samples) / SAMPLE_RATE / _PACKET_S)
    return voice.drop_out(telephone(samples), count, _PACKET_S, rng)


_PACKET_S = 0.02


# ------------------------------------------------------------------------------------------------- families

_OFFICIAL = "DeeperForensics-1.0 (Jiang et al., CVPR 2020), perturbation/add_distortion_to_video.py and distortions.py"
_OWN = "this project"
_UNDAMAGED = Family("undamaged", "both", (None,) * 5, "undamaged", _OWN)

FAMILIES: dict[str, Family] = {
    "saturation": Family(
        "Colour saturation", "video", (0.4, 0.3, 0.2, 0.1, 0.0), "colour times {}", _OFFICIAL,
        _each(lambda image, factor, rng: picture.saturation(image[None], factor)[0]),
    ),
    "contrast": Family(
        "Contrast", "video", (0.85, 0.725, 0.6, 0.475, 0.35), "all values times {}", _OFFICIAL,
        _each(lambda image, factor, rng: picture.tone(image[None], factor, 0, 1)[0]),
    ),
    "blocks": Family(
        "Block-wise", "video", (16, 32, 48, 64, 80), "{} grey blocks of 8 pixels per 256 of the short side", _OFFICIAL,
        _each(_blocks),
    ),
    "noise": Family(
        "Gaussian noise", "video", (0.001, 0.002, 0.005, 0.01, 0.05), "variance {} in Y, Cb, Cr", _OFFICIAL,
        _each(_noise),
    ),
    "blur": Family(
        "Gaussian blur", "video", (7, 9, 13, 17, 21), "kernel of {} pixels", _OFFICIAL,
        _each(lambda image, size, rng: cv2.GaussianBlur(image, (size, size), size / 6)),
    ),
    "pixelation": Family(
        "Pixelation", "video", (2, 3, 4, 5, 6), "1/{} of the size and back", _OFFICIAL, _each(_pixelate)
    ),
    "compression": Family(
        "Video compression", "video", (30, 32, 35, 38, 40), "H.264 at CRF {}", _OFFICIAL,
        lambda pictures, crf, rng: _recoded(pictures, "h264", crf, preset="medium"),
    ),
    "reencode": Family(
        "Uploaded twice", "both",
        ((23, 36, 64, 64), (26, 42, 48, 48), (29, 48, 32, 24), (32, 54, 24, 16), (35, 60, 16, 12)),
        "H.264 at CRF {0} with AAC at {2} kbit/s, then VP9 at CRF {1} with Opus at {3} kbit/s", _OWN,
        _uploaded,
        lambda samples, levels, rng: compress_voice(
            compress_voice(samples, "aac", 1000 * levels[2]), "opus", 1000 * levels[3]
        ),
    ),
    "resolution": Family(
        "Resolution", "video", (1.5, 2, 3, 4, 6), "1/{} of the size", _OWN, scale=lambda divisor: 1 / divisor
    ),
    "framerate": Family("Frame rate", "video", (20, 15, 12, 10, 8), "{} fps", _OWN, fps=lambda fps: fps),
    "distractors": Family(
        "Distractors", "video", (2, 4, 8, 16, 32), "{} texts, shapes and lines, half of them drifting",
        "kinds: DeepFake Detection Challenge (Dolhansky et al. 2020, arXiv 2006.07397); numbers: this project",
        _distracted,
    ),
    "aac": Family("AAC", "audio", (64, 48, 32, 24, 16), "AAC at {} kbit/s", _OWN, voice=_compressed("aac")),
    "mp3": Family("MP3", "audio", (64, 48, 32, 24, 16), "MP3 at {} kbit/s", _OWN, voice=_compressed("mp3")),
    "opus": Family("Opus", "audio", (48, 24, 16, 12, 8), "Opus at {} kbit/s", _OWN, voice=_compressed("opus")),
    "telephone": Family(
        "Telephone", "audio", (0, 1, 3, 6, 12), "300 to 3400 Hz, G.711 mu-law, {} % of its 20 ms packets lost", _OWN,
        voice=_telephoned,
    ),
    "audio-noise": Family(
        "Background noise", "audio", (20, 15, 10, 5, 0), "pink noise, {} dB below the voice", _OWN,
        voice=lambda samples, snr_db, rng: voice.add_noise(samples, snr_db, 0.5, rng),
    ),
    "reverberation": Family(
        "Reverberation", "audio", ((0.2, -10), (0.4, -6), (0.6, -3), (0.9, 0), (1.3, 3)),
        "a decay of {} s, {:+} dB to the direct sound", _OWN,
        voice=lambda samples, room, rng: voice.reverberate(samples, room[0], 10 ** (room[1] / 20), rng),
    ),
}  # fmt: skip
