"""What an audit found, in plain words that are made from its figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from avfake.evaluation.audit.leaks import ANY, PROPERTIES, Answers, Estimate, Leak, Protocol, verdict
from avfake.evaluation.audit.overlap import Duplicates, Shared
from avfake.manifest import SPLITS

if TYPE_CHECKING:
    from avfake.evaluation.audit import Audit

MOST_LEAKS = 2
"""Properties told in words for each question."""
FEW_PERSONS = 10
"""Persons that the clips of each class must come from, else it is told that they are few."""
ONE_SIDED = 0.2
"""Share of the clips that come from corpora of one class, from which on it is told."""
UNEVEN = 0.2
"""By how much the share of fakes may differ between splits before it is told."""

_ASPECTS = {
    "visual": "whether the picture is fake",
    "audio": "whether the voice is fake",
    "sync": "whether lips and voice belong together",
    ANY: "whether a clip is fake",
}
_MATERIALS = {"all": "", "video": " (clips with a picture)", "sound": " (sound alone)"}
_TESTED: dict[Protocol, str] = {
    "identity": "on persons unseen in training",
    "corpus": "on corpora unseen in training",
    "dev": "trained on train and tested on dev",
    "test": "trained on train and tested on test",
}


@dataclass(frozen=True)
class Finding:
    """One sentence: an ``error`` of the corpus, a ``leak`` of its labels, or a ``note``."""

    kind: Literal["error", "leak", "note"]
    text: str


def clips(count: int) -> str:
    """Return a number of clips in words, as in ``1 clip`` or ``2,500 clips``."""
    return _count(count, "clip", "clips")


def question(answers: Answers) -> str:
    """Return the words of a question, as in ``whether the voice is fake (sound alone)``."""
    return _ASPECTS[answers.aspect] + _MATERIALS[answers.material]


def findings(audit: Audit) -> list[Finding]:
    """Return the findings of an audit, errors first, then leaks, then notes."""
    found = [*_errors(audit), *_leaks(audit.answers), *_notes(audit)]
    return sorted(found, key=lambda finding: ("error", "leak", "note").index(finding.kind))


def shown_value(name: str, value: float | str | None) -> str:
    """Return a value of a property with its unit, as in ``24.00 fps``; a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    about = PROPERTIES[name]
    return f"{value:,.{about.digits}f} {about.unit}".rstrip()


def shown_estimate(estimate: Estimate | None) -> str:
    """Return an AUC with its interval, as in ``0.83 [0.79, 0.87]``; a dash for None."""
    return "-" if estimate is None else f"{estimate.auc:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def shown_rule(leak: Leak, answers: Answers) -> tuple[str, str]:
    """Return where a property gives most away and what holds there, as in ``24 to 25 fps``, ``57 of 60 fake``.

    The leak must have a rule.
    """
    rule = leak.rule
    assert rule is not None
    if rule.word is not None:
        where = rule.word
    elif rule.low is None:
        where = "missing"
    else:
        low, high = shown_value(leak.name, rule.low), shown_value(leak.name, rule.high)
        where = high if low == high else f"{low.removesuffix(PROPERTIES[leak.name].unit).rstrip()} to {high}"
    fake = rule.fake / rule.clips > answers.fake / (answers.fake + answers.genuine)
    count = rule.fake if fake else rule.clips - rule.fake
    return where, f"{count:,} of {rule.clips:,} {'fake' if fake else 'genuine'}"


def _errors(audit: Audit) -> Iterator[Finding]:
    if audit.unreadable:
        id_, reason = audit.unreadable[0]
        yield Finding("error", f"{clips(len(audit.unreadable))} cannot be read, as {id_}: {reason}")
    yield from _duplicates(audit.files, "equal byte by byte", "labels")
    yield from _duplicates(audit.sounds, "equal in sound but not in bytes", "audio labels")
    yield from _crossing(audit.identities, "identity", "identities")
    yield from _crossing(audit.originals, "original", "originals")


def _duplicates(found: Duplicates, what: str, labels: str) -> Iterator[Finding]:
    if found.contradicting:
        sets = _count(found.contradicting, "set", "sets")
        yield Finding("error", f"Different {labels} within {sets} of clips {what}: {_examples(found.examples[0])}.")
    if found.across_splits:
        sets = _count(found.across_splits, "set", "sets")
        yield Finding("error", f"More than one split within {sets} of clips {what}.")
    if found.groups and not found.contradicting and not found.across_splits:
        sets = _count(found.groups, "set", "sets")
        yield Finding("note", f"Found {sets} of clips {what} ({clips(found.clips)}), each of one split and one label.")


