"""The command line as a user meets it: exit codes, one sentence, no traceback, nothing half written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio

from made import TINY, made_samples
from mamol.cli.main import execute
from mamol.configs import shipped_configs
from mamol.data.samples import write_samples
from mamol.data.synthetic import write_scene

TINY_SETTINGS = [w for s, keys in TINY.items() for k, v in keys.items() for w in ("--set", f"{s}.{k}={json.dumps(v)}")]
ENV = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Mamol = Callable[..., Done]


@pytest.fixture
def mamol(capfd: pytest.CaptureFixture[str]) -> Mamol:
    """Run the command line in this process."""

    def run(*words: object) -> Done:
        code = execute([str(w) for w in words])
        return Done(code, *capfd.readouterr())

    return run


@pytest.fixture
def refused(mamol: Mamol) -> Callable[..., None]:
    """Run a command that must fail with a code and one sentence, and no traceback."""

    def run(code: int, says: str, *words: object) -> None:
        done = mamol(*words)
        assert done.code == code, done.err
        assert says in done.err + done.out
        assert "Traceback" not in done.err

    return run


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the embedded scene, small, and a run on it."""
    folder = tmp_path_factory.mktemp("home")
    write_scene(folder / "scene", 64)
    assert execute(["train", str(folder / "scene"), "--out", str(folder / "run"), *TINY_SETTINGS]) == 0
    return folder


