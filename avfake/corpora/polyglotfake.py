"""PolyGlotFake: talks in seven languages, dubbed into the others with cloned voices and fitted lips.

Layout, from public readers of the release and scripts of its authors, who do not document it
(github.com/tobuta/PolyGlotFake has a download link and no description of the files)::

    json_file/real_json_file/all_real_video.json    {"videos": [{filename, lang, source, ...}]}
    json_file/fake_Json_file/all_fake_video.json    {"video": [{filename, raw_lang, target_lang, tts_technique,
                                                                sync_tech, ...}]}
    real/LANG/FILENAME                              genuine, such as es_1.mp4
    fake/to_LANG/FILENAME                           fake, such as es_1_to_ru_....mp4: es_1.mp4 dubbed into Russian

There is no label field: the list tells. Of a fake the voice is made (audio 1) and the mouth made to fit it (visual 1,
sync 0: they go together). A genuine clip is genuine throughout.

* ``corpus`` is ``PolyGlotFake``; ``method`` is ``TTS+LIPS``, such as ``Bark+Wav2Lip``, with the table's words;
* ``identity`` is the ``source`` of the genuine clip (the video that it was cut from) where the list has it, else that
  clip's name; somebody who is in several videos is not recognised;
* ``language`` is what is heard: of a fake the one it was dubbed into; ``original`` is the genuine clip.

There is no official split; ours is by identity (``avfake.corpora.people.split_of``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avfake.corpora import CorpusError, Reader
from avfake.corpora.layout import document, one_of, present, require, value_of
from avfake.corpora.people import split_of
from avfake.manifest import Labels, Row

TITLE = "PolyGlotFake"
LANGUAGES = ("ar", "en", "es", "fr", "ja", "ru", "zh")
_REAL = "json_file/real_json_file/all_real_video.json"
_FAKE = "json_file/fake_Json_file/all_fake_video.json"


def _read(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, TITLE, _REAL, _FAKE, "real", "fake")
    return present(_rows(root), TITLE)


def _rows(root: Path) -> Iterator[Row]:
    real, fake = list(_records(root / _REAL, "videos")), list(_records(root / _FAKE, "video"))
    identities = {name: str(record.get("source") or name) for _, name, record in real}
    made_from = {name: _original(where, name) for where, name, _ in fake}
    for where, name, record in real:
        language = one_of(where, "lang", value_of(where, record, "lang", str), LANGUAGES)
        yield Row(
            id=f"real/{name}",
            video=str(root / "real" / language / f"{name}.mp4"),
            audio=None,
            corpus=TITLE,
            split=split_of(identities[name]),
            identity=identities[name],
            language=language,
            labels=Labels(visual=0, audio=0, sync=0),
        )
    for where, name, record in fake:
        language = one_of(where, "target_lang", value_of(where, record, "target_lang", str), LANGUAGES)
        original = made_from[name]
        identity = identities.get(original, original)
        voice, lips = (value_of(where, record, key, str) for key in ("tts_technique", "sync_tech"))
        yield Row(
            id=f"fake/{name}",
            video=str(root / "fake" / f"to_{language}" / f"{name}.mp4"),
            audio=None,
            corpus=TITLE,
            split=split_of(identity),
            identity=identity,
            method=f"{voice}+{lips}",
            language=language,
            original=f"real/{original}" if original in identities else None,
            labels=Labels(visual=1, audio=1, sync=0),
        )


def _records(path: Path, key: str) -> Iterator[tuple[str, str, Any]]:
    """Yield each record of a list as (the words that an error names it by, its name without .mp4, the record)."""
    for number, record in enumerate(value_of(str(path), document(path), key, list), 1):
        where = f"{path}, record {number}"
        name = value_of(where, record, "filename", str)
        if not name.endswith(".mp4"):
            raise CorpusError(f"{where}: the field 'filename' must be the name of an .mp4 file, not {name!r}.")
        yield where, name.removesuffix(".mp4"), record


def _original(where: str, name: str) -> str:
    original, mark, _ = name.partition("_to_")
    if not mark or not original:
        raise CorpusError(f"{where}: a fake is named ORIGINAL_to_LANG_....mp4, not {name}.mp4.")
    return original


READER = Reader(TITLE, _read)
