"""Map an embedded scene of 4,096 x 4,096 px, with clouds in one sensor, and hold the map against the known truth.

    python benchmarks/holes.py RUN --scene DIR --out FOLDER       writes benchmarks/speed/maps/holes.json

RUN is what `mamol demo` or `mamol train embedded` left (48 bands); DIR is made if it is not there. Accuracy is told for the
pixels that see every sensor and for those in a cloud, by their distance to the cloud's rim: a seam would show as a band of
errors or of changes of class along the rim.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import threading
import time
from pathlib import Path

import numpy as np
import rasterio
from scipy import ndimage

from mamol.api import MapOptions, map_scene
from mamol.data.dataset import ClassInfo
from mamol.data.reader import open_scene
from mamol.data.synthetic import write_scene
from mamol.evaluate.record import environment
from mamol.files import write_json
from mamol.mapping.picture import draw_maps

HERE = Path(__file__).resolve().parent
SIZE = 4096
RIMS = ((0, 2), (2, 4), (4, 8), (8, 16), (16, None))
"""Distances to the rim, pixels."""


def rows(found: np.ndarray, truth: np.ndarray, hidden: np.ndarray, others: np.ndarray) -> list[dict[str, object]]:
    """Return OA and the share of neighbours of one class, outside and inside the cloud, by distance to its rim.

    `hidden` (H, W): the cloud's sensor is missing; `others`: every other sensor is there.
    """
    right, out = found == truth, []
    same = np.zeros(found.shape)  # share of the four neighbours that have the pixel's class
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        same += (np.roll(found, step, axis) == found) / 4
    for name, side in (("outside", ~hidden), ("inside", hidden)):
        distance = ndimage.distance_transform_edt(side)
        for low, high in RIMS:
            chosen = side & others & (distance > low) & (distance <= (high or np.inf))
            out.append(
                {
                    "where": name,
                    "distance_px": [low, high],
                    "pixels": int(chosen.sum()),
                    "oa": round(100 * float(right[chosen].mean()), 2),
                    "same_as_neighbours": round(100 * float(same[chosen].mean()), 2),
                }
            )
    return out


class Watch(threading.Thread):
    """Looks once a second how much memory the processes below this one have held at most, bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done, self.peak = threading.Event(), 0

    def run(self) -> None:
        """Look until `done` is set. Workers are children of a fork server, so getrusage does not know them."""
        while not self.done.wait(1.0):
            told = [_status(p) for p in Path("/proc").glob("[0-9]*/status")]
            below, found = {os.getpid()}, 0
            for _ in range(3):  # the server, its workers
                below |= {int(t["Pid"]) for t in told if t and int(t["PPid"]) in below}
            for t in told:
                if int(t.get("Pid", 0)) in below - {os.getpid()}:
                    found = max(found, 1024 * int(t.get("VmHWM", "0").split()[0]))
            self.peak = max(self.peak, found)


def _status(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:  # it ended meanwhile
        return {}
    return {k: v.strip() for k, _, v in (line.partition(":") for line in lines)}


def main() -> None:
    """Read the command line, map, compare, write the record and a preview."""
    parser = argparse.ArgumentParser(description="Map a large scene with clouds and compare with the truth.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--scene", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stride", type=int)
    options = parser.parse_args()
    if not options.scene.exists():
        write_scene(options.scene, SIZE)
    started, watch = time.monotonic(), Watch()
    watch.start()
    settings = MapOptions(workers=options.workers, stride_px=options.stride, overwrite=True)
    paths = map_scene(options.run, options.scene, options.out / "map.tif", settings)[0]
    seconds = time.monotonic() - started
    watch.done.set()
    with rasterio.open(paths.classes) as a, rasterio.open(paths.pattern) as b, rasterio.open(options.scene / "truth.tif") as c:
        found, bits, truth = a.read(1), b.read(1), c.read(1)
    reader = open_scene(options.scene)
    names = [m.name for m in reader.modalities]
    cloud, whole = 1 << names.index("hsi"), (1 << len(names)) - 1
    result = {
        "scene": {"size_px": list(found.shape), "bands": [m.bands for m in reader.modalities]},
        "seconds": round(seconds, 1),
        "px_per_second": round(found.size / seconds, 1),
        "workers": options.workers,
        "stride_px": options.stride,
        "peak_bytes": {
            "parent": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "largest_worker": watch.peak,
        },
        "unmapped_px": int((found == 0).sum()),
        "rows": rows(found, truth, bits & cloud == 0, bits | cloud == whole),
        "environment": environment(),
        "command": f"python benchmarks/holes.py RUN --scene DIR --out FOLDER --workers {options.workers}",
    }
    write_json(HERE / "speed" / "maps" / "holes.json", result)
    preview(found, bits & cloud == 0, truth, list(reader.classes), options.out / "preview.png")
    print(json.dumps(result, indent=2))


def preview(found: np.ndarray, hidden: np.ndarray, truth: np.ndarray, classes: list[ClassInfo], out: Path) -> None:
    """Draw the whole map, and a piece of 256 px at a cloud's rim: truth, map, and where the cloud is."""
    edge = np.argwhere(ndimage.binary_erosion(hidden, iterations=24) ^ ndimage.binary_erosion(hidden, iterations=25))
    y, x = (int(np.clip(v - 128, 0, n - 256)) for v, n in zip(edge[len(edge) // 2], found.shape, strict=True))
    piece = (slice(y, y + 256), slice(x, x + 256))
    maps = {"map, every eighth pixel": found[::8, ::8], "truth": truth[piece], "map": found[piece]}
    draw_maps(maps | {"map, cloud blank": np.where(hidden[piece], 0, found[piece])}, classes, out)


if __name__ == "__main__":
    main()
