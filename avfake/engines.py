"""One function over many items: in this process, in worker processes, or on a Ray cluster. The results are the same.

A worker that dies (out of memory, a fault in a codec) costs nobody else anything: its item is tried once more in
a new worker, and if that dies too the answer is ``Died``.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NamedTuple, TypeVar

from avfake import AvfakeError

Item = TypeVar("Item")
Result = TypeVar("Result")
EngineName = Literal["local", "ray"]
log = logging.getLogger(__name__)
BUSY_S = 30.0
"""How long a Ray cluster may take to begin a worker before it is told that one waits."""


class EngineError(AvfakeError):
    """The engine cannot be had, or its workers cannot begin."""


class Died(NamedTuple):
    """What comes in the place of a result when the worker process ended twice on an item."""

    reason: str


def run(
    make: Callable[[], Callable[[Item], Result]],
    items: Iterable[Item],
    *,
    engine: EngineName = "local",
    workers: int = 0,
    gpu: bool = False,
) -> Iterator[tuple[Item, Result | Died]]:
    """Yield (item, result) for every item, in the order in which they are done.

    Each worker calls ``make`` once, for what is costly to load, and what that returns for each item; all of it must
    pickle. ``workers``: 0 works in this process (``local``) or on every CPU of the cluster (``ray``). ``gpu`` gives
    each worker of a Ray cluster a GPU. An error that a worker raises is raised here.
    """
    if engine == "ray":
        yield from _supervise(_RayPool(make, workers, gpu), items)
    elif workers:
        yield from _supervise(_LocalPool(make, workers), items)
    else:
        work = make()
        for item in items:
            yield item, work(item)


def _supervise(pool: _Pool, items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
    """Keep every worker of a pool busy; begin a dead one anew and give it the same item once more."""
    waiting = iter(items)
    try:
        busy: dict[Any, tuple[Any, int]] = {}  # worker -> (item, how often it was tried)
        for _ in range(pool.size):
            _next(pool, pool.begin, waiting, busy)
        while busy:
            worker, outcome = pool.wait(list(busy))
            item, tried = busy.pop(worker)
            if not isinstance(outcome, Died):
                yield item, outcome
                _next(pool, lambda idle=worker: idle, waiting, busy)  # type: ignore[misc]
            elif tried == 1:
                fresh = pool.begin()
                pool.give(fresh, item)
                busy[fresh] = item, 2
            else:
                yield item, outcome
                _next(pool, pool.begin, waiting, busy)
    finally:
        pool.close()


def _next(pool: _Pool, worker: Callable[[], Any], waiting: Iterator[Any], busy: dict[Any, tuple[Any, int]]) -> None:
    for item in waiting:
        chosen = worker()
        pool.give(chosen, item)
        busy[chosen] = item, 1
        return


class _Pool:
    """Workers that take one item at a time."""

    size: int

    def begin(self) -> Any:
        """Start a worker."""
        raise NotImplementedError

    def give(self, worker: Any, item: Any) -> None:
        """Hand an item to a worker that has none."""
        raise NotImplementedError

    def wait(self, busy: list[Any]) -> tuple[Any, Any]:
        """Wait for one of the workers; return it with its result, or ``Died``."""
        raise NotImplementedError

    def close(self) -> None:
        """End all workers."""
        raise NotImplementedError


# ------------------------------------------------------------------------------------- processes of this machine


class _LocalPool(_Pool):
    def __init__(self, make: Callable[[], Callable[[Any], Any]], workers: int) -> None:
        self.size = workers
        self._make = make
        self._context = multiprocessing.get_context("spawn")  # threads of torch and FFmpeg do not survive a fork
        self._processes: dict[Connection, Any] = {}
        self._ready: set[Connection] = set()

    def begin(self) -> Connection:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._make, theirs), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process
        return ours

    def give(self, worker: Connection, item: Any) -> None:
        with suppress(OSError):  # it died while idle: ``wait`` will say so
            worker.send(item)

    def wait(self, busy: list[Connection]) -> tuple[Connection, Any]:
        while True:
            worker = wait(busy)[0]
            assert isinstance(worker, Connection)
            try:
                kind, value = worker.recv()
            except (EOFError, ConnectionResetError):
                process = self._processes.pop(worker)
                process.join()
                worker.close()
                if worker in self._ready:
                    return worker, Died(_reason(process.exitcode))
                raise EngineError(f"A worker cannot begin: {_reason(process.exitcode)}; ask for fewer.") from None
            if kind == "error":
                raise value
            if kind == "result":
                return worker, value
            self._ready.add(worker)

    def close(self) -> None:
        for worker, process in self._processes.items():
            process.kill()  # nothing is half-written: files appear whole
            process.join()
            worker.close()


def _reason(code: int | None) -> str:
    if code == -9:
        return "the process was killed, most likely for want of memory"
    return f"the process ended with code {code}, most likely by a fault in a codec"


def _serve(make: Callable[[], Callable[[Any], Any]], pipe: Connection) -> None:
    """Life of a worker process."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads the results ends the workers
    logging.getLogger("avfake").addHandler(logging.StreamHandler())
    try:
        work = make()
        pipe.send(("ready", None))
        while True:
            pipe.send(("result", work(pipe.recv())))
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001  # it is raised again where the results are read
        try:
            pipe.send(("error", error))
        except (pickle.PicklingError, TypeError, AttributeError):
            pipe.send(("error", EngineError(f"A worker failed: {type(error).__name__}: {error}")))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# ----------------------------------------------------------------------------------------------------- Ray


