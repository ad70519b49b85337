"""Where Galileo's weights come from, and what a broken folder ends in."""

import json
import os
import pickle
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mamol.errors import CheckpointError, FileMissing
from mamol.model.galileo import SPACE_TIME_BANDS, Galileo, GalileoConfig
from mamol.model.galileo_weights import INSIDE, find_weights, galileo_statistics, load_galileo

WEIGHTS = Path(os.environ.get("MAMOL_WEIGHTS") or "/nonexistent") / "galileo-nano"
needs_weights = pytest.mark.skipif(not WEIGHTS.is_dir(), reason="MAMOL_WEIGHTS has no 'galileo-nano/'")
SIZES = {"embedding_size": 16, "depth": 1, "num_heads": 2, "mlp_ratio": 2, "max_sequence_length": 3, "max_patch_size": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder like the published one, with a tiny random model in it."""
    out = tmp_path / "galileo-nano"
    out.mkdir()
    state = Galileo(GalileoConfig(**SIZES)).state_dict()
    torch.save({k.replace("blocks.0", "blocks.0.backbone"): v for k, v in state.items()}, out / "encoder.pt")
    (out / "config.json").write_text(json.dumps({"model": {"encoder": {**SIZES, "drop_path": 0.1}}}))
    numbers = {str(n): {"mean": [3.0] * n, "std": [2.0] * n} for n in (13, 16, 6, 18)}
    (out / "normalization.json").write_text(json.dumps({"total_n": 1, **numbers}))
    return out


def test_loads_strictly_and_is_ready_to_evaluate(folder: Path) -> None:
    before = torch.get_rng_state()
    model = load_galileo(folder)
    assert torch.equal(before, torch.get_rng_state())
    assert not model.training
    assert model.config == GalileoConfig(**SIZES)
    stored = torch.load(folder / "encoder.pt", weights_only=True)
    assert model.state_dict().keys() == {k.replace(".backbone", "") for k in stored}
    assert all(t.device.type == "cpu" for t in (*model.parameters(), *model.buffers()))
    assert all(p.requires_grad for p in model.parameters())


@needs_weights
def test_published_weights_load():
    model = load_galileo(WEIGHTS)
    assert sum(p.numel() for p in model.parameters()) == 1_037_856
    assert model.config == GalileoConfig()
    assert not model.training


def read_all(folder: Path) -> None:
    load_galileo(folder)
    galileo_statistics(folder)


@pytest.mark.parametrize("file", ["encoder.pt", "config.json", "normalization.json"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.98])
def test_truncated_files_are_refused(folder: Path, file: str, kept: float) -> None:
    path = folder / file
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(CheckpointError, match=file):
        read_all(folder)


@needs_weights
@pytest.mark.parametrize("kept", [0, 100, 4096, 2_000_000, 4_189_000])
def test_truncated_published_weights_are_refused(tmp_path: Path, kept: int) -> None:
    (tmp_path / "config.json").write_bytes((WEIGHTS / "config.json").read_bytes())
    (tmp_path / "encoder.pt").write_bytes((WEIGHTS / "encoder.pt").read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"encoder\.pt.*truncated"):
        load_galileo(tmp_path)


@pytest.mark.parametrize("file", ["encoder.pt", "config.json", "normalization.json"])
def test_missing_files_are_named(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(FileMissing, match=file):
        read_all(folder)


def changed(folder: Path, **keys: object) -> None:
    """Write the weights anew with some keys replaced, or taken out where None is given."""
    state = torch.load(folder / "encoder.pt", weights_only=True) | keys
    torch.save({k: v for k, v in state.items() if v is not None}, folder / "encoder.pt")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"pos_embed": None}, "'pos_embed' is nothing"),
        ({"cls_token": torch.zeros(3)}, "'cls_token' is .3,., config.json beside it needs nothing"),
        ({"pos_embed": torch.zeros(3, 5)}, "'pos_embed' is .3, 5."),
        ({"pos_embed": torch.full((3, 4), float("nan"))}, "'pos_embed' holds NaN"),
        ({"pos_embed": "text"}, "not named weights"),
    ],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, keys: dict[str, object], said: str) -> None:
    changed(folder, **keys)
    with pytest.raises(CheckpointError, match=said):
        load_galileo(folder)


class Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["HOSTILE"],)


@pytest.mark.parametrize("save", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x))])
def test_objects_are_never_unpickled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: object) -> None:
    monkeypatch.setenv("HOSTILE", str(tmp_path / "made"))
    save({"pos_embed": Hostile()}, folder / "encoder.pt")
    with pytest.raises(CheckpointError, match="not a readable file of weights"):
        load_galileo(folder)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "document",
    ["[]", "{}", '{"model": 3}', json.dumps({"model": {"encoder": SIZES | {"depth": "many"}}}),
     json.dumps({"model": {"encoder": SIZES | {"num_heads": 3}}}),
     json.dumps({"model": {"encoder": SIZES | {"embedding_size": 16_000_000}}})],
)  # fmt: skip
def test_configurations_that_describe_no_such_encoder_are_refused(folder: Path, document: str) -> None:
    (folder / "config.json").write_text(document)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_galileo(folder)


def test_statistics_by_hand(folder: Path) -> None:
    out = galileo_statistics(folder)
    assert {part: len(x[0]) for part, x in out.items()} == {"space_time": 13, "space": 16, "time": 6, "static": 18}
    offset, divisor = out["space_time"]
    assert offset.tolist() == [-1.0] * 12 + [0.0]  # NDVI stays as it is
    assert divisor.tolist() == [8.0] * 12 + [1.0]
    assert [x.tolist() for x in out["space"]] == [[-1.0] * 2 + [0.0] * 14, [8.0] * 2 + [1.0] * 9 + [100.0] * 5]
    assert [x.tolist() for x in out["time"]] == [[-1.0] * 6, [8.0] * 6]
    assert [x.tolist() for x in out["static"]] == [[-1.0] + [0.0] * 17, [8.0] + [1.0] * 12 + [100.0] * 5]


@needs_weights
def test_published_statistics_of_a_band():
    offset, divisor = galileo_statistics(WEIGHTS)["space_time"]
    red = SPACE_TIME_BANDS.index("B4")
    assert float(offset[red]) == pytest.approx(1343.09884 - 2 * 1092.67872, abs=1e-2)
    assert float(divisor[red]) == pytest.approx(4 * 1092.67872, abs=1e-2)


@pytest.mark.parametrize(
    "numbers", [{}, {"13": 3}, {"mean": [1.0] * 12, "std": [1.0] * 12}, {"mean": [1.0] * 13, "std": [0.0] * 13}]
)
def test_broken_statistics_are_refused(folder: Path, numbers: dict[str, object]) -> None:
    tree = json.loads((folder / "normalization.json").read_text())
    (folder / "normalization.json").write_text(json.dumps(tree | {"13": numbers}))
    with pytest.raises(CheckpointError, match="space_time"):
        galileo_statistics(folder)


def test_the_folder_of_weights_comes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMOL_WEIGHTS", str(folder.parent))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert find_weights("galileo-nano", "somebody/else") == folder
    assert load_galileo().config == GalileoConfig(**SIZES)
    assert galileo_statistics()["time"][1].tolist() == [8.0] * 6


@pytest.mark.parametrize("root", [None, "elsewhere"])
def test_without_the_hub_it_says_what_where_and_how(root: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if root is None:
        monkeypatch.delenv("MAMOL_WEIGHTS", raising=False)
    else:
        monkeypatch.setenv("MAMOL_WEIGHTS", str(tmp_path / root))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    looked = "MAMOL_WEIGHTS is not set" if root is None else "elsewhere"
    with pytest.raises(FileMissing, match=rf"galileo-nano.*{looked}.*nasaharvest/galileo.*Set MAMOL_WEIGHTS.*mamol\[hub\]"):
        load_galileo()


def hub(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> list[dict[str, object]]:
    """Put a made hub in the place of huggingface_hub; return the calls."""
    calls: list[dict[str, object]] = []

    def snapshot_download(**asked: object) -> str:
        calls.append(asked)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    class HfHubHTTPError(Exception):
        pass

    monkeypatch.delenv("MAMOL_WEIGHTS", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", SimpleNamespace(HfHubHTTPError=HfHubHTTPError))
    return calls


def test_the_hub_is_asked_for_the_files_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = tmp_path / "snapshot"
    for name, inside in INSIDE.items():
        (snapshot / inside).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).rename(snapshot / inside)
    calls = hub(monkeypatch, snapshot)
    assert load_galileo().config == GalileoConfig(**SIZES)
    assert calls == [{"repo_id": "nasaharvest/galileo", "allow_patterns": list(INSIDE.values())}]
    (snapshot / INSIDE["normalization.json"]).unlink()
    with pytest.raises(FileMissing, match=r"config/normalization\.json"):
        galileo_statistics()
    assert find_weights("other", "some/model") == snapshot
    assert calls[-1] == {"repo_id": "some/model", "allow_patterns": None}


@pytest.mark.parametrize("error", [OSError("no route to host"), ValueError("bad name")])
def test_without_a_network_it_says_what_where_and_how(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    hub(monkeypatch, error)
    with pytest.raises(FileMissing, match=rf"galileo-nano.*nasaharvest/galileo.*{error}.*Set MAMOL_WEIGHTS"):
        load_galileo()
