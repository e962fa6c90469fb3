"""Exported files: the same scores as the model, all that a verdict needs, and one sentence for what is none of ours."""

import copy
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from tiny import TINY

from avfake import AvfakeError
from avfake.clips import DEMO_CLIP, PREPROCESSING, read_clip
from avfake.config import load_config
from avfake.export import TOLERANCE, ExportError, Part, Written, export, forms, parity, torchscript
from avfake.exported import (
    DIGEST,
    METADATA,
    METHODS,
    OUTPUTS,
    SCHEMA,
    describe_exported,
    load_bytes,
    load_exported,
    read_metadata,
    sealed,
)
from avfake.models import AVFakeModel, Calibration, Checkpoint, CheckpointConfig, Scores, load_checkpoint
from avfake.storage import sha256

CONFIG = CheckpointConfig(
    TINY,
    preprocessing=1,
    calibration={
        "fake": Calibration(2.0, -1.0),
        "audio": Calibration(knots=[[-0.2, -2.0], [0.0, 0.5], [0.1, 2.0]]),
        "sync": Calibration(knots=[[0.0, 0.7]]),
    },
    thresholds={"fake": {0.05: 0.75, 0.01: 0.9}},
    aspects=["audio", "sync", "fake"],
    corpora=["a/b"],
    methods=["tts:x"],
    metrics={"test": {"EER": 0.5}},
)
MASKS = [(True, True), (False, True), (True, False), (False, False)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tiny() -> Checkpoint:
    torch.manual_seed(0)
    return Checkpoint(AVFakeModel(TINY).eval(), CONFIG, fingerprint="f" * 64)


@pytest.fixture(scope="module")
def script(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny, tmp_path_factory.mktemp("torchscript") / "tiny.ts", format="torchscript").path


@pytest.fixture(scope="module")
def graph(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxscript")
    return export(tiny, tmp_path_factory.mktemp("onnx") / "tiny.onnx", format="onnx").path


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parity is proved on little."""
    monkeypatch.setattr(parity, "NOISE", ((9, [parity.BOTH, parity.NO_LIPS]),))
    monkeypatch.setattr(parity, "REAL", ())


# torch.export alone takes more than ten seconds.
@pytest.fixture(scope="module", params=["script", pytest.param("graph", marks=pytest.mark.slow)])
def either(request: pytest.FixtureRequest) -> Path:
    """The tiny model in each format."""
    return request.getfixturevalue(request.param)


def inputs(clips: int, frames: int, seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Noise as AVFakeModel.forward takes it, with every mask that there are clips for."""
    generator = torch.Generator().manual_seed(seed)
    lips = torch.rand(clips, frames, 3, 96, 96, generator=generator)
    audio = 0.1 * torch.randn(clips, 640 * frames, generator=generator)
    return lips, audio, *torch.tensor(MASKS[:clips]).T


def arrays(given: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    return [tensor.numpy() for tensor in given]


def same(said: Scores[np.ndarray], expected: Scores[torch.Tensor]) -> None:
    for name, value, theirs in zip(Scores._fields, said, expected, strict=True):
        assert value.dtype == np.float32, name
        assert value.shape == theirs.shape, name
        np.testing.assert_allclose(value, theirs.numpy(), atol=TOLERANCE, err_msg=name)


def contents(file: Path) -> list[bytes]:
    if file.suffix == ".onnx":
        return [file.read_bytes()]
    with zipfile.ZipFile(file) as archive:
        return [archive.read(name) for name in archive.namelist()]


# ---------------------------------------------------------------------------------------- what files say


def test_outputs_are_the_scores_in_their_order() -> None:
    assert tuple(name.removesuffix("_logit") for name in OUTPUTS) == Scores._fields


def test_a_file_says_what_it_is(either: Path, tiny: Checkpoint) -> None:
    metadata = read_metadata(either)
    assert metadata["schema"] == SCHEMA == "avfake-export-1"
    assert (metadata["name"], metadata["part"], metadata["precision"]) == ("tiny", "model", "float32")
    assert metadata["fingerprint"] == tiny.fingerprint
    assert (metadata["fps"], metadata["sample_rate"], metadata["samples_per_frame"]) == (25, 16000, 640)
    assert [port["name"] for port in metadata["inputs"]] == ["lips", "audio", "has_lips", "has_audio"]
    assert metadata["inputs"][0]["shape"] == ["B", "T", 3, 96, 96]
    assert metadata["inputs"][3]["dtype"] == "bool"
    assert [port["name"] for port in metadata["outputs"]] == list(OUTPUTS)
    assert metadata["thresholds"] == {"fake": {"0.05": 0.75, "0.01": 0.9}}
    assert metadata["calibration"]["audio"]["knots"][0] == [-0.2, -2.0]
    assert metadata["aspects"] == ["audio", "sync", "fake"]
    assert metadata["torch"] == torch.__version__
    assert set(OUTPUTS) < set(metadata["parity"])
    assert 0 <= max(metadata["parity"].values()) <= TOLERANCE
    assert "metrics" not in metadata


def test_a_loaded_file_has_the_configuration_of_the_checkpoint(either: Path) -> None:
    exported = load_exported(either)
    assert exported.config == replace(CONFIG, metrics={})
    assert exported.metadata == read_metadata(either)
    assert exported.fingerprint == sha256(str(either))
    assert describe_exported(either) == (exported.config, exported.fingerprint)
    assert exported.runtime == ("torchscript" if either.suffix == ".ts" else "onnx")


def test_torchscript_has_every_method_with_its_inputs_and_outputs(script: Path) -> None:
    metadata = read_metadata(script)
    assert ("forward", *metadata["calls"]) == METHODS
    module = torch.jit.load(script)
    for name, call in metadata["calls"].items():
        ports = tuple(forms.Port(**{**port, "shape": tuple(port["shape"])}) for port in call["inputs"])
        answer = getattr(module, name)(*forms.example(ports, B=3, T=4, N=4, C=2, W=2))
        answers = [answer] if isinstance(answer, torch.Tensor) else answer
        assert len(answers) == len(call["outputs"])
        for port, tensor in zip(call["outputs"], answers, strict=True):
            assert tensor.ndim == len(port["shape"]), (name, port)
            for size, wanted in zip(tensor.shape, port["shape"], strict=True):
                assert wanted in (size, "T", "W", "640W") or {"B": 3, "N": 4}.get(wanted) == size, (name, port)


@pytest.mark.slow
def test_onnx_names_its_free_sizes_and_opset(graph: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(graph)
    (opset,) = model.opset_import
    assert (opset.domain, opset.version) == ("", 18)
    assert read_metadata(graph)["opset"] == 18
    shapes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in model.graph.input
    }
    assert shapes == {
        "lips": ["batch", "frames", 3, 96, 96],
        "audio": ["batch", "samples"],
        "has_lips": ["batch"],
        "has_audio": ["batch"],
    }
    assert any("frames" in node.output for node in model.graph.node)


def test_files_tell_no_paths(either: Path) -> None:
    for data in contents(either):
        for place in (forms.__file__, torch.__file__, str(Path.cwd())):
            assert str(Path(place).parent).encode() not in data


# ---------------------------------------------------------------------------------------- what they answer


@pytest.mark.parametrize(("clips", "frames"), [(1, 1), (1, 150), (4, 31)])
def test_scores_are_those_of_the_model(either: Path, tiny: Checkpoint, clips: int, frames: int) -> None:
    given = inputs(clips, frames)
    exported = load_exported(either)
    with torch.no_grad():
        expected, embedded = tiny.model(*given), tiny.model.lip_tower.embed(given[0])
    same(exported(*arrays(given)), expected)
    same(exported.score(*arrays((embedded, *given[1:]))), expected)


@pytest.mark.parametrize("pictures", [0, 1, 8, 19])
def test_pictures_are_embedded_a_few_at_a_time(either: Path, tiny: Checkpoint, pictures: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (pictures, 96, 96, 3), dtype=np.uint8)
    frames = load_exported(either).embed(crops)
    assert frames.shape == (pictures, TINY.visual.width)
    if pictures:
        with torch.no_grad():
            expected = tiny.model.lip_tower.embed_pictures(torch.from_numpy(crops))
        np.testing.assert_allclose(frames, expected.numpy(), atol=TOLERANCE)


def test_a_stream_says_what_the_model_says_of_its_last_four_seconds(script: Path, tiny: Checkpoint) -> None:
    module = torch.jit.load(script)
    pictures = torch.randint(0, 256, (2, 130, 96, 96, 3), dtype=torch.uint8)
    audio = 0.1 * torch.randn(2, 130 * 640)
    masks = torch.tensor([[True, False], [True, True]])
    frames, sound, start = torch.empty(2, 0, TINY.visual.width), torch.empty(2, 0), 0
    for chunk in (1, 60, 39, 1, 29):
        end = start + chunk
        said = module.stream(pictures[:, start:end], audio[:, start * 640 : end * 640], *masks, frames, sound)
        *scores, frames, sound = said
        first = max(0, end - 100)
        lips = pictures[:, first:end].movedim(-1, -3).float() / 255
        with torch.no_grad():
            expected = tiny.model(lips, audio[:, first * 640 : end * 640], *masks)
        same(Scores(*(score.numpy() for score in scores)), expected)
        assert frames.shape == (2, end - first, TINY.visual.width)
        assert torch.equal(sound, audio[:, first * 640 : end * 640])
        start = end


def test_p_fake_is_calibrated_and_says_nothing_where_nothing_is_known(script: Path) -> None:
    rising = torch.linspace(-0.5, 0.5, 21)
    for lips, voice in MASKS:
        masks = torch.full((21,), lips), torch.full((21,), voice)
        p = torch.jit.load(script).p_fake(rising, rising, rising, rising, *masks)
        assert p.shape == (21, 4)
        needs = {"fake": lips or voice, "visual": False, "audio": voice, "sync": lips and voice}  # visual: not taught
        for column, (aspect, known) in zip(p.T, needs.items(), strict=True):
            expected = CONFIG.calibration.get(aspect, Calibration())(rising) if known else np.full(21, np.nan)
            np.testing.assert_allclose(column, expected, atol=1e-6, err_msg=aspect)


def test_torchscript_needs_nothing_but_torch(script: Path, tiny: Checkpoint, tmp_path: Path) -> None:
    given = inputs(1, 8)
    torch.save(list(given), tmp_path / "given.pt")
    program = (
        "import sys, torch\n"
        "class Only:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('avfake', 'transformers', 'timm', 'torchaudio', 'torchvision'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Only())\n"
        f"extra = {{{METADATA!r}: ''}}\n"
        f"model = torch.jit.load({str(script)!r}, _extra_files=extra)\n"
        f"scores = model(*torch.load({str(tmp_path / 'given.pt')!r}))\n"
        f"assert b'{SCHEMA}' in extra[{METADATA!r}]\n"
        "assert not scores[0].requires_grad\n"
        "print(scores[0].item())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        assert float(done.stdout) == pytest.approx(tiny.model(*given).fake.item(), abs=TOLERANCE)


@pytest.mark.slow
def test_onnx_runs_without_torch_transformers_and_timm(graph: Path) -> None:
    program = (
        "import sys\n"
        "from avfake.exported import load_exported\n"
        "import numpy as np\n"
        f"exported = load_exported({str(graph)!r})\n"
        "exported.embed(np.zeros((1, 96, 96, 3), np.uint8))\n"
        "assert not {'torch', 'transformers', 'timm'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_shapes_that_do_not_fit_are_refused(script: Path) -> None:
    exported = load_exported(script)
    lips, audio, has_lips, has_audio = arrays(inputs(1, 5))
    with pytest.raises(ValueError, match="audio has the shape"):
        exported(lips, audio[:, :-1], has_lips, has_audio)
    with pytest.raises(ValueError, match="has_lips has the shape"):
        exported(lips, audio, has_lips[:0], has_audio)
    with pytest.raises(ValueError, match="lips has the shape"):
        exported(lips.transpose(0, 1, 3, 4, 2), audio, has_lips, has_audio)
    with pytest.raises(ValueError, match="frames has the shape"):
        exported.score(lips, audio, has_lips, has_audio)
    with pytest.raises(ValueError, match="pictures must be uint8"):
        exported.embed(lips[0])


# ---------------------------------------------------------------------------------------- parts and precisions


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("part", ["lip-encoder", "audio-encoder", "sync-head"])
def test_parts_are_those_of_the_model(tiny: Checkpoint, tmp_path: Path, part: Part) -> None:
    written = export(tiny, tmp_path / "part.ts", format="torchscript", part=part)
    assert written.metadata == read_metadata(written.path)
    module = torch.jit.load(written.path)
    lips, audio, *_ = inputs(2, 40)
    with torch.no_grad():
        frames = tiny.model.lip_tower.embed(lips)
        seen, heard = tiny.model.lip_tower(frames), tiny.model.voice_tower(tiny.model.voice_tower.embed(audio))
        sync_map = tiny.model.sync_head.map(*tiny.model.sync_head.embed(seen.sync, heard.sync))
        given, expected = {
            "lip-encoder": ((lips,), (frames, *seen, tiny.model.lip_tower.mouth(frames))),
            "audio-encoder": ((audio,), heard),
            "sync-head": ((seen.sync, heard.sync), (sync_map, tiny.model.sync_head(sync_map))),
        }[part]
    answers = module(*given)
    assert [port["name"] for port in written.metadata["outputs"]] == list(written.differences)
    for port, answer, theirs in zip(written.metadata["outputs"], answers, expected, strict=True):
        assert answer.shape == theirs.shape
        assert [size for size in port["shape"] if isinstance(size, int)] == list(theirs.shape[2:])
        torch.testing.assert_close(answer, theirs, atol=TOLERANCE, rtol=TOLERANCE)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["lip-encoder", "audio-encoder", "sync-head"])
def test_parts_as_onnx(tiny: Checkpoint, tmp_path: Path, part: Part) -> None:
    runtime = pytest.importorskip("onnxruntime")
    written = export(tiny, tmp_path / "part.onnx", format="onnx", part=part)
    session = runtime.InferenceSession(str(written.path), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [port["name"] for port in written.metadata["inputs"]]
    assert [value.name for value in session.get_outputs()] == [port["name"] for port in written.metadata["outputs"]]
    with pytest.raises(ExportError, match=f"holds the part '{part}' of 'tiny' alone") as caught:
        load_exported(written.path)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("little")
def test_a_part_detects_nothing(tiny: Checkpoint, tmp_path: Path) -> None:
    path = export(tiny, tmp_path / "part.ts", format="torchscript", part="sync-head").path
    for read in (load_exported, describe_exported):
        with pytest.raises(ExportError, match=r"part\.ts holds the part 'sync-head' of 'tiny' alone"):
            read(path)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "smaller"), [("float16", 0.7), ("int8", 0.9)])
def test_other_precisions_are_smaller_and_near(
    tiny: Checkpoint, graph: Path, tmp_path: Path, precision: Any, smaller: float
) -> None:
    written = export(tiny, tmp_path / "tiny.onnx", format="onnx", precision=precision)
    assert written.path.stat().st_size < smaller * graph.stat().st_size
    exported = load_exported(written.path)
    assert exported.metadata["precision"] == precision
    assert TOLERANCE / 10 < max(written.differences.values()) == max(exported.metadata["parity"].values())
    given = inputs(2, 50)
    whole, near = load_exported(graph)(*arrays(given)), exported(*arrays(given))
    np.testing.assert_allclose(near.visual_frames, whole.visual_frames, atol=0.1)
    assert (near.sync_map <= -999).sum() == (whole.sync_map <= -999).sum() > 0


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_torchscript_has_one_precision(tiny: Checkpoint, tmp_path: Path, precision: Any) -> None:
    with pytest.raises(ExportError, match=f"cannot be TorchScript in {precision}"):
        export(tiny, tmp_path / "tiny.ts", format="torchscript", precision=precision)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------- parity


def test_the_clip_that_proves_exports_is_real_and_small() -> None:
    clip = read_clip(DEMO_CLIP)
    assert DEMO_CLIP.stat().st_size <= 500_000
    assert clip.lips is not None
    assert clip.audio is not None
    assert clip.face_ok.all()
    assert clip.source["path"] == "demo.mp4"
    assert clip.source["preprocessing"] == PREPROCESSING
    assert clip.frames >= max(frames + 5 * (len(patterns) - 1) for frames, patterns in parity.REAL)


def test_parity_is_measured_on_every_mask_alone_and_together_and_on_long_and_short_clips() -> None:
    batches = list(parity.batches())
    for picked in (batches[: len(parity.NOISE)], batches[len(parity.NOISE) :]):
        seen = {tuple(zip(*(mask.tolist() for mask in batch.masks), strict=True)) for batch in picked}
        assert {((True, True),), ((False, True),)} <= seen
        assert any(set(MASKS[:3]) == set(patterns) for patterns in seen)
    assert {1, 110} <= {batch.pictures.shape[1] for batch in batches}
    for batch in batches:
        assert batch.audio.shape == (len(batch.pictures), 640 * batch.pictures.shape[1])
        assert batch.lips.shape[2:] == (3, 96, 96)


@pytest.mark.usefixtures("little")
def test_parity_measures_each_output(script: Path, tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = parity._answers

    def off(*given: Any) -> dict[str, Callable[..., Any]]:
        right = answers(*given)

        def score(*given: torch.Tensor) -> list[torch.Tensor]:
            fake, visual, audio, *others = right["score"](*given)
            return [fake + 0.5, visual * torch.nan, audio[:-1], *others]

        return {**right, "score": score, "p_fake": lambda *given: [torch.nan * right["p_fake"](*given)[0]]}

    monkeypatch.setattr(parity, "_answers", off)
    apart = parity.measure(script.read_bytes(), script, "model", tiny)
    assert apart.pop("score.fake_logit") == pytest.approx(0.5, abs=1e-3)
    assert [name for name, value in apart.items() if np.isnan(value)] == [
        "score.visual_logit",
        "score.audio_logit",
        "p_fake.p_fake",
    ]
    assert {"embed.frames", "stream.sync_map", "stream.sound"} < set(apart)
    assert all(value < TOLERANCE for value in apart.values() if not np.isnan(value))


@pytest.mark.usefixtures("little")
def test_an_export_that_differs_leaves_no_file(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    portable = forms.portable

    def other(model: AVFakeModel) -> AVFakeModel:
        copied = portable(model)
        with torch.no_grad():
            copied.audio_logit.bias += 0.01
        return copied

    monkeypatch.setattr("avfake.export.portable", other)
    (tmp_path / "kept.ts").write_bytes(b"before")
    with pytest.raises(ExportError, match=r"kept\.ts is not written.*audio_logit by 1\.0e-02") as caught:
        export(tiny, tmp_path / "kept.ts", format="torchscript")
    assert "\n" not in str(caught.value)
    assert "visual_logit" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.ts"]
    assert (tmp_path / "kept.ts").read_bytes() == b"before"


@pytest.mark.usefixtures("little")
def test_a_model_without_numbers_is_not_exported(tiny: Checkpoint, tmp_path: Path) -> None:
    broken = AVFakeModel(TINY).eval()
    with torch.no_grad():
        broken.visual_logit.bias.fill_(torch.nan)
    with pytest.raises(ExportError, match="visual_logit by nan"):
        export(replace(tiny, model=broken), tmp_path / "nan.ts", format="torchscript")
    assert not list(tmp_path.iterdir())


def test_exporting_leaves_the_model_alone(tiny: Checkpoint, script: Path) -> None:
    assert script.exists()
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in tiny.model.lip_tower.modules())
    assert all(parameter.requires_grad for parameter in tiny.model.parameters())


def exported_mini(path: Path, **how: Any) -> Written:
    mini = load_checkpoint("mini")
    written = export(mini, path, **how)
    exported = load_exported(path)
    assert exported.metadata["fingerprint"] == mini.fingerprint
    assert exported.config == replace(mini.config, metrics={})
    return written


@pytest.mark.slow
def test_mini_as_torchscript(tmp_path: Path) -> None:
    exported_mini(tmp_path / "mini.ts", format="torchscript")


@pytest.mark.slow
def test_mini_as_onnx(tmp_path: Path) -> None:
    exported_mini(tmp_path / "mini.onnx", format="onnx")


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "most"), [("float16", 8.5e6), ("int8", 1.05e7)])
def test_mini_in_other_precisions(tmp_path: Path, precision: Any, most: float) -> None:
    written = exported_mini(tmp_path / "mini.onnx", format="onnx", precision=precision)
    assert written.path.stat().st_size < most


@pytest.mark.slow
@pytest.mark.parametrize("format", ["torchscript", "onnx"])
@pytest.mark.parametrize("name", ["base", "large"])
def test_larger_architectures(tmp_path: Path, name: str, format: Any) -> None:
    file = Path(__file__).parents[1] / "configs" / f"{name}.yaml"
    model = load_config(file, ["data.sources.main.shards=none"]).model
    if name == "large":  # 4 of its 24 layers, which are all alike: the whole takes 15 GB (test_runtimes runs the whole)
        model.audio.wav2vec2["num_hidden_layers"] = 4
    torch.manual_seed(0)
    checkpoint = Checkpoint(AVFakeModel(model).eval(), CheckpointConfig(model, preprocessing=1))
    written = export(checkpoint, tmp_path / "exported", format=format)
    assert set(OUTPUTS) < set(written.differences)


# ---------------------------------------------------------------------------------------- what is none of ours


def refused(path: Path, said: str | None = None) -> None:
    """Every way to read a file gives the same one sentence that names it."""
    for read in (load_exported, describe_exported, read_metadata):
        with pytest.raises(AvfakeError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "how", ["missing", "folder", "text", "empty", "zip", "bomb", "video", "cut", "flipped", "renamed", "key cut"]
)
def test_what_is_no_file_of_ours_gives_one_sentence(either: Path, tmp_path: Path, how: str) -> None:
    path = tmp_path / f"file{either.suffix}"
    data = bytearray(either.read_bytes())
    if how == "folder":
        path.mkdir()
    elif how in ("text", "empty"):
        path.write_bytes(b"this is not ours" if how == "text" else b"")
    elif how == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "not ours")
    elif how == "bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"a/extra/{METADATA}", b" " * 10_000_000)
    elif how == "video":
        path.write_bytes((DEMO_CLIP.parent / "demo.mp4").read_bytes())
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        data[len(data) // 2] ^= 0x40  # in the weights: the file would load, and say something else
        path.write_bytes(data)
    elif how == "renamed":
        path.write_bytes(data.replace(METADATA.encode(), METADATA.replace("a", "b", 1).encode()))
    elif how == "key cut":
        path.write_bytes(data[:-10])
    refused(path)


def test_a_number_of_the_metadata_cannot_be_changed(either: Path, tmp_path: Path) -> None:
    data = either.read_bytes()
    assert data.count(b'"0.05": 0.75') == 1
    path = tmp_path / either.name
    path.write_bytes(data.replace(b'"0.05": 0.75', b'"0.05": 0.15'))
    refused(path, "damaged")


def rewritten(script: Path, target: Path, metadata: bytes | None) -> Path:
    """A copy of a TorchScript file with other metadata."""
    with zipfile.ZipFile(script) as archive, zipfile.ZipFile(target, "w") as changed:
        for name in archive.namelist():
            if not name.endswith(METADATA):
                changed.writestr(name, archive.read(name))
            elif metadata is not None:
                changed.writestr(name, metadata)
    return target


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "was not exported by avfake"),
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"\xff", "damaged"),
        ({"name": "${oc.env:HOME}"}, "cannot be read"),
        ({"schema": "avfake-export-2"}, "avfake-export-2"),
        (json.dumps({"schema": SCHEMA}).encode(), "cannot be read"),
    ],
)
def test_metadata_that_makes_no_sense_gives_one_sentence(
    script: Path, tmp_path: Path, change: bytes | dict[str, object] | None, said: str
) -> None:
    if isinstance(change, dict):
        change = json.dumps(read_metadata(script) | change).encode()
    refused(rewritten(script, tmp_path / "file.ts", change), said)


