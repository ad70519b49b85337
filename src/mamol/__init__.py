"""mamol: classify multi-sensor Earth observation data when some of the sensors are missing.

    import mamol
    model = mamol.train_model("idtrees", "runs/idtrees")
    scores = mamol.evaluate_run("runs/idtrees")
    mamol.map_scene("runs/idtrees", "idtrees", "map.tif", mamol.MapOptions(without=["lidar"]))

Names are resolved on first use, so that importing the package loads neither torch nor rasterio. The method is in
`mamol.model.classifier` and `mamol.model.experts`.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"
_HOMES = {
    "train_model": "mamol.api",
    "pretrain_backbone": "mamol.api",
    "evaluate_run": "mamol.api",
    "map_scene": "mamol.api",
    "classify_samples": "mamol.api",
    "TrainOptions": "mamol.options",
    "MapOptions": "mamol.options",
    "map_dataset": "mamol.mapping.lazy",
    "adapt": "mamol.model.adapted",
    "Adapted": "mamol.model.adapted",
    "AdapterSettings": "mamol.model.adapter_settings",
    "save_adapter": "mamol.model.adapter_files",
    "load_adapter": "mamol.model.adapter_files",
    "push_adapter": "mamol.model.adapter_files",
    "export_run": "mamol.model.export",
    "export_adapted": "mamol.model.export",
    "load_dataset": "mamol.data.catalog",
    "load_run": "mamol.model.checkpoint",
    "make_scene": "mamol.data.synthetic",
    "write_scene": "mamol.data.synthetic",
    "write_samples": "mamol.data.samples",
    "load_config": "mamol.configs",
    "make_split": "mamol.data.split",
    "score": "mamol.evaluate.score",
    "fit_trees": "mamol.baselines.forest",
    "Batch": "mamol.modality",
    "Modality": "mamol.modality",
    "Predictor": "mamol.modality",
    "patterns": "mamol.modality",
    "Scene": "mamol.data.dataset",
    "SampleSet": "mamol.data.dataset",
    "Tile": "mamol.data.dataset",
    "ClassInfo": "mamol.data.dataset",
    "Georeference": "mamol.data.dataset",
    "classes_from": "mamol.data.dataset",
    "scene_from_arrays": "mamol.data.from_arrays",
    "samples_from_arrays": "mamol.data.from_arrays",
    "MamolError": "mamol.errors",
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"mamol has no '{name}'; it has {', '.join(sorted(_HOMES))}.")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
