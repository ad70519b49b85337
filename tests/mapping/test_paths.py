"""Names of a map's files, and which of them may be taken."""

from pathlib import Path

import pytest

from mamol.errors import UsageError
from mamol.mapping.layers import make_layers
from mamol.mapping.paths import MapPaths, check_names

LAYERS = make_layers(("confidence", "pattern", "probability", "probability-float"), 3, 2)


def beside(file: Path) -> MapPaths:
    return MapPaths.beside(file, LAYERS)


def test_every_file_has_a_name_of_its_own(tmp_path: Path) -> None:
    paths = beside(tmp_path / "map.tif")
    assert len(set(paths.all())) == len(paths.all()) == 9
    assert tmp_path / "map.tif.aux.xml" in paths.all()
    assert paths.all()[-1] == paths.item
    check_names({"a": paths, "b": beside(tmp_path / "other.tif")}, [tmp_path / "hsi.tif"])
    with pytest.raises(UsageError, match=r"must end in \.tif"):
        beside(tmp_path / "map.png")


def test_two_maps_share_no_file(tmp_path: Path) -> None:
    for a, b in (("m_x.tif", "m_x_confidence.tif"), ("m_a-b.tif", "m_a-b.tif")):
        with pytest.raises(UsageError, match="tiles 'one' and 'two' would both have the file"):
            check_names({"one": beside(tmp_path / a), "two": beside(tmp_path / b)}, [])


def test_a_file_of_the_scene_a_folder_and_a_long_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    for own in ("map.tif", "map_confidence.tif", "map.json"):
        with pytest.raises(UsageError, match=f"{own} is a file that the map is made from"):
            check_names({"t": beside(tmp_path / "link" / "map.tif")}, [tmp_path / own])
    (tmp_path / "map_pattern.tif").mkdir()
    with pytest.raises(UsageError, match=r"map_pattern\.tif is a folder"):
        check_names({"t": beside(tmp_path / "map.tif")}, [])
    for folder in (tmp_path, tmp_path / "new" / "deep"):
        with pytest.raises(UsageError, match="too long a file name"):
            check_names({"t": beside(folder / f"{'m' * 240}.tif")}, [])
        check_names({"t": beside(folder / f"{'m' * 200}.tif")}, [])