@pytest.mark.parametrize(
    "change",
    [
        {"outputs": ["fake"]},
        {"outputs": [{"name": "fake"}]},
        {"thresholds": {"fake": {"often": 0.5}}},
        {"calibration": {"fake": {"scale": -1.0}}},
        {"calibration": {"fake": {"scale": 10**400}}},
        {"thresholds": {"fake": {"0.05": float("nan")}}},
        {"thresholds": {"fake": {"1e999": 0.5}}},
        {"aspects": ["evil\nx"]},
        {"model": {"nosuch": 1}},
    ],
)
def test_a_configuration_that_makes_no_sense_gives_one_sentence(
    script: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    path = rewritten(script, tmp_path / "file.ts", json.dumps(read_metadata(script) | change).encode())
    for read in (load_exported, describe_exported):
        with pytest.raises(ExportError, match="cannot be read") as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_other_peoples_torchscript_gives_one_sentence(script: Path, tmp_path: Path) -> None:
    path = tmp_path / "foreign.ts"
    theirs = torch.jit.trace(torch.nn.Linear(2, 2), torch.rand(1, 2))
    torch.jit.save(theirs, path)
    refused(path, "was not exported by avfake")
    # A program of theirs with metadata of ours lacks what is asked of it.
    torch.jit.save(theirs, path, _extra_files={METADATA: ""})
    refused(path, "compressed")
    path.write_bytes(torchscript.assemble(path.read_bytes(), json.dumps(read_metadata(script))))
    with pytest.raises(ExportError, match="it has no embed"):
        load_exported(path)
    # One with all the names fails when it is asked.
    torch.jit.save(torch.jit.load(script), path, _extra_files={METADATA: ""})
    about = read_metadata(script)
    about["model"]["visual"]["width"] = 7
    path.write_bytes(torchscript.assemble(path.read_bytes(), json.dumps(about)))
    with pytest.raises(ExportError, match="damaged") as caught:
        load_exported(path)
    assert "\n" not in str(caught.value)
    # Metadata of ours without any program.
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"a/extra/{METADATA}", json.dumps(read_metadata(script)))
    with pytest.raises(ExportError, match="damaged") as caught:
        load_exported(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_other_peoples_onnx_gives_one_sentence(graph: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    made = onnx.helper.make_graph([onnx.helper.make_node("Neg", ["x"], ["y"])], "foreign", value[:1], value[1:])
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    refused(path, "was not exported by avfake")
    # A graph of theirs with metadata of ours lacks what is asked of it.
    path.write_bytes(sealed(model.SerializeToString(), json.dumps(read_metadata(graph))))
    with pytest.raises(ExportError, match="damaged") as caught:
        load_exported(path)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_weights_in_other_files_are_not_read(graph: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model, path = onnx.load(graph), tmp_path / "tiny.onnx"
    del model.metadata_props[:]
    hidden = copy.deepcopy(model)
    weights = next(tensor for tensor in model.graph.initializer if tensor.raw_data)
    onnx.external_data_helper.set_external_data(weights, "elsewhere")
    constant = onnx.numpy_helper.from_array(np.ones(1, np.float32), "c")
    onnx.external_data_helper.set_external_data(constant, "elsewhere")
    hidden.graph.node.append(onnx.helper.make_node("Constant", [], ["never"], value=constant))
    for made in (model, hidden):
        path.write_bytes(sealed(made.SerializeToString(), json.dumps(read_metadata(graph))))
        with pytest.raises(ExportError, match="lie in other files"):
            load_exported(path)


def test_entries_that_lie_over_each_other_are_refused(script: Path, tmp_path: Path) -> None:
    path = tmp_path / "aliases.ts"
    with zipfile.ZipFile(script) as archive, zipfile.ZipFile(path, "w") as made:
        for name in archive.namelist():
            made.writestr(name, archive.read(name))
        largest = max(made.filelist, key=lambda entry: entry.file_size)
        for n in range(20):
            alias = copy.copy(largest)
            alias.filename = f"{largest.filename}{n}"
            made.filelist.append(alias)
    refused(path, "overlap|damaged")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "is no file")


@pytest.mark.slow
def test_a_graph_that_was_saved_again_is_not_what_avfake_exported(graph: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(graph)
    assert [entry.key for entry in model.metadata_props] == [METADATA, DIGEST]
    del model.graph.node[0].attribute[:]
    onnx.save(model, tmp_path / "again.onnx")
    refused(tmp_path / "again.onnx", "damaged or was changed")


def test_bytes_are_what_their_content_says(script: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(script.read_bytes())
    assert load_exported(path).runtime == load_bytes(script.read_bytes(), "anything").runtime == "torchscript"


@pytest.mark.parametrize("where", ["nosuch/tiny.ts", "file/tiny.ts", "folder", "pipe"])
def test_a_path_that_cannot_be_written_gives_one_sentence(tiny: Checkpoint, tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AvfakeError, match=r"cannot be written|is a folder") as caught:
        export(tiny, tmp_path / where, format="torchscript")
    assert str(tmp_path / where) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_for_an_export_is_named(
    tiny: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ExportError, match=f"needs the package {package}: pip install"):
        export(tiny, tmp_path / "tiny.onnx", format="onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_package_that_is_missing_to_load_onnx_is_named(graph: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match="needs the package onnx: pip install"):
        load_exported(graph)


def test_every_part_has_a_form(tiny: Checkpoint) -> None:
    for part in get_args(Part):
        assert "forward" in forms.form(part, tiny.model, CONFIG).methods
