"""Settings: one home of a default, unknown keys refused with the nearest, every shipped and benchmark file builds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from mamol.baselines.forest import ForestSettings
from mamol.config import Config
from mamol.configs import load_config, shipped_configs
from mamol.errors import ConfigError, FileMissing, UnknownName

EXPERIMENTS = sorted((Path(__file__).parents[1] / "benchmarks" / "experiments").glob("*/*.toml"))


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_experiment_builds(path: Path) -> None:
    tree = tomllib.loads(path.read_text())
    if "baseline" in tree:
        assert ForestSettings(**tree["baseline"]).kind in ("forest", "boosted")
    else:
        assert load_config(path).train.steps > 0


def test_every_shipped_configuration_builds() -> None:
    assert "mamol-paper" in shipped_configs()
    for name in shipped_configs():
        assert load_config(name) != Config()


def test_order_file_then_overrides(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[train]\nsteps = 7\nlr = 0.5\n")
    config = load_config(file, ["train.lr=0.25", "router.input=content", "experts.layers=[0, 1]"])
    assert (config.train.steps, config.train.lr, config.router.input, config.experts.layers) == (7, 0.25, "content", (0, 1))
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_a_file_starts_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('base = "mfeat"\n[train]\nlr = 0.5\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n[model]\ndropout = 0.25\n')
    config = load_config(tmp_path / "b.toml")
    assert (config.data.compress, config.train.steps, config.train.lr, config.model.dropout) == (0, 1000, 0.5, 0.25)
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    with pytest.raises(ConfigError, match="at most 8 in a row"):
        load_config(tmp_path / "b.toml")
    (tmp_path / "a.toml").write_text("base = 3\n")
    with pytest.raises(ConfigError, match="one name or file"):
        load_config(tmp_path / "b.toml")
    (tmp_path / "a.toml").write_text('base = "galileo"\n')
    with pytest.raises(FileMissing, match="galileo-nano"):
        load_config(tmp_path / "b.toml")


@pytest.mark.parametrize(
    ("override", "error", "says"),
    [
        ("train.step=5", UnknownName, "Did you mean 'steps'"),
        ("trian.steps=5", UnknownName, "Did you mean 'train'"),
        ("train.steps=0", ConfigError, "train.steps"),
        ("train.steps=many", ConfigError, "many"),
        ("train.class_balance=1.5", ConfigError, "class_balance"),
        ("steps=5", ConfigError, "section.key=value"),
        ("tokens.token_px=3", ConfigError, "not a multiple"),
        ("backbone.heads=7", ConfigError, "multiple"),
        ("experts.layers=[9]", ConfigError, r"0\.\.3"),
        ("experts.layers=[1, 0, 1]", ConfigError, r"experts\.layers names 1 more than once"),
        ('experts.targets=["q", "v", "q"]', ConfigError, r"experts\.targets names 'q' more than once"),
        ("experts.top_k=3", ConfigError, "top_k"),
        ("experts.projection=true", ConfigError, "ffn"),
        ("backbone.width=1000000", ConfigError, "4096"),
    ],
)
def test_wrong_settings(override: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        load_config(None, [override])


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(FileMissing, match="mamol-paper"):
        load_config(tmp_path / "none.toml")
    file = tmp_path / "c.toml"
    file.write_text("[train\n")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_config(file)
    file.write_bytes("# größer\n[train]\n".encode("latin-1"))
    with pytest.raises(ConfigError, match="not valid TOML: 'utf-8' codec"):
        load_config(file)
    file.write_text("train = 3\n")
    with pytest.raises(ConfigError, match="table"):
        load_config(file)


def test_defaults_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().train.steps = 3  # type: ignore[misc]


def test_every_setting_says_what_it_means() -> None:
    sections = {name: field.annotation for name, field in Config.model_fields.items()}
    silent = [f"{s}.{k}" for s, section in sections.items() for k, f in section.model_fields.items() if not f.description]
    assert silent == []
