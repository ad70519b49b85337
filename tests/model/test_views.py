import torch
from torch import nn

from mamol.model.views import name_tree, shallow, swap, view
from vit import stranger


class Zero(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_a_view_runs_the_replaced_part_and_leaves_the_original_alone():
    model, x = stranger(), torch.randn(2, 5, 8)
    before = model(x)
    seen = view(model, name_tree(["layers.1.out_proj"]), lambda name, old: Zero())
    assert type(seen) is type(model)
    assert not torch.equal(seen(x), before)
    assert torch.equal(model(x), before)
    assert seen.layers[0].query.weight is model.layers[0].query.weight
    assert seen.layers[1].query is not model.layers[1].query


def test_one_module_under_two_names_stays_one():
    shared = nn.Linear(3, 3)
    seen = view(nn.ModuleDict({"a": shared, "b": shared, "c": nn.Linear(3, 3)}), name_tree(["c"]), lambda name, old: Zero())
    assert seen["a"] is seen["b"]


def test_a_view_shares_parameters_and_buffers_as_they_are_now():
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    seen = view(model, name_tree(["1"]), lambda name, old: Zero())
    model.double()
    seen[0].train()
    seen[0](torch.randn(8, 3).double())
    assert model[0].num_batches_tracked == 1
    assert seen[0].weight is model[0].weight


def test_shallow_has_its_own_list_of_parts():
    model = nn.Sequential(nn.Linear(2, 2))
    copy = shallow(model)
    copy._modules["0"] = Zero()
    assert isinstance(model[0], nn.Linear)


def test_swap_replaces_in_place_with_the_full_name():
    model = stranger()
    names = []
    swap(model, name_tree(["layers.0.key", "classifier"]), lambda name, old: names.append(name) or Zero())
    assert names == ["layers.0.key", "classifier"]
    assert isinstance(model.layers[0].key, Zero)


def test_the_fused_kernel_of_torch_does_not_pass_the_replaced_layer_by():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    x = torch.randn(2, 3, 8)
    with torch.no_grad():
        seen = view(layer, name_tree(["linear2"]), lambda name, old: nn.Sequential(old, Zero()))
        assert not torch.allclose(seen(x), layer(x))
