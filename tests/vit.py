"""A stranger's transformer for tests: nothing of mamol in it, Linear layers named as many models name them."""

import torch
from torch import nn


class StrangerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 2 * width), "fc2": nn.Linear(2 * width, width)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm(x)
        q, k, v = (part(h).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        x = x + self.out_proj(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp["fc2"](nn.functional.gelu(self.mlp["fc1"](x)))


class Stranger(nn.Module):
    """(B, 5, 8) -> (B, 3)."""

    def __init__(self, layers: int = 3, width: int = 16, checkpointed: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv1d(8, width, 1)
        self.layers = nn.ModuleList(StrangerBlock(width) for _ in range(layers))
        self.classifier = nn.Linear(width, 3)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(x.transpose(1, 2)).transpose(1, 2)
        for layer in self.layers:
            h = torch.utils.checkpoint.checkpoint(layer, h, use_reentrant=False) if self.checkpointed else layer(h)
        return self.classifier(h.mean(1))


def stranger(seed: int = 0, **kwargs: int) -> Stranger:
    torch.manual_seed(seed)
    return Stranger(**kwargs).eval()
