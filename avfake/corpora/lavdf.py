"""LAV-DF: talking faces of VoxCeleb2 in which a word or two was replaced, in the voice, the picture or both.

Layout (the authors' loader ControlNet/LAV-DF, dataset/lavdf.py, and a record shown in its issue #22)::

    ROOT/metadata.min.json    a list of records; metadata.json, which adds transcripts, is read where there is no other
    ROOT/{train,dev,test}/000001.mp4

A record says ``modify_video`` and ``modify_audio`` (true = fake) and lists ``fake_periods`` in seconds. In the rows

* a stream that was not modified is 0, one that was is 1 in the ``fake_periods``;
* sync is 0 for a genuine clip and 1 in the ``fake_periods`` where the voice alone was replaced: the lips go on saying
  the old word. Where the lips were made anew it is None: they were made to fit a voice, but nobody measured how well;
* ``method`` is ``audio_modified``, ``visual_modified`` or ``both_modified``; the corpus names no generators for a clip;
* ``original`` is the genuine clip that the record names, by its path or else by its file name if just one clip has
  it; ``identity`` is None, the corpus does not give it;
* the splits are the official ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import document, log, not_found, one_of, present, segments, value_of
from avfake.manifest import SPLITS, Label, Labels, Row, Segment, Segments


def partly_fake(visual: tuple[Segment, ...] | None, audio: tuple[Segment, ...] | None) -> tuple[Labels, Segments]:
    """Return the labels and segments of a clip whose streams were altered in places.

    A stream is None when it was not altered, and empty when it was but nothing tells where: its label is then unknown,
    for a label of 1 without segments would call the whole clip fake.
    """

    def label(stream: tuple[Segment, ...] | None) -> Label:
        return 0 if stream is None else 1 if stream else None

    sync, mismatch = (label(audio), audio) if visual is None else (None, None)
    return (
        Labels(visual=label(visual), audio=label(audio), sync=sync),
        Segments(visual=visual or (), audio=audio or (), sync=mismatch or ()),
    )


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    for path in (root / "metadata.min.json", root / "metadata.json"):
        if path.is_file():
            return present(_listed(root, path), "LAV-DF")
    raise not_found(root, "LAV-DF", "metadata.min.json or ROOT/metadata.json")


def _listed(root: Path, path: Path) -> Iterator[Row]:
    records = document(path)
    if not isinstance(records, list):
        raise CorpusError(f"{path} is not the list of records that LAV-DF has; get the file again.")
    names = [value_of(f"{path}, record {number}", record, "file", str) for number, record in enumerate(records)]
    ids = {name: Path(name).with_suffix("").as_posix() for name in names}
    stems = Counter(Path(name).stem for name in names)
    by_stem = {Path(name).stem: row_id for name, row_id in ids.items() if stems[Path(name).stem] == 1}
    untold = unlisted = 0
    for name, record in zip(names, records, strict=True):
        where = f"{path}, {name}"
        periods = segments(where, record, "fake_periods")
        video, audio = (value_of(where, record, field, bool) for field in ("modify_video", "modify_audio"))
        if periods and not (video or audio):
            raise CorpusError(f"{where}: it has fake_periods, but neither modify_video nor modify_audio is true.")
        untold += (video or audio) and not periods
        labels, where_fake = partly_fake(periods if video else None, periods if audio else None)
        named = value_of(where, record, "original", (str, type(None))) if video or audio else None
        original = (ids.get(named) or by_stem.get(Path(named).stem)) if named else None
        unlisted += named is not None and original is None
        yield Row(
            id=ids[name],
            video=str(root / name),
            audio=None,
            corpus="lav-df",
            split=one_of(where, "split", value_of(where, record, "split", str), SPLITS),
            method=_METHODS[video, audio],
            original=original,
            labels=labels,
            segments=where_fake,
        )
    if untold:
        log.warning("LAV-DF: %d clips were altered, but nothing tells where: their labels are unknown.", untold)
    if unlisted:
        log.warning("LAV-DF: %d fakes name an original that is not listed: it is not known.", unlisted)


_METHODS = {
    (False, False): None,
    (False, True): "audio_modified",
    (True, False): "visual_modified",
    (True, True): "both_modified",
}

READER = Reader("LAV-DF", _rows)
