"""WorldCereal Canada 2017: crop type from a year of Sentinel-1, Sentinel-2, weather and terrain, one label per point.

One sample is the twelve months of 2017. Modalities: `s1` VV, VH in dB; `s2` nine bands of L2A reflectance; `aux`
monthly precipitation (log of 1 + mm) and temperature (K), with altitude (m) and slope (degrees) repeated each month.
As four modalities, weather and terrain go missing on their own.
A month without data (65535) is not available. Classes with at least 40 samples; groups are H3 cells of level 3, so
that neighbours stay together. Licence and caution: the data's README; cite Tseng et al. 2023 (Presto) and Van Tricht
et al. 2023 (WorldCereal, ESSD 15:5491). The WORLDCOVER and POTAPOV columns are maps, not observations, and not read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mamol.data.dataset import SampleSet, classes_from
from mamol.files import must_exist, sha256_file
from mamol.modality import Batch, Modality

FILE = "test_long_parquet_2017_CAN_AAFC-ACIGTD.parquet"
NODATA = 65535
MONTHS = 12
FEWEST = 40
CROPS = {
    9120: "permanent grass", 1120: "spring wheat", 4100: "soya", 1200: "maize", 1110: "winter wheat",
    7920: "perennial legumes", 1520: "spring barley", 5100: "potatoes", 3510: "apples",
}  # fmt: skip
S2 = tuple(f"S2-L2A-{b}" for b in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12"))
S1 = ("S1-SIGMA0-VV", "S1-SIGMA0-VH")
AUX = ("AGERA5-precipitation-flux", "AGERA5-temperature-mean", "DEM-alt-20m", "DEM-slo-20m")
S2_NAMES = ("B2", "B3", "B4", "B5", "B6", "B7", "B8", "B11", "B12")
AUX_NAMES = ("log_precipitation_mm", "temperature_2m", "elevation", "slope")
SENTINEL = (
    Modality("s1", 2, "series", 10.0, "dB", MONTHS, ("VV", "VH")),
    Modality("s2", 9, "series", 10.0, "reflectance", MONTHS, S2_NAMES),
)
THREE = (*SENTINEL, Modality("aux", 4, "series", None, "log mm, K, m, degree", MONTHS, AUX_NAMES))
FOUR = (
    *SENTINEL,
    Modality("weather", 2, "series", None, "log mm, K", MONTHS, AUX_NAMES[:2]),
    Modality("terrain", 2, "vector", None, "m, degree", 1, AUX_NAMES[2:]),
)


def load_worldcereal(folder: Path, modalities: int = 3) -> SampleSet:
    """Read the point time series from `folder` as three or four modalities; raises FileMissing."""
    path = must_exist(folder / FILE, "WorldCereal Canada table")
    columns = ["sample_id", "timestamp", "CROPTYPE_LABEL", "h3_l3_cell", *S1, *S2, *AUX]
    table = pd.read_parquet(path, columns=columns)
    # Stamps are month starts in local time, an hour or two before midnight UTC: 2016-12-31 23:00 is January 2017.
    start = table["timestamp"] + pd.Timedelta(hours=3)
    table = table.assign(month=start.dt.month - 1)[start.dt.year == 2017]
    counts = table.groupby("CROPTYPE_LABEL")["sample_id"].nunique()
    kept = [code for code in CROPS if counts.get(code, 0) >= FEWEST]
    table = table[table["CROPTYPE_LABEL"].isin(kept)].sort_values(["sample_id", "month"])
    names = table["sample_id"].unique()
    row, month = np.searchsorted(names, table["sample_id"].to_numpy(dtype=str)), table["month"].to_numpy()

    def cube(bands: tuple[str, ...]) -> np.ndarray:
        out = np.full((len(names), len(bands), MONTHS), np.nan, dtype=np.float32)
        raw = table[list(bands)].to_numpy(dtype=np.float32)
        out[row, :, month] = np.where(raw == NODATA, np.nan, raw)
        return out

    s1, s2, aux = cube(S1), cube(S2), cube(AUX)
    s1 = 20 * np.log10(np.maximum(s1, 1)) - 83
    aux[:, 0], aux[:, 1] = np.log1p(np.maximum(aux[:, 0], 0) / 100), aux[:, 1] / 100
    values = {"s1": s1, "s2": s2 / 10_000, "aux": aux}
    if modalities == 4:
        values |= {"weather": aux[:, :2], "terrain": aux[:, 2:, 0]}  # the same each month
        del values["aux"]
    available = {m: np.isfinite(v).all(axis=1) for m, v in values.items()}
    values = {m: np.where(available[m][:, None], v, 0).astype(np.float32) for m, v in values.items()}
    first = table.drop_duplicates("sample_id").set_index("sample_id").loc[names]
    labels = first["CROPTYPE_LABEL"].map({code: k for k, code in enumerate(kept)}).to_numpy(dtype=np.int16)
    return SampleSet(
        "worldcereal-canada" if modalities == 3 else "worldcereal-canada-4",
        THREE if modalities == 3 else FOUR,
        classes_from([CROPS[code] for code in kept]),
        Batch(values, available),
        labels,
        first["h3_l3_cell"].to_numpy(dtype=str),
        provenance={"sha256": {FILE: sha256_file(path)}, "licence": "see the data's README", "year": 2017},
    )
