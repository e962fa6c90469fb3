"""Writes the two files that the 1M-Deepfakes challenges take: AV-Deepfake1M (2024) and AV-Deepfake1M++ (2025).

Sources: deepfakes1m.github.io/details and /2025/details; the organisers' evaluation, PyPI avdeepfake1m 0.0.4
(evaluation/auc.py, src/loc_1d.rs). A file is called as in ``test_files.txt``, or as the ``file`` of
``val_metadata.json``.

Both need an answer for every video of the set, so neither has a place for *not judged*. Nothing is made up silently:
a video without an answer is refused, unless the caller says what to write; the names of such videos then stand, one a
line, in a companion file ``PATH.unjudged``, beside what is handed in.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from avfake import AvfakeError
from avfake.evaluation.material import Proposal
from avfake.evaluation.score_file import NOTHING
from avfake.manifest import Row
from avfake.storage import remove, write_bytes

CORPUS = "av-deepfake1m"
"""What ``corpora.avdeepfake1m`` calls itself in rows."""


class SubmissionError(AvfakeError):
    """What was asked to be handed in is not what the challenge takes."""


def write_video_scores(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    scores: Mapping[str, float | None],
    *,
    unjudged: float | None = None,
) -> tuple[str, ...]:
    """Write ``file;P(fake)`` lines without a header (task 1, ``.txt``), and return the files that were not judged.

    ``scores`` are P(fake) by id: the organisers take the AUC, but would squash values outside [0, 1] first, which ties
    large ones. A video without a score gets ``unjudged`` in [0, 1]; without that it is refused. Raises
    ``SubmissionError``, also for rows that are not one set of AV-Deepfake1M; ``StorageError``.
    """
    files = _official(rows)
    lacking = tuple(files[row.id] for row in rows if scores.get(row.id) is None)
    if lacking and unjudged is None:
        raise SubmissionError(
            f"{path}: {len(lacking)} videos have no score ({lacking[0]} for one), which the challenge does not take; "
            "say which score they are to get."
        )
    lines = []
    for row in rows:
        given = scores.get(row.id)
        score = unjudged if given is None else given
        if score is None or not 0 <= score <= 1:
            raise SubmissionError(f"{path}: {files[row.id]} has the score {score!r}; P(fake) in [0, 1] was expected.")
        lines.append(f"{files[row.id]};{float(score)!r}\n")
    _write(path, "".join(lines), lacking)
    return lacking


def write_proposals(
    path: str | os.PathLike[str],
    rows: Sequence[Row],
    proposals: Mapping[str, Sequence[Proposal]],
    *,
    unjudged_as_nothing: bool = False,
) -> tuple[str, ...]:
    """Write ``{file: [[confidence, start, end], ...]}`` (task 2, ``.json``), and return the files not judged.

    ``proposals`` are by id: confidence in [0, 1], start and end in seconds. They are written by falling confidence,
    because the organisers take the first for the most confident, and where there are none ``score_file.NOTHING`` is
    written, because their evaluation stops at an empty list. A video without an entry is refused unless it may stand
    as one in which nothing was found (``unjudged_as_nothing``). Raises ``SubmissionError`` and ``StorageError``.
    """
    files = _official(rows)
    lacking = tuple(files[row.id] for row in rows if row.id not in proposals)
    if lacking and not unjudged_as_nothing:
        raise SubmissionError(
            f"{path}: {len(lacking)} videos were not judged ({lacking[0]} for one), which the challenge does not take; "
            "say that nothing was found in them."
        )
    content = {}
    for row in rows:
        ordered = sorted(proposals.get(row.id, ()), key=lambda proposal: -proposal[0])
        for confidence, start, end in ordered:
            if not (0 <= confidence <= 1 and 0 <= start < end < float("inf")):
                raise SubmissionError(
                    f"{path}: {files[row.id]} has the proposal {[confidence, start, end]!r}; a confidence in [0, 1] "
                    "and 0 <= start < end were expected."
                )
        content[files[row.id]] = [[float(each) for each in proposal] for proposal in ordered or [NOTHING]]
    _write(path, json.dumps(content), lacking)
    return lacking


def _official(rows: Sequence[Row]) -> dict[str, str]:
    """The organisers' name of each row's video, by id: its path below the folder of its set (train, val or test)."""
    folders = set()
    files = {}
    for row in rows:
        folder, _, name = row.id.removeprefix(f"{CORPUS}/").partition("/")
        end = os.path.splitext(row.video or "")[1]
        if row.corpus != CORPUS or not name or not (row.video or "").endswith(f"{folder}/{name}{end}"):
            raise SubmissionError(
                f"{row.id!r} is no video of {CORPUS}; take the manifest of `avfake manifest {CORPUS}`."
            )
        folders.add(folder)
        files[row.id] = f"{name}{end}"
    if len(folders) != 1:
        found = ", ".join(sorted(folders)) or "none"
        raise SubmissionError(f"A submission is of one set of {CORPUS}, not of {found}; take the rows of one split.")
    return files


def _write(path: str | os.PathLike[str], text: str, lacking: Sequence[str]) -> None:
    write_bytes(os.fspath(path), text.encode())
    companion = f"{os.fspath(path)}.unjudged"
    if lacking:
        write_bytes(companion, "".join(f"{file}\n" for file in lacking).encode())
    else:
        remove(companion)  # of an earlier submission
