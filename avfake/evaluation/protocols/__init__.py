"""Protocols: how each corpus is measured, as its own field does it.

A protocol is a module here with a ``PROTOCOL``. It turns ``Material`` into figures: questions about one score
(``figures.answer``), and what is not about clip scores (localisation, offsets, tandem costs).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from avfake.evaluation.figures import Figure, Question
from avfake.evaluation.material import Material
from avfake.manifest import Row


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
