"""Peak memory by duration: ``python tools/bench_memory.py CLIP [--minutes 1 20] [--model mini]``.

The clip, brought to 720p, is looped to each length, and each file is judged in a process of its own on one thread.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avfake import AvfakeError
from avfake.bench import in_fresh_process, peak_bytes
from avfake.detect import Detector
from avfake.media import probe

HEIGHT = 720
LIMIT_BYTES = 1.5e9


def to_720p(source: Path, target: Path) -> None:
    """Write a clip again as H.264 with a short side of 720 pixels; its sound is copied."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        pictures = reader.streams.video[0]
        scale = HEIGHT / min(pictures.width, pictures.height)
        video: VideoStream = writer.add_stream("libx264", pictures.average_rate, options={"crf": "23"})
        video.width, video.height = (2 * round(side * scale / 2) for side in (pictures.width, pictures.height))
        video.pix_fmt = "yuv420p"
        video.time_base = pictures.time_base
        sound = next(iter(reader.streams.audio), None)
        copied = writer.add_stream_from_template(sound) if sound is not None else None
        for packet in reader.demux([stream for stream in (pictures, sound) if stream is not None]):
            if packet.stream is pictures:
                for picture in packet.decode():
                    assert isinstance(picture, VideoFrame)
                    shown = picture.reformat(video.width, video.height, "yuv420p", interpolation="BICUBIC")
                    writer.mux(video.encode(shown))
            elif packet.dts is not None and copied is not None:
                packet.stream = copied
                writer.mux(packet)
        writer.mux(video.encode(None))


def loop(source: Path, target: Path, minutes: float) -> None:
    """Repeat the packets of a file, their time stamps moved on, until it is at least ``minutes`` long."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        streams = [*reader.streams.video[:1], *reader.streams.audio[:1]]
        packets = [packet for packet in reader.demux(streams) if packet.dts is not None]
        copies: dict[int, Any] = {stream.index: writer.add_stream_from_template(stream) for stream in streams}
        span = max(_span(packets, stream.index) for stream in streams)
        for packet in packets:
            packet.stream = copies[packet.stream_index]
        for _ in range(-int(-minutes * 60 // span)):
            for packet in packets:
                # Muxing rewrites a packet's time stamps into its stream's own units.
                base, stamps = packet.time_base, (packet.pts, packet.dts)
                writer.mux(packet)
                packet.time_base = base
                step = round(span / base)
                packet.pts, packet.dts = (None if stamp is None else stamp + step for stamp in stamps)


def _span(packets: list[Any], index: int) -> Fraction:
    """Seconds from the first to the end of the last packet of a stream, in decoding and in presentation order."""
    own = [packet for packet in packets if packet.stream_index == index]
    first = min(min(packet.pts, packet.dts) for packet in own)
    return Fraction(max(packet.pts + (packet.duration or 0) for packet in own) - first) * own[0].time_base


def peak_of(path: Path, model: str) -> int:
    """Judge a file and return the most memory that this process has held, in bytes."""
    Detector.from_pretrained(model, threads=1).detect(path)
    return peak_bytes()


def main() -> None:
    """Print the peak for each length and whether it is flat and small."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 20])
    parser.add_argument("--model", default="mini")
    args = parser.parse_args()
    info = probe(args.clip)
    if info.video is None:
        sys.exit(f"{args.clip}: it has no video stream; give a clip with a face.")
    with tempfile.TemporaryDirectory() as name:
        folder, clip = Path(name), args.clip
        if min(info.video.width, info.video.height) != HEIGHT:
            clip = folder / "720p.mp4"
            to_720p(args.clip, clip)
        peaks = []
        for minutes in args.minutes:
            long = folder / "long.mp4"
            loop(clip, long, minutes)
            peaks.append(in_fresh_process(peak_of, long, args.model))
            print(f"{minutes:g} min: {peaks[-1] / 1e6:.0f} MB", flush=True)
    print(f"longest / shortest: {peaks[-1] / peaks[0]:.3f}")
    print(f"below {LIMIT_BYTES / 1e9:g} GB: {'yes' if max(peaks) < LIMIT_BYTES else 'no'}")


if __name__ == "__main__":
    try:
        main()
    except AvfakeError as error:
        sys.exit(str(error))
