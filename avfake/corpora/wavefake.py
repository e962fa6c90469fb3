"""WaveFake: sentences of LJSpeech and JSUT put through vocoders, and one text-to-speech system. Sound alone.

Layout (zenodo.org/records/5642694; names as in nii-yamagishilab/AntiDeepfake, protocols/WaveFake.py)::

    ROOT/generated_audio/ljspeech_melgan/LJ001-0001_gen.wav
    ROOT/generated_audio/jsut_parallel_wavegan/BASIC5000_0001_gen.wav
    ROOT/generated_audio/common_voices_prompts_from_conformer_fastspeech2_pwg_ljspeech/gen_0.wav
    ROOT/LJSpeech-1.1/wavs/LJ001-0001.wav                        if you put it there
    ROOT/jsut_ver1.1/basic5000/wav/BASIC5000_0001.wav            if you put it there

WaveFake has **no genuine speech**: without LJSpeech and JSUT beside it, every row is fake and nothing can be learnt
from it alone (a warning says so). All of generated_audio is audio 1, the two others are audio 0. ``method`` is the
name of the folder, ``identity`` is ljspeech or jsut, ``original`` is the genuine sentence where it is there. Folders
in the folders (one release has every text-to-speech file twice) are passed over.

There is no official split. Ours goes by sentence, so that all vocoders' versions and the original of one stay together;
it cannot go by speaker, for there are only two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from avfake.corpora import Reader
from avfake.corpora.layout import files, folders, log, present, require
from avfake.corpora.people import split_of
from avfake.manifest import Labels, Row

_TITLE = "WaveFake"
_GENUINE = {"ljspeech": "LJSpeech-1.1/wavs", "jsut": "jsut_ver1.1/basic5000/wav"}
_LANGUAGES = {"ljspeech": "en", "jsut": "ja"}


def _rows(root: Path, variant: str | None) -> Iterator[Row]:
    require(root, _TITLE, "generated_audio")
    return present(_listed(root), _TITLE, both_classes=False)


def _listed(root: Path) -> Iterator[Row]:
    genuine = {
        (voice, path.stem): path
        for voice, place in _GENUINE.items()
        for path in files(root / place, (".wav",), deep=False)
    }
    for speaker, place in _GENUINE.items():
        if not any(speaker == voice for voice, _ in genuine):
            log.warning("%s: no genuine speech of %s in %s; put it there to have both classes.", _TITLE, speaker, place)
    fakes = {
        (folder.name, path): ("jsut" if folder.name.startswith("jsut_") else "ljspeech", path.stem.removesuffix("_gen"))
        for folder in folders(root / "generated_audio")
        for path in files(folder, (".wav",), deep=False)
    }
    for (voice, sentence), path in genuine.items():
        yield _row(sentence, path, voice, split_of(sentence))
    for (method, path), (voice, sentence) in fakes.items():
        row = _row(f"{method}/{path.stem}", path, voice, split_of(sentence))
        original = sentence if (voice, sentence) in genuine else None
        yield replace(row, method=method, original=original, labels=Labels(audio=1))


def _row(name: str, path: Path, voice: str, split: str) -> Row:
    return Row(
        id=name,
        video=None,
        audio=str(path),
        corpus="wavefake",
        split=split,
        identity=voice,
        language=_LANGUAGES[voice],
        labels=Labels(audio=0),
    )


READER = Reader(_TITLE, _rows)