def test_help_is_quick_and_loads_no_torch(mamol: Mamol) -> None:
    code = """
import sys
from mamol.cli.main import execute
assert execute(["--help"]) == 0
assert not {"torch", "numpy", "rasterio", "matplotlib"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evaluate" in done.stdout
    for command in ("demo", "train", "evaluate", "map", "pretrain"):
        done = mamol(command, "--help")
        assert done.code == 0
        assert "Example: mamol" in done.out
    said = " ".join(mamol("train", "--help").out.split()).replace("- ", "-")
    assert [name for name in shipped_configs() if name not in said] == []
    assert [form for form in ("Catalogue name", "scene.toml", "STAC", "sample set's folder") if form not in said] == []


def test_evaluate_writes_what_the_contract_names(home: Path, mamol: Mamol, refused: Callable[..., None]) -> None:
    done = mamol("evaluate", home / "run", "--out", home / "scores.json")
    assert done.code == 0, done.err
    tree = json.loads((home / "scores.json").read_text())
    assert len(tree["patterns"]) == 7
    assert set(tree["baselines"]) == {"forest", "boosted"}
    assert "boosted OA" in done.out
    assert (home / "scores.md").read_text().startswith("# embedded")
    assert {p.name for p in (home / "scores_plots").iterdir()} == {
        "accuracy.png",
        "confusion.png",
        "reliability.png",
        "experts.png",
    }
    before = (home / "scores.json").read_bytes()
    refused(2, "exists already", "evaluate", home / "run", "--out", home / "scores.json")
    assert (home / "scores.json").read_bytes() == before
    assert mamol("evaluate", home / "run", "--no-baselines", "--protocol", "rate").code == 0


def test_scores_are_named_json(home: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    for name in ("scores.md", "scores", "scores.png"):
        refused(2, f"--out must end in .json; got '{tmp_path / name}'", "evaluate", home / "run", "--out", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_map_with_and_without_a_sensor(home: Path, mamol: Mamol, refused: Callable[..., None]) -> None:
    assert mamol("map", home / "run", home / "scene", "--out", home / "map.tif").code == 0
    assert mamol("map", home / "run", home / "scene/scene.toml", "--out", home / "less.tif", "--without", "hsi").code == 0
    with (
        rasterio.open(home / "scene" / "hsi.tif") as sensor,
        rasterio.open(home / "map.tif") as full,
        rasterio.open(home / "less.tif") as less,
    ):
        assert (full.crs, full.transform, full.shape) == (sensor.crs, sensor.transform, sensor.shape)
        assert full.tags(1)["CLASS_1"] == "wheat"
        assert full.colormap(1)[1][:3] == (0xE8, 0xC5, 0x47)
        assert not np.array_equal(full.read(1), less.read(1))
    with rasterio.open(home / "less_pattern.tif") as raster:
        assert not (raster.read(1) & 1).any()
    refused(2, "--overwrite on the command line", "map", home / "run", home / "scene", "--out", home / "map.tif")
    refused(2, "Did you mean 'lidar'", "map", home / "run", home / "scene", "--out", home / "x.tif", "--without", "lidr")
    refused(
        1,
        "names all of",
        "map",
        home / "run",
        home / "scene",
        "--out",
        home / "x.tif",
        "--without",
        "hsi",
        "--without",
        "sar",
        "--without",
        "lidar",
    )
    assert not (home / "x.tif").exists()


def test_a_sensor_without_a_file_is_absent(home: Path, tmp_path: Path, mamol: Mamol) -> None:
    write_scene(tmp_path / "scene", 64)
    (tmp_path / "scene" / "sar.tif").unlink()
    done = mamol("scene", "check", tmp_path / "scene")
    assert done.code == 0
    assert "no file of 'sar' in any tile" in done.out
    done = mamol("map", home / "run", tmp_path / "scene", "--out", tmp_path / "map.tif")
    assert done.code == 0, done.err


def test_a_sample_set_is_classified_into_a_table(tmp_path: Path, mamol: Mamol, refused: Callable[..., None]) -> None:
    samples, run, table = write_samples(made_samples(), tmp_path / "samples"), tmp_path / "run", tmp_path / "t.csv"
    assert mamol("train", samples, "--out", run, *TINY_SETTINGS).code == 0
    words = ["classify", run, samples, "--out", table]
    done = mamol(*words, "--without", "photo", "--probabilities")
    assert (done.code, done.out.strip()) == (0, str(table)), done.err
    head, first, *rest = table.read_text().splitlines()
    assert head == "sample,group,class,confidence,sensors,p_a,p_b,p_c"
    assert first.startswith("0,g0,")
    assert len(rest) == 119
    refused(2, "t.csv exists already", *words)
    refused(2, "Did you mean 'photo'", *words, "--overwrite", "--without", "photos")


def test_wrong_use_is_2(home: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    refused(2, "Did you mean 'idtrees'", "train", "idtree", "--out", tmp_path / "r")
    refused(2, "Did you mean 'steps'", "train", home / "scene", "--out", tmp_path / "r", "--set", "train.stepz=5")
    refused(2, "train.lr", "train", home / "scene", "--out", tmp_path / "r", "--set", "train.lr=-1")
    refused(2, "section.key=value", "train", home / "scene", "--out", tmp_path / "r", "--set", "fast")
    refused(2, "Did you mean 'block'", "train", home / "scene", "--out", tmp_path / "r", "--split", "blocks")
    refused(2, "Did you mean 'rate'", "evaluate", home / "run", "--protocol", "rates")
    refused(2, "finished run", "train", home / "scene", "--out", home / "run")
    refused(2, "another configuration", "train", home / "scene", "--out", home / "run", "--resume")
    refused(2, "at least 64", "scene", "make", tmp_path / "s", "--size", 8)
    refused(
        2, "sample set", "map", home / "run", write_samples(made_samples(), tmp_path / "samples"), "--out", tmp_path / "m.tif"
    )
    refused(2, "Usage", "map", home / "run")
    assert not (tmp_path / "r").exists()


def test_overwriting_a_scene_takes_nothing_else_away(
    tmp_path: Path, mamol: Mamol, refused: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.docx").write_text("years of work")
    words = ["scene", "make", "--size", 64]
    refused(2, "mine holds thesis.docx, which would be lost", *words, folder, "--overwrite")
    monkeypatch.chdir(folder)
    refused(2, "holds thesis.docx", *words, ".", "--overwrite")
    (folder / "thesis.docx").rename(tmp_path / "thesis.docx")
    for _ in range(2):
        assert mamol(*words, ".", "--overwrite").code == 0
        assert Path("scene.toml").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "thesis.docx"]


def test_failures_are_1(home: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    refused(1, "no such folder or file", "train", tmp_path / "no" / "scene.toml", "--out", tmp_path / "r")
    refused(1, "not found", "evaluate", tmp_path / "norun")
    refused(1, "MAMOL_DATA", "train", "houston2013", "--out", tmp_path / "r")
    refused(1, "no official split", "train", home / "scene", "--out", tmp_path / "r", "--split", "official")
    write_scene(tmp_path / "one", 64)
    with rasterio.open(tmp_path / "one" / "labels.tif", "r+") as raster:
        raster.write(np.minimum(raster.read(), 1))
    refused(1, "at least two are needed", "train", tmp_path / "one", "--out", tmp_path / "r")
    write_scene(tmp_path / "nan", 64)
    with rasterio.open(tmp_path / "nan" / "labels.tif") as raster:
        profile, labels = raster.profile, raster.read().astype("float32")
    labels[0, 0, 0] = np.nan
    with rasterio.open(tmp_path / "nan" / "labels.tif", "w", **(profile | {"dtype": "float32", "nodata": None})) as raster:
        raster.write(labels)
    refused(1, "NaN", "train", tmp_path / "nan", "--out", tmp_path / "r")
    refused(1, "NaN", "scene", "check", tmp_path / "nan")
    assert not (tmp_path / "r").exists()


def test_check_lists_every_fault(tmp_path: Path, mamol: Mamol) -> None:
    write_scene(tmp_path / "s", 64)
    data = (tmp_path / "s" / "sar.tif").read_bytes()
    (tmp_path / "s" / "sar.tif").write_bytes(data[: len(data) // 3])
    with rasterio.open(tmp_path / "s" / "lidar.tif") as raster:
        profile, values = raster.profile, raster.read()
    far = rasterio.Affine(10, 0, 0, 0, -10, 0)
    with rasterio.open(tmp_path / "s" / "lidar.tif", "w", **(profile | {"transform": far})) as raster:
        raster.write(values)
    toml = tmp_path / "s" / "scene.toml"
    toml.write_text(toml.read_text().replace('path = "labels.tif"', 'path = "label.tif"'))
    done = mamol("scene", "check", tmp_path / "s")
    assert done.code == 1
    for says in ("sar.tif", "do not overlap", "label.tif"):
        assert says in done.out
    assert "3 fault(s)" in done.out
    assert "Traceback" not in done.err


def test_a_broken_run_is_refused(home: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    import shutil

    shutil.copytree(home / "run", tmp_path / "run")
    file = tmp_path / "run" / "adapters.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    refused(1, "truncated", "map", tmp_path / "run", home / "scene", "--out", tmp_path / "m.tif")
    refused(1, "truncated", "evaluate", tmp_path / "run")


def test_a_full_disk(home: Path, tmp_path: Path, refused: Callable[..., None]) -> None:
    refused(1, "", "map", home / "run", home / "scene", "--out", "/dev/full/map.tif")
    # A file size limit is what a full disk looks like to the writer.
    scene, run, out = str(home / "scene"), str(home / "run"), str(tmp_path / "m.tif")
    make = ["scene", "make", str(tmp_path / "s"), "--size", "64"]
    for limit, words in ((20_000, make), (9_000, ["map", run, scene, "--out", out])):
        code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from mamol.cli.main import execute
raise SystemExit(execute({words!r}))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENV, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert list(tmp_path.iterdir()) == []


def test_map_clips_writes_layers_and_goes_on(home: Path, tmp_path: Path, mamol: Mamol, refused: Callable[..., None]) -> None:
    with rasterio.open(home / "scene" / "sar.tif") as raster:
        place, crs = raster.transform, raster.crs
    (west, north), (east, south) = place * (20, 12), place * (52, 44)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    ground = {"type": "Polygon", "coordinates": [ring]}
    area = {
        "type": "FeatureCollection",
        "crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{crs.to_epsg()}"}},
    }
    area["features"] = [{"type": "Feature", "properties": {}, "geometry": ground}]
    (tmp_path / "area.geojson").write_text(json.dumps(area))
    words = ["map", home / "run", home / "scene", "--out", tmp_path / "m.tif", "--area", tmp_path / "area.geojson"]
    done = mamol(*words, "--layer", "entropy", "--layer", "probability", "--stride", 8, "--workers", 2)
    assert done.code == 0, done.err
    assert [Path(p).name for p in done.out.split()] == [
        "m.tif", "m_entropy.tif", "m_probability.tif", "m.tif.aux.xml", "m.qml", "m_legend.png", "m.json",
    ]  # fmt: skip
    with rasterio.open(tmp_path / "m.tif") as raster:
        assert raster.shape[0] < 64
        assert raster.crs == crs
        seen = raster.read(1) > 0
        top, left = raster.index(west + 1, north - 1)
        assert seen[top + 1 : top + 30, left + 1 : left + 30].any()
        assert not seen[:top].any()
    refused(2, "exists already", *words, "--layer", "entropy")
    refused(2, "unknown layer of area.geojson 'parks'; known: area", *words, "--overwrite", "--area-layer", "parks")
    refused(2, "give --area too", *words[:3], "--out", tmp_path / "n.tif", "--area-layer", "parks")
    refused(2, "unknown layer", *words[:3], "--out", tmp_path / "n.tif", "--layer", "entropie")
    refused(2, "must divide", *words[:3], "--out", tmp_path / "n.tif", "--stride", 5)
    refused(2, "--workers counts", *words[:3], "--out", tmp_path / "n.tif", "--workers", 2, "--scheduler", "tcp://127.0.0.1:1")
    (tmp_path / "n.tif.blocks").mkdir()
    refused(2, "--resume goes on", *words[:3], "--out", tmp_path / "n.tif")
    area["features"][0]["geometry"]["coordinates"] = [[[x + 1e5, y] for x, y in ring]]
    (tmp_path / "far.geojson").write_text(json.dumps(area))
    refused(1, "overlap", *words[:3], "--out", tmp_path / "o.tif", "--area", tmp_path / "far.geojson")
    assert not (tmp_path / "o.tif").exists()


def _started(*words: object) -> subprocess.Popen[str]:
    """Start mamol as the leader of a session; it hears Ctrl-C even where the tests run under nohup, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    command = [sys.executable, "-m", "mamol", *(str(w) for w in words)]
    try:
        return subprocess.Popen(command, env=ENV, stderr=subprocess.PIPE, text=True, start_new_session=True)
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c_and_resume(home: Path, tmp_path: Path, mamol: Mamol) -> None:
    words = ["train", str(home / "scene"), *TINY_SETTINGS, "--set", "train.steps=70", "--set", "train.eval_every=7", "--out"]
    running = _started(*words, tmp_path / "a")
    for _ in range(600):
        if (tmp_path / "a" / "state.safetensors").exists() or running.poll() is not None:
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, says = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "stopped" in says
    assert "mamol train ... --resume" in says
    assert "Traceback" not in says
    assert not (tmp_path / "a" / "mamol.json").exists()
    assert mamol(*words, tmp_path / "a", "--resume").code == 0
    assert mamol(*words, tmp_path / "b").code == 0
    name = "adapters.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_map_that_is_stopped_ends_clean(home: Path, tmp_path: Path, number: signal.Signals, code: int) -> None:
    words = ["map", str(home / "run"), str(home / "scene"), "--out", str(tmp_path / "m.tif"), "--workers", "2", "--stride", "1"]
    running = _started(*words)
    for _ in range(1200):
        if (tmp_path / "m.tif.blocks").exists() or running.poll() is not None:
            break
        time.sleep(0.05)
    os.killpg(running.pid, number)  # as a terminal does
    _, says = running.communicate(timeout=60)  # also: nobody holds the pipe any longer
    assert running.returncode == code, says
    assert says.split("mamol: ")[1].strip() == "stopped; finished blocks are kept: the same command with --resume goes on."
    assert not (tmp_path / "m.tif").exists()


