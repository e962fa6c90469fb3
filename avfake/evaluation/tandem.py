"""Costs of a spoofing detector together with a speaker verifier (ASV): t-DCF of 2019 and 2021, and a-DCF.

Scores of the detector (CM) follow ``metrics``: they rise with *fake*, labels are 1 = fake. Scores of the speaker
verifier, and of a system that does both, rise with *target*, as the organisers publish them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from avfake.evaluation.metrics import C_FA, C_MISS, NAN, P_SPOOF, det, scored, split

P_TARGET = (1 - P_SPOOF) * 0.99
"""Prior of the claimed speaker, and of another one without spoofing, in ASVspoof 2019 and 2021."""
P_NONTARGET = (1 - P_SPOOF) * 0.01

A_DCF_MISS = 1.0 * 0.9
"""Weights of a-DCF: cost of an error times prior of its class (ASVspoof 5 track 2; a-DCF1 of Shim et al.)."""
A_DCF_NONTARGET = 10.0 * 0.05
A_DCF_SPOOF = 20.0 * 0.05


class AsvRates(NamedTuple):
    """Errors of the speaker verifier, in [0, 1]: rejected targets, accepted non-targets, accepted spoofs."""

    miss: float
    false_alarm: float
    spoof_false_alarm: float


def asv_rates(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> AsvRates:
    """Return the verifier's errors at its equal-error threshold between targets and non-targets.

    Source: ``obtain_asv_error_rates`` of ASVspoof (tDCF_python_v2). The threshold is one of the scores, and what equals
    it is accepted, though the DET curve counts it as rejected: the rates can be one trial off their EER. All NaN where
    a kind of trial is missing; ``ValueError`` where a score is NaN.
    """
    own, other, fake = (scored(scores) for scores in (target, nontarget, spoof))
    if not len(own) or not len(other) or not len(fake):
        return AsvRates(NAN, NAN, NAN)
    miss, false_alarm, thresholds = det(own, other)
    threshold = thresholds[np.argmin(np.abs(miss - false_alarm))]
    return AsvRates(*(float(rate.mean()) for rate in (own < threshold, other >= threshold, fake >= threshold)))


def min_tdcf_2019(labels: ArrayLike, scores: ArrayLike, asv: AsvRates) -> float:
    """Minimum normalised t-DCF in [0, 1] of ASVspoof 2019: detector before a fixed verifier.

    min over thresholds of (C1 P_miss + C2 P_fa) / min(C1, C2), with C1 = P_tar (1 - P_miss_asv) - P_non 10 P_fa_asv and
    C2 = 10 P_spoof P_fa_spoof_asv. Source: Kinnunen et al., Odyssey 2018; ASVspoof 2019 evaluation plan;
    ``compute_tDCF_legacy`` in 2021/eval-package. 1 says nothing. NaN unless both labels occur, and where C1 or C2 is
    not above 0: a verifier that rejects all spoofs, or worse than none, leaves nothing to normalise by. The official
    script refuses scores of fewer than three values; this does not, since ties do no harm (``metrics.det``).
    """
    passing = C_MISS * P_TARGET * (1 - asv.miss) - C_FA * P_NONTARGET * asv.false_alarm
    return _minimum(labels, scores, 0.0, passing, C_FA * P_SPOOF * asv.spoof_false_alarm)


def min_tdcf_2021(labels: ArrayLike, scores: ArrayLike, asv: AsvRates) -> float:
    """Minimum normalised t-DCF of ASVspoof 2021: detector and verifier in tandem, from the verifier's own cost to 1.

    min over thresholds of (C0 + C1 P_miss + C2 P_fa) / (C0 + min(C1, C2)), with C0 = P_tar P_miss_asv + P_non 10
    P_fa_asv, C1 = P_tar - C0 and C2 = 10 P_spoof P_fa_spoof_asv. A perfect detector reaches C0 / (C0 + min(C1, C2)),
    not 0. Source: Kinnunen et al., IEEE/ACM TASLP 2020; ``compute_tDCF`` in 2021/eval-package. NaN as in 2019.
    """
    verifier = C_MISS * P_TARGET * asv.miss + C_FA * P_NONTARGET * asv.false_alarm
    return _minimum(labels, scores, verifier, C_MISS * P_TARGET - verifier, C_FA * P_SPOOF * asv.spoof_false_alarm)


def _minimum(labels: ArrayLike, scores: ArrayLike, fixed: float, missing: float, passing: float) -> float:
    genuine, fake = split(labels, scores)
    if not len(genuine) or not len(fake) or not (missing > 0 and passing > 0):
        return NAN
    miss, false_alarm, _ = det(-genuine, -fake)
    return float(np.min(fixed + missing * miss + passing * false_alarm) / (fixed + min(missing, passing)))


def a_dcf(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> float:
    """Minimum a-DCF in [0, 1] of one score that shall accept the claimed speaker alone (ASVspoof 5 track 2).

    min over thresholds of 0.9 P_miss + 0.5 P_fa_nontarget + 1.0 P_fa_spoof, divided by the better of accepting all
    (1.5) and rejecting all (0.9). Source: Shim et al., Odyssey 2024; asvspoof5 evaluation-package/a_dcf.py; PyPI a_dcf.
    Ties do no harm. NaN where a kind of trial is missing; ``ValueError`` where a score is NaN.
    """
    own, other, fake = (scored(scores) for scores in (target, nontarget, spoof))
    if not len(own) or not len(other) or not len(fake):
        return NAN
    values = np.unique(np.concatenate([own, other, fake]))
    lowest_accepted = np.append(values, np.inf)
    rejected = [np.searchsorted(np.sort(part), lowest_accepted, "left") / len(part) for part in (own, other, fake)]
    costs = A_DCF_MISS * rejected[0] + A_DCF_NONTARGET * (1 - rejected[1]) + A_DCF_SPOOF * (1 - rejected[2])
    return float(costs.min() / min(A_DCF_NONTARGET + A_DCF_SPOOF, A_DCF_MISS))