def _crossing(shared: Sequence[Shared], one: str, many: str) -> Iterator[Finding]:
    for found in shared:
        both = " and ".join(found.splits)
        yield Finding(
            "error",
            f"Both {both} have {_count(found.count, one, many)} ({clips(found.clips)}), as "
            f"{_examples(found.examples[:2])}: a model can know by heart what it is tested on.",
        )


def _leaks(answers: Sequence[Answers]) -> Iterator[Finding]:
    for answer in answers:
        if answer.reason is not None:
            continue
        yield _metadata(answer)
        leaking = [leak for leak in answer.leaks if leak.verdict == "leaks"]
        for leak in _different(leaking):
            yield Finding("leak", _sentence(leak, answer))
        if not leaking:
            yield Finding("note", f"No property alone is sure to tell {question(answer)}.")


def _metadata(answer: Answers) -> Finding:
    random = answer.metadata["random"]
    assert random is not None
    others = [
        f"{shown_estimate(estimate)} {words}"
        for protocol, words in _TESTED.items()
        if (estimate := answer.metadata[protocol]) is not None
    ]
    leaks = verdict(random) == "leaks"
    return Finding(
        "leak" if leaks else "note",
        f"All metadata together {'tell' if leaks else 'do not surely tell'} {question(answer)}: AUC "
        + ", ".join([f"{shown_estimate(random)} in random folds", *others])
        + ".",
    )


def _different(leaks: Sequence[Leak]) -> list[Leak]:
    """Return the worst leaks, one of each family."""
    told: dict[str, Leak] = {}
    for leak in leaks:
        told.setdefault(PROPERTIES[leak.name].family or leak.name, leak)
    return list(told.values())[:MOST_LEAKS]


def _sentence(leak: Leak, answer: Answers) -> str:
    title = PROPERTIES[leak.name].title
    sentence = f"{title[0].upper()}{title[1:]} alone tells {question(answer)} with AUC {shown_estimate(leak.random)}"
    if leak.rule is None:
        return f"{sentence}."
    where, share = shown_rule(leak, answer)
    base = answer.fake / (answer.fake + answer.genuine)
    base = base if share.endswith("fake") else 1 - base
    return f"{sentence}: {share} where it is {where} (of all clips {base:.0%})."


def _notes(audit: Audit) -> Iterator[Finding]:
    for answer in audit.answers:
        if answer.reason is not None:
            yield Finding("note", f"Not asked {question(answer)}: {answer.reason}.")
            continue
        if answer.persons < FEW_PERSONS:
            yield Finding(
                "note",
                f"A class comes from {_count(answer.persons, 'person', 'persons')} alone where the question is "
                f"{question(answer)}: the figures hold for clips of these, and say little of others.",
            )
        if answer.corpora > 1 and answer.one_sided_clips > ONE_SIDED * answer.used:
            yield Finding(
                "note",
                f"Of {clips(answer.used)}, {answer.one_sided_clips:,} come from corpora of one class alone "
                f"({answer.one_sided:,} of {answer.corpora:,} corpora) where the question is {question(answer)}: "
                "who tells the corpus tells the label.",
            )
    for aspect, splits in audit.balance.labels.items():
        known = {split: splits[split].genuine + splits[split].fake for split in SPLITS}
        if not any(splits[split].genuine for split in SPLITS) or not any(splits[split].fake for split in SPLITS):
            continue
        shares = {split: splits[split].fake / known[split] for split in SPLITS if known[split]}
        for split, share in shares.items():
            if share in (0, 1):
                only = "fake" if share else "genuine"
                yield Finding("note", f"Split {split} has {only} clips alone where the question is {_ASPECTS[aspect]}.")
        if max(shares.values()) - min(shares.values()) > UNEVEN and not {0, 1} & set(shares.values()):
            told = ", ".join(f"{share:.0%} of {split}" for split, share in shares.items())
            yield Finding("note", f"The share of fakes differs between splits ({_ASPECTS[aspect]}): {told}.")


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names)


def _count(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"
