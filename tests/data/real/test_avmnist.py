"""Written and spoken digits: the pairs belong together, and each half tells the digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from present import ROOT, here
from views import accuracy

from mamol.data.catalog import load_dataset
from mamol.data.dataset import SampleSet
from mamol.data.real.avmnist import BANDS, FILES, FRAMES, RATE_HZ, WINDOW, load_avmnist, log_mel, mel_filters
from mamol.data.split import TEST, TRAIN, VAL, make_split
from mamol.errors import DataError, FileMissing


def test_filters_share_out_every_frequency() -> None:
    filters = mel_filters(BANDS, WINDOW, RATE_HZ)
    assert filters.shape == (BANDS, WINDOW // 2 + 1)
    assert (filters.max(axis=1) > 0.5).all()
    inner = slice(int(filters[0].argmax()) + 1, int(filters[-1].argmax()))
    np.testing.assert_allclose(filters[:, inner].sum(axis=0), 1)


@pytest.mark.parametrize("hertz", [300, 1000, 2500])
@pytest.mark.parametrize("samples", [100, 2384, 18262])
def test_a_tone_is_loudest_in_its_band_whatever_the_length(hertz: int, samples: int) -> None:
    filters = mel_filters(BANDS, WINDOW, RATE_HZ)
    tone = np.sin(2 * np.pi * hertz * np.arange(samples) / RATE_HZ).astype(np.float32)
    found = log_mel(tone, filters)
    assert (found.shape, found.dtype) == ((BANDS, FRAMES), np.float32)
    loudest = int(found[:, FRAMES // 2].argmax())
    assert filters[loudest, round(hertz / RATE_HZ * WINDOW)] == filters[:, round(hertz / RATE_HZ * WINDOW)].max()
    quiet = log_mel(np.zeros(samples, np.float32), filters)
    np.testing.assert_allclose(quiet, np.log(1e-8), rtol=1e-6)


def made_files(folder: Path, spoken: list[int], paired: list[int]) -> None:
    n = len(spoken)
    np.savez(folder / "mnist_t10k.npz", images=np.full((n, 28, 28), 255, np.uint8))
    np.savez(
        folder / "fsdd_audio_8khz.npz",
        wave=np.zeros(300 * n, np.int16),
        offset=300 * np.arange(n + 1),
        digit=np.array(spoken),
        index=np.arange(n) + 4,
    )
    np.savez(
        folder / "av_mnist_pairs.npz", mnist_index=np.arange(n), digit=np.array(paired), speaker=np.array(["theo", "jackson"])
    )


def test_files_that_are_not_there_or_do_not_belong_together(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match=r"mnist_t10k\.npz"):
        load_avmnist(tmp_path)
    made_files(tmp_path, [3, 8], [3, 8])
    made = load_avmnist(tmp_path)
    assert made.official is not None
    assert (made.official.tolist(), made.groups.tolist()) == ([TEST, TRAIN], ["theo", "jackson"])
    assert made.samples.values["image"].max() == 1
    made_files(tmp_path, [3, 8], [3, 9])
    with pytest.raises(DataError, match="their digits differ"):
        load_avmnist(tmp_path)
    for file in FILES:
        made_files(tmp_path, [3, 8], [3, 8])
        (tmp_path / file).write_bytes(b"PK\x03\x04 cut")
        with pytest.raises(DataError, match=f"{file} cannot be read"):
            load_avmnist(tmp_path)
        np.savez(tmp_path / file, other=np.zeros(2))
        with pytest.raises(DataError, match=f"missing array in .*{file}"):
            load_avmnist(tmp_path)


@here("av-mnist")
@pytest.mark.real
def test_avmnist() -> None:
    dataset = load_dataset("av-mnist")
    assert isinstance(dataset, SampleSet)
    assert dataset.official is not None
    assert [(m.name, m.kind, m.bands) for m in dataset.modalities] == [("image", "grid", 1), ("audio", "grid", 1)]
    image, audio = dataset.samples.values["image"], dataset.samples.values["audio"]
    assert (image.shape, audio.shape) == ((3000, 1, 28, 28), (3000, 1, 20, 20))
    assert (image.min(), image.max()) == (0, 1)
    assert np.isfinite(audio).all()
    assert all(a.all() for a in dataset.samples.available.values())
    assert np.bincount(dataset.labels).tolist() == [300] * 10
    assert np.bincount(dataset.official).tolist() == [0, 2700, 0, 300]
    assert len(set(dataset.groups)) == 6
    block, official = make_split(dataset), make_split(dataset, "official")
    assert block.overlap["overlapping"] == 0
    speakers = [set(dataset.groups[official.roles[0] == role]) for role in (TRAIN, VAL)]
    assert speakers[1]
    assert not speakers[0] & speakers[1]
    with np.load(ROOT / "av-mnist" / "mnist_t10k.npz") as digits, np.load(ROOT / "av-mnist" / "av_mnist_pairs.npz") as pairs:
        np.testing.assert_array_equal(digits["labels"][pairs["mnist_index"]], dataset.labels)
        assert len(set(pairs["mnist_index"])) == 3000
    assert accuracy(dataset, audio) > 0.85
    assert accuracy(dataset, image[:, :, ::2, ::2]) > 0.85