def test_pretrain_then_train_on_it(home: Path, tmp_path: Path, mamol: Mamol, refused: Callable[..., None]) -> None:
    done = mamol("pretrain", home / "scene", "--out", tmp_path / "backbone", *TINY_SETTINGS)
    assert done.code == 0, done.err
    refused(2, "holds a finished backbone", "pretrain", home / "scene", "--out", tmp_path / "backbone", *TINY_SETTINGS)
    done = mamol(
        "train", home / "scene", "--out", tmp_path / "run", *TINY_SETTINGS, "--set", f"backbone.path={tmp_path / 'backbone'}"
    )
    assert done.code == 0, done.err


def test_version_and_sample_sets(tmp_path: Path, mamol: Mamol) -> None:
    assert mamol("--version").out.strip() == "0.1.0"
    done = mamol("scene", "check", write_samples(made_samples(), tmp_path / "data"))
    assert done.code == 0
    assert "120 samples in 12 groups" in done.out


def test_a_sensor_that_comes_later(home: Path, tmp_path: Path, mamol: Mamol, refused: Callable[..., None]) -> None:
    text = (home / "scene" / "scene.toml").read_text(encoding="utf-8")
    lidar = text[text.index("[modalities.lidar]") : text.index("[labels]")]
    before = tmp_path / "before.toml"
    before.write_text(text.replace(lidar, "").replace('path = "', f'path = "{home / "scene"}/'), encoding="utf-8")
    old, new = tmp_path / "old", tmp_path / "new"
    assert mamol("train", before, "--out", old, *TINY_SETTINGS).code == 0
    refused(2, "no sensor that the run does not know already", "train", before, "--out", new, "--extend", old)
    refused(1, "run folder not found", "train", home / "scene", "--out", new, "--extend", tmp_path / "none")
    refused(2, "leave config (--config) out", "train", home / "scene", "--out", new, "--extend", old, "--config", "mamol-paper")
    assert not new.exists()
    assert mamol("train", home / "scene", "--out", new, "--extend", old, "--set", "train.steps=4").code == 0
    assert mamol("map", old, before, "--out", tmp_path / "old.tif").code == 0
    assert mamol("map", new, home / "scene", "--out", tmp_path / "new.tif", "--without", "lidar").code == 0
    assert (tmp_path / "old.tif").read_bytes() == (tmp_path / "new.tif").read_bytes()
