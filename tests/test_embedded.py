"""The embedded model on the demo clip, and where it is at hand on the shared corpus: what a newcomer sees."""

from pathlib import Path

import numpy as np
import pytest

import avfake
from avfake.clips import extract
from avfake.corpora import shared
from avfake.demo import DELAY_MS, delay_voice
from avfake.detect import Detector
from avfake.evaluation.judged import delayed, with_voice
from avfake.faces import FaceError
from avfake.media import Decoder

DEMO = Path(avfake.__file__).parent / "data" / "demo.mp4"
CORPUS = Path(__file__).parents[2] / "shared" / "corpus"


@pytest.fixture(scope="module")
def detector() -> Detector:
    detector = avfake.load_detector(threads=1)
    try:
        detector.backend  # noqa: B018
    except FaceError as error:
        pytest.skip(str(error))
    return detector


def test_the_checkpoint_is_calibrated_and_says_what_it_is(detector: Detector) -> None:
    config = detector.config
    assert set(config.calibration) == set(config.thresholds) == {"fake", "visual", "audio", "sync"}
    assert all(0.05 in thresholds for thresholds in config.thresholds.values())
    assert config.corpora
    assert config.metrics


def test_the_demo_clip_is_called_fake_for_its_mouth_and_found_in_sync(detector: Detector) -> None:
    found = detector.detect(DEMO)
    (track,) = found.tracks
    assert found.verdict.label == "fake"
    assert track.visual.status == "fake"
    assert track.sync.state == "in_sync"


def test_the_delay_of_a_muxed_copy_is_measured(detector: Detector, tmp_path: Path) -> None:
    (base,) = detector.detect(DEMO).tracks
    (late,) = detector.detect(delay_voice(DEMO, tmp_path / "late.mp4", DELAY_MS)).tracks
    assert late.sync.state == "shifted"
    assert late.sync.offset_ms is not None
    assert base.sync.offset_ms is not None
    assert abs(late.sync.offset_ms - base.sync.offset_ms - DELAY_MS) <= 40


def test_a_voice_that_says_something_else_is_a_mismatch(detector: Detector) -> None:
    clips = [clip for clip in extract(Decoder(DEMO), detector.backend) if clip.track is not None]
    voice = np.concatenate([clip.audio for clip in clips if clip.audio is not None])
    half = len(voice) // 1280 * 640
    other = np.concatenate([voice[half:], voice[:half]])  # the same voice, its halves exchanged
    own = detector.judge("own", [detector.examine(clip) for clip in clips]).tracks[0].sync
    foreign = detector.judge("other", [detector.examine(c) for c in with_voice(clips, other)]).tracks[0].sync
    assert own.p_fake is not None
    assert foreign.p_fake is not None
    assert foreign.p_fake > own.p_fake + 0.3


@pytest.mark.corpus
@pytest.mark.skipif(not CORPUS.exists(), reason="the shared corpus is not beside the checkout")
def test_genuine_test_clips_keep_their_offset_under_a_shift(detector: Detector) -> None:
    rows = [r for r in shared.rows(CORPUS) if r.video and r.split == "test" and r.method is None][:6]
    right = 0
    for row in rows:
        clips = [c for c in extract(Decoder(str(row.video)), detector.backend) if c.track == 0 and c.audio is not None]
        voice = np.concatenate([clip.audio for clip in clips if clip.audio is not None])
        tracks = [
            detector.judge(row.id, [detector.examine(clip) for clip in with_voice(clips, delayed(voice, frames))])
            for frames in (0, 6)
        ]
        offsets = [found.tracks[0].sync.offset_ms for found in tracks]
        right += None not in offsets and abs(offsets[1] - offsets[0] - 240) <= 40  # type: ignore[operator]
    assert right >= 3
