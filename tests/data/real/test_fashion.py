"""Fashion products: a made folder for the rules, the real one for the sizes, the texts and what each half tells."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from present import ROOT, here
from views import accuracy

from mamol.data.catalog import load_dataset
from mamol.data.dataset import SampleSet, class_names
from mamol.data.real.fashion import ATTRIBUTES, FILES, load_fashion
from mamol.data.split import TEST, TRAIN, UNUSED, VAL, make_split
from mamol.data.texts import decode_texts
from mamol.errors import DataError, FileMissing

FOLDER = ROOT / "fashion-products"


def jpeg(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 24), colour).save(stream, "JPEG", quality=95)
    return stream.getvalue()


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Write 100 red belts, 101 blue scarves and 3 hats; product 0 has no masked title, 1 no colour, 2 and 3 one title."""
    kinds = ["Belts"] * 100 + ["Scarves"] * 101 + ["Hats"] * 3
    table = pd.DataFrame({"id": np.arange(len(kinds)) + 1000, "articleType": kinds, "title": [f"Title {i}" for i in range(204)]})
    table["gender"], table["season"], table["year"], table["usage"] = "Men", "Fall", 2012, "Casual"
    table["baseColour"] = ["Red"] * 100 + ["Blue"] * 104
    table.loc[1, "baseColour"] = None
    table.loc[3, "title"] = "TITLE 2"
    masked = pd.DataFrame({"id": table["id"], "masked_title": [f"blå {i}" for i in range(204)]})
    masked.loc[0, "masked_title"] = None
    table.iloc[::-1].to_csv(tmp_path / "metadata.csv", index=False)  # the order of rows must not matter
    masked.to_csv(tmp_path / "masked_title.csv", index=False)
    ids = [str(i) for i in table["id"]]
    (tmp_path / "split_articleType.json").write_text(json.dumps({"train": ids[:150], "test": ids[150:200]}))
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for i, kind in zip(ids, kinds, strict=True):
            archive.writestr(f"{i}.jpg", jpeg((250, 5, 5) if kind == "Belts" else (5, 5, 250)))
    return tmp_path


