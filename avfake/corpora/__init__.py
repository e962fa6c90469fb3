"""Readers of public corpora: each module here turns one corpus, as it is handed out, into manifest rows."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator

from avfake import AvfakeError
from avfake.manifest import Row

NAMES = ("shared",)
"""The corpora that can be read; each is a module of this package with ``rows(root) -> Iterator[Row]``."""


class CorpusError(AvfakeError):
    """A corpus is not where, or not what, it is said to be."""


def rows(corpus: str, root: str | os.PathLike[str]) -> Iterator[Row]:
    """Yield the manifest rows of the corpus called ``corpus`` that lies at ``root``.

    Raises ``CorpusError`` for an unknown name and for a root that does not hold that corpus.
    """
    if corpus not in NAMES:
        raise CorpusError(f"Corpus {corpus!r} is not known: choose one of {', '.join(NAMES)}.")
    found: Iterator[Row] = importlib.import_module(f"avfake.corpora.{corpus}").rows(root)
    return found
