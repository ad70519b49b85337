"""BigEarthNet v2.0 (reBEN), 120 test patches: land cover per pixel from Sentinel-1 and four bands of Sentinel-2.

Modalities: `s1` VV, VH in dB; `s2` B02, B03, B04, B08 as reflectance; 10 m, 120 x 120 px a patch. The label of a pixel
is its CORINE 2018 code, stored modulo 256 (511 as 255): five classes (level 1) or nine groups. CORINE maps nothing
under 25 ha, so labels are coarse against the pixels. The patches have no georeference; each is a group of its own.
Licence CDLA-Permissive-1.0; cite Clasen et al., reBEN, IGARSS 2025.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from mamol.data.dataset import UNLABELLED, ClassInfo, Scene, Tile
from mamol.errors import DataError, FileMissing
from mamol.files import sha256_file
from mamol.modality import Modality

MODALITIES = (
    Modality("s1", 2, "grid", 10.0, "dB", band_names=("VV", "VH")),
    Modality("s2", 4, "grid", 10.0, "reflectance", band_names=("B2", "B3", "B4", "B8")),
)
WATER = (511, 512, 521, 522, 523)
WETLAND = (411, 412, 421, 422, 423)
LEVEL1 = {
    ClassInfo("artificial", "#e6004d"): lambda c: c < 200,
    ClassInfo("agriculture", "#ffff59"): lambda c: 200 <= c < 300,
    ClassInfo("forest and nature", "#3ba332"): lambda c: 300 <= c < 400,
    ClassInfo("wetland", "#a6a6ff"): lambda c: c in WETLAND,
    ClassInfo("water", "#0080ff"): lambda c: c in WATER,
}
GROUPS9 = {
    ClassInfo("artificial", "#e6004d"): lambda c: c < 200,
    ClassInfo("arable and permanent crop", "#ffffa8"): lambda c: 211 <= c < 231,
    ClassInfo("pasture", "#e6e64d"): lambda c: c == 231,
    ClassInfo("heterogeneous agriculture", "#ffe6a6"): lambda c: 241 <= c < 300,
    ClassInfo("conifer", "#00a600"): lambda c: c == 312,
    ClassInfo("broadleaf and mixed", "#80ff00"): lambda c: c in (311, 313),
    ClassInfo("shrub and open", "#a6f200"): lambda c: 321 <= c < 400,
    ClassInfo("wetland", "#a6a6ff"): lambda c: c in WETLAND,
    ClassInfo("water", "#00ccf2"): lambda c: c in WATER,
}
CODES = (
    111, 112, 121, 122, 123, 124, 131, 132, 133, 141, 142, 211, 212, 213, 221, 222, 223, 231, 241, 242, 243, 244,
    311, 312, 313, 321, 322, 323, 324, 331, 332, 333, 334, 335, 411, 412, 421, 422, 423, 511, 512, 521, 522, 523,
)  # fmt: skip


def load_bigearthnet(folder: Path, classes: int = 5) -> Scene:
    """Read the 120 patches from `folder`, with 5 classes (CORINE level 1) or 9 groups; raises FileMissing."""
    files = sorted((folder / "parquet").glob("*.parquet"))
    if not files:
        raise FileMissing(f"no parquet files in {folder / 'parquet'}; see the catalogue's README for where they come from.")
    legend = LEVEL1 if classes == 5 else GROUPS9
    table = np.full(256, UNLABELLED, dtype=np.int16)
    for code in CODES:
        for k, holds in enumerate(legend.values()):
            if holds(code):
                table[code % 256] = k
    tiles = [_tile(row, table) for file in files for row in pd.read_parquet(file).itertuples(index=False)]
    if len({t.name for t in tiles}) != len(tiles):
        raise DataError(f"{folder}: patch names repeat; the files are not the ones of the catalogue.")
    provenance = {
        "licence": "CDLA-Permissive-1.0",
        "citation": "Clasen et al., reBEN, IGARSS 2025",
        "sha256": {f.name: sha256_file(f) for f in files},
    }
    name = "bigearthnet-s1s2" if classes == 5 else "bigearthnet-s1s2-9"
    return Scene(name, MODALITIES, tuple(legend), tuple(sorted(tiles, key=lambda t: t.name)), provenance)


def _tile(row: object, table: np.ndarray) -> Tile:
    name = f"patch-{row.patch_id_int}"  # type: ignore[attr-defined]
    cube = np.load(io.BytesIO(row.input_data), allow_pickle=False)  # type: ignore[attr-defined]
    codes = np.load(io.BytesIO(row.label), allow_pickle=False)  # type: ignore[attr-defined]
    bands = np.moveaxis(cube, -1, 0).astype(np.float32)
    values = {"s1": bands[:2], "s2": bands[2:] / 10_000}
    available = {m: np.isfinite(v).all(axis=0) for m, v in values.items()}
    values = {m: np.where(available[m], v, 0).astype(np.float32) for m, v in values.items()}
    return Tile(name, values, available, table[codes], group=name)
