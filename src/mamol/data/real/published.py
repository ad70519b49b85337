"""The literature's own scenes, from the files as they are published, in a local folder (subfolders are searched).

    houston2013  2013_IEEE_GRSS_DF_Contest_{CASI,LiDAR}.tif + ..._Samples_{TR,VA}.txt (ENVI ROI lists), or
                 {HSI,LiDAR,TRLabel,TSLabel}.mat
    trento       Italy_hsi.mat, Italy_lidar.mat ("data"), allgrd.mat ("mask_test"), or the four .mat names above
    augsburg     {augsburg}_{hsi,sar,gt,index}.mat, or data_{HS_LR,SAR_HR,DSM}.mat + {Train,Test}Image.mat
    berlin       {berlin}_{hsi,sar,gt,index}.mat, or data_{HS_LR,SAR_HR}.mat + {Train,Test}Image.mat
    muufl        muufl_gulfport_campus_1_hsi_220_label.mat (one struct "hsi")

Label 0 (MUUFL: -1) is unlabelled; class k of the file is our k - 1. Where the files name a training and a test part,
they become the official split. None of these files may be passed on with mamol; docs/data.md says where they are.
Facts of the layouts: the readers of rs-fusion-datasets 1.0 (Apache-2.0), read, not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import scipy.io

from mamol.data.dataset import UNLABELLED, Georeference, Scene, Tile, classes_from
from mamol.data.raster import UNREADABLE, open_raster, read_mat
from mamol.errors import DataError, FileMissing, ShapeMismatch
from mamol.files import sha256_file
from mamol.modality import Modality

TRAIN, TEST = 1, 3
CONTEST = "2013_IEEE_GRSS_DF_Contest_"
MUUFL_FILE = "muufl_gulfport_campus_1_hsi_220_label.mat"


@dataclass(frozen=True)
class Published:
    """What is known of one scene: class names in the order of the files' labels, sensors' metres and units."""

    classes: tuple[str, ...]
    gsd_m: float
    readers: tuple[Callable[[Files], Parts | None], ...]


@dataclass(frozen=True)
class Parts:
    """What a reader found: cubes (H, W, C) or (H, W), `labels` (H, W) with 0 unlabelled, `official` 0, TRAIN or TEST."""

    cubes: Mapping[str, np.ndarray]
    labels: np.ndarray
    official: np.ndarray | None = None
    georeference: Georeference = field(default_factory=Georeference)


class Files:
    """Finds files by name anywhere under a folder, whatever the case, and remembers which were used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.known = {p.name.lower(): p for p in sorted(folder.rglob("*"), reverse=True) if p.is_file()}
        self.used: list[Path] = []
        self.missing: list[str] = []

    def has(self, *names: str) -> bool:
        """Tell whether all of these are there; remembers those that are not."""
        absent = [n for n in names if n.lower() not in self.known]
        self.missing += absent
        return not absent

    def path(self, name: str) -> Path:
        """Return where a file is."""
        found = self.known[name.lower()]
        self.used.append(found)
        return found

    def mat(self, name: str, key: str | None = None) -> np.ndarray:
        """Return a variable of a .mat file."""
        return read_mat(self.path(name), key)


