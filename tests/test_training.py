"""Training: losses know only what labels know, augmentation keeps labels true, the loop writes a checkpoint."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from avfake.clips import Clip
from avfake.config import ConfigError, load_config
from avfake.manifest import Labels, Row
from avfake.models import MAX_SHIFT, SHIFTS, AVFakeModel, load_checkpoint
from avfake.models.fusion import SyncHead
from avfake.training import TrainingError, loop
from avfake.training.check import Samples, check
from avfake.training.data import MAX_JITTER, Embedded, VideoSampler, VoiceSampler, window_batch
from avfake.training.losses import known_bce, losses, pair_curves, sync_contrast

MINI = Path(__file__).parents[1] / "configs" / "mini.yaml"


def sample(
    name: str, *, frames: int = 60, visual: int | None = 0, audio: int | None = 0, lips: bool = True
) -> Embedded:
    """A sample with random content; a video if it has lips, speech otherwise."""
    rng = np.random.default_rng(sum(map(ord, name)))
    labels = Labels(visual=visual if lips else None, audio=audio, sync=0 if lips else None)
    row = Row(name, "v" if lips else None, None if lips else "a", "corpus", "train", identity=name, labels=labels)
    clip = Clip(
        lips=rng.integers(0, 255, (frames, 96, 96, 3), np.uint8) if lips else None,
        audio=rng.uniform(-0.1, 0.1, frames * 640).astype(np.float32),
        mouth=rng.uniform(30, 60, (frames, 20, 2)).astype(np.float32) if lips else None,
        face_ok=np.ones(frames, np.bool_),
    )
    embedded = torch.from_numpy(rng.normal(size=(1, frames, 192))).half() if lips else None
    return Embedded(row, clip, frames=embedded)


def test_unknown_labels_teach_nothing() -> None:
    logits = torch.tensor([2.0, -3.0, 50.0], requires_grad=True)
    loss = known_bce(logits, torch.tensor([1.0, 0.0, torch.nan]))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad[2] == 0
    assert logits.grad[0] < 0 < logits.grad[1]
    assert known_bce(logits, torch.full((3,), torch.nan)) == 0


def test_both_classes_weigh_the_same() -> None:
    one = known_bce(torch.tensor([1.0, -1.0]), torch.tensor([1.0, 0.0]))
    many = known_bce(torch.tensor([1.0, *[-1.0] * 9]), torch.tensor([1.0, *[0.0] * 9]))
    assert torch.isclose(one, many)


def test_pair_curves_are_the_curves_of_the_model() -> None:
    lips, voice = torch.randn(3, 40, 8), torch.randn(3, 40, 8)
    curves = pair_curves(lips, voice)
    for i in range(3):
        for j in range(3):
            expected = SyncHead.curve(SyncHead.map(lips[i : i + 1], voice[j : j + 1]))[0]
            assert torch.allclose(curves[i, j], expected, atol=1e-5)


def test_the_contrast_prefers_the_true_shift() -> None:
    videos = [sample("a"), sample("b")]
    batch = window_batch(videos, [], 30, np.random.default_rng(0))
    right = torch.full((2, 2, SHIFTS), 0.0)
    for i in range(2):
        right[i, i, MAX_SHIFT + int(batch.shift[i])] = 0.5
    assert sync_contrast(right, batch) < sync_contrast(torch.zeros(2, 2, SHIFTS), batch)
    assert sync_contrast(right.roll(10, dims=2), batch) > sync_contrast(right, batch)


@given(st.integers(20, 90), st.integers(0, 10_000))
def test_windows_lie_inside_the_clip_and_know_their_shift(frames: int, seed: int) -> None:
    one = sample("a", frames=90)
    assert one.clip.audio is not None
    assert one.frames is not None
    # Content that names its own frame: embeddings and audio both hold the frame's number.
    one.frames = torch.arange(90.0).repeat(1, 1)[..., None].expand(1, 90, 192)
    numbered = np.repeat(np.arange(90, dtype=np.float32), 640)
    one.clip.audio[:] = numbered
    rng = np.random.default_rng(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("avfake.training.data.augment_voice", lambda audio, rng: audio)
        batch = window_batch([one], [], frames, rng)
    lips_at = batch.frames[0, :, 0].numpy()
    voice_at = batch.audio[0, ::640].numpy()
    assert (np.diff(lips_at) == 1).all()
    assert (np.diff(voice_at) == 1).all()
    shift = int(batch.shift[0])
    assert abs(shift) <= MAX_JITTER
    assert lips_at[0] == voice_at[0] + shift  # lips at t belong to the voice at t + shift


def test_losses_of_a_mixed_batch_reach_every_head_but_not_the_frozen_backbone() -> None:
    config = load_config(MINI)
    torch.manual_seed(0)
    model = AVFakeModel(config.model)
    videos = [sample("a"), sample("b", visual=1), sample("c", audio=1), sample("d", visual=None, audio=None)]
    voices = [sample("e", lips=False), sample("f", lips=False, audio=1, frames=20)]
    batch = window_batch(videos, voices, 40, np.random.default_rng(1))
    parts = losses(model, batch, torch.Generator().manual_seed(0))
    assert all(torch.isfinite(part) for part in parts)
    sum(parts).backward()
    for head in (model.visual_logit, model.audio_logit, model.sync_head.judge[0], model.fusion.correction):
        assert head.weight.grad is not None
        assert head.weight.grad.abs().sum() > 0
    assert model.lip_tower.place.weight.grad is None


def test_samplers_balance_labels_and_pair_sources() -> None:
    videos = [sample("a"), *(sample(f"b{i}", visual=1) for i in range(9))]
    drawn = VideoSampler(videos).draw(200, 20, np.random.default_rng(0))
    assert 70 < sum(s.row.labels.visual == 0 for s in drawn) < 130
    voices = [sample("c", lips=False), *(sample(f"d{i}", lips=False, audio=1) for i in range(9))]
    drawn = VoiceSampler(voices).draw(100, np.random.default_rng(0))
    assert sum(s.row.labels.audio == 0 for s in drawn) == 50


def test_draws_end_where_few_clips_are_long_enough() -> None:
    videos = [sample("long", frames=96), *(sample(f"short{i}", visual=1) for i in range(9))]
    drawn = VideoSampler(videos).draw(20, 96, np.random.default_rng(0))
    assert {s.row.id for s in drawn} == {"long"}


def corpus() -> tuple[Samples, Samples]:
    """The least that can be trained on: what trains, what is held out."""
    voices = [sample("v", lips=False), sample("w", lips=False, audio=1)]
    train = [sample("a", frames=96), sample("b", frames=96, visual=1)]
    return (train, voices), ([sample("c"), sample("d", visual=1)], voices)


def test_the_least_corpus_can_be_trained_on() -> None:
    check(*corpus(), 96, "corpus")


@pytest.mark.parametrize(
    ("part", "kind", "left", "told"),
    [
        (0, 0, [sample("a", frames=96), sample("b", visual=1)], "fake training videos of 96 frames or more"),
        (0, 1, [sample("v", lips=False), sample("w", lips=False, audio=None)], "fake training voices"),
        (1, 0, [sample("c"), sample("c", visual=1)], "synchronised videos of two people"),
        (1, 0, [], "fake videos of people that are held out"),
        (1, 1, [], "dev split"),
    ],
)
def test_what_a_corpus_lacks_is_told_in_one_sentence(part: int, kind: int, left: list[Embedded], told: str) -> None:
    sets = [list(one) for one in corpus()]
    sets[part][kind] = left
    with pytest.raises(TrainingError, match=f"^The corpus in here cannot be trained on: add .*{told}.*\\.$"):
        check((sets[0][0], sets[0][1]), (sets[1][0], sets[1][1]), 96, "here")


def test_a_loss_that_is_not_finite_names_the_rate_to_lower() -> None:
    weight = torch.zeros(1, requires_grad=True)
    with pytest.raises(TrainingError, match=r"lower lips\.rate\.$"):
        loop.update(torch.optim.SGD([weight]), weight.sum() * torch.nan, [weight], "lips")
    assert weight.grad is None


@pytest.mark.parametrize("name", ["mini", "base", "large"])
def test_no_configuration_overwrites_the_model_of_another(name: str) -> None:
    config = load_config(MINI.with_name(f"{name}.yaml"))
    assert config.out == f"runs/{name}"
    assert config.model.name == name


def test_a_run_writes_a_checkpoint_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def both(name: str, **options: object) -> list[Embedded]:
        # An identity that is held out, and one that is not.
        known = {loop.held_out(sample(f"{name}{i}").row): f"{name}{i}" for i in range(40)}
        return [sample(known[held], frames=100, **options) for held in (True, False)]  # type: ignore[arg-type]

    made = [*both("real"), *both("other"), *both("fake", visual=1)]
    for label in (0, 1):
        for split in ("train", "dev"):
            voice = sample(f"{split}{label}", lips=False, audio=label, frames=100)
            object.__setattr__(voice.row, "split", split)
            made.append(voice)
    monkeypatch.setattr(loop, "read", lambda shards: made)
    options = ["lips.steps=2", "lips.batch=2", "heads.steps=2", "heads.batch=4", f"out={tmp_path / 'run'}"]
    folder = loop.train(load_config(MINI, options))
    written = load_checkpoint(folder).config
    assert written.model.name == "mini"
    assert written.corpora == ["corpus"]


@pytest.mark.parametrize(
    ("option", "named"), [("heads.stepz=3", "stepz"), ("heads.steps=many", "heads.steps"), ("model.dim=x", "model.dim")]
)
def test_a_wrong_key_or_value_is_named(option: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        load_config(MINI, [option])


def test_a_missing_config_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_config(Path("nosuch.yaml"))
