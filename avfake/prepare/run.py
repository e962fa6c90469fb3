"""All shards: planned, dealt out to workers, and concluded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from avfake.clips import PREPROCESSING
from avfake.engines import Died, EngineName, run
from avfake.faces import BackendName, backend_name
from avfake.manifest import Row, read
from avfake.prepare.plan import SHARD_NAME, Job, PrepareError, Settings, plan
from avfake.prepare.worker import Done, Summary, Worker
from avfake.shards import FAILURES, FOLDER_SCHEMA, PREPARED, ShardError, dumps, read_index
from avfake.storage import absolute, join, listing, make_folder, remove, remove_parts, write_bytes


def prepare(
    manifest: str,
    out: str,
    *,
    engine: EngineName = "local",
    workers: int = 0,
    faces: BackendName = "auto",
    faces_of_original: bool = False,
    progress: Callable[[Done], None] = lambda done: None,
    begin: Callable[[int, int], None] = lambda rows, shards: None,
) -> Summary:
    """Prepare every row of ``manifest`` into shards in ``out`` (see ``shards``); both may be fsspec addresses.

    ``engine`` and ``workers`` as in ``engines.run``. ``faces_of_original`` lays the faces of its original over a
    fake that has the same shape and length, which costs no search and keeps their crops aligned. ``begin`` is told
    the numbers of rows and shards, ``progress`` each shard when it is done.
    Raises ``AvfakeError``: a wrong manifest, a folder that holds something else, storage that cannot be written.
    """
    rows = [_absolute(row) for row in read(manifest)]
    if not rows:
        raise PrepareError(f"{manifest} holds no rows; there is nothing to prepare.")
    manifest, out = absolute(manifest), absolute(out)
    settings = Settings(backend_name(faces), faces_of_original)
    make_folder(out)
    existing = _indexes(out)
    _check_folder(out, manifest, existing)
    remove_parts(out)
    jobs = _elsewhere(plan(rows, out, manifest, settings), existing)
    begin(len(rows), len(jobs))
    made: dict[str, Done] = {}
    for done in _run(jobs, engine, workers):
        made[done.name] = done
        progress(done)
    summary = _conclude(out, manifest, [made[job.name] for job in jobs])
    for suffix in (".tar", ".json"):
        for name in listing(out, suffix):
            if SHARD_NAME.fullmatch(name.removesuffix(suffix)) and name.removesuffix(suffix) not in made:
                remove(join(out, name))
    remove_parts(out)
    return summary


def _absolute(row: Row) -> Row:
    """Return a row that means the same files in any working directory."""
    video, audio = (None if address is None else absolute(address) for address in (row.video, row.audio))
    return replace(row, video=video, audio=audio)


def _indexes(out: str) -> dict[str, dict[str, Any]]:
    """Return whose each shard of a folder is, and the ids of its rows, by its name; a damaged one is no shard."""
    found = {}
    for file in listing(out, ".json"):
        name = file.removesuffix(".json")
        if SHARD_NAME.fullmatch(name):
            with suppress(ShardError):
                index = read_index(out, name)
                found[name] = {"manifest": index["manifest"], "ids": [record["id"] for record in index["rows"]]}
    return found


def _elsewhere(jobs: list[Job], existing: dict[str, dict[str, Any]]) -> list[Job]:
    """Tell each job in which shards of older plans its rows may be found."""
    shards: dict[str, tuple[str, ...]] = {}
    for name in sorted(existing.keys() - {job.name for job in jobs}):
        for row_id in existing[name]["ids"]:
            shards[row_id] = (*shards.get(row_id, ()), name)
    return [replace(job, elsewhere={row.id: shards[row.id] for row in job.rows if row.id in shards}) for job in jobs]


def _check_folder(out: str, manifest: str, existing: dict[str, dict[str, Any]]) -> None:
    """Refuse a folder that holds the shards of another manifest: they would be cleared away."""
    for index in existing.values():
        if index["manifest"] != manifest:
            raise PrepareError(
                f"{out} holds the shards of {index['manifest']}, not of {manifest}; name another folder, or bring a "
                "manifest that was moved back to its place."
            )


def _run(jobs: Sequence[Job], engine: EngineName, workers: int) -> Iterator[Done]:
    """Yield each job's shard; a row that no worker survives is found out and becomes a failure."""
    crashed = []
    for job, done in run(Worker, jobs, engine=engine, workers=workers):
        if isinstance(done, Died):
            crashed.append(job)
        else:
            yield done
    for job in crashed:
        singles = [replace(job, rows=(row,), trial=True) for row in job.rows]
        alone = run(Worker, singles, engine=engine, workers=workers)
        deadly = {single.rows[0].id: outcome.reason for single, outcome in alone if isinstance(outcome, Died)}
        for _, done in run(Worker, [replace(job, deadly=deadly)], engine=engine, workers=workers):
            if isinstance(done, Died):
                raise PrepareError(
                    f"The shard {job.name} cannot be made: {done.reason}; run again with fewer workers or more memory."
                )
            yield done


def _conclude(out: str, manifest: str, shards: Sequence[Done]) -> Summary:
    """Write what is told of the whole folder; the list of shards comes last."""
    summary = Summary()
    for done in shards:
        summary.add(done.summary)
    lines = [dumps(failure) + b"\n" for done in shards for failure in done.failures]
    write_bytes(join(out, FAILURES), b"".join(lines))
    document = {
        "schema": FOLDER_SCHEMA,
        "preprocessing": PREPROCESSING,
        "manifest": manifest,
        "summary": asdict(summary),
        "shards": [
            {
                "name": done.name,
                "split": done.name.split("-")[0],
                "clips": done.summary.clips,
                "bytes": done.summary.bytes,
            }
            for done in shards
        ],
    }
    write_bytes(join(out, PREPARED), dumps(document, indent=1) + b"\n")
    return summary
