"""Protocols: how each corpus is measured, as its own field does it.

A protocol turns ``Material`` into figures: questions about one score (``figures.answer``), and what is not about clip
scores (localisation, offsets, tandem costs). Each module here has ``PROTOCOLS``, those of one part of the field, and
shares with the others what is in ``parts``; a new protocol is added to ``_MODULES``, and that is all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module

from avfake import AvfakeError
from avfake.evaluation.figures import Figure, Question
from avfake.evaluation.material import Material
from avfake.manifest import Row

_MODULES = {
    "asvspoof2019": "speech",
    "asvspoof2021": "speech",
    "asvspoof5": "speech",
    "in-the-wild": "speech",
    "ff++": "faces",
    "dfd": "faces",
    "celeb-df": "faces",
    "dfdc": "faces",
    "kodf": "faces",
    "deepfaketimit": "faces",
    "cross-dataset": "faces",
    "fakeavceleb": "fakeavceleb",
    "lav-df": "localisation",
    "av-deepfake1m": "localisation",
    "talking": "talking",
    "shared": "shared",
    "general": "general",
}
"""Name of each protocol, and the module that holds it, in the order in which they are tried where none is named."""

AUTO = "auto"
"""Stands for the protocol that fits the rows."""

NAMES = tuple(_MODULES)


class EvaluationError(AvfakeError):
    """An evaluation is asked for that cannot be had."""


@dataclass(frozen=True)
class Protocol:
    """One protocol.

    ``name``       in configurations; ``title`` in reports; ``says``, ``cannot`` what it can tell, and what not.
    ``fits``       whether it is the one for some rows, where none is named.
    ``questions``  about clip scores, headlines first.
    ``further``    figures that are not of clip scores; ``resamples`` as in ``figures.answer``.
    ``sync_trials`` whether genuine talking faces are to be judged with other and with delayed voices, too.
    """

    name: str
    title: str
    says: str
    cannot: str
    fits: Callable[[Sequence[Row]], bool]
    questions: Callable[[Material], list[Question]]
    further: Callable[[Material, int], list[Figure]] = lambda material, resamples: []
    sync_trials: bool = False


def find(name: str, rows: Sequence[Row]) -> Protocol:
    """Return a protocol by its name, or for ``auto`` the first that fits the rows: ``general`` where no other does.

    Raises ``EvaluationError`` for a name that is none.
    """
    if name == AUTO:
        return next(protocol for protocol in map(_named, NAMES) if protocol.fits(rows))
    if name not in _MODULES:
        near = get_close_matches(name, NAMES, 1)
        cure = f"did you mean {near[0]}?" if near else f"use {AUTO} or one of {', '.join(NAMES)}."
        raise EvaluationError(f"There is no protocol named {name!r}: {cure}")
    return _named(name)


def _named(name: str) -> Protocol:
    protocols: tuple[Protocol, ...] = import_module(f"{__name__}.{_MODULES[name]}").PROTOCOLS
    return next(protocol for protocol in protocols if protocol.name == name)
