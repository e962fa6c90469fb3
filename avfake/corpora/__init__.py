"""Readers of public corpora: each module here turns one corpus, as it is handed out, into manifest rows."""

from __future__ import annotations

from avfake import AvfakeError


class CorpusError(AvfakeError):
    """A corpus is not where, or not what, it is said to be."""
