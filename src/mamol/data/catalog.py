"""The data sets that mamol knows by name, and how any DATASET argument is opened.

A DATASET is a catalogue name, a scene.toml (or its folder), a STAC document (a .json file or a URL), or the folder of a
sample set (samples.toml). Real data lie under data_root()/<name>/: MAMOL_DATA if it is set, else the user's data folder.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mamol.data.checked import checked
from mamol.data.dataset import Dataset, Scene
from mamol.data.glance import warn_of_pixels
from mamol.data.handles import as_place, is_remote
from mamol.data.memory import MemoryReader, Reader
from mamol.data.reader import open_scene
from mamol.data.samples import load_samples
from mamol.errors import FileMissing, UsageError, unknown
from mamol.files import lies_there


@dataclass(frozen=True)
class Entry:
    """One known data set: what it is, and how to read it from its folder (None: it is made, not read)."""

    what: str
    folder: str | None
    load: Callable[[Path], Dataset]


def _reader(name: str, **fixed: int) -> Callable[[Path], Dataset]:
    """Return mamol.data.real.<name>.load_<name>, imported when it is first used: the catalogue itself stays light."""

    def load(folder: Path) -> Dataset:
        module = importlib.import_module(f"mamol.data.real.{name}")
        dataset: Dataset = getattr(module, f"load_{name}")(folder, **fixed)
        return dataset

    return load


def _embedded(folder: Path) -> Dataset:
    from mamol.data.synthetic import make_scene

    return make_scene()


def _published(folder: Path) -> Dataset:
    from mamol.data.real.published import load_published

    return load_published(folder.name, folder)


_FASHION = "photograph, masked title, attributes; 26 kinds of article"
_CEREAL = "worldcereal-canada"
CATALOG: dict[str, Entry] = {
    "embedded": Entry("made landscape: hyperspectral, SAR, LiDAR; 10 classes", None, _embedded),
    "idtrees": Entry("NEON tree species: hyperspectral, LiDAR, RGB; 8 classes", "idtrees", _reader("idtrees")),
    "bigearthnet-s1s2": Entry("CORINE level 1: Sentinel-1, Sentinel-2; 5 classes", "bigearthnet-s1s2", _reader("bigearthnet")),
    "bigearthnet-s1s2-9": Entry("the same patches, 9 CORINE groups", "bigearthnet-s1s2", _reader("bigearthnet", classes=9)),
    _CEREAL: Entry("crop type time series: S1, S2, weather with terrain; 9 classes", _CEREAL, _reader("worldcereal")),
    f"{_CEREAL}-4": Entry("the same, weather and terrain apart", _CEREAL, _reader("worldcereal", modalities=4)),
    "fashion-products": Entry(f"{_FASHION}; images of 56 px", "fashion-products", _reader("fashion")),
    "fashion-products-112": Entry("the same, images of 112 px", "fashion-products", _reader("fashion", side_px=112)),
    "av-mnist": Entry("digits, written and spoken; 10 classes", "av-mnist", _reader("avmnist")),
    "mfeat": Entry("handwritten numerals, six sets of features; 10 classes", "mfeat", _reader("mfeat")),
    "houston2013": Entry("Houston 2013: hyperspectral, LiDAR; 15 classes", "houston2013", _published),
    "trento": Entry("Trento: hyperspectral, LiDAR; 6 classes", "trento", _published),
    "augsburg": Entry("Augsburg: hyperspectral, SAR, elevation; 7 classes", "augsburg", _published),
    "muufl": Entry("MUUFL Gulfport: hyperspectral, LiDAR; 11 classes", "muufl", _published),
    "berlin": Entry("Berlin: hyperspectral, SAR; 8 classes", "berlin", _published),
}


def data_root() -> Path:
    """Return the folder that holds the real data sets."""
    if given := os.environ.get("MAMOL_DATA"):
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "mamol"


def load_dataset(name_or_path: str | Path) -> Dataset:
    """Read a data set into memory; raises UnknownName, FileMissing and what its reader raises."""
    entry = CATALOG.get(str(name_or_path))
    if entry is not None:
        return entry.load(_folder(str(name_or_path), entry))
    place = _existing(name_or_path)
    if is_samples(place):
        return load_samples(Path(place) if Path(place).is_dir() else Path(place).parent)
    reader = open_scene(place)
    warn_of_pixels(reader, reader.tile_names)
    return reader.load()


def open_reader(scene: Dataset | str | Path, modalities: Sequence[str] = ()) -> Reader:
    """Open a scene, by name or path or in memory, for reading by window; raises UsageError for a sample set, which has no map.

    `modalities` names those to read, such as the ones that a model knows, () all: it spares the files of the others, and of
    a STAC item it says which assets are meant. A scene from the catalogue has all of its modalities in any case.
    """
    if isinstance(scene, str | Path) and str(scene) not in CATALOG:
        place = _existing(scene)
        if not is_samples(place):
            return open_scene(place, modalities)
    dataset = load_dataset(scene) if isinstance(scene, str | Path) else checked(scene)
    if not isinstance(dataset, Scene):
        name = scene if isinstance(scene, str | Path) else scene.name
        raise UsageError(
            f"'{name}' is a sample set: it has no ground to map. A run that was trained on one classifies it into a table: "
            "`mamol classify` (classify_samples)."
        )
    return MemoryReader(dataset)


def _folder(name: str, entry: Entry) -> Path:
    if entry.folder is None:
        return Path()
    folder = data_root() / entry.folder
    if not folder.is_dir():
        raise FileMissing(
            f"the data of '{name}' are not at {folder}. Put them there, or set MAMOL_DATA to the folder that holds "
            f"'{entry.folder}/' (now {os.environ.get('MAMOL_DATA') or 'not set'}); docs/data.md says where they come from."
        )
    return folder


def _existing(name_or_path: str | Path) -> str:
    """Return the place of a data set; what a server holds is found out when it is opened."""
    place, path = as_place(name_or_path), Path(name_or_path)
    if is_remote(place):
        return place
    if not lies_there(path):
        # A Path has lost the ./ of a text, but who made one meant a path.
        if isinstance(name_or_path, Path) or path.suffix or {"/", os.sep} & set(name_or_path):
            raise FileMissing(
                f"no such folder or file: {name_or_path}. Give a scene.toml or its folder, a STAC document, a sample set's "
                f"folder, or a name of the catalogue (relative paths start at {Path.cwd()})."
            )
        raise unknown("data set", str(name_or_path), CATALOG, "A path to a scene.toml works too.")
    if path.is_dir() and not (lies_there(path / "scene.toml") or is_samples(path)):
        raise FileMissing(f"{path} holds neither scene.toml nor samples.toml; `mamol scene make DIR` writes an example.")
    return str(path)


def is_samples(place: Path | str) -> bool:
    """Tell whether a path is a sample set (samples.toml or its folder)."""
    path = Path(place)
    return path.name == "samples.toml" or (os.path.isdir(path) and lies_there(path / "samples.toml"))
