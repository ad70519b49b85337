"""The one grid on which the variables of an xarray Dataset must lie: their size, coordinates and CRS."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio

from mamol.data.grid import NO_WAY, crs_name
from mamol.errors import DataError, GridMismatch

if TYPE_CHECKING:
    import xarray


def on_one_grid(arrays: Mapping[str, xarray.DataArray], crs: Mapping[Hashable, xarray.DataArray]) -> None:
    """Raise GridMismatch unless size, coordinates (to a thousandth of a pixel) and CRS are the same for all.

    `arrays` are (BAND, y, x); `crs` the variables that only hold a CRS. Raises DataError for a CRS that cannot be read.
    """
    systems = {name: _system(name, array, crs) for name, array in arrays.items()}
    (first, a), *others = arrays.items()
    for name, b in arrays.items():
        for axis in {"y", "x"} & set(b.coords):
            if not np.isfinite(np.asarray(b.coords[axis].values, dtype=np.float64)).all():
                raise GridMismatch(f"'{name}' has coordinates {axis} that are not finite (NaN or infinite); mend or drop them.")
    for name, b in others:
        advice = f"Bring them onto one grid first, for example {name}.rio.reproject_match({first})."
        if a.shape[1:] != b.shape[1:]:
            raise GridMismatch(f"'{first}' is {a.shape[1:]} pixels (y, x), '{name}' {b.shape[1:]}. {advice}")
        for axis in {"y", "x"} & set(a.coords) & set(b.coords):
            here, there = (np.asarray(array.coords[axis].values, dtype=np.float64) for array in (a, b))
            if np.abs(here - there).max() > 1e-3 * abs(here[-1] - here[0]) / max(len(here) - 1, 1):
                raise GridMismatch(f"'{first}' and '{name}' have other coordinates {axis}: {here[0]}.., {there[0]}.. {advice}")
    known = {name: system for name, system in systems.items() if system is not None}
    for name, system in known.items():
        first, other = next(iter(known.items()))
        if system != other:
            raise GridMismatch(
                f"'{first}' has the CRS {crs_name(other.to_wkt())}, '{name}' {crs_name(system.to_wkt())}: another CRS. "
                f"Bring them onto one grid first, for example {name}.rio.reproject_match({first})."
            )


def crs_holder(array: xarray.DataArray, crs: Mapping[Hashable, xarray.DataArray]) -> tuple[str, Any]:
    """Return the name of the variable that holds an array's CRS and the CRS as it says it, both empty if there is none."""
    name = str(array.encoding.get("grid_mapping") or array.attrs.get("grid_mapping") or "spatial_ref")
    holder = {**array.coords, **crs}.get(name)
    return ("", "") if holder is None else (name, holder.attrs.get("crs_wkt") or holder.attrs.get("spatial_ref") or "")


def coordinates_of(arrays: Mapping[str, xarray.DataArray], crs: Mapping[Hashable, xarray.DataArray]) -> dict[Hashable, Any]:
    """Return what is known along y and x, and the single coordinates on which all variables agree."""
    out: dict[Hashable, Any] = {n: a.variable for n, a in crs.items()}
    for key, c in next(iter(arrays.values())).coords.items():
        agreed = all(key in a.coords and c.variable.equals(a.coords[key].variable) for a in arrays.values())
        if set(c.dims) <= {"y", "x"} and (c.dims or agreed):
            out[key] = c.variable
    return out


def _system(name: str, array: xarray.DataArray, crs: Mapping[Hashable, xarray.DataArray]) -> rasterio.crs.CRS | None:
    """Return an array's CRS, None if it says nothing; an EPSG code may be a number or text."""
    said = crs_holder(array, crs)[1]
    if isinstance(said, str) and not said.strip():
        return None
    try:
        return rasterio.crs.CRS.from_user_input(int(said) if str(said).strip().isdigit() else said)
    except NO_WAY as error:
        raise DataError(
            f"'{name}' has a CRS that cannot be read ({error}): {str(said)[:80]!r}. Give it one, for example "
            f"{name}.rio.write_crs('EPSG:32632')."
        ) from None
