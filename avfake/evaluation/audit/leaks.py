"""How well a property of the file, without what is seen and heard, tells fake from genuine."""

from __future__ import annotations

import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer
from sklearn.tree import DecisionTreeClassifier

from avfake.corpora.people import families
from avfake.evaluation.audit.measure import NUMBERS, WORDS, Properties, Property
from avfake.evaluation.metrics import auc
from avfake.manifest import ASPECTS, Label, Row

ANY = "any"
"""Stands for an aspect where the question is whether a clip is fake in any of them."""

LEAK = 0.6
"""A property leaks when its AUC is above this with 97.5 % confidence.

0.5 would be the wrong bar: about 30 properties are asked four questions, so chance alone would pass it three times
an audit, and a difference that cannot fool anybody passes it in a large corpus. What is above 0.6 and how far depends
on the number of clips: docs/audit.md says what was measured.
"""
FEWEST = 10
"""Clips that each class must have for a question to be asked."""

Verdict = Literal["leaks", "maybe", "no"]
Material = Literal["all", "video", "sound"]
"""Which clips a question is about: all, those with a picture, or those of sound alone."""

_SEED = 0
_FOLDS = 5
_CHOOSING_FOLDS = 3  # within the clips to train on
_RESAMPLES = 500
_MAX_CLIPS = 50_000  # beyond it, the intervals are narrow and the classifiers slow
_MOST_WORDS = 200
_NOTHING = "(none)"
_NAMES = {"file_name": Property("file name"), "file_name_masked": Property("file name, digits masked")}

PROPERTIES = NUMBERS | WORDS | _NAMES
"""All that an audit asks about, by name."""

Protocol = Literal["random", "identity", "corpus", "dev", "test"]
PROTOCOLS: tuple[Protocol, ...] = ("random", "identity", "corpus", "dev", "test")
"""How a classifier is tested: in 5 folds drawn at random, or that keep apart persons, or corpora; or trained on split
train and tested on dev or test."""


@dataclass(frozen=True)
class Estimate:
    """An AUC in [0, 1] and its 95 % interval over ``clips`` clips that the classifier was not fitted on."""

    auc: float
    low: float
    high: float
    clips: int


@dataclass(frozen=True)
class Typical:
    """What one class looks like: its median or commonest word (None where nothing was measured), and the share of its
    clips where there was nothing to measure."""

    value: float | str | None
    missing: float


@dataclass(frozen=True)
class Rule:
    """The clips that give a property away best: those with a value from ``low`` to ``high``, or one of ``words``.

    All three are None for the clips where the property is missing.
    """

    low: float | None
    high: float | None
    word: str | None
    clips: int
    fake: int


@dataclass(frozen=True)
class Leak:
    """What one property tells.

    ``estimates``  by protocol; None where the corpus does not allow it.
    ``rank_auc``   of the number itself among the clips that have it, above 0.5 where fakes have more; None for words.
    ``constant``   whether all clips have the same value, so that there was nothing to ask.
    """

    name: str
    estimates: dict[Protocol, Estimate | None]
    rank_auc: float | None
    genuine: Typical
    fake: Typical
    rule: Rule | None
    constant: bool = False

    @property
    def random(self) -> Estimate:
        """The estimate from random folds, which there always is."""
        estimate = self.estimates["random"]
        assert estimate is not None
        return estimate

    @property
    def verdict(self) -> Verdict:
        """``leaks``, ``no``, or ``maybe`` where the interval of the random folds holds the level ``LEAK``."""
        return verdict(self.random)


