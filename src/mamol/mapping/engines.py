"""Who computes the blocks: this process, several processes, or a Dask cluster. Each yields (corner, layers) as they finish.

    here       one thread reads ahead, this one predicts
    processes  N processes, each with its own model and its own read-ahead; one that dies is replaced, its blocks done again
    cluster    the job is sent to every Dask worker once, blocks are tasks; what a lost worker had is done again

Memory is bounded: only a few blocks are in flight, whatever the map's size. The blocks' numbers do not depend on who
computes them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from itertools import islice
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import torch

from mamol.errors import FileMissing, MamolError, UsageError
from mamol.mapping.blocks import Arrays, Corner, Job

Done = Iterator[tuple[Corner, Arrays]]
Engine = Callable[[Job, Iterable[Corner]], Done]
AHEAD = 2
"""Blocks that are read ahead of the one that is predicted."""
CACHE_MB = 128
"""What GDAL may keep of the scene's files in memory, MB, unless the environment or an earlier read decided it."""
BATCH = 4
"""Blocks that go to a process or worker together, so that it can read ahead."""
TRIES = 3
PATIENCE_S, WORKERS_S = 20, 120
"""How long a scheduler may take to answer, and its first worker to come."""


def here(job: Job, corners: Iterable[Corner]) -> Done:
    """Compute blocks in this process; reading is hidden behind predicting."""
    # GDAL looks at this once, when it keeps its first block; its own default is a share of the machine's memory.
    os.environ.setdefault("GDAL_CACHEMAX", str(CACHE_MB))
    rest = iter(corners)
    with ThreadPoolExecutor(1, "mamol read") as reader:
        ahead: deque[tuple[Corner, Future[Any]]] = deque((c, reader.submit(job.read, c)) for c in islice(rest, AHEAD))
        try:
            while ahead:
                corner, batch = ahead.popleft()
                values = batch.result()
                ahead.extend((c, reader.submit(job.read, c)) for c in islice(rest, 1))
                yield corner, job.finish(corner, values)
        finally:
            for _, future in ahead:
                future.cancel()


def processes(workers: int) -> Engine:
    """Return an engine of `workers` processes; raises UsageError for fewer than one, MamolError if they keep dying."""
    if workers < 1:
        raise UsageError(f"--workers takes a number from 1; got {workers}.")
    return lambda job, corners: _processes(job, corners, workers)


def _processes(job: Job, corners: Iterable[Corner], workers: int) -> Done:
    left, tries = list(corners), 0
    while left:
        done: set[Corner] = set()
        try:
            for corner, arrays in _one_pool(job, left, workers):
                done.add(corner)
                yield corner, arrays
        except BrokenProcessPool:
            tries = 0 if done else tries + 1
            if tries >= TRIES:
                raise MamolError(
                    f"a process that computes blocks died {TRIES} times without finishing one; most likely memory ran out. Use "
                    "fewer --workers, then --resume."
                ) from None
        left = [c for c in left if c not in done]


def _one_pool(job: Job, corners: list[Corner], workers: int) -> Done:
    """Run until all is done or a process dies."""
    threads = max(1, torch.get_num_threads() // workers)
    context, rest = _context(), iter(corners)
    theirs, ours = context.Pipe(duplex=False)
    with theirs, ours, ProcessPoolExecutor(workers, context, _start, (job, threads, theirs)) as pool:
        running: set[Future[Any]] = set()
        try:
            while True:
                while len(running) < 2 * workers and (batch := list(islice(rest, BATCH))):
                    running.add(pool.submit(_run, batch))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield from future.result()
        except BaseException:
            for future in running:
                future.cancel()
            ours.close()  # stopped half-way: the workers end now, not with their batch
            raise


def _context() -> Any:
    """Return how processes start: from a clean server that has imported torch once, where the system has one.

    Never by forking this process: threads of torch and GDAL do not survive that. Server and workers do not hear Ctrl-C,
    which a terminal sends to all processes: this one ends them.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    resource_tracker.ensure_running()  # it, too, blocks SIGINT while it starts, and unblocks it when it is up
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a process inherits
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


_JOB: dict[str, Job] = {}
"""The job of a worker process; set once when it starts."""


def _start(job: Job, threads: int, command: Connection) -> None:
    torch.set_num_threads(threads)
    _JOB["job"] = job
    threading.Thread(target=_end_with, args=(command,), daemon=True).start()


def _end_with(command: Connection) -> None:
    """End this process when the other end of the pipe is closed: the command stopped, or was killed."""
    with suppress(EOFError, OSError):
        command.recv_bytes()
    os._exit(1)


def _run(corners: list[Corner]) -> list[tuple[Corner, Arrays]]:
    return list(here(_JOB["job"], corners))


def cluster(address: str) -> Engine:
    """Return an engine on the Dask cluster whose scheduler listens at `address` (tcp://host:port).

    Raises FileMissing without the extra, and UsageError if no scheduler answers there, or none of its workers comes.
    """
    return lambda job, corners: _cluster(job, corners, address)


def _cluster(job: Job, corners: Iterable[Corner], address: str) -> Done:
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise FileMissing("--scheduler needs Dask: pip install 'mamol[dask]'.") from None
    try:
        client = Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`.") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise UsageError(
                f"the scheduler at {address} has no workers, and none came in {WORKERS_S} s; start one with "
                f"`dask worker {address}`."
            ) from None
        sent, rest = client.scatter(job, broadcast=True, hash=False), iter(corners)

        def submit(batch: list[Corner]) -> Any:
            return client.submit(_on_worker, sent, batch, retries=TRIES, pure=False)

        room = 2 * sum(w["nthreads"] for w in client.scheduler_info(n_workers=-1)["workers"].values()) + 2
        tasks = as_completed([submit(b) for b in _batches(rest, room)], loop=client.loop)
        for task in tasks:
            yield from task.result()
            task.release()
            for batch in _batches(rest, 1):
                tasks.add(submit(batch))


def _batches(rest: Iterator[Corner], count: int) -> Iterator[list[Corner]]:
    for _ in range(count):
        if batch := list(islice(rest, BATCH)):
            yield batch


def _on_worker(job: Job, corners: list[Corner]) -> list[tuple[Corner, Arrays]]:
    return list(here(job, corners))
