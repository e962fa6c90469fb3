"""The libav filters that streams go through."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.audio.frame import AudioFrame
from av.filter import Graph
from av.video.frame import VideoFrame

from avfake import SAMPLE_RATE


def deinterlacer(first: VideoFrame) -> Graph:
    """Return a filter that changes interlaced pictures only and keeps the number and times of all."""
    graph = _graph()
    source = graph.add_buffer(width=first.width, height=first.height, format=first.format, time_base=first.time_base)
    filtering = graph.add("yadif", mode="send_frame", deint="interlaced")
    graph.link_nodes(source, filtering, graph.add("buffersink")).configure()
    return graph


def resampler(rate: int) -> Graph:
    """Return a filter from 32-bit float mono of ``rate`` to that of 16 kHz."""
    graph = _graph()
    source = graph.add_abuffer(sample_rate=rate, format="flt", layout="mono", time_base=Fraction(1, rate))
    graph.link_nodes(source, graph.add("aresample", str(SAMPLE_RATE)), graph.add("abuffersink")).configure()
    return graph


def _graph() -> Graph:
    graph = Graph()
    graph.threads = 1  # else each graph keeps a thread for each core
    return graph


def filtered(graph: Graph, frame: VideoFrame | AudioFrame | None) -> Iterator[Any]:
    """Yield what is ready after ``frame``; None flushes."""
    graph.push(frame)
    while True:
        try:
            yield graph.pull()
        except (av.BlockingIOError, av.EOFError):
            return
