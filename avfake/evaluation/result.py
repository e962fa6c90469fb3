"""What an evaluation found: the document behind the terminal table, the JSON and the page."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfake.evaluation.audit.leaks import Estimate
from avfake.evaluation.figures import Figure
from avfake.evaluation.material import Delay
from avfake.evaluation.table import Table

SCHEMA = "avfake-eval-1"


@dataclass(frozen=True)
class Shortcut:
    """What can be had of a question's judged trials without looking or listening.

    ``metadata``  AUC of a classifier over all metadata of ``audit`` in random folds, ``unseen`` on unseen persons; None
                  where there are too few clips, or no media to measure (``reason`` says which).
    ``trimmed``, ``trimmed_unseen``  the same of the trials that were judged without their leading silence, with
                  metadata as they would be without it; None where nobody judged them so.
    ``strongest`` title of the property that tells most alone, and ``strongest_auc`` its AUC.
    ``silence``   AUC of the leading silence alone, longer meaning fake (below 0.5: shorter), in the clips with sound.
    ``drawn``     how many of the judged trials metadata were asked of, None for all of them.
    """

    question: str
    metadata: Estimate | None = None
    unseen: Estimate | None = None
    trimmed: Estimate | None = None
    trimmed_unseen: Estimate | None = None
    strongest: str = ""
    strongest_auc: float = float("nan")
    silence: Estimate | None = None
    drawn: int | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Headline:
    """The trials behind one headline question, to draw: labels and scores (n,) and the numbers of their rows.

    ``p_fake`` (n,) is None where scores are but an order; ``raw`` is P(fake) before calibration, where known.
    ``threshold`` is the P(fake) from which the detector raises an alarm, where it tells and a single one decides: the
    verdict (``fake``) goes by that of whichever answer was the more suspicious.
    """

    question: str
    score: str
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    p_fake: NDArray[np.float64] | None = None
    raw: NDArray[np.float64] | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Domain:
    """Figures of one headline question over the trials of one domain, in the same terms for every row of the summary.

    ``name``  ``all``, ``in-domain``, ``cross-method``, ``cross-dataset``, ``unknown`` (what the model has learned from
              is not told), ``trimmed`` (leading silence cut off), ``undamaged`` (a draw of clips, their first
              seconds), or ``corrupted`` (of these, the mean over the corruptions that touch what the score looks at).
    """

    question: str
    name: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class Damaged:
    """Figures of one headline question under one corruption; severity 0 is the same clips undamaged."""

    family: str
    title: str
    severity: int
    setting: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True)
class LeftOut:
    """Leave one out: threshold and calibration are fitted on all other groups, and figures are of this one.

    ``by`` is method or source; ``group`` the one that was left out.
    """

    question: str
    by: str
    group: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, eq=False)
class SetResult:
    """One test set.

    ``says``, ``cannot``  what the protocol can tell, and what not.
    ``figures``    of all questions, headlines first; ``headlines`` in the order of their importance.
    ``domains``    the summary: the headlines by domain, trimmed, undamaged and corrupted, side by side.
    ``table``      rows and scores, for worst cases; ``failed`` the (id, reason) of clips that could not be judged.
    ``delays``     for the picture of measured against true delays, where the protocol has them.
    """

    name: str
    protocol: str
    says: str
    cannot: str
    table: Table
    figures: tuple[Figure, ...]
    headlines: tuple[Headline, ...]
    domains: tuple[Domain, ...]
    shortcuts: tuple[Shortcut, ...]
    damaged: tuple[Damaged, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    delays: tuple[Delay, ...] = ()
    failed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A detector on one or several test sets.

    ``detector``     what judged: the model's name, or the score file.
    ``fingerprint``  of the detector (as in a detection), or of the score file.
    ``trained_on``   corpora that the model says it has learned from; None where it does not tell.
    ``settings``     the resolved configuration as YAML; ``resamples`` of the bootstrap.
    """

    detector: str
    fingerprint: str
    trained_on: tuple[str, ...] | None
    settings: str
    resamples: int
    sets: tuple[SetResult, ...]
