"""Turn a clip into raw files that any language can read: ``lips.rgb`` and ``audio.f32`` of every stretch of a face.

    python tools/consumers/raw_clip.py clip.mp4 -o raw

docs/consumers.md says what is in them and which programs take them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from avfake import AvfakeError
from avfake.clips import Clip, extract, read_clip
from avfake.faces import CROP, load_backend
from avfake.media import Decoder
from avfake.storage import make_folder, write_bytes


class RawError(AvfakeError):
    """A clip of which no raw files can be made, or a place where they cannot be put."""


def main(
    clip: Annotated[Path, typer.Argument(help="a video with sound, or a prepared clip (.mkv)")],
    output: Annotated[Path, typer.Option("-o", "--output", help="a new folder, or an empty one")],
) -> None:
    """Write a folder with ``lips.rgb`` and ``audio.f32`` for every stretch of a face, of 15 s at most.

    ``lips.rgb`` is uint8 (T, 96, 96, 3) RGB at 25 fps, ``audio.f32`` little-endian float32 (640 T,) at 16 kHz.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RawError(f"{output} is there already; name a new folder, so that no two clips are mixed.")
    written = 0
    for part in parts(clip):
        span = f"{part.start_s:7.2f} - {part.start_s + part.duration_s:7.2f} s"
        if part.lips is None or part.audio is None:
            print(f"{span}  no face in view, nothing written")
            continue
        folder = output / f"face{part.track or 0}-{part.start_s:.2f}s"
        make_folder(str(folder))
        write_bytes(str(folder / "lips.rgb"), part.lips.tobytes())
        write_bytes(str(folder / "audio.f32"), part.audio.astype("<f4").tobytes())
        seen, apart = part.face_ok.mean(), part.source.get("face_px") or 0
        print(f"{span}  {folder}: face measured in {seen:.0%} of the frames, {apart:.0f} pixels between the eyes")
        written += 1
    if not written:
        raise RawError(f"{clip} shows no face of which lips could be cut; give a clip of a talking face.")


def parts(path: Path) -> Iterator[Clip]:
    """Yield what ``avfake detect`` would look at, piece by piece. Raises ``AvfakeError``."""
    decoder = Decoder(path)
    video = decoder.info.video
    for stream, name in ((video, "picture"), (decoder.info.audio, "sound")):
        if stream is None:
            raise RawError(f"{path} has no {name}; give a clip of a talking face with its sound.")
    if path.suffix == ".mkv" and video is not None and (video.width, video.height) == (CROP, CROP):
        yield read_clip(path)  # prepared: the picture is the lip crop already
    else:
        yield from extract(decoder, load_backend())


if __name__ == "__main__":
    try:
        typer.run(main)
    except AvfakeError as error:
        sys.exit(str(error))