class _RayPool(_Pool):
    def __init__(self, make: Callable[[], Callable[[Any], Any]], workers: int, gpu: bool) -> None:
        try:
            import ray
        except ImportError:
            raise EngineError("The engine ray needs the package ray: pip install 'avfake[ray]'.") from None
        self._ray = ray
        self._make = make
        self._pending: dict[Any, Any] = {}  # worker -> the reference to its result
        self._began = False
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        self.size = workers or int(resources.get("GPU" if gpu else "CPU", 1)) or 1
        if self.size > resources.get("CPU", 0) or (gpu and self.size > resources.get("GPU", 0)):
            have = f"{resources.get('CPU', 0):.0f} CPUs and {resources.get('GPU', 0):.0f} GPUs"
            raise EngineError(f"The Ray cluster has {have}, too few for {self.size} workers; ask for fewer.")
        self._actor = ray.remote(num_cpus=1, num_gpus=1 if gpu else 0)(_RayWorker)

    def begin(self) -> Any:
        return self._actor.remote(self._make)

    def give(self, worker: Any, item: Any) -> None:
        self._pending[worker] = worker.work.remote(item)

    def wait(self, busy: list[Any]) -> tuple[Any, Any]:
        workers = {self._pending[worker]: worker for worker in busy}
        ready, _ = self._ray.wait(list(workers), num_returns=1, timeout=None if self._began else BUSY_S)
        if not ready:
            log.warning("The Ray cluster has begun no worker for %.0f s: its CPUs are busy; waiting on.", BUSY_S)
            ready, _ = self._ray.wait(list(workers), num_returns=1)
        self._began = True
        worker = workers[ready[0]]
        try:
            return worker, self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise EngineError(
                    f"The Ray workers cannot begin ({' '.join(str(error).split())[-200:]}); install this version of "
                    "avfake on every node."
                ) from None
            return worker, Died(f"the Ray worker ended: {' '.join(str(error).split())[:200]}")
        except self._ray.exceptions.RayError as error:  # out of memory, a lost node
            return worker, Died(f"the Ray worker ended: {' '.join(str(error).split())[:200]}")

    def close(self) -> None:
        for worker in self._pending:
            self._ray.kill(worker)


class _RayWorker:
    """Life of a Ray actor."""

    def __init__(self, make: Callable[[], Callable[[Any], Any]]) -> None:
        self._make = make
        self._work: Callable[[Any], Any] | None = None

    def work(self, item: Any) -> Any:
        """Return the result for one item."""
        self._work = self._work or self._make()
        return self._work(item)
