"""Reflectance of the embedded scene's materials at 48 wavelengths.

Canopies: PROSPECT-D and 4SAIL (Feret et al. 2017, Verhoef et al. 2007), computed once with the package prosail 2.0.5:
sun at 35 degrees, view from above, dry soil share 0.3, ellipsoidal leaf angles, mean over 30 nm around each
wavelength. Leaf structure N / chlorophyll / carotenoids (ug/cm2) / brown / water (cm) / dry matter (g/cm2) / LAI /
mean leaf angle (degrees) / hot spot:

    wheat 1.5/45/9/0.1/0.012/0.006/3.5/65/0.05          grass 1.4/35/8/0.05/0.010/0.004/2.5/70/0.02
    maize 1.6/60/12/0/0.018/0.005/2.8/45/0.1            broadleaf 1.8/50/10/0/0.014/0.009/5/40/0.1
    conifer 2.4/55/12/0.2/0.030/0.025/4/60/0.2

Soil, asphalt and water: smooth curves with absorption features, below. Another number of bands lies evenly from 420 to
2450 nm, its reflectance between the 48 by PCHIP (monotone cubic pieces: no value beyond its two neighbours).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from mamol.errors import UsageError

FEWEST_BANDS, MOST_BANDS = 8, 400
WAVELENGTHS_NM = np.array(
    [
        420, 463, 506, 550, 593, 636, 679, 722, 766, 809, 852, 895, 938, 981, 1025, 1068, 1111, 1154, 1197, 1241,
        1284, 1327, 1370, 1413, 1457, 1500, 1543, 1586, 1629, 1673, 1716, 1759, 1802, 1845, 1889, 1932, 1975, 2018,
        2061, 2104, 2148, 2191, 2234, 2277, 2320, 2364, 2407, 2450,
    ]
)  # fmt: skip

_CANOPY: dict[str, list[float]] = {
    "wheat": [
        0.0145, 0.0141, 0.0197, 0.0402, 0.0253, 0.0184, 0.0155, 0.1509, 0.3154, 0.3441, 0.3522, 0.3577, 0.3559,
        0.3456, 0.3596, 0.3692, 0.3672, 0.3313, 0.3222, 0.3259, 0.3218, 0.2888, 0.2212, 0.0836, 0.066, 0.0917,
        0.1323, 0.1654, 0.1878, 0.1919, 0.1781, 0.1617, 0.1545, 0.1425, 0.0394, 0.0165, 0.0211, 0.033, 0.0458,
        0.0591, 0.07, 0.0768, 0.0766, 0.0616, 0.05, 0.0403, 0.0311, 0.022,
    ],
    "maize": [
        0.0203, 0.0196, 0.0252, 0.0512, 0.03, 0.0218, 0.0193, 0.1966, 0.4349, 0.4644, 0.4653, 0.466, 0.4579,
        0.4372, 0.4552, 0.4673, 0.4622, 0.4067, 0.392, 0.398, 0.3941, 0.3458, 0.2559, 0.0852, 0.0656, 0.096,
        0.1462, 0.1889, 0.217, 0.2248, 0.2113, 0.1867, 0.1742, 0.1571, 0.0363, 0.0153, 0.0187, 0.0295, 0.0443,
        0.0613, 0.0761, 0.0848, 0.0841, 0.0681, 0.0532, 0.0401, 0.029, 0.0199,
    ],
    "grass": [
        0.0194, 0.0188, 0.025, 0.0464, 0.0342, 0.0279, 0.0252, 0.1451, 0.2558, 0.2729, 0.2794, 0.2849, 0.2869,
        0.2839, 0.2947, 0.302, 0.3035, 0.285, 0.2819, 0.287, 0.2864, 0.266, 0.2169, 0.1008, 0.0851, 0.1106, 0.149,
        0.1791, 0.1983, 0.2028, 0.1934, 0.1783, 0.1711, 0.1591, 0.0596, 0.0337, 0.038, 0.0518, 0.0673, 0.0823,
        0.0946, 0.1009, 0.1007, 0.0867, 0.0737, 0.062, 0.0507, 0.0396,
    ],
    "broadleaf wood": [
        0.0211, 0.0208, 0.0322, 0.0719, 0.0415, 0.0272, 0.0206, 0.2442, 0.5012, 0.5309, 0.5297, 0.5285, 0.5186,
        0.4965, 0.5127, 0.5237, 0.5176, 0.4622, 0.4466, 0.4481, 0.439, 0.3932, 0.3029, 0.1172, 0.0907, 0.1257,
        0.1791, 0.2204, 0.2487, 0.2518, 0.2307, 0.2113, 0.2037, 0.1898, 0.0498, 0.0163, 0.0241, 0.0411, 0.0571,
        0.0736, 0.0867, 0.0956, 0.0954, 0.0735, 0.0588, 0.0471, 0.0357, 0.0237,
    ],
    "conifer wood": [
        0.0169, 0.0168, 0.026, 0.0551, 0.0354, 0.0245, 0.0184, 0.1608, 0.2811, 0.3012, 0.307, 0.3103, 0.3054,
        0.2912, 0.3049, 0.3144, 0.3104, 0.2699, 0.259, 0.2592, 0.2513, 0.2203, 0.1609, 0.0551, 0.0414, 0.0581,
        0.0855, 0.1076, 0.124, 0.1246, 0.1105, 0.1006, 0.0975, 0.0906, 0.0237, 0.0117, 0.0132, 0.0186, 0.0242,
        0.0302, 0.0351, 0.0387, 0.0386, 0.0286, 0.0228, 0.0188, 0.0151, 0.0114,
    ],
}  # fmt: skip


def _dip(centre_nm: float, width_nm: float, depth: float) -> np.ndarray:
    """Return an absorption feature as a factor, (C,)."""
    return 1 - depth * np.exp(-0.5 * ((WAVELENGTHS_NM - centre_nm) / width_nm) ** 2)


def _soil() -> np.ndarray:
    """Rise to the shortwave infrared, iron at 880 nm, water at 1420 and 1930 nm, clay at 2200 nm."""
    rise = 0.08 + 0.30 * (1 - np.exp(-(WAVELENGTHS_NM - 400) / 700))
    return rise * _dip(880, 90, 0.06) * _dip(1420, 50, 0.18) * _dip(1930, 60, 0.30) * _dip(2200, 35, 0.12)


def _asphalt() -> np.ndarray:
    """Dark and nearly flat, a hydrocarbon feature at 1730 and 2310 nm."""
    return (0.09 + 0.05 * (WAVELENGTHS_NM - 400) / 2100) * _dip(1730, 40, 0.05) * _dip(2310, 50, 0.10)


def _water() -> np.ndarray:
    """A little green, nothing beyond the near infrared."""
    return 0.005 + 0.05 * np.exp(-0.5 * ((WAVELENGTHS_NM - 550) / 90) ** 2)


SPECTRA: dict[str, np.ndarray] = {name: np.array(values) for name, values in _CANOPY.items()} | {
    "soil": _soil(),
    "asphalt": _asphalt(),
    "water": _water(),
}
"""Reflectance (48,) of each material, 0 to 1."""


def wavelengths_nm(bands: int) -> np.ndarray:
    """Return the bands' centres in nm, (bands,): WAVELENGTHS_NM for 48, else evenly from the first of them to the last.

    Raises UsageError under FEWEST_BANDS and over MOST_BANDS.
    """
    if not FEWEST_BANDS <= bands <= MOST_BANDS:
        raise UsageError(f"the embedded scene has {FEWEST_BANDS} to {MOST_BANDS} hyperspectral bands; got {bands}.")
    if bands == len(WAVELENGTHS_NM):
        return WAVELENGTHS_NM
    return np.linspace(WAVELENGTHS_NM[0], WAVELENGTHS_NM[-1], bands)


@lru_cache(maxsize=4)
def spectra(bands: int) -> dict[str, np.ndarray]:
    """Return the reflectance of each material, (bands,) in 0 to 1, at `wavelengths_nm(bands)`; raises UsageError as that."""
    at = wavelengths_nm(bands)
    if bands == len(WAVELENGTHS_NM):
        return SPECTRA
    return {name: PchipInterpolator(WAVELENGTHS_NM, known)(at) for name, known in SPECTRA.items()}
