import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from test_adapted import MASK, SENSORS, TARGETS, inputs, shaken

from hub_stub import HubStub
from mamol.config import RouterConfig
from mamol.errors import CheckpointError, FileMissing, OutputExists, UnknownName, UsageError
from mamol.model.adapted import Adapted, adapt
from mamol.model.adapter_files import CARD, CONFIG, WEIGHTS, load_adapter, push_adapter, save_adapter
from vit import stranger


def trained() -> Adapted:
    return shaken(adapt(stranger(), SENSORS, TARGETS, layers=[-2, -1], rank=(8, 2, 2), modules_to_save=["classifier"]))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_adapter(trained(), tmp_path / "adapter", base_model="someone/stranger")


def test_a_folder_holds_the_adapter_only_and_comes_back_equal(saved: Path) -> None:
    assert {f.name for f in saved.iterdir()} == {WEIGHTS, CONFIG, CARD}
    assert (saved / WEIGHTS).stat().st_size < 60_000
    back = load_adapter(stranger(), saved)
    x = inputs()
    assert torch.equal(back(x, available=MASK), trained()(x, available=MASK))
    assert not any(p.requires_grad for p in back.base.parameters())


def test_the_configuration_uses_pefts_names_and_the_card_says_how_to_load(saved: Path) -> None:
    tree = json.loads((saved / CONFIG).read_text())
    assert tree["peft_type"] == "MAMOL"
    assert tree["layers_to_transform"] == [-2, -1]
    assert tree["r"] == 8 + 3 * 2 + 2 * 2
    card = (saved / CARD).read_text()
    assert "base_model: someone/stranger" in card
    assert "mamol.load_adapter" in card


def test_settings_and_later_modalities_survive(tmp_path: Path) -> None:
    adapted = shaken(adapt(stranger(), SENSORS, TARGETS, rank=2, router=RouterConfig(temperature=0.5)))
    adapted.add_modality("sar")
    shaken(adapted, 3)
    back = load_adapter(stranger(), save_adapter(adapted, tmp_path / "a"))
    assert back.settings == adapted.settings
    wide = torch.cat([MASK, MASK[:, :1]], 1)
    assert torch.equal(back(inputs(), available=wide), adapted(inputs(), available=wide))


def test_another_backbone_is_refused_unless_asked_for(saved: Path) -> None:
    other = stranger(seed=9)
    with pytest.raises(CheckpointError, match=r"trained on a Stranger \(someone/stranger\) with weights"):
        load_adapter(other, saved)
    assert all(p.requires_grad for p in other.parameters())
    load_adapter(other, saved, any_backbone=True)
    with pytest.raises(CheckpointError, match="same precision"):
        load_adapter(stranger().bfloat16(), saved)
    with pytest.raises(UnknownName, match="layer"):
        load_adapter(stranger(layers=1), saved, any_backbone=True)


def test_nothing_is_overwritten_and_broken_folders_are_said(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputExists):
        save_adapter(trained(), saved)
    save_adapter(trained(), saved, overwrite=True)
    whole = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(whole[:100])
    with pytest.raises(CheckpointError, match="not a readable safetensors"):
        load_adapter(stranger(), saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(FileMissing, match="adapter weights"):
        load_adapter(stranger(), saved)
    save_adapter(adapt(stranger(), SENSORS, ["query"]), tmp_path / "other")
    (saved / WEIGHTS).write_bytes((tmp_path / "other" / WEIGHTS).read_bytes())
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_adapter(stranger(), saved)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peft_type": "LORA"}, "of type 'LORA'"),
        ({"format": 99}, "reads format 1"),
        ({"modalities": 3}, "modalities"),
        ({"more": 1}, "more"),
        ({"experts": {"shared_rank": -1}}, "shared_rank"),
    ],
)
def test_a_changed_configuration_is_refused(saved: Path, change: dict[str, object], says: str) -> None:
    tree = json.loads((saved / CONFIG).read_text())
    (saved / CONFIG).write_text(json.dumps(tree | change))
    with pytest.raises(CheckpointError, match=says):
        load_adapter(stranger(), saved)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubStub]:
    pytest.importorskip("huggingface_hub")
    import huggingface_hub.constants as constants

    stub = HubStub()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    yield stub
    stub.close()


def test_push_to_a_hub_and_pull_from_it(saved: Path, hub: HubStub) -> None:
    address = push_adapter(saved, "someone/adapter", endpoint=hub.url)
    assert address.startswith(hub.url)
    assert "Bearer hf_test" in hub.tokens
    assert set(hub.repositories["someone/adapter"]) == {WEIGHTS, CONFIG, CARD}
    back = load_adapter(stranger(), "someone/adapter", endpoint=hub.url)
    x = inputs()
    assert torch.equal(back(x, available=MASK), trained()(x, available=MASK))


def test_what_the_hub_lacks_or_refuses_is_said(saved: Path, hub: HubStub) -> None:
    with pytest.raises(FileMissing, match="cannot be read from the hub"):
        load_adapter(stranger(), "someone/nothing", endpoint=hub.url)
    with pytest.raises(FileMissing, match="neither a folder nor"):
        load_adapter(stranger(), "nothing", endpoint=hub.url)
    hub.close()
    with pytest.raises(UsageError, match="did not take"):
        push_adapter(saved, "someone/adapter", endpoint=hub.url)