def test_rules_of_the_reader(made: Path) -> None:
    dataset = load_fashion(made, 8)
    assert dataset.official is not None
    assert dataset.name == "fashion-products-8"
    assert class_names(dataset) == ("Belts", "Scarves")
    assert np.bincount(dataset.labels).tolist() == [100, 101]
    red = dataset.samples.values["image"][:, 0].mean(axis=(1, 2))
    np.testing.assert_allclose(red, np.where(dataset.labels == 0, 250, 5) / 255, atol=0.03)
    assert decode_texts(dataset.samples.values["title"])[:2] == ["", "blå 1"]
    assert dataset.samples.available["title"].tolist() == [False] + [True] * 200
    assert dataset.modalities[1].bands == len("blå 200".encode())
    # gender, two colours, season, year, usage: all given, but for the colour of product 1.
    assert dataset.samples.values["attributes"].sum(axis=1).tolist() == [5, 4] + [5] * 199
    assert len(set(dataset.groups)) == 200
    assert dataset.groups[2] == dataset.groups[3]
    assert dataset.official.tolist() == [TRAIN] * 150 + [TEST] * 50 + [UNUSED]


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_not_there_or_cut(made: Path, file: str) -> None:
    whole = (made / file).read_bytes()
    (made / file).unlink()
    with pytest.raises(FileMissing, match=f"fashion-products not found: .*{file}"):
        load_fashion(made)
    for kept in (4, len(whole) // 2):
        (made / file).write_bytes(whole[:kept])
        with pytest.raises(DataError, match="may be truncated"):
            load_fashion(made)


def test_an_image_that_is_not_there_or_cut(made: Path) -> None:
    with zipfile.ZipFile(made / "images.zip") as archive:
        pictures = {name: archive.read(name) for name in archive.namelist()}
    for broken in ({k: v for k, v in pictures.items() if k != "1007.jpg"}, pictures | {"1007.jpg": pictures["1007.jpg"][:300]}):
        with zipfile.ZipFile(made / "images.zip", "w") as archive:
            for name, content in broken.items():
                archive.writestr(name, content)
        with pytest.raises(DataError, match=r"images\.zip cannot be read"):
            load_fashion(made)


@pytest.fixture(scope="module")
def fashion() -> SampleSet:
    dataset = load_dataset("fashion-products")
    assert isinstance(dataset, SampleSet)
    return dataset


@here("fashion-products")
@pytest.mark.real
def test_sizes_as_published(fashion: SampleSet) -> None:
    assert fashion.official is not None
    image, title, attributes = fashion.modalities
    assert (image.kind, image.bands, image.band_names) == ("grid", 3, ("R", "G", "B"))
    assert (title.kind, attributes.kind, attributes.unit) == ("text", "vector", "one-hot")
    shapes = {m: v.shape for m, v in fashion.samples.values.items()}
    assert shapes == {"image": (8785, 3, 56, 56), "title": (8785, title.bands), "attributes": (8785, attributes.bands)}
    for values in fashion.samples.values.values():
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    assert (fashion.samples.values["image"].min(), fashion.samples.values["image"].max()) == (0, 1)
    assert set(np.unique(fashion.samples.values["attributes"])) == {0, 1}
    assert len(fashion.classes) == 26
    assert np.bincount(fashion.labels).min() >= 100
    assert np.bincount(fashion.official).tolist() == [0, 6149, 0, 2636]


@here("fashion-products")
@pytest.mark.real
def test_rows_are_those_of_the_tables(fashion: SampleSet) -> None:
    def rows(file: str) -> dict[str, dict[str, str]]:
        with open(FOLDER / file, encoding="utf-8", newline="") as handle:
            return {row["id"]: row for row in csv.DictReader(handle)}

    about, masked = rows("metadata.csv"), rows("masked_title.csv")
    common = {kind for kind, count in Counter(r["articleType"] for r in about.values()).items() if count >= 100}
    ids = sorted((i for i, r in about.items() if r["articleType"] in common), key=int)
    assert decode_texts(fashion.samples.values["title"]) == [masked[i]["masked_title"] for i in ids]
    assert [class_names(fashion)[k] for k in fashion.labels] == [about[i]["articleType"] for i in ids]
    assert fashion.samples.available["title"].tolist() == [bool(masked[i]["masked_title"].strip()) for i in ids]
    given = [sum(about[i][a] not in ("", "NA") for a in ATTRIBUTES) for i in ids]
    assert fashion.samples.values["attributes"].sum(axis=1).tolist() == given
    split = json.loads((FOLDER / "split_articleType.json").read_text())
    assert fashion.official is not None
    assert {i for i, role in zip(ids, fashion.official, strict=True) if role == TEST} == set(split["test"])
    # What the reader's head says of photographs that stand under two titles.
    with zipfile.ZipFile(FOLDER / "images.zip") as archive:
        content = {i: (archive.getinfo(f"{i}.jpg").CRC, archive.getinfo(f"{i}.jpg").file_size) for i in ids}
    titles = defaultdict(set)
    for i, group in zip(ids, fashion.groups, strict=True):
        titles[content[i]].add(group)
    assert sum(len(t) > 1 for t in titles.values()) == 27


@here("fashion-products")
@pytest.mark.real
def test_no_split_tears_a_title_apart(fashion: SampleSet) -> None:
    for seed in (0, 1):
        block = make_split(fashion, "block", seed)
        assert block.overlap["overlapping"] == 0
        official = make_split(fashion, "official", seed)
        for split, apart in ((block, (TRAIN, VAL, TEST)), (official, (TRAIN, VAL))):
            found = [set(fashion.groups[split.roles[0] == role]) for role in apart]
            assert all(found)
            assert len(set.union(*found)) == sum(len(f) for f in found)


@here("fashion-products")
@pytest.mark.real
def test_a_thumbnail_tells_the_kind_and_the_masked_title_does_not_name_it(fashion: SampleSet) -> None:
    assert fashion.official is not None
    small = fashion.samples.values["image"].reshape(8785, 3, 14, 4, 14, 4).mean(axis=(3, 5))
    chosen = np.flatnonzero(fashion.official != UNUSED)[::3]
    subset = SampleSet(
        "part",
        fashion.modalities,
        fashion.classes,
        fashion.samples.take(chosen),
        fashion.labels[chosen],
        fashion.groups[chosen],
        fashion.official[chosen],
    )
    assert accuracy(subset, small[chosen]) > 0.6
    words = [set(t.split()) for t in decode_texts(fashion.samples.values["title"])]
    named = [name.lower() in own for own, name in zip(words, np.array(class_names(fashion))[fashion.labels], strict=True)]
    assert not any(named)
