"""What lies beside the rasters of a map: a style for QGIS, a legend as a picture, and a STAC Item that catalogues them.

    FILE.qml          QGIS >= 3.22 reads it by itself when FILE.tif is opened: class names and colours, no data transparent
    FILE_legend.png   names and colours of the classes, for reports
    FILE.json         STAC 1.1 Item: footprint in WGS84, grid (projection v2), rasters, classes (classification v2)

Sources: STAC spec 1.1.0 (item-spec, common metadata "bands"), the extensions projection, classification and raster
2.0.0 and processing 1.2.0. What the Item says of a raster is read from the file, so that it says nothing else.
"""

from __future__ import annotations

import datetime as dt
import math
import os
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mamol.data.dataset import ClassInfo
from mamol.data.raster import Grid, open_raster
from mamol.errors import DataError, UsageError, unknown
from mamol.files import atomic, must_exist
from mamol.mapping.footprint import crs_of, footprint

CLASS_ASSET = "class"
"""Key of the asset that holds the classes."""
LEGEND_ROWS, MOST_SHOWN, LONGEST_LABEL = 32, 255, 60
GEOTIFF = "image/tiff; application=geotiff"
EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "classification/v2.0.0", "raster/v2.0.0", "processing/v1.2.0")
]
TITLES = {
    CLASS_ASSET: "Class: 0 no data, 1 and up the classes",
    "confidence": "Probability of the class, 0 to 1",
    "pattern": "Available modalities, one bit each",
    "entropy": "Entropy of the probabilities, 0 sure to 1 no idea",
    "probability": "Probability of every class",
    "expert": "Dynamic expert with the largest gate",
    "legend": "Legend",
    "style": "Style for QGIS",
}
OTHER_FILES = {
    ".png": ("image/png", "thumbnail"),
    ".qml": ("application/xml", "metadata"),
    ".xml": ("application/xml", "metadata"),
}


def style_document(classes: Sequence[ClassInfo]) -> str:
    """Return a QGIS style (QML) of a paletted raster: value 0 transparent, 1..K the classes with colour and label.

    Raises UsageError for no classes and for a colour that is not "#rrggbb".
    """
    _check(classes)
    entries = ['<paletteEntry value="0" color="#000000" alpha="0" label="no data"/>']
    for i, c in enumerate(classes, 1):
        entries.append(
            f'<paletteEntry value="{i}" color="{c.colour.lower()}" alpha="255" label={quoteattr(_printable(c.name))}/>'
        )
    rows = "\n        ".join(entries)
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1" nodataColor="">
      <rasterTransparency/>
      <colorPalette>
        {rows}
      </colorPalette>
    </rasterrenderer>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
"""


def draw_legend(classes: Sequence[ClassInfo], out: Path) -> Path:
    """Draw the classes' colours and names as a PNG, in columns of LEGEND_ROWS; write it whole or not at all, return its path.

    A name over LONGEST_LABEL characters is cut; over MOST_SHOWN classes the last place says how many more there are.
    Raises UsageError as `style_document` and if `out` does not end in .png, WriteFailed.
    """
    _check(classes)
    if out.suffix.lower() != ".png":
        raise UsageError(f"a legend is a PNG: its file must end in .png; got '{out}'.")
    shown = [(_shortened(_printable(c.name)), c.colour) for c in classes[:MOST_SHOWN]]
    if len(classes) > MOST_SHOWN:
        shown[-1] = (f"... and {len(classes) - MOST_SHOWN + 1} more", "none")
    columns = [shown[i : i + LEGEND_ROWS] for i in range(0, len(shown), LEGEND_ROWS)]
    widths = [5 + max(len(label) for label, _ in column) for column in columns]  # in characters
    rows = len(columns[0])
    figure = Figure(figsize=(0.1 * sum(widths), 0.24 * rows + 0.1))
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, sum(widths)), ylim=(rows, 0))
    axis.set_axis_off()
    for column, left in zip(columns, (sum(widths[:i]) for i in range(len(widths))), strict=True):
        for row, (label, colour) in enumerate(column):
            axis.add_patch(Rectangle((left + 0.5, row + 0.2), 2.5, 0.6, facecolor=colour, edgecolor="#555555", lw=0.5))
            # Names are not ours: a dollar sign in one is no formula.
            axis.text(left + 3.6, row + 0.5, label, fontsize=9, va="center", parse_math=False)
    with atomic(out) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # shown as a box; the other files have the name
        figure.savefig(partial, dpi=130, format="png", bbox_inches="tight", pad_inches=0.05)
    return out


def item_document(
    name: str,
    place: Grid,
    assets: Mapping[str, Path],
    classes: Sequence[ClassInfo],
    folder: Path,
    datetime: str | None = None,
) -> dict[str, Any]:
    """Return the STAC Item of a written map, ready for JSON; it is meant for a file in `folder`, to which paths are relative.

    `assets`: files that are there under their final names, by key: "class" (needed), "confidence", "pattern", any other
    GeoTIFF; "legend" (.png), "style" (.qml). `datetime`: when the ground was as mapped, ISO 8601, UTC if it names no
    zone, or "START/END"; None takes the time of processing, and the property `description` says so. Without a CRS, and
    where the CRS leads to no place on the globe, the Item has no geometry. Raises UsageError, FileMissing, and DataError
    for a raster of another size or text that is no CRS.
    """
    _check(classes)
    if not name.strip():
        raise UsageError("a STAC Item needs an id: name must not be empty; take the stem of the map's file.")
    if CLASS_ASSET not in assets:
        raise unknown("the class raster's asset", CLASS_ASSET, assets, f"Give the class raster as '{CLASS_ASSET}'.")
    now = _utc(dt.datetime.now(dt.UTC))
    described = {} if datetime else {"description": "datetime is the time of processing: that of the images was not given."}
    properties = {
        **_times(datetime or now),
        "created": now,
        "title": name,
        **described,
        "processing:software": {"mamol": metadata.version("mamol")},
        **_projection(place),
    }
    item: dict[str, Any] = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": name,
        "geometry": None,
        "properties": properties,
        "links": [],
        "assets": {key: _asset(key, path, folder, place) for key, path in assets.items()},
    }
    item["assets"][CLASS_ASSET]["classification:classes"] = _class_objects(classes)
    if place.georeference.crs and (found := footprint(place)):
        item["bbox"], item["geometry"] = found
    return item


def _check(classes: Sequence[ClassInfo]) -> None:
    if not classes:
        raise UsageError("there are no classes; a map has at least one.")
    for c in classes:
        if not re.fullmatch("#[0-9A-Fa-f]{6}", c.colour):
            raise UsageError(f"class '{c.name}' has the colour '{c.colour}'; a colour is \"#rrggbb\".")


def _printable(name: str) -> str:
    """Replace what XML 1.0 and a line of text cannot hold."""
    return re.sub("[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", " ", name)


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"


def _times(text: str) -> dict[str, str | None]:
    """Return STAC's datetime, and start and end with a null datetime for an interval "START/END"."""
    parts = [_utc(_parsed(part, text)) for part in text.split("/")]
    if len(parts) == 1:
        return {"datetime": parts[0]}
    if len(parts) != 2 or parts[0] > parts[1]:
        raise UsageError(f"datetime '{text}' is no interval; write START/END, the earlier first.")
    return {"datetime": None, "start_datetime": parts[0], "end_datetime": parts[1]}


