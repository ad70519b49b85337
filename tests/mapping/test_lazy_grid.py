"""Variables of a Dataset on one grid: CRSs in any form, coordinates that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio

from mamol.errors import DataError, GridMismatch
from mamol.mapping.lazy_grid import on_one_grid

xarray = pytest.importorskip("xarray")
UTM = rasterio.crs.CRS.from_epsg(32632)


def array(crs: Any = None, **coordinates: Any) -> Any:
    given = {"y": 5e6 - 10.0 * np.arange(3), "x": 6e5 + 10.0 * np.arange(4)} | coordinates
    if crs is not None:
        given["spatial_ref"] = ((), 0, {"crs_wkt": crs})
    return xarray.DataArray(np.zeros((1, 3, 4)), dims=("band", "y", "x"), coords=given)


@pytest.mark.parametrize(
    "crs",
    ["EPSG:32632", 32632, np.int64(32632), "32632", UTM.to_wkt(version="WKT2_2019"), "+proj=utm +zone=32 +datum=WGS84"],
)
def test_a_crs_in_another_form_is_the_same(crs: Any) -> None:
    on_one_grid({"a": array(UTM.to_wkt()), "b": array(crs)}, {})
    on_one_grid({"a": array(crs), "b": array()}, {})
    with pytest.raises(GridMismatch, match=r"'a' has the CRS EPSG:32633, 'b' EPSG:32632.*b\.rio\.reproject_match\(a\)"):
        on_one_grid({"a": array("EPSG:32633"), "b": array(crs)}, {})


@pytest.mark.parametrize("crs", ["nonsense", "EPSG:99999999", -3, [1]])
def test_what_is_no_crs_is_said(crs: Any) -> None:
    for arrays in ({"a": array(crs)}, {"a": array("EPSG:32632"), "b": array(crs)}):
        with pytest.raises(DataError, match=r"'[ab]' has a CRS that cannot be read .*write_crs"):
            on_one_grid(arrays, {})


@pytest.mark.parametrize("axis", ["x", "y"])
def test_coordinates_that_are_no_numbers_are_refused(axis: str) -> None:
    good = array()
    broken = good[axis].values.copy()
    broken[1] = np.nan
    for arrays in ({"a": array(**{axis: broken})}, {"a": good, "b": array(**{axis: broken})}):
        with pytest.raises(GridMismatch, match=f"'[ab]' has coordinates {axis} that are not finite"):
            on_one_grid(arrays, {})
    on_one_grid({"a": good, "b": good.drop_vars(axis)}, {})
