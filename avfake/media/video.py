"""The pictures of a file's video stream."""

from __future__ import annotations

from collections.abc import Iterator

from av.filter import Graph
from av.video.frame import VideoFrame

from avfake.media.clock import TICK_S, StreamClock, Timeline
from avfake.media.filters import deinterlacer, filtered
from avfake.media.geometry import UPRIGHT, geometry_of, turn_of
from avfake.media.info import VideoInfo
from avfake.media.picture import Frame
from avfake.media.source import Source, in_seconds, stamp_of


class VideoReader:
    """Pictures of a stream by the instant at which they are shown."""

    def __init__(self, source: Source, clock: StreamClock) -> None:
        self.source = source
        self._clock = clock
        rate = source.stream.average_rate
        self._interval = 1 / float(rate) if rate else TICK_S
        self._interlaced = False
        self._timed = self._stamped()
        self._shown: Frame | None = None
        self.first: tuple[float, float, VideoFrame] | None = next(self._timed, None)
        self._turn = turn_of(self.first[2]) if self.first is not None else UPRIGHT
        # Some formats tell the shape of their pixels in the coded pictures only.
        aspect = source.stream.sample_aspect_ratio
        self._aspect = float(aspect) if aspect and 0.1 < aspect < 10 else 1.0

    def begin(self, origin_s: float) -> VideoInfo:
        """Fix the stream time that is t = 0."""
        assert self.first is not None
        time, _, picture = self.first
        geometry = geometry_of(picture.width, picture.height, self._turn, self._aspect)
        self._timeline = Timeline(self._from(origin_s))
        self.info = VideoInfo(
            codec=self.source.stream.codec_context.name,
            width=geometry.width,
            height=geometry.height,
            fps=float(self.source.stream.average_rate or 0),
            rotation=geometry.rotation,
            start_s=time - origin_s,
            duration_s=self.source.declared_s,
            pixel_format=picture.format.name,
            interlaced=self._interlaced,
        )
        return self.info

    def reaches(self, time_s: float) -> bool:
        """Whether the stream goes on until ``time_s``; reads on until it knows."""
        return self._timeline.reaches(time_s)

    def at(self, time_s: float) -> Frame | None:
        """Return the picture shown at ``time_s``, None if there is none; to be asked for rising times."""
        shown = self._timeline.at(time_s)
        if shown is None:
            return None
        time, picture = shown
        if self._shown is None or self._shown.time_s != time:
            self._shown = Frame(picture, time, self._turn, self._aspect)
        return self._shown

    @property
    def end_s(self) -> float:
        """Where the stream ends; known once it is used up."""
        return self._timeline.end_s

    def _from(self, origin_s: float) -> Iterator[tuple[float, float, VideoFrame]]:
        first, self.first = self.first, None
        if first is not None:
            yield first[0] - origin_s, *first[1:]
        for time, duration, picture in self._timed:
            yield time - origin_s, duration, picture

    def _stamped(self) -> Iterator[tuple[float, float, VideoFrame]]:
        for picture in self._progressive():
            duration = in_seconds(picture.duration or 0, picture) or self._interval
            yield self._clock.stamp(stamp_of(picture), duration), duration, picture

    def _progressive(self) -> Iterator[VideoFrame]:
        graph: Graph | None = None
        layout: tuple[int, int, str] | None = None
        for picture in self.source.frames():
            before, layout = layout, (picture.width, picture.height, picture.format.name)
            if graph is not None and layout != before:
                yield from filtered(graph, None)
                graph = None
            if graph is None and picture.interlaced_frame:
                graph, self._interlaced = deinterlacer(picture), True
            if graph is None:
                yield picture
            else:
                yield from filtered(graph, picture)
        if graph is not None:
            yield from filtered(graph, None)
