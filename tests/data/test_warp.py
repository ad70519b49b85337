"""Warping: views stay open, and what is missing in a file takes nothing of its neighbours with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.vrt import WarpedVRT
from test_raster import ramp, scene
from test_reader import CRS, write

from mamol.data import warp


def test_warped_views_of_a_grid_stay_open_however_many_a_read_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "grid.tif", ramp(1, 40, 40))
    write(tmp_path / "a.tif", np.full((3, 20, 20), 7, "int16"), pixel=20.0)
    with rasterio.open(tmp_path / "a.tif") as file:
        place = ", ".join(map(str, file.transform.to_gdal()))
    bands = "".join(
        f'<VRTRasterBand dataType="Int16" band="{b}"><NoDataValue>{-b}</NoDataValue><SimpleSource><SourceFilename '
        f'relativeToVRT="1">a.tif</SourceFilename><SourceBand>{b}</SourceBand></SimpleSource></VRTRasterBand>'
        for b in (1, 2, 3)
    )
    head = f'<VRTDataset rasterXSize="20" rasterYSize="20"><SRS>{CRS}</SRS><GeoTransform>{place}</GeoTransform>'
    (tmp_path / "a.vrt").write_text(f"{head}{bands}</VRTDataset>")
    opened: list[object] = []
    monkeypatch.setattr(warp, "WarpedVRT", lambda *a, **k: opened.append(k["src_nodata"]) or WarpedVRT(*a, **k))
    reader = scene(tmp_path, "g path='grid.tif'", "a path='a.vrt';resampling='bilinear'")
    for row in range(0, 40, 8):
        reader.read("t", slice(row, row + 8), slice(0, 40))
    assert sorted(opened) == [-3, -3, -2, -2, -1, -1]  # bilinear, and nearest for the holes