@dataclass(frozen=True)
class Answers:
    """What metadata tell of one question.

    ``aspect``             visual, audio, sync or any; ``material`` the clips it is asked of.
    ``genuine``, ``fake``  readable clips by label; ``unknown`` those without.
    ``reason``             why nothing could be asked, in words, else None.
    ``used``               clips that the classifiers saw: all with a label, or a random draw of 50,000.
    ``persons``            that the clips of a class come from, of the class with fewer of them (see ``families``).
    ``corpora``            that those clips come from; ``one_sided`` of them, with ``one_sided_clips`` clips, hold
                           genuine or fake clips alone.
    ``leaks``              one for each property, best first; ``metadata`` the classifier over all but the name.
    """

    aspect: str
    material: Material
    genuine: int
    fake: int
    unknown: int
    reason: str | None = None
    used: int = 0
    persons: int = 0
    corpora: int = 0
    one_sided: int = 0
    one_sided_clips: int = 0
    leaks: tuple[Leak, ...] = ()
    metadata: dict[Protocol, Estimate | None] = field(default_factory=dict)


def verdict(estimate: Estimate) -> Verdict:
    """Say whether an AUC is surely above ``LEAK``, surely not, or neither."""
    return "leaks" if estimate.low > LEAK else "no" if estimate.high <= LEAK else "maybe"


def questions(rows: Sequence[Row]) -> list[tuple[str, Material]]:
    """Return what to ask of a corpus.

    Where videos and speech are mixed, they are asked apart: a leak of the frame rate would drown in ten times as many
    clips without a picture, and none of them is what a model of videos is trained on.
    """
    if len({row.video is None for row in rows}) == 1:
        return [(aspect, "all") for aspect in (*ASPECTS, ANY)]
    return [
        ("visual", "video"),
        ("audio", "video"),
        ("audio", "sound"),
        ("sync", "video"),
        (ANY, "video"),
        (ANY, "all"),
    ]


def label_of(row: Row, aspect: str) -> Label:
    """Return the label of an aspect, or for ``any`` whether some aspect is fake (``Row.fake``)."""
    label: Label = row.fake if aspect == ANY else getattr(row.labels, aspect)
    return label


def ask(
    rows: Sequence[Row],
    properties: Sequence[Properties],
    aspect: str,
    material: Material = "all",
) -> Answers:
    """Ask every property whether an aspect is fake, over the rows that have a label for it and could be read.

    ``properties`` are in the order of ``rows``.
    """
    pairs = zip(rows, properties, strict=True)
    asked = [(row, found) for row, found in pairs if material == "all" or (row.video is None) == (material == "sound")]
    readable = [(row, label_of(row, aspect), found) for row, found in asked if found.error is None]
    known: list[tuple[Row, int, Properties]] = [
        (row, label, found) for row, label, found in readable if label is not None
    ]
    fake = sum(label == 1 for _, label, _ in known)
    genuine = len(known) - fake
    unknown = len(readable) - len(known)
    if min(fake, genuine) < FEWEST:
        reason = f"{genuine} genuine and {fake} fake clips: {FEWEST} of each are needed"
        return Answers(aspect, material, genuine, fake, unknown, reason)
    if len(known) > _MAX_CLIPS:
        chosen = np.random.default_rng(_SEED).choice(len(known), _MAX_CLIPS, replace=False)
        known = [known[index] for index in sorted(chosen)]
    table = _Table([row for row, _, _ in known], [found for _, _, found in known])
    labels = np.array([label for _, label, _ in known], np.int64)
    trial = _Trial(table.rows, labels)
    leaks = [leak for name in PROPERTIES if (leak := _leak(table, trial, name)) is not None]
    leaks.sort(key=lambda leak: -leak.random.auc)
    metadata = trial.estimates(table.metadata(), lambda clips: _forest(clips, table.is_word))
    sides: dict[str, Counter[int]] = defaultdict(Counter)
    for row, label, _ in known:
        sides[row.corpus][label] += 1
    one_sided = [counts.total() for counts in sides.values() if len(counts) == 1]
    return Answers(
        aspect=aspect,
        material=material,
        genuine=genuine,
        fake=fake,
        unknown=unknown,
        used=len(known),
        persons=trial.persons,
        corpora=len(sides),
        one_sided=len(one_sided),
        one_sided_clips=sum(one_sided),
        leaks=tuple(leaks),
        metadata=metadata,
    )


