"""Losses know only what labels know, and are those of one process however many there are."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from tiny import batch, eight, row, still, talking
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from avfake.models import MAX_SHIFT, SHIFTS, AVFakeModel
from avfake.models.audio import VoiceEmbedding
from avfake.models.fusion import SyncHead
from avfake.training.batch import Batch
from avfake.training.objective import Losses, Objective, Seen, aspect_bce, known_bce, pair_curves, sync_contrast


def model() -> AVFakeModel:
    torch.manual_seed(0)
    return AVFakeModel(still())


def mixed() -> Batch:
    """Videos, a silent one, a voice alone, one of which nothing is known."""
    clips = [
        *eight(30)[:4],
        (row("silent", visual=1, audio=None), talking(9, 30, visual=1, sound=False)),
        (row("voice", visual=None, audio=1), talking(10, 30, audio=1, lips=False)),
        (row("unknown", visual=None, audio=None), talking(11, 30)),
        (row("spoken", visual=None), talking(12, 30, lips=False)),
    ]
    return batch(clips, 30, [2, 0, -3, 0, 0, 0, 0, 0])


# ---------------------------------------------------------------------------------------------- single losses


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


def test_a_window_that_is_fake_in_places_is_taught_by_its_frames_alone() -> None:
    labels = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    right, wrong = 20 * (2 * labels - 1), 20 * (1 - 2 * labels)
    clip, valid = torch.tensor([1.0, 0.0]), torch.ones(2, 4)
    assert aspect_bce(right, labels, clip, valid) < 1e-6
    assert aspect_bce(wrong, labels, clip, valid) > 10
    # Frames in which nothing was measured count for nothing.
    hidden = wrong.clone().requires_grad_()
    loss = aspect_bce(hidden, labels, clip, torch.tensor([[0, 0, 0, 0], [1, 1, 1, 1]]))
    loss.backward()
    assert hidden.grad is not None
    assert not hidden.grad[0].any()
    assert hidden.grad[1].all()


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_the_clip_loss_is_that_of_the_mean_logit(label: float) -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5]])
    labels = torch.full((1, 3), label)
    frames = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    clip = torch.nn.functional.binary_cross_entropy_with_logits(logits.mean(1), labels[:, 0])
    assert torch.isclose(aspect_bce(logits, labels, labels[:, 0], torch.ones(1, 3)), (frames + clip) / 2)


def test_pair_curves_are_the_curves_of_the_model() -> None:
    lips, voice = torch.randn(3, 40, 8), torch.randn(3, 40, 8)
    curves = pair_curves(lips, voice)
    for i in range(3):
        for j in range(3):
            expected = SyncHead.curve(SyncHead.map(lips[i : i + 1], voice[j : j + 1]))[0]
            assert torch.allclose(curves[i, j], expected, atol=1e-5)


def seen(labels: list[float], shifts: list[int], files: list[int]) -> Seen:
    """What sync_contrast looks at."""
    count = len(labels)
    blank = torch.zeros(count, 1, 0)
    there = torch.ones(count, dtype=torch.uint8)
    return Seen(
        *[blank] * 8,
        has_lips=there,
        has_audio=there,
        face_ok=there[:, None],
        labels=torch.tensor([[torch.nan, torch.nan, label] for label in labels]),
        frame_labels=blank,
        shift=torch.tensor(shifts),
        files=torch.tensor(files),
    )


def peaks(shifts: list[int], height: float = 0.5) -> Tensor:
    """Curves whose own voices stand out at the given shifts."""
    curves = torch.zeros(len(shifts), len(shifts), SHIFTS)
    for n, shift in enumerate(shifts):
        curves[n, n, MAX_SHIFT + shift] = height
    return curves


@given(st.lists(st.integers(-12, 12), min_size=2, max_size=4))
def test_the_contrast_prefers_the_true_shift(shifts: list[int]) -> None:
    known = seen([0.0] * len(shifts), shifts, list(range(len(shifts))))
    right = sync_contrast(peaks(shifts), known, settled=False)
    assert right < sync_contrast(torch.zeros_like(peaks(shifts)), known, settled=False)
    assert sync_contrast(peaks(shifts).roll(10, dims=2), known, settled=False) > right


def test_the_value_of_the_contrast_is_that_of_infonce() -> None:
    # Two recordings, no evidence anywhere: seven of 62 places are right, three once settled.
    nothing, known = torch.zeros(2, 2, SHIFTS), seen([0.0, 0.0], [0, 0], [1, 2])
    assert sync_contrast(nothing, known, settled=False).item() == pytest.approx(math.log(62 / 7))
    assert sync_contrast(peaks([0, 0], 1e-9), known, settled=True).item() == pytest.approx(math.log(62 / 3))


def test_windows_of_one_recording_and_voices_put_under_lips_are_nobodys_negatives() -> None:
    nothing = torch.zeros(3, 3, SHIFTS)
    same = sync_contrast(nothing, seen([0.0, 0.0, 0.0], [0, 0, 0], [1, 1, 2]), settled=False)
    assert same.item() == pytest.approx((2 * math.log(62 / 7) + math.log(93 / 7)) / 3)
    put = sync_contrast(nothing, seen([0.0, 1.0, torch.nan], [0, 0, 0], [1, 2, 3]), settled=False)
    assert put.item() == pytest.approx(math.log(62 / 7))


def test_once_settled_an_own_offset_is_kept_to() -> None:
    known = seen([0.0, 0.0], [0, 0], [1, 2])
    curves = peaks([2, 2]).requires_grad_()
    sync_contrast(curves, known, settled=True).backward()
    assert curves.grad is not None
    own = curves.grad[0, 0]
    assert own[MAX_SHIFT + 2] < 0 < own[MAX_SHIFT - 2]


# ---------------------------------------------------------------------------------------------- the whole batch


def test_losses_of_a_mixed_batch_reach_every_head() -> None:
    objective = Objective(model())
    parts = objective(mixed(), seed=1)
    assert all(torch.isfinite(part) for part in parts)
    torch.stack(parts).sum().backward()
    without = {name for name, value in objective.named_parameters() if value.grad is None or not value.grad.any()}
    assert not {name.split(".")[1] for name in without} & {"visual_logit", "audio_logit", "sync_head"}
    assert "model.fusion.correction.weight" not in without
    assert "model.lip_tower.stem.0.weight" not in without
    assert "model.voice_tower.layer_weights" not in without


@pytest.mark.parametrize(("stream", "off"), [("has_lips", ("geometry", "visual")), ("has_audio", ("audio",))])
def test_a_batch_without_a_stream_teaches_nothing_of_it(stream: str, off: tuple[str, ...]) -> None:
    whole = mixed()
    batch = replace(
        whole,
        **{stream: torch.zeros(8, dtype=torch.bool)},
        face_ok=whole.face_ok & (stream != "has_lips"),
        labels=torch.where(torch.tensor([stream == "has_lips", stream != "has_lips", True]), torch.nan, whole.labels),
        frame_labels=torch.where(
            torch.tensor([stream == "has_lips", stream != "has_lips", True]), torch.nan, whole.frame_labels
        ),
    )
    parts = Objective(model())(batch, seed=1)
    assert all(getattr(parts, name) == 0 for name in (*off, "sync", "mismatch"))
    assert parts.fake > 0
    torch.stack(parts).sum().backward()


def test_rows_do_not_depend_on_what_is_beside_them() -> None:
    """Neither zeros in the place of a missing stream nor their number changes a loss."""
    objective = Objective(model()).eval()
    alone = batch(eight(30)[:4], 30)
    voices = [(row(f"v{n}", visual=None, audio=None), talking(20 + n, 30, lips=False)) for n in range(3)]
    beside = batch([*eight(30)[:4], *voices], 30)
    one, other = objective(alone, 1), objective(beside, 1)
    for name in ("geometry", "visual", "audio"):
        assert torch.allclose(getattr(one, name), getattr(other, name), atol=1e-5)
    assert other.sync > one.sync  # but their voices are negatives


def test_embedded_streams_give_the_losses_of_the_raw_ones() -> None:
    objective = Objective(model()).eval()
    whole = mixed()
    raw = objective(whole, 3)
    assert whole.lips is not None
    assert whole.audio is not None
    tower = objective.model.lip_tower
    frames = tower.embed(whole.lips.movedim(-1, -3).float() / 255)
    voice = objective.model.voice_tower.embed(whole.audio)
    embedded = objective(replace(whole, lips=None, audio=None, frames=frames, voice=VoiceEmbedding(*voice)), 3)
    for name, value in raw._asdict().items():
        assert torch.allclose(value, getattr(embedded, name), atol=1e-4), name


def test_distilling_needs_a_teacher_and_rewards_likeness() -> None:
    objective = Objective(model(), taught=5).eval()
    whole = mixed()
    taught = torch.randn(8, 30, 5)
    assert objective.foretell is not None
    voice = objective.model.voice_tower
    assert whole.audio is not None
    foretold = objective.foretell(voice.mixed(voice.embed(whole.audio).layers)).detach()
    random = objective(replace(whole, taught=taught), 1).distil
    alike = objective(replace(whole, taught=3 * foretold), 1).distil
    assert 0.5 < random < 1.5
    assert alike < 0.2
    assert Objective(model())(whole, 1).distil == 0


def test_the_fusion_head_sees_the_same_for_the_same_seed() -> None:
    objective = Objective(model()).eval()
    assert objective(mixed(), 5).fake == objective(mixed(), 5).fake
    assert objective(mixed(), 5).fake != objective(mixed(), 6).fake


# ------------------------------------------------------------------------------------------ several processes


def gradients(objective: torch.nn.Module, part: Batch) -> tuple[Losses, dict[str, Tensor]]:
    losses: Losses = objective(part, 7)
    torch.stack(losses).sum().backward()
    return losses, {
        name.removeprefix("module."): p.grad for name, p in objective.named_parameters() if p.grad is not None
    }


WAIT = timedelta(minutes=5)  # for a process that was never there


def half(whole: Batch, rank: int) -> Batch:
    rows = slice(4 * rank, 4 * rank + 4)
    parts = {name: value[rows] for name, value in vars(whole).items() if value is not None}
    return replace(whole, **parts)


def apart() -> Batch:
    """Videos, then voices alone: half of it has no lips."""
    voices = [(row(f"v{n}", visual=None, audio=n % 2), talking(20 + n, 30, audio=n % 2, lips=False)) for n in range(4)]
    return batch([*eight(30)[:4], *voices], 30)


def work(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=WAIT)
    for name, whole in (("mixed", mixed()), ("apart", apart())):
        # Batch norm and dropout look at one process's rows; in evaluation mode what is left must be equal.
        objective = DistributedDataParallel(Objective(model()).eval(), find_unused_parameters=True)
        losses, grads = gradients(objective, half(whole, rank))
        torch.save((tuple(losses), grads), f"{folder}/{name}-{rank}.pt")
    dist.destroy_process_group()


def other(_: int, folder: str) -> None:
    torch.set_num_threads(1)
    work(1, folder)


def test_two_processes_have_the_gradients_of_one(tmp_path: Path) -> None:
    process = mp.spawn(other, (str(tmp_path),), nprocs=1, join=False)
    work(0, str(tmp_path))
    process.join()
    for name, whole in (("mixed", mixed()), ("apart", apart())):
        losses, single = gradients(Objective(model()).eval(), whole)
        assert sum(value.abs().sum() for value in single.values()) > 1
        for rank in range(2):
            parts, grads = torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True)
            assert torch.allclose(torch.stack(parts), torch.stack(losses).detach(), atol=1e-5)
            assert grads.keys() == single.keys()
            for part, value in single.items():
                assert torch.allclose(grads[part], value, rtol=1e-3, atol=1e-5), part
