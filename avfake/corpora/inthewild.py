"""In-the-Wild: public figures, genuine and cloned, collected from the web. Sound alone.

Layout (deepfake-total.com/in_the_wild; ROOT is the folder release_in_the_wild)::

    ROOT/meta.csv    file,speaker,label
    ROOT/0.wav

``bona-fide`` (with a hyphen, unlike ASVspoof) is audio 0, ``spoof`` is audio 1. ``identity`` is the speaker; what made
a fake is not known, so its ``method`` is ``unknown``. There is no official split: the field trains elsewhere and tests
on all of it, so all rows are test.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import one_of, present, require, table
from avfake.manifest import Labels, Row

_TITLE = "In-the-Wild"


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, _TITLE, "meta.csv")
    return present(_listed(root), _TITLE)


def _listed(root: Path) -> Iterator[Row]:
    for where, line in table(root / "meta.csv", ("file", "speaker", "label")):
        fake = one_of(where, "label", line["label"], ("bona-fide", "spoof")) == "spoof"
        yield Row(
            id=Path(line["file"]).stem,
            video=None,
            audio=str(root / line["file"]),
            corpus="in-the-wild",
            split="test",
            identity=line["speaker"] or None,
            method="unknown" if fake else None,
            language="en",
            labels=Labels(audio=int(fake)),
        )


READER = Reader(_TITLE, _rows)