class _Table:
    """The measured properties of the clips of one question, by column.

    Numbers that are missing, or infinite, are NaN; words that are missing ``_NOTHING``.
    """

    def __init__(self, rows: list[Row], properties: list[Properties]) -> None:
        self.rows = rows
        self.numbers = {
            name: _finite(np.array([found.numbers.get(name, np.nan) for found in properties])) for name in NUMBERS
        }
        self.words = {
            name: np.array([found.words.get(name, _NOTHING) for found in properties], object) for name in WORDS
        }
        self.names = np.array([found.name for found in properties], object)

    @property
    def is_word(self) -> list[bool]:
        """Which columns of ``metadata`` hold codes of words."""
        return [False] * len(self.numbers) + [True] * len(self.words)

    def metadata(self) -> NDArray[np.float64]:
        """Return all numbers and the codes of all words, (clips, properties); rare words share one code."""
        columns = [_filled(numbers) for numbers in self.numbers.values()]
        for words in self.words.values():
            codes = {word: code for code, (word, _) in enumerate(Counter(words).most_common(_MOST_WORDS))}
            columns.append(np.array([codes.get(word, _MOST_WORDS) for word in words], np.float64))
        return np.column_stack(columns)


class _Trial:
    """Tests classifiers on the clips of one question, all on the same folds and resamples."""

    def __init__(self, rows: Sequence[Row], labels: NDArray[np.int64]) -> None:
        self.labels = labels
        persons = families(rows)
        self.persons = min(len(np.unique(persons[labels == label])) for label in (0, 1))
        corpora = np.unique([row.corpus for row in rows], return_inverse=True)[1]
        splits = np.array([row.split for row in rows])
        train = np.flatnonzero(splits == "train")
        self._folds: dict[Protocol, list[tuple[NDArray[Any], NDArray[Any]]]] = {
            "random": list(StratifiedKFold(_FOLDS, shuffle=True, random_state=_SEED).split(labels, labels)),
            "identity": _grouped(labels, persons) if any(row.identity for row in rows) else [],
            "corpus": _grouped(labels, corpora),
        }
        for split in ("dev", "test"):
            tested = np.flatnonzero(splits == split)
            enough = all(np.bincount(labels[part], minlength=2).min() >= FEWEST for part in (train, tested))
            self._folds[split] = [(train, tested)] if enough else []
        # Clips of a person resemble each other, so whole persons are drawn, and whole corpora where those are kept
        # apart. But few of them vary too little (a single one, not at all), so that clips are drawn as well.
        draws = [_resamples(persons), _resamples(np.arange(len(labels)))]
        self._draws = dict.fromkeys(PROTOCOLS, draws)
        if self._folds["corpus"]:
            self._draws["corpus"] = [_resamples(corpora), *draws]

    def estimates(self, values: NDArray[Any], make_model: Callable[[int], Any]) -> dict[Protocol, Estimate | None]:
        """Return the AUC of a model, made for a number of training clips, on ``values`` (clips, ...) by protocol."""
        return {protocol: self._estimate(values, make_model, protocol) for protocol in PROTOCOLS}

    def flat(self) -> dict[Protocol, Estimate | None]:
        """Return what a property that is the same in all clips tells: nothing."""
        clips = {protocol: sum(len(tested) for _, tested in folds) for protocol, folds in self._folds.items()}
        return {name: Estimate(0.5, 0.5, 0.5, clips[name]) if clips[name] else None for name in PROTOCOLS}

    def _estimate(self, values: NDArray[Any], make_model: Callable[[int], Any], protocol: Protocol) -> Estimate | None:
        folds = self._folds[protocol]
        if not folds:
            return None
        scores = np.full(len(self.labels), np.nan)
        for train, tested in folds:
            model = make_model(len(train)).fit(values[train], self.labels[train])
            # Rounded, so that what differs by the order of additions alone stays tied.
            scores[tested] = np.round(model.predict_proba(values[tested])[:, 1], 9)
        tested = np.flatnonzero(~np.isnan(scores))
        labels, scores = self.labels[tested], scores[tested]
        intervals = [interval(labels, scores, weights[:, tested]) for weights in self._draws[protocol]]
        low, high = min(low for low, _ in intervals), max(high for _, high in intervals)
        return Estimate(auc(labels, scores), low, high, len(tested))