def _parsed(part: str, text: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(part.strip())
    except ValueError:
        raise UsageError(f"datetime '{text}' is not ISO 8601; write 2024-06-01, 2024-06-01T10:30:00Z or START/END.") from None
    return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment


def _utc(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def _projection(place: Grid) -> dict[str, Any]:
    shape = {"proj:shape": [place.height, place.width]}
    if not place.georeference.crs:
        return {"proj:code": None, **shape}
    crs, transform = crs_of(place), [float(v) for v in place.georeference.transform]
    authority = crs.to_authority()
    return {
        "proj:code": ":".join(authority) if authority else None,
        "proj:wkt2": crs.to_wkt(version="WKT2_2019"),
        **shape,
        **({"proj:transform": transform} if all(map(math.isfinite, transform)) else {}),
    }


def _asset(key: str, path: Path, folder: Path, place: Grid) -> dict[str, Any]:
    href = Path(os.path.relpath(path, folder)).as_posix()
    common = {"href": href if href.startswith("..") else f"./{href}", "title": TITLES.get(key, key)}
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return common | _raster_asset(key, path, place)
    if suffix not in OTHER_FILES:
        raise unknown("kind of asset", suffix, [".tif", ".tiff", *OTHER_FILES])
    kind, role = OTHER_FILES[suffix]
    asset: dict[str, Any] = common | {"type": kind, "roles": [role]}
    if suffix == ".png":  # it does not lie on the map's grid
        head = must_exist(path, "legend").read_bytes()[:24]
        if len(head) < 24:
            raise DataError(f"{path} is not a PNG file; draw the legend anew.")
        width, height = struct.unpack(">II", head[16:24])
        asset |= {"proj:code": None, "proj:shape": [height, width]}
    return asset


def _raster_asset(key: str, path: Path, place: Grid) -> dict[str, Any]:
    with open_raster(path) as raster:
        if raster.shape != place.shape:
            raise DataError(f"{path} is {raster.shape} pixels, the map {place.shape}; give the rasters of one map.")
        is_cog = raster.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG"
        bands: list[dict[str, Any]] = []
        for kind, nodata, text in zip(raster.dtypes, raster.nodatavals, raster.descriptions, strict=True):
            band: dict[str, Any] = {"name": key if raster.count == 1 else f"{key}-{len(bands) + 1}", "data_type": kind}
            if text:
                band["description"] = text
            band |= {"raster:scale": raster.scales[len(bands)], "raster:offset": raster.offsets[len(bands)]}
            if nodata is not None:
                band["nodata"] = "nan" if math.isnan(nodata) else int(nodata) if nodata == int(nodata) else nodata
            bands.append(band)
    return {"type": f"{GEOTIFF}; profile=cloud-optimized" if is_cog else GEOTIFF, "roles": ["data"], "bands": bands}


def _class_objects(classes: Sequence[ClassInfo]) -> list[dict[str, Any]]:
    """Return the classes as the classification extension wants them: a name of letters, digits, - and _ only, each its own."""
    out: list[dict[str, Any]] = [{"value": 0, "name": "no-data", "description": "no data", "nodata": True}]
    for i, c in enumerate(classes, 1):
        slug = re.sub("[^0-9A-Za-z_]+", "-", c.name).strip("-") or f"class-{i}"
        slug = f"{slug}-{i}" if any(slug == row["name"] for row in out) else slug
        out.append({"value": i, "name": slug, "title": c.name, "description": c.name, "color_hint": c.colour[1:].upper()})
    return out
