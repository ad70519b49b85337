"""Engines: the same blocks from this process, several processes and a Dask cluster; one that dies loses nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

import numpy as np
import pytest

from mamol.data.dataset import Scene, Tile, classes_from
from mamol.data.memory import MemoryReader
from mamol.errors import FileMissing, MamolError, UsageError
from mamol.mapping.blocks import Job
from mamol.mapping.engines import cluster, here, processes
from mamol.mapping.predict import MapRequest, map_tile, plan
from mamol.modality import Batch, Modality

CLASSES = classes_from(["a", "b", "c"])


@dataclass(frozen=True)
class Identity:
    """Says with probability 0.7 that a pixel's class is its value; the first to find `trap` there dies with it."""

    trap: Path | None = None
    kill: int = signal.SIGKILL
    modalities: tuple[str, ...] = ("x",)
    classes: tuple[str, ...] = ("a", "b", "c")
    slow: float = 0.0
    loaded: dict[str, int] = field(default_factory=dict)

    def predict(self, batch: Batch) -> np.ndarray:
        time.sleep(self.slow)
        if self.trap is not None and self.trap.exists():
            self.trap.unlink()
            os.kill(os.getpid(), self.kill)
        value = batch.values["x"][:, 0]
        return np.stack([np.where(value == k, 0.7, 0.15) for k in range(3)], axis=1).astype(np.float32)

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        if self.trap is not None:
            with open(self.trap.with_name("loads.txt"), "a") as file:
                file.write(f"{os.getpid()}\n")


def job(predictor: Identity, height: int = 40, width: int = 24) -> Job:
    truth = np.random.default_rng(0).integers(0, 3, (height, width)).astype(np.int16)
    tile = Tile("t", {"x": truth[None].astype(np.float32)}, {"x": truth >= 0}, truth, "g")
    scene = Scene("s", (Modality("x", 1),), CLASSES, (tile,))
    return plan(predictor, MemoryReader(scene), MapRequest("t", CLASSES, rim_px=4, block_px=8))


def truth_of(job: Job) -> np.ndarray:
    return job.reader.read("t", slice(0, 40), slice(0, 24)).values["x"][0, 0] + 1


def put_together(done: Iterator[Any]) -> np.ndarray:
    out = np.zeros((40, 24))
    for (y, x), arrays in done:
        assert not out[y : y + 8, x : x + 8].any(), "a block came twice"
        out[y : y + 8, x : x + 8] = arrays["class"][0]
    return out


def test_here_and_in_processes_the_blocks_are_the_same() -> None:
    made = job(Identity())
    np.testing.assert_array_equal(put_together(here(made, made.corners())), truth_of(made))
    np.testing.assert_array_equal(put_together(processes(2)(made, made.corners())), truth_of(made))
    assert list(here(made, [])) == []
    with pytest.raises(UsageError, match="--workers"):
        processes(0)


def test_what_a_killed_process_had_is_done_again(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    made = job(Identity(trap))
    np.testing.assert_array_equal(put_together(processes(2)(made, made.corners())), truth_of(made))
    assert not trap.exists()


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_engines import Identity, job, processes
made = job(Identity(Path(sys.argv[2]), slow=60))
list(processes(2)(made, made.corners()))
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    loads = tmp_path / "loads.txt"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(Path(__file__).parent), str(tmp_path / "none")], stderr=DEVNULL)
    until(lambda: loads.exists() and len(loads.read_text().split()) == 2)
    workers = [int(p) for p in loads.read_text().split()]
    server = int(Path(f"/proc/{workers[0]}/stat").read_text().rpartition(")")[2].split()[1])
    assert server != parent.pid
    parent.kill()
    parent.wait()
    until(lambda: not any(alive(p) for p in (*workers, server)))


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@dataclass(frozen=True)
class Deadly(Identity):
    def predict(self, batch: Batch) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_processes_that_keep_dying_are_given_up() -> None:
    made = job(Deadly())
    with pytest.raises(MamolError, match="fewer --workers"):
        list(processes(1)(made, made.corners()))


class Vanishes(MemoryReader):
    def read(self, tile: str, rows: slice, columns: slice) -> Batch:
        if rows.start > 0:
            raise FileMissing("x.tif is gone")
        return super().read(tile, rows, columns)


@pytest.mark.parametrize("engine", [here, processes(1)], ids=["here", "processes"])
def test_an_error_names_the_window(engine: Any) -> None:
    made = job(Identity())
    broken = Job(**(vars(made) | {"reader": Vanishes(made.reader.scene)}))
    with pytest.raises(FileMissing, match=r"x\.tif is gone \(at tile 't', rows \d+\.\.\d+, columns"):
        list(engine(broken, broken.corners()))


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    import dask

    settings = {"distributed.scheduler.worker-ttl": None, "distributed.admin.tick.limit": "60s"}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
        ) as made,
    ):
        yield made


@pytest.mark.xdist_group("dask")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_cluster_gives_the_same_and_gets_the_model_once_per_worker(dask_cluster: Any, tmp_path: Path) -> None:
    made = job(Identity(tmp_path / "none"))
    np.testing.assert_array_equal(put_together(cluster(dask_cluster.scheduler_address)(made, made.corners())), truth_of(made))
    loads = (tmp_path / "loads.txt").read_text().split()
    assert len(loads) == len(set(loads)) == 2


@pytest.mark.xdist_group("dask")
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_worker_killed_in_the_middle_loses_nothing(dask_cluster: Any, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.touch()
    made = job(Identity(trap, slow=0.02))
    np.testing.assert_array_equal(put_together(cluster(dask_cluster.scheduler_address)(made, made.corners())), truth_of(made))
    assert not trap.exists()
    reader, request = made.reader, MapRequest("t", CLASSES, rim_px=4, block_px=8)
    a = map_tile(Identity(), reader, request, tmp_path / "a.tif", cluster(dask_cluster.scheduler_address))
    b = map_tile(Identity(), reader, request, tmp_path / "b.tif")
    assert a.classes.read_bytes() == b.classes.read_bytes()


def test_a_scheduler_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("mamol.mapping.engines.PATIENCE_S", 1)
    with pytest.raises(UsageError, match="no Dask scheduler answers at"):
        list(cluster("tcp://127.0.0.1:9")(job(Identity()), [(0, 0)]))


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_scheduler_without_workers_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr("mamol.mapping.engines.WORKERS_S", 1)
    empty = distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0", silence_logs=50, protocol="tcp")
    address = empty.scheduler_address
    with empty, pytest.raises(UsageError, match=f"at {address} has no workers.*`dask worker {address}`"):
        list(cluster(address)(job(Identity()), [(0, 0)]))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads a process's blocked signals from /proc")
def test_the_fork_server_never_hears_ctrl_c() -> None:
    code = (
        "from multiprocessing import forkserver\n"
        "from mamol.mapping.engines import _context\n"
        "_context()\n"
        "print(open(f'/proc/{forkserver._forkserver._forkserver_pid}/status').read())\n"
    )
    # A process of its own: the resource tracker, which unblocks SIGINT when it starts, must not run yet.
    says = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    blocked = next(int(line.split()[1], 16) for line in says.splitlines() if line.startswith("SigBlk"))
    assert blocked & 1 << (signal.SIGINT - 1)
