"""Readers of public corpora: each module here turns one corpus, as it is handed out, into manifest rows.

A reader is a module with a ``READER``; its name is added to ``_MODULES``, and that is all. ``layout`` has what readers
share: the check of the root, tables, and the files that are really there. ``people`` has our own splits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

from avfake import AvfakeError
from avfake.manifest import Row

_MODULES = {
    "ff++": "faceforensics",
    "dfdc": "dfdc",
    "celeb-df": "celebdf",
    "fakeavceleb": "fakeavceleb",
    "lav-df": "lavdf",
    "av-deepfake1m": "avdeepfake1m",
    "kodf": "kodf",
    "deepfaketimit": "deepfaketimit",
    "polyglotfake": "polyglotfake",
    "asvspoof2019": "asvspoof2019",
    "asvspoof2021": "asvspoof2021",
    "asvspoof5": "asvspoof5",
    "in-the-wild": "inthewild",
    "wavefake": "wavefake",
    "for": "fakeorreal",
    "lrs2": "lrs2",
    "lrs3": "lrs3",
    "voxceleb2": "voxceleb2",
    "table": "records",
    "folder": "folder",
    "shared": "shared",
}
"""Name of each corpus on the command line, and the module that reads it."""

NAMES = tuple(_MODULES)


class CorpusError(AvfakeError):
    """A corpus is not where, or not what, it is said to be."""


@dataclass(frozen=True)
class Reader:
    """One corpus.

    ``title``     what its authors call it.
    ``rows``      from its root, and one of ``variants`` or None, to its rows. Raises ``CorpusError`` when the root does
                  not hold the corpus or a table has a value that it should not.
    ``variants``  parts or protocols that can be asked for by ``NAME:VARIANT``; empty where there are none.
    ``ids_as_is`` whether the ids of ``rows`` are to stay; else ``read`` puts the name of the corpus before them.
    """

    title: str
    rows: Callable[[Path, str | None], Iterator[Row]]
    variants: tuple[str, ...] = ()
    ids_as_is: bool = False


def read(corpus: str, root: Path) -> Iterator[Row]:
    """Yield the rows of a corpus: one of ``NAMES``, or ``NAME:VARIANT``. Raises ``CorpusError``.

    Ids, and the ids of originals, begin with ``NAME/``, so that manifests of several corpora can be joined.
    """
    name, _, variant = corpus.partition(":")
    if name not in _MODULES:
        raise CorpusError(f"There is no corpus named {name!r}: use one of {', '.join(NAMES)}.")
    reader: Reader = import_module(f"avfake.corpora.{_MODULES[name]}").READER
    if variant and variant not in reader.variants:
        known = f"use one of {', '.join(reader.variants)}" if reader.variants else "it has none"
        raise CorpusError(f"{reader.title} has no variant {variant!r}: {known}.")
    with _unreadable_told():
        rows = reader.rows(root, variant or None)
    return _told(rows, "" if reader.ids_as_is else f"{name}/")


def _told(rows: Iterator[Row], prefix: str) -> Iterator[Row]:
    with _unreadable_told():
        for row in rows:
            original = None if row.original is None else prefix + row.original
            yield replace(row, id=prefix + row.id, original=original) if prefix else row


@contextmanager
def _unreadable_told() -> Iterator[None]:
    """Turn what the file system refuses while a reader looks round into one sentence."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise CorpusError(f"{error.filename} cannot be looked at: {reason}; check the path and your access.") from error
