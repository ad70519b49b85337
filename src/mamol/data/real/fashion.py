"""Fashion products: a photograph, its title and its catalogue attributes; 26 kinds of article, one label per product.

Modalities: `image` RGB 0..1, `title` the title with the words that name a class taken out (a whole title names it),
`attributes` one-hot of gender, base colour, season, year and usage (an attribute that is not given is all zeros). Kinds
with at least 100 products. The published 70/30 split shares titles: a third of its test products carry a title that is
in training, too (the same article in another colour or season). Groups are titles, so the block split is free of that.
Caution: groups do not catch everything. 27 photographs stand under two titles that differ, so that under the block
split about 1 test product in 250 has its very photograph in training.

Fashion Product Images (Small), P. Aggarwal, Kaggle, 2019; licence MIT as its page says. Natural images: the method's
transfer beyond remote sensing, not Earth observation.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from mamol.data.dataset import SampleSet, classes_from
from mamol.data.split import TEST, TRAIN, UNUSED
from mamol.data.texts import encode_texts
from mamol.errors import DataError
from mamol.files import must_exist, sha256_file
from mamol.modality import Batch, Modality

FEWEST = 100
SIDE_PX = 56
ATTRIBUTES = ("gender", "baseColour", "season", "year", "usage")
FILES = ("images.zip", "metadata.csv", "masked_title.csv", "split_articleType.json")


def load_fashion(folder: Path, side_px: int = SIDE_PX) -> SampleSet:
    """Read the products with images of `side_px` pixels; raises FileMissing, and DataError for a file that is broken."""
    paths = {f: must_exist(folder / f, "file of fashion-products") for f in FILES}
    table, official = _table(paths)
    kept = sorted(table["articleType"].unique())
    images = _images(paths["images.zip"], table["id"].tolist(), side_px)
    titles = table["masked_title"].fillna("").tolist()
    length = max(len(t.encode()) for t in titles)
    attributes = pd.get_dummies(table[list(ATTRIBUTES)].astype("string"), dtype=np.float32).to_numpy()
    n = len(table)
    values = {"image": images, "title": encode_texts(titles, length), "attributes": attributes}
    available = {
        "image": np.ones((n, side_px, side_px), dtype=bool),
        "title": np.array([bool(t.strip()) for t in titles]),
        "attributes": np.ones(n, dtype=bool),
    }
    return SampleSet(
        "fashion-products" if side_px == SIDE_PX else f"fashion-products-{side_px}",
        (
            Modality("image", 3, "grid", None, "RGB 0..1", band_names=("R", "G", "B")),
            Modality("title", length, "text", None, "UTF-8"),
            Modality("attributes", attributes.shape[1], "vector", None, "one-hot"),
        ),
        classes_from(kept),
        Batch(values, available),
        table["articleType"].map({name: k for k, name in enumerate(kept)}).to_numpy(dtype=np.int16),
        table["title"].str.lower().to_numpy(dtype=str),
        official,
        {"sha256": {f: sha256_file(p) for f, p in paths.items()}, "licence": "MIT (as the Kaggle page says)", "side_px": side_px},
    )


def _table(paths: dict[str, Path]) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the products of the kinds that are common enough, by id, and their published role, int8 (n,)."""
    try:
        about = pd.read_csv(paths["metadata.csv"], usecols=["id", "articleType", "title", *ATTRIBUTES])
        table = about.merge(pd.read_csv(paths["masked_title.csv"], usecols=["id", "masked_title"]), on="id")
        published = json.loads(paths["split_articleType.json"].read_text(encoding="utf-8"))
        train, test = set(published["train"]), set(published["test"])
        counts = table["articleType"].value_counts()
        table = table[table["articleType"].isin(counts.index[counts >= FEWEST])].sort_values("id").reset_index(drop=True)
    except (ValueError, KeyError) as error:
        folder = paths["metadata.csv"].parent
        raise DataError(
            f"a table of {folder} cannot be read ({error!r}); it may be truncated. Get {', '.join(FILES[1:])} anew."
        ) from error
    ids = table["id"].astype(str)
    if lost := sorted((train | test) - set(ids)):
        raise DataError(
            f"{len(lost)} products of split_articleType.json are not in the tables beside it, {lost[0]} for one; "
            f"they may be truncated. Get {', '.join(FILES[1:])} anew."
        )
    return table, np.where(ids.isin(train), TRAIN, np.where(ids.isin(test), TEST, UNUSED)).astype(np.int8)


def _images(path: Path, ids: list[int], side: int) -> np.ndarray:
    """Read and resize the photographs, float32 (n, 3, side, side) in 0..1."""
    out = np.empty((len(ids), 3, side, side), dtype=np.float32)
    try:
        with zipfile.ZipFile(path) as archive:
            for i, key in enumerate(ids):
                with Image.open(io.BytesIO(archive.read(f"{key}.jpg"))) as image:
                    image.draft("RGB", (2 * side, 2 * side))  # decode at a quarter or half of the size: much faster
                    small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
                out[i] = np.moveaxis(np.asarray(small, dtype=np.float32), -1, 0) / 255
    except (zipfile.BadZipFile, UnidentifiedImageError, KeyError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); it may be truncated. Get it anew.") from error
    return out
