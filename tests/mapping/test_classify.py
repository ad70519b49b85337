"""A table of a sample set: rows in the set's order, by the sensors that each sample has."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from made import made_samples, made_scene, tiny_config
from mamol.api import TrainOptions, classify_samples, evaluate_run, map_scene, silent, train_model
from mamol.data.dataset import UNLABELLED, SampleSet, lacking
from mamol.data.samples import write_samples
from mamol.errors import AllModalitiesMissing, DataError, OutputExists, ShapeMismatch, UnknownName, UsageError
from mamol.mapping import classify
from mamol.modality import Batch, Modality
from mamol.model.checkpoint import load_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classify") / "run"
    train_model(made_samples(), folder, TrainOptions(tiny_config()))
    return folder


@pytest.fixture
def unseen() -> SampleSet:
    """Make new samples without labels, of which number 3 has no sensor at all."""
    made = made_samples(11, seed=5)
    for name, there in made.samples.available.items():
        there[3] = False
        there[4] = name == "weather"
    return replace(made, labels=np.full(11, UNLABELLED, np.int16))


def test_a_row_says_what_the_model_says_of_that_sample(
    run: Path, unseen: SampleSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "AT_ONCE", 4)
    done: list[int] = []
    path = classify_samples(
        run, unseen, tmp_path / "t.parquet", probabilities=True, progress=lambda what, n, total, note: done.append(n)
    )
    table, predictor = pd.read_parquet(path), load_run(run)
    assert done == [4, 8, 10]
    assert list(table) == ["sample", "group", "class", "confidence", "sensors", "p_a", "p_b", "p_c"]
    assert table["sample"].tolist() == list(range(11))
    assert table["group"].tolist() == unseen.groups.tolist()
    for i in (j for j in range(11) if j != 3):
        alone = predictor.predict(unseen.samples.take(np.array([i])))[0]
        np.testing.assert_allclose(table.loc[i, ["p_a", "p_b", "p_c"]].to_numpy(float), alone, atol=1e-5)
        assert table.loc[i, "class"] == predictor.classes[alone.argmax()]
        assert table.loc[i, "confidence"] == pytest.approx(alone.max(), abs=1e-5)
    assert (table.loc[3, "class"], table.loc[3, "sensors"]) == ("", "")
    assert table.loc[3, ["confidence", "p_a", "p_b", "p_c"]].isna().all()
    assert table.loc[4, "sensors"] == "weather"


def test_a_csv_has_the_same_rows_without_probabilities_and_is_not_overwritten(
    run: Path, unseen: SampleSet, tmp_path: Path
) -> None:
    folder = write_samples(unseen, tmp_path / "new")
    path = classify_samples(run, folder, tmp_path / "t.csv", without=["photo"])
    table = pd.read_csv(path, keep_default_na=False)
    assert list(table) == ["sample", "group", "class", "confidence", "sensors"]
    assert set(table["sensors"]) <= {"optical+weather", "optical", "weather", ""}
    hidden = replace(unseen, samples=unseen.samples.only(["optical", "weather"]))
    again = pd.read_csv(classify_samples(run, hidden, tmp_path / "u.csv"), keep_default_na=False)
    pd.testing.assert_frame_equal(table, again)
    before = path.read_bytes()
    with pytest.raises(OutputExists, match="exists already"):
        classify_samples(run, folder, path)
    assert path.read_bytes() == before
    classify_samples(run, folder, path, overwrite=True)
    assert path.read_bytes() != before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "t.csv", "u.csv"]


def test_a_set_may_lack_a_sensor_and_have_one_that_the_run_does_not_know(
    run: Path, unseen: SampleSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    poor = lacking(unseen, ["photo"])
    table = pd.read_csv(classify_samples(run, poor, tmp_path / "poor.csv"), keep_default_na=False)
    assert (table["class"] != "").sum() == unseen.samples.pattern(["optical", "weather"]).any(axis=1).sum()
    assert caplog.text == ""
    names = {"optical": "s2", "weather": "weather"}
    renamed = SampleSet(
        "odd",
        tuple(replace(m, name=names[m.name]) for m in poor.modalities),
        poor.classes,
        Batch(*({names[m]: a for m, a in arrays.items()} for arrays in (poor.samples.values, poor.samples.available))),
        poor.labels,
        poor.groups,
    )
    with caplog.at_level(logging.WARNING):
        odd = pd.read_csv(classify_samples(run, renamed, tmp_path / "odd.csv"), keep_default_na=False)
    assert set(odd["sensors"]) == {"weather", ""}
    assert "'odd' has no 'optical', 'photo', which the run knows; what the run does not know is left out: s2" in caplog.text


def test_what_cannot_be_classified_is_told(run: Path, unseen: SampleSet, tmp_path: Path) -> None:
    out = tmp_path / "t.csv"
    with pytest.raises(UsageError, match=r"ends in '\.xlsx'; a table is written as \.csv or \.parquet"):
        classify_samples(run, unseen, tmp_path / "t.xlsx")
    classify_samples(run, unseen, tmp_path / "T.CSV").unlink()
    with pytest.raises(UsageError, match="is a scene: `mamol map`"):
        classify_samples(run, made_scene(), out)
    with pytest.raises(UnknownName, match="Did you mean 'photo'"):
        classify_samples(run, unseen, out, without=["photos"])
    with pytest.raises(UsageError, match="without is a list of texts"):
        classify_samples(run, unseen, out, without="photo")
    with pytest.raises(AllModalitiesMissing, match="has a sensor to go by: the run knows optical, weather, photo, the set has"):
        classify_samples(run, unseen, out, without=["photo", "weather", "optical"])
    weather = Batch({"weather": np.zeros((11, 5), np.float32)}, {"weather": np.ones(11, dtype=bool)})
    wide = replace(unseen, modalities=(Modality("weather", 5, "vector"),), samples=weather)
    with pytest.raises(ShapeMismatch, match="'weather' has 5 bands; the model was trained on 3"):
        classify_samples(run, wide, out)
    flat = Batch({"optical": np.zeros((11, 4), np.float32)}, {"optical": np.ones(11, dtype=bool)})
    with pytest.raises(ShapeMismatch, match="'optical' is a vector; the model was trained on a series of that name"):
        classify_samples(run, replace(unseen, modalities=(Modality("optical", 4, "vector"),), samples=flat), out)
    months = Batch({"optical": np.zeros((11, 4, 9), np.float32)}, {"optical": np.ones((11, 9), dtype=bool)})
    with pytest.raises(ShapeMismatch, match="'optical' has 9 time steps; the model was trained on 6"):
        classify_samples(run, replace(unseen, modalities=(Modality("optical", 4, "series"),), samples=months), out)
    title = Batch({"weather": np.full((11, 3), 65, np.float32)}, {"weather": np.ones(11, dtype=bool)})
    with pytest.raises(ShapeMismatch, match="'weather' is a text; the model was trained on a vector of that name"):
        classify_samples(run, replace(unseen, modalities=(Modality("weather", 3, "text"),), samples=title), out)
    none = replace(unseen, samples=unseen.samples.take(slice(0, 0)), labels=unseen.labels[:0], groups=unseen.groups[:0])
    with pytest.raises(DataError, match="holds no samples; there is nothing to classify"):
        classify_samples(run, none, out)
    assert list(tmp_path.iterdir()) == []


def test_a_table_does_not_take_the_place_of_the_samples(run: Path, unseen: SampleSet, tmp_path: Path) -> None:
    folder = write_samples(unseen, tmp_path / "new")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for name in ("samples.parquet", "samples.csv"):
        with pytest.raises(UsageError, match=r"is where the samples of the set in .* belong; choose another name"):
            classify_samples(run, folder, folder / name, overwrite=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    classify_samples(run, folder, folder / "classes.parquet")
    classify_samples(run, folder, tmp_path / "samples.parquet")


def test_a_sample_whose_probabilities_are_no_numbers_has_no_class(run: Path, unseen: SampleSet) -> None:
    class Odd:
        modalities, classes = ("optical", "weather", "photo"), ("a", "b", "c")

        def predict(self, batch: Batch) -> np.ndarray:
            out = np.tile(np.array([0.2, 0.5, 0.3], np.float32), (len(batch), 1))
            out[0] = np.nan
            return out

    table = classify.classify(Odd(), unseen, (), silent)
    assert table["class"].tolist() == ["", "b", "b", "", *"bbbbbbb"]
    assert table["confidence"].isna().tolist() == [i in (0, 3) for i in range(11)]


def test_only_what_is_looked_at_is_warned_of(
    run: Path, unseen: SampleSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = replace(
        unseen,
        samples=unseen.samples.take(np.tile(np.arange(11), 20)),
        labels=np.tile(unseen.labels, 20),
        groups=np.tile(unseen.groups, 20),
    )
    many.samples.values["weather"][:] += 1e6
    classify_samples(run, many, tmp_path / "t.csv", without=["weather"])
    assert caplog.text == ""
    classify_samples(run, many, tmp_path / "u.csv")
    assert "'weather' has values of another magnitude than in training" in caplog.text


def test_a_series_whose_length_was_not_said_has_that_of_its_values(tmp_path: Path, unseen: SampleSet) -> None:
    def without_length(dataset: SampleSet) -> SampleSet:
        return replace(dataset, modalities=tuple(replace(m, length=1) for m in dataset.modalities))

    train_model(without_length(made_samples()), tmp_path / "run", TrainOptions(tiny_config()))
    table = pd.read_csv(classify_samples(tmp_path / "run", unseen, tmp_path / "t.csv"), keep_default_na=False)
    assert (table["class"] != "").sum() == 10
    months = Batch({"optical": np.zeros((11, 4, 9), np.float32)}, {"optical": np.ones((11, 9), dtype=bool)})
    with pytest.raises(ShapeMismatch, match="'optical' has 9 time steps; the model was trained on 6"):
        classify_samples(
            tmp_path / "run", replace(unseen, modalities=(Modality("optical", 4, "series"),), samples=months), tmp_path / "u.csv"
        )


def test_a_run_is_used_on_what_it_was_trained_on(run: Path, unseen: SampleSet, tmp_path: Path) -> None:
    scene = made_scene()
    train_model(scene, tmp_path / "of-scene", TrainOptions(tiny_config()))
    with pytest.raises(UsageError, match="the run was trained on a scene, and knows nothing of a sample set"):
        classify_samples(tmp_path / "of-scene", unseen, tmp_path / "t.csv")
    with pytest.raises(UsageError, match="the run was trained on a sample set, and knows nothing of a scene"):
        map_scene(run, scene, tmp_path / "m.tif")
    for samples in (unseen, write_samples(unseen, tmp_path / "new")):
        with pytest.raises(UsageError, match=r"is a sample set: it has no ground to map.*`mamol classify`"):
            map_scene(run, samples, tmp_path / "m.tif")
    with pytest.raises(UsageError, match="the run was trained on a sample set, and knows nothing of a scene"):
        evaluate_run(run, scene)
    with pytest.raises(UsageError, match=r"a data set is .* got Tile"):
        map_scene(tmp_path / "of-scene", scene.tiles[0], tmp_path / "m.tif")  # type: ignore[arg-type]
