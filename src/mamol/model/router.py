"""Which experts are on: static gates from the availability, dynamic gates from a router that sees it.

    psi(a)  = sum_m ( present_m  if a_m else  absent_m )              one embedding per modality and state
    h       = psi(a),  [z ; psi(a)]  or  z                            what the router sees (router.input)
    g       = rule(h)                                                 how it decides (rules/, one file each)
    gates   = [ 1 (shared) | a_1 .. a_M (specific) | g (dynamic) ]

Source: METHOD.md sections 2 to 4 (arXiv 2511.11460). Ours: psi is a sum over modalities, not one embedding per
pattern, so an unseen pattern still has a meaning; by default the router sees psi(a) only, so that a known pattern
folds into the frozen weights (experts.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mamol.config import MixtureConfig, RouterConfig


@dataclass(frozen=True)
class Slots:
    """Tokens mixed into slots and slots into tokens [Soft MoE, 2308.00951]; (B, S, E, P), P slots an expert."""

    dispatch: Float[Tensor, "B S E P"]
    combine: Float[Tensor, "B S E P"]

    def mix(self, down: Float[Tensor, "B S R"], expert: Int[Tensor, " R"]) -> Float[Tensor, "B S R"]:
        """Return what every column of A x becomes: gathered into its expert's slots, then handed out again."""
        gathered = torch.einsum("bsrp,bsr->brp", self.dispatch[:, :, expert], down)
        return torch.einsum("bsrp,brp->bsr", self.combine[:, :, expert], gathered)


@dataclass(frozen=True)
class Gates:
    """What a router decided. `values` (..., E): the gates; `probability`: what they were cut from.

    `loss`: what the rule adds to the training loss, weighted by router.balance; None if that is 0.
    """

    values: Float[Tensor, "*batch E"]
    probability: Float[Tensor, "*batch E"]
    slots: Slots | None = None
    loss: Tensor | None = None


class Router(nn.Module):
    """The dynamic router of one layer; a subclass in rules/ says how it decides."""

    mixes_tokens: ClassVar[bool] = False
    """Whether what a token gets depends on the other tokens, so that all of a sample must be seen at once."""
    uses_features: ClassVar[bool] = True
    added: nn.ParameterDict

    def __init__(self, modalities: int, width: int, experts: MixtureConfig, config: RouterConfig) -> None:
        super().__init__()
        self.sees_content = self.uses_features and config.input != "pattern"
        self.sees_pattern = self.uses_features and config.input != "content"
        self.modalities, self.temperature, self.balance = modalities, config.temperature, config.balance
        self.n, self.top_k = experts.n_dynamic, min(experts.top_k, experts.n_dynamic)
        self.psi = nn.Parameter(torch.randn(2, modalities, config.code_dim)) if self.sees_pattern else None
        self.added = nn.ParameterDict()
        self.build(width * self.sees_content + config.code_dim * self.sees_pattern, modalities, config)

    def build(self, inputs: int, modalities: int, config: RouterConfig) -> None:
        """Make the rule's own weights, for features of width `inputs`; raises ConfigError for a number of experts."""
        raise NotImplementedError

    def decide(
        self, h: Float[Tensor, "*batch D"], present: Float[Tensor, "*batch M"], weight: Float[Tensor, " *batch"] | None
    ) -> Gates:
        """Return the gates for features `h` and the modalities that the rule was built for, without those that came later.

        `weight` counts the tokens behind each row, 0 for those that take no part.
        """
        raise NotImplementedError

    def forward(
        self,
        present: Float[Tensor, "*batch M"],
        content: Float[Tensor, "*batch D"] | None = None,
        weight: Float[Tensor, " *batch"] | None = None,
    ) -> Gates:
        """Return the gates of the dynamic experts; `content` is looked at only where router.input says so."""
        seen = [content] if self.sees_content and content is not None else []
        seen += [self.embed(present)] if self.sees_pattern else []
        known = present[..., : self.modalities]
        return self.decide(torch.cat(seen, dim=-1) if seen else known, known, weight)

    def embed(self, present: Float[Tensor, "*batch M"]) -> Float[Tensor, "*batch code"]:
        """Return psi(a) for availability codes of 0 and 1."""
        if self.psi is None:
            raise TypeError("this router does not see the pattern")
        absent, there = self.psi[0], self.psi[1]
        code = absent.sum(0) + present[..., : self.modalities] @ (there - absent)
        for i, step in enumerate(self.added.values(), self.modalities):
            code = code + present[..., i, None] * step
        return code

    def grow(self, name: str) -> None:
        """Take one more modality: its presence moves psi(a), its absence leaves it as it was, to the bit."""
        if self.psi is not None:
            self.added[name] = nn.Parameter(torch.zeros_like(self.psi[0, 0]))

    def cut(self, probability: Float[Tensor, "*batch E"], weight: Tensor | None) -> Gates:
        """Keep the top k of a softmax as they are and set the rest to zero; the loss is Switch's."""
        values = probability * top_mask(probability, self.top_k)
        return Gates(values, probability, loss=balance_loss(probability, values, weight) if self.balance else None)


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


def top_mask(x: Float[Tensor, "*batch E"], k: int) -> Float[Tensor, "*batch E"]:
    """Return 1 at the k largest entries of every row, 0 elsewhere."""
    return torch.zeros_like(x).scatter(-1, x.topk(k, dim=-1).indices, 1.0)


def balance_loss(
    probability: Float[Tensor, "*batch E"], gates: Float[Tensor, "*batch E"], weight: Float[Tensor, " *batch"] | None = None
) -> Float[Tensor, ""]:
    """Return E * sum_e f_e P_e: share of tokens sent to e times its mean probability [Switch, 2101.03961, eq. 4].

    It is 1 when every expert is used equally and E when one takes all. `weight` counts the tokens behind each row.
    """
    used = (gates > 0).to(probability.dtype)
    share = weighted_mean(used, weight)
    share = share / share.sum().clamp_min(1e-9)
    return probability.shape[-1] * (share.detach() * weighted_mean(probability, weight)).sum()


def weighted_mean(x: Float[Tensor, "*batch E"], weight: Float[Tensor, " *batch"] | None) -> Float[Tensor, " E"]:
    """Return the mean over all rows, each counted `weight` times."""
    flat = x.flatten(0, -2)
    if weight is None:
        return flat.mean(0)
    w = weight.flatten().to(x.dtype)
    return (flat * w[:, None]).sum(0) / w.sum().clamp_min(1e-9)