def load_published(name: str, folder: Path) -> Scene:
    """Read one of PUBLISHED from its folder.

    Raises FileMissing (which files were looked for), DataError for labels outside the classes, ShapeMismatch.
    """
    about, files = PUBLISHED[name], Files(folder)
    parts = next((p for p in (read(files) for read in about.readers) if p is not None), None)
    if parts is None:
        raise FileMissing(
            f"{folder} does not hold the files of '{name}'; not found: {', '.join(dict.fromkeys(files.missing))}. "
            "docs/data.md says where they are published."
        )
    raw = parts.labels.astype(np.int64)
    if raw.max(initial=0) > len(about.classes) or raw.min(initial=0) < -1:
        raise DataError(f"the labels of '{name}' lie in {raw.min()}..{raw.max()}; they must lie in 0..{len(about.classes)}.")
    labels = np.where(raw > 0, raw - 1, UNLABELLED).astype(np.int16)
    modalities: list[Modality] = []
    values: dict[str, np.ndarray] = {}
    available: dict[str, np.ndarray] = {}
    for m, cube in parts.cubes.items():
        bands = np.moveaxis(np.atleast_3d(cube), -1, 0).astype(np.float32)
        if bands.shape[1:] != labels.shape:
            raise ShapeMismatch(f"'{m}' of '{name}' is {bands.shape[1:]} pixels, the labels are {labels.shape}.")
        available[m] = np.asarray(np.isfinite(bands).all(axis=0))
        values[m] = np.where(available[m], bands, 0).astype(np.float32)
        modalities.append(Modality(m, len(bands), "grid", about.gsd_m))
    tile = Tile(name, values, available, labels, name, parts.georeference, parts.official)
    hashes = {p.name: sha256_file(p) for p in files.used}
    return Scene(name, tuple(modalities), classes_from(about.classes), (tile,), {"sha256": hashes})


