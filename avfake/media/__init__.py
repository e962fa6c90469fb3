"""One streaming decode pass: pictures on the 25 fps grid and 16 kHz mono audio on the same clock.

    >>> for tick in Decoder("clip.mp4"):
    ...     tick.frame, tick.audio

t = 0 is the earliest decoded presentation time stamp of the two streams, and everything is placed by time
stamps, never by counting frames. Each stream has its own demuxer, read in lock-step, so that memory does not
grow with the duration nor with how badly a file is interleaved. Pictures stay in the pixel format they were
coded in: ``Frame.sample`` converts only what it cuts out.
"""

from __future__ import annotations

from avfake.media.decoder import Decoder, Tick, probe
from avfake.media.info import AudioInfo, MediaError, MediaInfo, VideoInfo
from avfake.media.picture import Frame

__all__ = ["AudioInfo", "Decoder", "Frame", "MediaError", "MediaInfo", "Tick", "VideoInfo", "probe"]
