"""Which experts are on: static gates from the availability, dynamic gates from a router that sees it.

    psi(a)  = sum_m ( present_m  if a_m else  absent_m )              one embedding per modality and state
    g       = softmax( MLP([z ; psi(a)]) / temperature ),  all but the top k set to zero
    gates   = [ 1 (shared) | a_1 .. a_M (specific) | g (dynamic) ]

Source: METHOD.md sections 2 and 3 (arXiv 2511.11460). Ours: psi is a sum over modalities, not one embedding per
pattern, so an unseen pattern still has a meaning; by default the router sees psi(a) only, so that a known pattern
folds into the frozen weights (experts.py).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mamol.config import MixtureConfig, RouterConfig


class Router(nn.Module):
    """The dynamic router of one layer."""

    def __init__(self, modalities: int, width: int, experts: MixtureConfig, config: RouterConfig) -> None:
        super().__init__()
        self.sees_content = config.input != "pattern"
        self.sees_pattern = config.input != "content"
        self.temperature = config.temperature
        self.top_k = min(experts.top_k, experts.n_dynamic)
        psi = torch.randn(2, modalities, config.code_dim)
        self.psi = nn.Parameter(psi) if self.sees_pattern else None
        self.added = nn.ParameterDict()
        inputs = width * self.sees_content + config.code_dim * self.sees_pattern
        self.mlp = nn.Sequential(nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, experts.n_dynamic))

    def embed(self, present: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch code"]:
        """Return psi(a) for availability codes of 0 and 1."""
        if self.psi is None:
            raise TypeError("this router does not see the pattern")
        absent, there = self.psi[0], self.psi[1]
        known = self.psi.shape[1]
        code = absent.sum(0) + present[..., :known] @ (there - absent)
        for i, step in enumerate(self.added.values(), known):
            code = code + present[..., i, None] * step
        return code

    def grow(self, name: str) -> None:
        """Take one more modality: its presence moves psi(a), its absence leaves it as it was, to the bit."""
        if self.psi is not None:
            self.added[name] = nn.Parameter(torch.zeros_like(self.psi[0, 0]))

    def forward(
        self, present: Float[Tensor, "*batch M"], content: Float[Tensor, "*batch D"] | None = None
    ) -> tuple[Float[Tensor, "*batch E"], Float[Tensor, "*batch E"]]:
        """Return the gates of the dynamic experts and the probabilities they were cut from."""
        seen = [content] if self.sees_content and content is not None else []
        seen += [self.embed(present)] if self.sees_pattern else []
        probability = torch.softmax(self.mlp(torch.cat(seen, dim=-1)) / self.temperature, dim=-1)
        top = probability.topk(self.top_k, dim=-1).indices
        chosen = torch.zeros_like(probability).scatter(-1, top, 1.0)
        return probability * chosen, probability


class StaticGates(nn.Module):
    """Gates of the modality-specific experts: the availability itself, or the paper's code's thresholded embedding."""

    embedding: Tensor

    def __init__(self, modalities: int, kind: str) -> None:
        super().__init__()
        # The threshold has no gradient, so the embedding stays where it starts: a buffer says so.
        embedding = torch.randn(2, modalities) if kind == "embedding" else torch.zeros(0)
        self.register_buffer("embedding", embedding)

    def forward(self, present: Float[Tensor, "G M"], own: Int[Tensor, " G"] | None) -> Float[Tensor, "G M"]:
        """Return one gate per modality; `own` keeps only the expert of the token's own modality, None keeps all."""
        gates = present
        if self.embedding.numel():
            state = self.embedding[0] + present * (self.embedding[1] - self.embedding[0])
            gates = (state > 0.5).to(present.dtype)
        if own is not None:
            gates = gates * nn.functional.one_hot(own, present.shape[-1]).to(present.dtype)
        return gates


def balance_loss(probability: Float[Tensor, "*batch E"], gates: Float[Tensor, "*batch E"]) -> Float[Tensor, ""]:
    """Return E * sum_e f_e P_e: share of tokens sent to e times its mean probability [Switch, 2101.03961, eq. 4].

    It is 1 when every expert is used equally and E when one takes all.
    """
    flat, used = probability.flatten(0, -2), (gates > 0).to(probability.dtype).flatten(0, -2)
    share = used.mean(0) / used.mean(0).sum().clamp_min(1e-9)
    return probability.shape[-1] * (share.detach() * flat.mean(0)).sum()
