"""The published scenes, on made files of exactly their names, keys, shapes and types."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
import scipy.io
from rasterio.transform import from_origin

from mamol.data.catalog import load_dataset
from mamol.data.dataset import Scene
from mamol.data.real.published import CONTEST, MUUFL_FILE, PUBLISHED, load_published, read_roi
from mamol.data.split import TEST, TRAIN, make_split
from mamol.errors import DataError, FileMissing

SHAPE = (40, 60)
RNG = np.random.default_rng(0)


def label_images(classes: int, shape: tuple[int, int] = SHAPE) -> tuple[np.ndarray, np.ndarray]:
    labels = RNG.integers(0, classes + 1, shape).astype("float64")
    part = RNG.random(shape) < 0.3
    return np.where(part, labels, 0), np.where(part, 0, labels)


def mat(folder: Path, **arrays: np.ndarray) -> None:
    for name, array in arrays.items():
        scipy.io.savemat(folder / f"{name}.mat", {name: array})


def roi(path: Path, labels: np.ndarray) -> None:
    lines = ["; ENVI Output of ROIs (4.8)", "; Number of ROIs: 15", ";", ""]
    for k in range(1, int(labels.max()) + 1):
        rows, columns = np.nonzero(labels == k)
        lines += [
            f"  {i}  {x + 1}  {y + 1}  271460.0 3290290.0  29.7  -95.3"
            for i, (y, x) in enumerate(zip(rows, columns, strict=True), 1)
        ]
        lines.append("")
    path.write_text("\n".join(lines))


def houston_contest(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    train, test = label_images(15)
    place = {
        "driver": "GTiff",
        "height": SHAPE[0],
        "width": SHAPE[1],
        "crs": "EPSG:32615",
        "transform": from_origin(271460, 3290290, 2.5, 2.5),
    }
    with rasterio.open(folder / f"{CONTEST}CASI.tif", "w", count=144, dtype="uint16", **place) as raster:
        raster.write(RNG.integers(0, 4000, (144, *SHAPE)).astype("uint16"))
    with rasterio.open(folder / f"{CONTEST}LiDAR.tif", "w", count=1, dtype="float32", **place) as raster:
        raster.write(RNG.random((1, *SHAPE)).astype("float32"))
    roi(folder / f"{CONTEST}Samples_TR.txt", train)
    roi(folder / f"{CONTEST}Samples_VA.txt", test)
    return train, test


def label_pair(folder: Path, classes: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    train, test = label_images(classes)
    mat(
        folder,
        HSI=RNG.random((*SHAPE, bands)),
        LiDAR=RNG.random(SHAPE),
        TRLabel=train.astype("uint8"),
        TSLabel=test.astype("uint8"),
    )
    return train, test


def trento(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    train, test = label_images(6)
    scipy.io.savemat(folder / "Italy_hsi.mat", {"data": RNG.random((*SHAPE, 63))})
    scipy.io.savemat(folder / "Italy_lidar.mat", {"data": RNG.random((*SHAPE, 2))})
    scipy.io.savemat(folder / "allgrd.mat", {"mask_test": train + test})
    mat(folder, TRLabel=train, TSLabel=test)
    return train, test


def indexed(folder: Path, name: str, classes: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    train, test = label_images(classes)
    mat(
        folder,
        **{
            f"{name}_hsi": RNG.integers(0, 9000, (*SHAPE, bands)).astype("uint16"),
            f"{name}_sar": RNG.random((*SHAPE, 4)),
            f"{name}_gt": (train + test).astype("uint8"),
        },
    )
    index = {
        f"{name}_train": np.argwhere(train),
        f"{name}_test": np.argwhere(test),
        f"{name}_all": np.argwhere(train + test),
    }
    scipy.io.savemat(folder / f"{name}_index.mat", {k: v.astype("uint16") for k, v in index.items()})
    return train, test


def images(folder: Path, classes: int, bands: int, dsm: bool) -> tuple[np.ndarray, np.ndarray]:
    train, test = label_images(classes)
    mat(
        folder,
        data_HS_LR=RNG.random((*SHAPE, bands)),
        data_SAR_HR=RNG.random((*SHAPE, 4)),
        TrainImage=train,
        TestImage=test,
    )
    if dsm:
        mat(folder, data_DSM=RNG.random(SHAPE))
    return train, test


CASES = {
    "houston2013 contest": ("houston2013", houston_contest, {"hsi": 144, "lidar": 1}),
    "houston2013 mat": ("houston2013", lambda f: label_pair(f, 15, 144), {"hsi": 144, "lidar": 1}),
    "trento": ("trento", trento, {"hsi": 63, "lidar": 2}),
    "trento mat": ("trento", lambda f: label_pair(f, 6, 63), {"hsi": 63, "lidar": 1}),
    "augsburg": ("augsburg", lambda f: indexed(f, "augsburg", 7, 180), {"hsi": 180, "sar": 4}),
    "augsburg images": ("augsburg", lambda f: images(f, 7, 180, True), {"hsi": 180, "sar": 4, "dsm": 1}),
    "berlin": ("berlin", lambda f: indexed(f, "berlin", 8, 244), {"hsi": 244, "sar": 4}),
    "berlin images": ("berlin", lambda f: images(f, 8, 244, False), {"hsi": 244, "sar": 4}),
}


@pytest.mark.parametrize("case", CASES)
def test_reads_every_layout(case: str, tmp_path: Path) -> None:
    name, make, bands = CASES[case]
    (tmp_path / "unpacked").mkdir()
    train, test = make(tmp_path / "unpacked")
    scene = load_published(name, tmp_path)
    tile = scene.tiles[0]
    assert {m.name: m.bands for m in scene.modalities} == bands
    np.testing.assert_array_equal(tile.labels, (train + test).astype(int) - 1)
    assert tile.official is not None
    np.testing.assert_array_equal(tile.official == TRAIN, train > 0)
    np.testing.assert_array_equal(tile.official == TEST, test > 0)
    assert all(len(h) == 64 for h in scene.provenance["sha256"].values())
    split = make_split(scene, "official", seed=0, patch_px=8)
    assert (split.roles[0] == TEST).sum() == (test > 0).sum()


def test_contest_keeps_its_place(tmp_path: Path) -> None:
    houston_contest(tmp_path)
    place = load_published("houston2013", tmp_path).tiles[0].georeference
    assert place.transform[:3] == (2.5, 0.0, 271460.0)
    assert "UTM zone 15N" in place.crs


def test_muufl_struct_through_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "muufl"
    folder.mkdir()
    labels = RNG.integers(-1, 12, (32, 22)).astype("float64")
    labels[labels == 0] = -1
    lidar = np.zeros((2,), dtype=[("z", object)])
    lidar["z"][:] = [RNG.random((32, 22, 2)), RNG.random((32, 22, 2))]
    scene = {"Data": RNG.random((32, 22, 64)), "Lidar": lidar, "sceneLabels": {"labels": labels}}
    scipy.io.savemat(folder / MUUFL_FILE, {"hsi": scene})
    monkeypatch.setenv("MAMOL_DATA", str(tmp_path))
    loaded = load_dataset("muufl")
    assert isinstance(loaded, Scene)
    assert [m.bands for m in loaded.modalities] == [64, 2]
    np.testing.assert_array_equal(loaded.tiles[0].labels, np.where(labels > 0, labels - 1, -1))
    assert len(loaded.classes) == 11
    scipy.io.savemat(folder / MUUFL_FILE, {"other": 1})
    with pytest.raises(DataError, match="not the MUUFL scene"):
        load_dataset("muufl")


@pytest.mark.parametrize("name", PUBLISHED)
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"not found: .*\.mat"):
        load_published(name, tmp_path)


def test_bad_labels_and_bad_lists(tmp_path: Path) -> None:
    label_pair(tmp_path, 9, 63)
    with pytest.raises(DataError, match=r"0\.\.9; they must lie in 0\.\.6"):
        load_published("trento", tmp_path)
    path = tmp_path / "roi.txt"
    path.write_text("1 99 1\n")
    with pytest.raises(DataError, match="outside"):
        read_roi(path, SHAPE)
    path.write_text("one two three\n")
    with pytest.raises(DataError, match="line 1"):
        read_roi(path, SHAPE)


def test_an_empty_or_damaged_muufl_file_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMOL_DATA", str(tmp_path))
    path = tmp_path / "muufl" / MUUFL_FILE
    path.parent.mkdir()
    scipy.io.savemat(path, {"hsi": {"Data": np.zeros((40, 40, 3))}}, do_compression=True)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-9] + b"\xff" * 9):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="not the MUUFL scene"):
            load_dataset("muufl")
