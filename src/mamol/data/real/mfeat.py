"""Multiple Features: 2,000 handwritten numerals seen through six sets of features; six modalities, 63 patterns.

`pix` 240 pixel averages, `fou` 76 Fourier coefficients, `fac` 216 profile correlations, `zer` 47 Zernike moments,
`kar` 64 Karhunen-Loeve coefficients, `mor` 6 morphological features. The split that comes with the file is the
official one; every sample is a group of its own. Licence CC BY 4.0; R. Duin, Multiple Features, UCI, 1998; the file as
Han et al. share it (Trusted Multi-View Classification, ICLR 2021).

Caution: the file counts classes from 1 in the order of the digits. Its class 1 is the digit 0 (the mean picture is a
nought) and its class 10 the digit 9, whatever is said elsewhere. The views are of one picture and share its noise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mamol.data.arrays import read_arrays
from mamol.data.dataset import SampleSet, classes_from
from mamol.data.split import TEST, TRAIN
from mamol.files import sha256_file
from mamol.modality import Batch, Modality

FILE = "mfeat6.npz"
VIEWS = {"pix": 240, "fou": 76, "fac": 216, "zer": 47, "kar": 64, "mor": 6}


def load_mfeat(folder: Path) -> SampleSet:
    """Read the six views from `folder`; raises FileMissing, DataError and UnknownName if the file is another one."""
    needed = [f"{v}{n}_{part}" for v, n in VIEWS.items() for part in ("train", "test")]
    arrays = read_arrays(folder / FILE, [*needed, "y_train", "y_test"])
    values = {v: np.concatenate([arrays[f"{v}{n}_train"], arrays[f"{v}{n}_test"]]).astype(np.float32) for v, n in VIEWS.items()}
    labels = np.concatenate([arrays["y_train"], arrays["y_test"]]).astype(np.int16) - 1
    official = np.repeat([TRAIN, TEST], [len(arrays["y_train"]), len(arrays["y_test"])]).astype(np.int8)
    return SampleSet(
        "mfeat",
        tuple(Modality(v, n, "vector") for v, n in VIEWS.items()),
        classes_from([str(d) for d in range(10)]),
        Batch(values, {v: np.ones(len(labels), dtype=bool) for v in VIEWS}),
        labels,
        np.arange(len(labels)).astype(str),
        official,
        {"sha256": {FILE: sha256_file(folder / FILE)}, "licence": "CC BY 4.0"},
    )
