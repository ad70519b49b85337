import pytest
import torch
from torch import nn

from mamol.errors import UnknownName, UsageError
from mamol.model.places import CANONICAL, find_places, layer_number
from vit import stranger


def test_suffixes_match_whole_parts_of_a_name_only():
    found = find_places(stranger(), ["query", "mlp.fc1"])
    assert list(found) == [f"layers.{i}.{p}" for i in range(3) for p in ("query", "mlp.fc1")]
    with pytest.raises(UnknownName, match="matches no layer"):
        find_places(stranger(), ["uery"])


def test_regular_expression_matches_the_whole_name():
    assert list(find_places(stranger(), r"layers\.[12]\.(key|value)")) == [
        "layers.1.key", "layers.1.value", "layers.2.key", "layers.2.value",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="not a regular expression"):
        find_places(stranger(), "(")


def test_all_linear_leaves_the_output_layer_out():
    found = find_places(stranger(), "all-linear")
    assert len(found) == 18
    assert "classifier" not in found


def test_layers_count_from_either_end_and_unknown_ones_are_named():
    assert list(find_places(stranger(), ["query"], [0, -1])) == ["layers.0.query", "layers.2.query"]
    with pytest.raises(UnknownName, match=r"layer 3 is not among the matched layers 0\.\.2 of Stranger"):
        find_places(stranger(), ["query"], [3])
    with pytest.raises(UsageError, match="no layer number"):
        find_places(stranger(), ["classifier"], [0])


@pytest.mark.parametrize(("wrong", "close"), [("queri", "query"), ("fc3", "fc1"), ("layers.0.mlp.fc", "layers.0.mlp.fc1")])
def test_a_name_that_matches_nothing_lists_close_ones(wrong, close):
    with pytest.raises(UnknownName, match=f"Close: .*{close}"):
        find_places(stranger(), [wrong])


def test_a_text_that_names_a_last_part_is_told_from_a_regular_expression():
    with pytest.raises(UnknownName, match=r"a text is a regular expression for the whole name; write \['query'\]"):
        find_places(stranger(), "query")
    with pytest.raises(UnknownName, match=r"write \['mlp.fc1'\]"):
        find_places(stranger(), "mlp.fc1")
    with pytest.raises(UnknownName) as caught:
        find_places(stranger(), "quer")
    assert "write [" not in str(caught.value)


def test_a_model_without_linear_layers_says_what_it_has():
    class Conv1D(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(4, 4))

    model = nn.ModuleDict({"wte": nn.Embedding(3, 4), "c_attn": Conv1D(), "norm": nn.LayerNorm(4)})
    for target in (["c_attn"], "all-linear"):
        with pytest.raises(UsageError, match=r"ModuleDict holds no torch\.nn\.Linear.*its weights are in Conv1D \(c_attn\)"):
            find_places(model, target)


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(UsageError, match="is a Conv1d"):
        find_places(stranger(), ["embed"])
    with pytest.raises(UsageError, match="holds no torch"):
        find_places(nn.Conv2d(1, 1, 1), "all-linear")
    with pytest.raises(UsageError, match="never calls it"):
        find_places(nn.TransformerEncoderLayer(8, 2, 8), ["out_proj"])
    with pytest.raises(UsageError, match="is empty"):
        find_places(stranger(), [])


def test_layer_number_is_the_first_number_of_a_name():
    assert layer_number("encoder.layer.7.mlp.0") == 7
    assert layer_number("head") is None


def test_canonical_names_cover_common_models():
    names = {
        "q": ("blocks.0.attn.q", "encoder.layer.0.attention.self.query", "h.0.q_proj"),
        "out": ("encoder.layer.1.attention.output.dense", "blocks.2.attn.proj"),
        "fc1": ("encoder.layer.1.intermediate.dense", "blocks.0.mlp.fc1"),
        "fc2": ("encoder.layer.1.output.dense", "blocks.0.mlp.fc2"),
    }
    import re

    for place, wanted in names.items():
        for name in wanted:
            assert [p for p, pattern in CANONICAL.items() if re.fullmatch(pattern, name)] == [place]
