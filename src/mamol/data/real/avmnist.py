"""Audiovision-MNIST: a written digit and a spoken one, the small standard of the missing-modality literature.

3,000 clips of six speakers (Free Spoken Digit Dataset), each paired with an unused MNIST image of the same digit.
Modalities: `image` 28 x 28, 0..1; `audio` log-mel energies, 20 bands x 20 frames. Groups are speakers; the published
test part of the speech (recordings 0 to 4 of each digit and speaker) is the official split, in which speakers repeat.
Caution: the block split keeps whole speakers for the test and is far harder; with six of them it varies with the seed.

Licence: speech CC BY-SA 4.0; MNIST by LeCun and Cortes. Pairing as in SMIL (AAAI 2021) and ShaSpec (CVPR 2023).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from scipy.signal import stft

from mamol.data.arrays import read_arrays
from mamol.data.dataset import SampleSet, classes_from
from mamol.data.split import TEST, TRAIN
from mamol.errors import DataError
from mamol.files import sha256_file
from mamol.modality import Batch, Modality

RATE_HZ = 8000
BANDS = FRAMES = 20
WINDOW, HOP = 256, 128
OFFICIAL_TEST = 5
FILES = {
    "mnist_t10k.npz": ("images",),
    "fsdd_audio_8khz.npz": ("wave", "offset", "digit", "index"),
    "av_mnist_pairs.npz": ("mnist_index", "digit", "speaker"),
}


def load_avmnist(folder: Path) -> SampleSet:
    """Read the pairs from `folder`; raises FileMissing, DataError, and UnknownName if a file is another one."""
    digits, speech, pairs = (read_arrays(folder / f, needed) for f, needed in FILES.items())
    if not np.array_equal(speech["digit"], pairs["digit"]):
        raise DataError(f"{folder}: the pairs are not of these clips; their digits differ. Get the three files anew, together.")
    images = digits["images"][pairs["mnist_index"]].astype(np.float32)[:, None] / 255
    wave, offset = speech["wave"].astype(np.float32) / 32768, speech["offset"]
    filters = mel_filters(BANDS, WINDOW, RATE_HZ)
    audio = np.stack([log_mel(wave[a:b], filters) for a, b in itertools.pairwise(offset)])
    n = len(images)
    values = {"image": images, "audio": audio[:, None]}
    return SampleSet(
        "av-mnist",
        (Modality("image", 1, "grid", None, "grey 0..1"), Modality("audio", 1, "grid", None, "log-mel")),
        classes_from([str(d) for d in range(10)]),
        Batch(values, {m: np.ones((n, *v.shape[2:]), dtype=bool) for m, v in values.items()}),
        pairs["digit"].astype(np.int16),
        pairs["speaker"].astype(str),
        np.where(speech["index"] < OFFICIAL_TEST, TEST, TRAIN).astype(np.int8),
        {"sha256": {f: sha256_file(folder / f) for f in FILES}, "licence": "CC BY-SA 4.0 (speech)"},
    )


def mel_filters(bands: int, window: int, rate_hz: float) -> np.ndarray:
    """Return triangular filters, evenly spaced on the mel scale from 0 to rate / 2: (bands, window // 2 + 1)."""
    top = 2595 * np.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    frequency = np.linspace(0, rate_hz / 2, window // 2 + 1)
    low, mid, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    return np.clip(np.minimum((frequency - low) / (mid - low), (high - frequency) / (high - mid)), 0, None)


def log_mel(wave: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Return log energies (bands, FRAMES) of one clip; the clip is stretched or squeezed to FRAMES frames."""
    padded = np.pad(wave, (0, max(0, WINDOW - len(wave))))
    _, _, spectrum = stft(padded, nperseg=WINDOW, noverlap=WINDOW - HOP, padded=True)
    energy = np.log(filters @ np.abs(spectrum) ** 2 + 1e-8)
    place = np.linspace(0, energy.shape[1] - 1, FRAMES)
    return np.stack([np.interp(place, np.arange(energy.shape[1]), row) for row in energy]).astype(np.float32)
