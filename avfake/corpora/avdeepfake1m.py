"""AV-Deepfake1M and AV-Deepfake1M++: talking faces in which words were replaced, inserted or deleted.

Layout (the authors' loader ControlNet/AV-Deepfake1M, python/avdeepfake1m/loader.py; the paths of AV-Deepfake1M++ as
several public readers of it have them)::

    ROOT/train_metadata.json, ROOT/val_metadata.json    lists of records
    ROOT/test_files.txt                                 one name a line; the labels were never published
    ROOT/{train,val}/id01358/_1nATum8x78/00030/{real,fake_video_fake_audio,...}.mp4
    ROOT/{train,val}/{vox_celeb_2,lrs3}/SPEAKER/VIDEO/..., silent_videos/subject_17_.../{real,fake}.mp4    (++)
    ROOT/test/NAME

``modify_type`` is real, visual_modified, audio_modified or both_modified. In the rows

* a stream that ``modify_type`` calls modified is 1 in its own ``visual_fake_segments`` or ``audio_fake_segments``, the
  other is 0. The segments of a stream that was *not* modified are passed over: some 6,000 records of the release carry
  the other stream's segment there. ``both_modified`` is spelt with an underscore in the data (the authors' loader asks
  for a hyphen, so beware of figures that come from it);
* sync is as in ``lavdf``: 0 for a genuine clip, 1 where only the voice was replaced, None where lips were made anew;
* clips without sound (``audio_frames`` 0 or null) and all ``silent_videos`` have no audio and sync labels;
* test clips have no labels;
* ``method`` is ``MODIFY_TYPE:MODELS``, with ``video_model`` (++ only) and ``audio_model`` where they were used;
* ``identity`` is the VoxCeleb2 speaker, the LRS3 talk or the silent subject, as the path has it; ``original`` is the
  genuine clip that the record names, where it is one of the corpus;
* val is our dev. In AV-Deepfake1M++ train and val share subjects (deepfakes1m.github.io/2025/details): dev says
  nothing of unknown people there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError, Reader
from avfake.corpora.lavdf import partly_fake
from avfake.corpora.layout import document, fields, log, one_of, present, segments, some_of, value_of
from avfake.manifest import Row

_TITLE = "AV-Deepfake1M"
_METADATA = {"train_metadata.json": ("train", "train"), "val_metadata.json": ("val", "dev")}
_TEST = "test_files.txt"
_ALTERED = {
    "real": (False, False),
    "visual_modified": (True, False),
    "audio_modified": (False, True),
    "both_modified": (True, True),
}
"""What ``modify_type`` says of (visual, audio)."""


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    return present(_listed(root, some_of(root, _TITLE, *_METADATA, _TEST)), _TITLE)


def _listed(root: Path, lists: list[str]) -> Iterator[Row]:
    for name in lists:
        if name in _METADATA:
            folder, split = _METADATA[name]
            yield from _labelled(root / folder, root / name, split)
        else:
            for _, (clip,) in fields(root / name, (1,)):
                yield _row(root / "test", clip, "test")


def _row(folder: Path, name: str, split: str) -> Row:
    return Row(
        id=_id(folder, name), video=str(folder / name), audio=None, corpus="av-deepfake1m", split=split,
        identity=_identity(name),
    )  # fmt: skip


def _id(folder: Path, name: str) -> str:
    return f"{folder.name}/{Path(name).with_suffix('').as_posix()}"


def _identity(name: str) -> str | None:
    parts = Path(name).parts
    if parts[0] in ("vox_celeb_2", "lrs3") and len(parts) > 2:
        return parts[1]
    if parts[0] == "silent_videos" and len(parts) > 2:
        return "_".join(parts[1].split("_")[:2])
    return parts[0] if parts[0].startswith("id") and len(parts) > 1 else None


def _labelled(folder: Path, path: Path, split: str) -> Iterator[Row]:
    records = document(path)
    if not isinstance(records, list):
        raise CorpusError(f"{path} is not the list of records that {_TITLE} has; get the file again.")
    names = [value_of(f"{path}, record {number}", record, "file", str) for number, record in enumerate(records)]
    known = set(names)
    untold = 0
    for name, record in zip(names, records, strict=True):
        where = f"{path}, {name}"
        kind = one_of(where, "modify_type", value_of(where, record, "modify_type", str), _ALTERED)
        streams = [
            segments(where, record, field) if altered else None
            for altered, field in zip(_ALTERED[kind], ("visual_fake_segments", "audio_fake_segments"), strict=True)
        ]
        untold += () in streams
        labels, where_fake = partly_fake(*streams)
        if name.startswith("silent_videos/") or not value_of(where, record, "audio_frames", (int, type(None))):
            labels, where_fake = replace(labels, audio=None, sync=None), replace(where_fake, audio=(), sync=())
        original = value_of(where, record, "original", (str, type(None)))
        yield replace(
            _row(folder, name, split),
            method=_method(kind, record),
            original=_id(folder, original) if kind != "real" and original in known and original != name else None,
            labels=labels,
            segments=where_fake,
        )
    if untold:
        log.warning(
            "%s: in %d clips a stream was altered, but nothing tells where: its label is unknown.", path, untold
        )


def _method(kind: str, record: dict[str, Any]) -> str | None:
    if kind == "real":
        return None
    used = zip(_ALTERED[kind], ("video_model", "audio_model"), strict=True)
    models = "+".join(str(record[field]) for altered, field in used if altered and record.get(field))
    return f"{kind}:{models}" if models else kind


READER = Reader(_TITLE, _rows)