def read_roi(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Return labels (H, W) from an ENVI ROI list: rows "id x y ...", counted from 1; a new class where id is 1 again.

    Raises DataError for a point outside the image or a row that is not numbers.
    """
    out, region = np.zeros(shape, dtype=np.int16), 0
    for number, line in enumerate(path.read_text(encoding="latin-1").splitlines(), 1):
        fields = line.split()
        if line.startswith(";") or len(fields) < 3:
            continue
        try:
            point, x, y = (int(float(f)) for f in fields[:3])
        except ValueError:
            raise DataError(f"{path}, line {number}: expected 'id x y ...', got '{line.strip()[:40]}'.") from None
        if not (1 <= x <= shape[1] and 1 <= y <= shape[0]):
            raise DataError(f"{path}, line {number}: point ({x}, {y}) lies outside the {shape[1]} x {shape[0]} image.")
        region += point == 1
        out[y - 1, x - 1] = region
    return out


def _split(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Join a training and a test label image; return labels and the official split."""
    train, test = np.maximum(train.astype(np.int64), 0), np.maximum(test.astype(np.int64), 0)
    official = np.zeros(train.shape, dtype=np.int8)
    official[test > 0], official[train > 0] = TEST, TRAIN
    return np.where(train > 0, train, test), official


def _contest(files: Files) -> Parts | None:
    names = [f"{CONTEST}{n}" for n in ("CASI.tif", "LiDAR.tif", "Samples_TR.txt", "Samples_VA.txt")]
    if not files.has(*names):
        return None
    casi, lidar, train, test = (files.path(n) for n in names)
    with open_raster(casi) as raster:
        hsi, shape = np.moveaxis(raster.read(), 0, -1), raster.shape
        place = Georeference(raster.crs.to_wkt() if raster.crs else "", tuple(raster.transform)[:6])
    with open_raster(lidar) as raster:
        height = np.moveaxis(raster.read(), 0, -1)
    labels, official = _split(read_roi(train, shape), read_roi(test, shape))
    return Parts({"hsi": hsi, "lidar": height}, labels, official, place)


def _label_pair(files: Files) -> Parts | None:
    if not files.has("HSI.mat", "LiDAR.mat", "TRLabel.mat", "TSLabel.mat"):
        return None
    labels, official = _split(files.mat("TRLabel.mat"), files.mat("TSLabel.mat"))
    return Parts({"hsi": files.mat("HSI.mat"), "lidar": files.mat("LiDAR.mat")}, labels, official)


def _italy(files: Files) -> Parts | None:
    if not files.has("Italy_hsi.mat", "Italy_lidar.mat", "allgrd.mat"):
        return None
    cubes = {"hsi": files.mat("Italy_hsi.mat", "data"), "lidar": files.mat("Italy_lidar.mat", "data")}
    parts = Parts(cubes, files.mat("allgrd.mat", "mask_test"))
    if files.has("TRLabel.mat", "TSLabel.mat"):
        _, official = _split(files.mat("TRLabel.mat"), files.mat("TSLabel.mat"))
        parts = replace(parts, official=official)
    return parts


def _indexed(name: str) -> Callable[[Files], Parts | None]:
    """Read NAME_{hsi,sar,gt,index}.mat: NAME_train and NAME_test hold (row, column) from 0."""

    def read(files: Files) -> Parts | None:
        if not files.has(*(f"{name}_{part}.mat" for part in ("hsi", "sar", "gt", "index"))):
            return None
        cubes = {m: files.mat(f"{name}_{m}.mat", f"{name}_{m}") for m in ("hsi", "sar")}
        if files.has(f"{name}_dsm.mat"):
            cubes["dsm"] = files.mat(f"{name}_dsm.mat", f"{name}_dsm")
        labels = files.mat(f"{name}_gt.mat", f"{name}_gt")
        official = np.zeros(labels.shape, dtype=np.int8)
        for part, role in (("test", TEST), ("train", TRAIN)):
            rows, columns = files.mat(f"{name}_index.mat", f"{name}_{part}").astype(np.int64).T
            if rows.max() >= labels.shape[0] or columns.max() >= labels.shape[1] or min(rows.min(), columns.min()) < 0:
                raise DataError(f"{name}_index.mat points outside the {labels.shape} labels.")
            official[rows, columns] = role
        return Parts(cubes, labels, official)

    return read


def _images(*sensors: str) -> Callable[[Files], Parts | None]:
    """Read data_*.mat and {Train,Test}Image.mat; each file's variable has the file's name."""

    def read(files: Files) -> Parts | None:
        names = {"hsi": "data_HS_LR", "sar": "data_SAR_HR", "dsm": "data_DSM"}
        if not files.has(*(f"{names[m]}.mat" for m in sensors), "TrainImage.mat", "TestImage.mat"):
            return None
        labels, official = _split(files.mat("TrainImage.mat"), files.mat("TestImage.mat"))
        return Parts({m: files.mat(f"{names[m]}.mat", names[m]) for m in sensors}, labels, official)

    return read


def _muufl(files: Files) -> Parts | None:
    if not files.has(MUUFL_FILE):
        return None
    path = files.path(MUUFL_FILE)
    try:
        with open(path, "rb") as file:
            scene = scipy.io.loadmat(file, squeeze_me=True, mat_dtype=True, struct_as_record=False)["hsi"]
        lidar = np.atleast_1d(scene.Lidar)[0].z
        return Parts({"hsi": scene.Data, "lidar": lidar}, scene.sceneLabels.labels)
    except (*UNREADABLE, AttributeError, NotImplementedError) as error:
        raise DataError(
            f"{path} is not the MUUFL scene ({error}); expected a struct 'hsi' with Data, Lidar, sceneLabels."
        ) from error


HOUSTON = (
    "healthy grass", "stressed grass", "synthetic grass", "trees", "soil", "water", "residential", "commercial", "road",
    "highway", "railway", "parking lot 1", "parking lot 2", "tennis court", "running track",
)  # fmt: skip
LAND_USE = ("forest", "residential", "industrial", "low plants", "soil", "allotment", "commercial", "water")
GULFPORT = (
    "trees", "mostly grass", "mixed ground", "dirt and sand", "road", "water", "building shadow", "building", "sidewalk",
    "yellow curb", "cloth panels",
)  # fmt: skip
PUBLISHED: dict[str, Published] = {
    "houston2013": Published(HOUSTON, 2.5, (_contest, _label_pair)),
    "trento": Published(("apple trees", "buildings", "ground", "woods", "vineyard", "roads"), 1.0, (_italy, _label_pair)),
    "augsburg": Published(tuple(c for c in LAND_USE if c != "soil"), 30.0, (_indexed("augsburg"), _images("hsi", "sar", "dsm"))),
    "berlin": Published(LAND_USE, 13.89, (_indexed("berlin"), _images("hsi", "sar"))),
    "muufl": Published(GULFPORT, 1.0, (_muufl,)),
}
