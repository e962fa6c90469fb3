"""Does a corpus leak its label? What can be told of a clip without looking at what is shown or said.

>>> rows = list(avfake.manifest.read("M.jsonl"))
>>> audit = run(rows, measure_all(rows, workers=2))
>>> for finding in audit.findings:
...     print(finding.text)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from avfake import AvfakeError
from avfake.evaluation.audit.findings import Finding, findings
from avfake.evaluation.audit.leaks import Answers, ask, questions
from avfake.evaluation.audit.measure import Properties, measure, measure_all
from avfake.evaluation.audit.overlap import (
    Balance,
    Duplicates,
    Shared,
    balance,
    duplicate_files,
    duplicate_sounds,
    shared_identities,
    shared_originals,
)
from avfake.manifest import Row

__all__ = ["Audit", "AuditError", "Finding", "Properties", "measure", "measure_all", "run"]


class AuditError(AvfakeError):
    """There is nothing to audit."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    ``clips``        rows of the manifest; ``unreadable`` the (id, reason) of those whose files could not be read.
    ``answers``      what metadata tell, by question.
    ``identities``, ``originals``  what two splits share.
    ``files``, ``sounds``          duplicates by the bytes of the files, and of unequal files by their decoded sound.
    ``findings``     the rest in plain words.
    """

    clips: int
    unreadable: tuple[tuple[str, str], ...]
    answers: tuple[Answers, ...]
    identities: tuple[Shared, ...]
    originals: tuple[Shared, ...]
    files: Duplicates
    sounds: Duplicates
    balance: Balance
    findings: tuple[Finding, ...] = field(default=())


def run(
    rows: Sequence[Row], properties: Sequence[Properties], *, told: Callable[[int, int], None] = lambda done, of: None
) -> Audit:
    """Audit a corpus, given what ``measure`` says of each of its rows, in their order.

    ``told`` hears how many questions are answered, of how many. The same input gives the same audit. Raises
    ``AuditError`` for a manifest without rows, or of which no file could be read.
    """
    if not rows:
        raise AuditError("The manifest has no rows, so there is nothing to audit; check how it was made.")
    unreadable = tuple((found.id, found.error) for found in properties if found.error is not None)
    if len(unreadable) == len(rows):
        id_, reason = unreadable[0]
        raise AuditError(f"No row can be read, so there is nothing to audit; the first is {id_}: {reason}")
    asked = questions(rows)
    answers = []
    for aspect, material in asked:
        answers.append(ask(rows, properties, aspect, material))
        told(len(answers), len(asked))
    audit = Audit(
        clips=len(rows),
        unreadable=unreadable,
        answers=tuple(answers),
        identities=tuple(shared_identities(rows)),
        originals=tuple(shared_originals(rows)),
        files=duplicate_files(rows, properties),
        sounds=duplicate_sounds(rows, properties),
        balance=balance(rows),
    )
    return replace(audit, findings=tuple(findings(audit)))
