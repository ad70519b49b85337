"""A scene.toml with several faults says all of them, in one error."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamol.data.spec_file import examine_spec, read_spec
from mamol.errors import ConfigError, UnknownName, UsageError

GOOD = """
name = "made"
[modalities.hsi]
path = "hsi.tif"
[modalities.sar]
path = "sar.tif"
[labels]
path = "crowns.gpkg"
field = "species"
[[classes]]
name = "oak"
"""


def write(folder: Path, *changes: tuple[str, str]) -> Path:
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "scene.toml"
    path.write_text(text)
    return path


BAD = (
    ('path = "hsi.tif"', 'path = "hsi.tif"\nresampling = "avg"\nmasc = "clouds.tif"'),
    ('path = "sar.tif"', 'path = "sar.tif"\nbands = "one"'),
    ('name = "oak"', 'name = "oak"\ncolour = "green"'),
)


def test_every_key_at_fault_is_named_in_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_spec(write(tmp_path, *BAD))
    says = str(caught.value).splitlines()
    assert len(caught.value.faults()) == 4
    assert "modalities.hsi.resampling" in says[0]
    assert "'avg'" in says[0]
    assert says[1] == "and 3 more faults:"
    assert "unknown key in [modalities.hsi] of scene.toml 'masc'" in says[2]
    assert "Did you mean 'mask'" in says[2]
    assert "modalities.sar.bands" in says[3]
    assert "classes.0.colour" in says[4]


def test_one_fault_is_one_sentence_and_one_place_is_one_fault(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"^unknown key in scene.toml 'nmae'; known: [^\n]*$"):
        read_spec(write(tmp_path, ('name = "made"', 'name = "made"\nnmae = "m"')))
    with pytest.raises(ConfigError, match=r"^[^\n]*: tiles: [^\n]*valid tuple or: [^\n]*'\*'; got 3\.$"):
        read_spec(write(tmp_path, ('name = "made"', 'name = "made"\ntiles = 3')))
    with pytest.raises(ConfigError, match=r"scene.toml: labels.path is missing\.$"):
        read_spec(write(tmp_path, ('path = "crowns.gpkg"\n', "")))


def test_faults_between_keys_are_listed_too(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_spec(
            write(
                tmp_path,
                ('name = "made"', 'name = "made"\ngrid = "hsl"\ntiles = ["a"]'),
                ('path = "sar.tif"', 'assets = ["vv"]\nmask = "m.tif"\nmask_asset = "SCL"'),
                ('field = "species"', 'field = "species"\nignore = ["oak"]'),
                ('name = "oak"', 'name = "oak"\n[[classes]]\nname = "oak"\n[[classes]]\nname = "oak"'),
            )
        )
    for says in ("Did you mean 'hsi'", "need stac =", "needs path =", "exclude each other", "twice", "take it out of one"):
        assert sum(says in f for f in caught.value.faults()) == 1, says


def test_tiles_that_cannot_be_meant(tmp_path: Path) -> None:
    tiles = ('path = "hsi.tif"', 'path = "{tile}.tif"')
    with pytest.raises(ConfigError, match=r"tiles = \[\] names no tile; .* leave it out for one"):
        read_spec(write(tmp_path, tiles, ('name = "made"', 'name = "made"\ntiles = []')))
    with pytest.raises(ConfigError, match="the tile 'b' is listed twice; name every tile once"):
        read_spec(write(tmp_path, tiles, ('name = "made"', 'name = "made"\ntiles = ["b", "a", "b"]')))


def test_where_a_description_lies_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r"^unknown key in scene.toml 'folder'; known: classes, grid, groups, "):
        read_spec(write(tmp_path, ('name = "made"', 'name = "made"\nfolder = "data"')))
    assert read_spec(write(tmp_path)).folder == tmp_path


def test_what_is_right_is_still_read(tmp_path: Path) -> None:
    found = examine_spec(write(tmp_path, *BAD))
    assert found.spec is not None
    assert found.spec.modalities["hsi"].path == "hsi.tif"
    assert found.spec.modalities["hsi"].resampling is None
    assert [c.colour for c in found.spec.classes] == [None]
    assert found.doubtful == {"modalities", "classes"}
    assert len(found.faults) == 4
    assert examine_spec(write(tmp_path, ('name = "made"\n', ""))).spec is None
    assert examine_spec(write(tmp_path)).faults == ()


@pytest.mark.parametrize("text", ["NETCDF:a.nc:b", 'NETCDF:"a.nc":b', 'HDF5:"a.h5"://b', "GPKG:a.gpkg:b", "vrt://a.tif?bands=1"])
def test_a_part_of_a_file_as_gdal_writes_it_is_refused_with_what_to_do(tmp_path: Path, text: str) -> None:
    for old in ('path = "hsi.tif"', 'path = "crowns.gpkg"'):
        with pytest.raises(ConfigError, match=r"path = .* part of a file .*gdal_translate -of VRT"):
            read_spec(write(tmp_path, (old, f"path = '{text}'")))
    path = write(tmp_path, ('path = "hsi.tif"', f"path = 'a.tif'\nmask = '{text}'"), ('path = "sar.tif"', f"path = '{text}'"))
    faults = [str(f) for f in examine_spec(path).faults]
    assert ["modalities.hsi: mask =" in faults[0], "modalities.sar: path =" in faults[1]] == [True, True]
    read_spec(write(tmp_path, ('path = "hsi.tif"', "path = 'C:/a.tif'"), ('path = "sar.tif"', "path = 'T32:b.tif'")))


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = write(tmp_path)
    expected = read_spec(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Notepad saves it
    assert read_spec(path) == expected