def interval(labels: NDArray[np.int64], scores: NDArray[np.float64], weights: NDArray[np.uint8]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the AUC over resamples.

    ``weights`` (resamples, n) tells how often each clip was drawn. Draws of one class alone are left out.
    """
    levels, level_of = np.unique(scores, return_inverse=True)
    values = []
    for drawn in weights:
        fake = np.bincount(level_of, drawn * (labels == 1), len(levels))
        genuine = np.bincount(level_of, drawn * (labels == 0), len(levels))
        pairs = fake.sum() * genuine.sum()
        if pairs:
            values.append(float(fake @ (np.cumsum(genuine) - genuine / 2)) / pairs)
    if not values:
        return 0.0, 1.0
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def _resamples(groups: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return how often each clip is drawn when whole groups are, (resamples, clips)."""
    count = int(groups.max()) + 1
    rng = np.random.default_rng(_SEED)
    shares = np.full(count, 1 / count)
    drawn = [np.minimum(rng.multinomial(count, shares), 255).astype(np.uint8)[groups] for _ in range(_RESAMPLES)]
    return np.array(drawn)


def _grouped(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Return folds that keep groups whole; none where too few groups hold a class to train without one of them."""
    if any(len(np.unique(groups[labels == label])) < _FOLDS for label in (0, 1)):
        return []
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=_SEED)
    with warnings.catch_warnings():
        # One large group can leave a fold without a class; the pooled scores have both.
        warnings.simplefilter("ignore", UserWarning)
        folds = list(splitter.split(labels, labels, groups))
    return folds if all(len(np.unique(labels[train])) == 2 and len(tested) for train, tested in folds) else []


def _leak(table: _Table, trial: _Trial, name: str) -> Leak | None:
    """Ask one property; None where no clip has it."""
    labels = trial.labels
    rank: float | None = None
    rule: Rule | None = None
    if name in table.numbers:
        numbers = table.numbers[name]
        missing = np.isnan(numbers)
        if missing.all():
            return None
        values: NDArray[Any] = _filled(numbers)[:, None]
        model: Callable[[int], Any] = _NumberModel
        rank = auc(labels[~missing], numbers[~missing]) if len(np.unique(labels[~missing])) == 2 else None
        genuine, fake = (_typical_number(numbers[labels == label]) for label in (0, 1))
        rule = _number_rule(values, missing, labels)
    elif name in table.words:
        words = table.words[name]
        missing = words == _NOTHING
        if missing.all():
            return None
        values, model = words[:, None], _word_model
        genuine, fake = (_typical_word(words[labels == label]) for label in (0, 1))
        rule = _word_rule(words, labels)
    else:
        values, model = table.names, _name_model
        if name == "file_name_masked":
            values = np.array([re.sub(r"\d", "0", text) for text in values], object)
        genuine, fake = (_typical_word(values[labels == label]) for label in (0, 1))
    if len(np.unique(values)) == 1:
        return Leak(name, trial.flat(), rank, genuine, fake, None, constant=True)
    return Leak(name, trial.estimates(values, model), rank, genuine, fake, rule)


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _filled(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return numbers where those missing lie below all others: one cut of a tree parts them from the rest."""
    missing = np.isnan(numbers)
    return np.where(missing, 0.0 if missing.all() else np.nanmin(numbers) - 1, numbers)


def _typical_number(numbers: NDArray[np.float64]) -> Typical:
    missing = np.isnan(numbers)
    return Typical(None if missing.all() else float(np.median(numbers[~missing])), float(missing.mean()))


def _typical_word(words: NDArray[Any]) -> Typical:
    missing = words == _NOTHING
    commonest = None if missing.all() else str(Counter(words[~missing]).most_common(1)[0][0])
    return Typical(commonest, float(missing.mean()))


# Classifiers. All weigh the classes alike: else what a fold lacks of a class shows in its scores, and pooled folds
# of a property that tells nothing come out below 0.5.


class _NumberModel:
    """What one number tells: by rising or falling, or by a small tree, as in "fakes are those at 24 fps".

    The rank loses nothing where the number rises or falls with the label, which the steps of a tree do; so the tree is
    taken where it tells more of clips that it has not seen, all of them clips to train on.
    """

    def __init__(self, clips: int) -> None:
        quantiles = QuantileTransformer(n_quantiles=min(clips, 1000), random_state=_SEED)
        self._model = make_pipeline(quantiles, _logistic())
        self._tree = DecisionTreeClassifier(
            max_leaf_nodes=16, min_samples_leaf=max(5, clips // 40), class_weight="balanced", random_state=_SEED
        )

    def fit(self, values: NDArray[np.float64], labels: NDArray[np.int64]) -> _NumberModel:
        rank = auc(labels, values[:, 0])
        folds = min(_CHOOSING_FOLDS, int(np.bincount(labels).min()))
        if folds > 1:
            scores = np.empty(len(labels))
            splitter = StratifiedKFold(folds, shuffle=True, random_state=_SEED)
            for train, tested in splitter.split(values, labels):
                scores[tested] = self._tree.fit(values[train], labels[train]).predict_proba(values[tested])[:, 1]
            if auc(labels, scores) > max(rank, 1 - rank):
                self._model = self._tree
        self._model.fit(values, labels)
        return self

    def predict_proba(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(self._model.predict_proba(values))


def _word_model(clips: int) -> Any:
    return make_pipeline(OneHotEncoder(handle_unknown="ignore"), _logistic())


def _name_model(clips: int) -> Any:
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3), max_features=20_000, token_pattern=None)
    return make_pipeline(grams, _logistic())


def _logistic() -> LogisticRegression:
    return LogisticRegression(class_weight="balanced", solver="liblinear", random_state=_SEED)


def _forest(clips: int, is_word: list[bool]) -> Any:
    return HistGradientBoostingClassifier(
        max_iter=100,
        max_leaf_nodes=15,
        min_samples_leaf=max(5, min(20, clips // 100)),
        categorical_features=is_word,
        class_weight="balanced",
        early_stopping=False,
        random_state=_SEED,
    )


# Rules: the stretch of values that gives most away, for people to read.


def _number_rule(values: NDArray[np.float64], missing: NDArray[np.bool_], labels: NDArray[np.int64]) -> Rule:
    tree = DecisionTreeClassifier(max_leaf_nodes=4, min_samples_leaf=max(5, len(labels) // 100), random_state=_SEED)
    leaves = tree.fit(values, labels).apply(values)
    members = _most_telling(leaves, labels)
    if missing[members].all():
        return Rule(None, None, None, len(members), int(labels[members].sum()))
    measured = members[~missing[members]]
    inside = values[measured, 0]
    return Rule(float(inside.min()), float(inside.max()), None, len(measured), int(labels[measured].sum()))


def _word_rule(words: NDArray[Any], labels: NDArray[np.int64]) -> Rule:
    members = _most_telling(np.unique(words, return_inverse=True)[1], labels)
    word = str(words[members[0]])
    return Rule(None, None, None if word == _NOTHING else word, len(members), int(labels[members].sum()))


def _most_telling(parts: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the clips of the part that says most: its size times how far its share of fakes is from the whole's."""
    base = labels.mean()

    def told(part: int) -> float:
        inside = labels[parts == part]
        share = inside.mean()
        terms = [(share, base), (1 - share, 1 - base)]
        return len(inside) * float(sum(p * np.log(p / q) for p, q in terms if p > 0))

    return np.flatnonzero(parts == max(np.unique(parts), key=told))
