"""The configuration of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avfake import settings
from avfake.evaluation.corruptions import FAMILIES
from avfake.settings import ABOVE_0, TEXT, Limit, Schema, at_least, one_of


@dataclass(frozen=True)
class SetConfig:
    """A test set: the rows of ``split`` of a manifest, of prepared shards, or of a folder of media.

    ``split`` is train, dev, test or all; auto is all of a folder of media, and test of the others.

    One of ``manifest``, ``shards`` and ``media`` is given; a folder of media holds genuine files in ``real`` and others
    in ``fake`` (docs/corpora/your-own.md). ``methods`` keeps only the fakes of these methods and all that is genuine,
    ``sources`` only these corpora; empty: all. ``protocol`` auto takes the one of the corpus. ``asv`` is the official
    file of a speaker verifier's scores, for tandem costs.
    """

    manifest: str | None = None
    shards: str | None = None
    media: str | None = None
    split: str = "auto"
    methods: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    protocol: str = "auto"
    asv: str | None = None


@dataclass(frozen=True)
class ScoresConfig:
    """Somebody's scores in the place of a model's (docs/score-files.md).

    ``higher`` says what high scores mean, genuine or fake; ``scale`` whether they are probabilities, llr (natural
    log-likelihood ratios), or but a rank; ``aspect`` what a single column of scores is about; ``proposals`` is a file
    of stretches that are said to be fake.
    """

    file: str | None = None
    higher: str = "fake"
    scale: str = "rank"
    aspect: str = "fake"
    proposals: str | None = None


@dataclass(frozen=True)
class CorruptionsConfig:
    """What ``--corruptions`` does to ``clips`` clips of a set, drawn evenly from classes, their first ``seconds``.

    ``families`` empty: all; severities 1 (mild) to 5. See docs/robustness.md.
    """

    families: list[str] = field(default_factory=list)
    severities: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5])
    clips: int = 40
    seconds: float = 6.0


@dataclass(frozen=True)
class EvalConfig:
    """One detector, a ``model`` or the ``scores`` of another, on the test ``sets`` of names of your choice.

    ``model`` is whatever ``detect`` takes, exported files too. ``leave_one_out`` lists method and source, or
    neither. ``resamples`` of persons give the intervals (0: none). ``shortcuts``: of how many clips a set the metadata
    are measured, to see what can be had without looking (0: none). ``corpora`` and ``methods`` say what the model was
    trained on, where its checkpoint does not. ``workers`` 0 judges in this process.
    """

    model: str | None = None
    scores: ScoresConfig = field(default_factory=ScoresConfig)
    sets: dict[str, SetConfig] = field(default_factory=dict)
    corruptions: CorruptionsConfig = field(default_factory=CorruptionsConfig)
    leave_one_out: list[str] = field(default_factory=list)
    resamples: int = 1000
    shortcuts: int = 2000
    corpora: list[str] = field(default_factory=list)
    methods: list[str] = field(default_factory=list)
    faces: str = "auto"
    device: str = "cpu"
    threads: int = 1
    engine: str = "local"
    workers: int = 0
    out: str = "runs/eval"


_LIMITS = {
    "model": TEXT,
    "scores.file": TEXT,
    "scores.higher": one_of("fake", "genuine"),
    "scores.scale": one_of("rank", "probability", "llr"),
    "scores.aspect": one_of("fake", "visual", "audio", "sync"),
    "sets.NAME.manifest": TEXT,
    "sets.NAME.shards": TEXT,
    "sets.NAME.media": TEXT,
    "sets.NAME.split": one_of("auto", "train", "dev", "test", "all"),
    "sets.NAME.protocol": TEXT,
    "corruptions.families": Limit(lambda names: set(names) <= set(FAMILIES), f"some of {', '.join(FAMILIES)}"),
    "corruptions.severities": Limit(
        lambda levels: bool(levels) and set(levels) <= {1, 2, 3, 4, 5}, "some of 1 to 5, as in [1,3,5]"
    ),
    "corruptions.clips": at_least(2),
    "corruptions.seconds": ABOVE_0,
    "leave_one_out": Limit(lambda names: set(names) <= {"method", "source"}, "some of method and source"),
    "resamples": at_least(0),
    "shortcuts": at_least(0),
    "faces": one_of("auto", "facemesh", "face_alignment"),
    "device": TEXT,
    "threads": at_least(1),
    "engine": one_of("local", "ray"),
    "workers": at_least(0),
    "out": TEXT,
}
_ELSEWHERE = {
    "checkpoint": "model",
    "weights": "model",
    "output_dir": "out",
    "dataset": "sets.main.manifest",
    "data": "sets.main.manifest",
    "num_workers": "workers",
    "n_bootstrap": "resamples",
    "bootstrap": "resamples",
}


def _nothing(config: EvalConfig) -> str | None:
    if not config.sets:
        return "sets is empty; say what to evaluate on with sets.main.manifest=M.jsonl (see avfake manifest)"
    if (config.model is None) == (config.scores.file is None):
        what = "nothing says what to evaluate" if config.model is None else "a model and a score file are given"
        return f"{what}; give one of model=mini and scores.file=SCORES.csv"
    return None


def _fault(config: EvalConfig) -> str | None:
    for name, one in config.sets.items():
        given = [key for key in ("manifest", "shards", "media") if getattr(one, key) is not None]
        if len(given) != 1:
            said = " and ".join(given) or "nothing"
            return f"sets.{name} has {said}, but must have one of manifest, shards and media"
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
            return f"sets.{name} becomes a folder; use letters, digits, - and _ alone"
    if config.scores.proposals is not None and config.scores.file is None:
        return "scores.proposals comes without scores.file; give both"
    return None


_SCHEMA = Schema(EvalConfig, _LIMITS, _fault, _ELSEWHERE, _nothing)


def load_config(path: Path, overrides: Sequence[str] = ()) -> EvalConfig:
    """Read a configuration file and ``key=value`` pairs (see ``settings.load``). Raises ``ConfigError``."""
    return settings.load(path, overrides, _SCHEMA)
