"""Every setting of a run, with its default: the only home of a default.

A run is one TOML file (only what differs) plus `--set section.key=value`, read by `mamol.configs`. The resolved
configuration lies beside every checkpoint and record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Unit = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Size = Annotated[int, Field(ge=1, le=4096)]
Rank = Annotated[int, Field(ge=0, le=1024)]
Rule = Literal[
    "mlp", "table", "dense", "switch", "noisy-top-k", "expert-choice", "soft", "laplace", "flex", "masked", "threshold"
]  # fmt: skip
Target = Literal["q", "k", "v", "out", "fc1", "fc2", "ffn"]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DataConfig(Section):
    """How values are prepared. Statistics come from training pixels only."""

    compress: int = Field(40, ge=0)
    """Principal components kept of a modality with more bands than this; 0 keeps all bands."""
    quantiles: int = Field(0, ge=0)
    """Quantiles by which bands that are not compressed are mapped to a normal distribution; 0: they are only standardised."""
    unit_spectrum: bool = False
    """Divide each spectrum with more than `compress` bands by its length first (illumination)."""

    @model_validator(mode="after")
    def _tells_values_apart(self) -> DataConfig:
        if self.quantiles == 1:
            raise ValueError("data.quantiles = 1 would make all values the same; give 0 for none, or 2 and more (64 is plenty)")
        return self


class TokenConfig(Section):
    """How a modality becomes tokens (METHOD 3, "Tokens")."""

    window_px: Size = 16
    """Side of a window (dense) or patch (centre) on the scene's grid, pixels."""
    token_px: Size = 2
    """Side of one token, pixels; divides window_px."""
    stem: Size = 48
    """Channels of the per-pixel stem."""
    placeholder: Literal["none", "zeros", "ones", "mean", "learned"] = "none"
    """What stands for a missing modality; "none" leaves its tokens out of attention."""

    @model_validator(mode="after")
    def _divides(self) -> TokenConfig:
        if self.window_px % self.token_px:
            raise ValueError(f"window_px {self.window_px} is not a multiple of token_px {self.token_px}")
        return self


class BackboneConfig(Section):
    """The frozen transformer: ours (scene), Galileo for Sentinel data, or one Hugging Face model per modality."""

    kind: Literal["scene", "galileo-nano", "transformers"] = "scene"
    """Whose weights are frozen: mamol's own, pretrained on the data; Galileo's; or one model per modality."""
    models: dict[str, str] = {}
    """Of "transformers": a model's name or folder per modality; a modality without one gets tokens of mamol's own."""
    depths: dict[str, Positive] = {}
    """Of "transformers": how many layers of a modality's model run; all of them if it is not named."""
    first_month: int = Field(0, ge=0, le=11)
    """Of "galileo-nano": the month of the first time step, 0 is January; a scene is one time step."""
    path: str = ""
    """Folder of a backbone made by `mamol pretrain`; "" pretrains one at the start of training."""
    width: Size = 96
    """Channels of a token; with depth, heads and mlp_ratio of "scene" alone."""
    depth: int = Field(4, ge=1, le=256)
    """Transformer layers."""
    heads: Size = 4
    """Attention heads of a layer."""
    mlp_ratio: Size = 4
    """Width of the feed-forward layer, in widths of a token."""
    freeze: bool = True
    """False trains the whole network (a baseline, not the method)."""

    @model_validator(mode="after")
    def _heads_divide(self) -> BackboneConfig:
        if self.width % (4 * self.heads) and (self.width % self.heads or self.width % 4):
            raise ValueError(f"width {self.width} must be a multiple of 4 and of heads {self.heads}")
        return self


class PretrainConfig(Section):
    """Label-free pretraining: predict masked tokens and masked whole modalities."""

    steps: int = Field(600, ge=0)
    """0 leaves the backbone at its random start."""
    batch: Positive = 32
    """Windows or samples of a step."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate of AdamW."""
    mask_tokens: Unit = 0.5
    """Share of the tokens hidden and predicted."""
    mask_modality: Unit = 0.3
    """Chance that a whole modality of a sample is hidden and predicted from the others."""
    drop_modality: Unit = 0.2
    """Chance that a modality is left out altogether, so that the backbone knows every pattern."""


class MixtureConfig(Section):
    """The experts themselves: how many, of which rank (METHOD 2 and 3)."""

    shared_rank: Rank = 16
    """Rank of the one shared expert, always on; 0 leaves it out."""
    specific_rank: Rank = 4
    """Rank of each modality's own expert; 0 leaves them out."""
    dynamic_rank: Rank = 4
    """Rank of each expert that the router chooses; 0 leaves them out."""
    n_dynamic: int = Field(2, ge=0, le=256)
    """How many experts the router chooses from."""
    top_k: Size = 1
    """How many of them are on, by rules that choose."""
    alpha: float = Field(16.0, gt=0, allow_inf_nan=False)
    """Scale of an expert of rank r: alpha / r."""
    scale: float = Field(0.0, ge=0, allow_inf_nan=False)
    """The same scale for every expert; 0 takes alpha / r."""
    tied: bool = False
    """The dynamic experts share one A (HydraLoRA)."""
    init_b: Literal["zero", "normal"] = "zero"
    """ "zero": an untrained mixture changes nothing; "normal": as the paper's code."""
    specific_gate: Literal["mask", "embedding"] = "mask"
    """ "embedding": threshold of a learned embedding at 0.5, as the paper's code."""

    @model_validator(mode="after")
    def _enough_experts(self) -> MixtureConfig:
        if self.top_k > max(self.n_dynamic, 1):
            raise ValueError(f"experts.top_k {self.top_k} exceeds experts.n_dynamic {self.n_dynamic}")
        return self

    def ranks(self, modalities: int) -> list[int]:
        """Return the rank of every expert in the order of the gates: shared, one per modality, dynamic."""
        return [r for r in (self.shared_rank, *[self.specific_rank] * modalities, *[self.dynamic_rank] * self.n_dynamic) if r]

    def rows(self, modalities: int) -> int:
        """Return the rows of all A together: the sum of the ranks, those of tied experts once."""
        twice = self.dynamic_rank * (self.n_dynamic - 1) if self.tied and self.has_dynamic else 0
        return sum(self.ranks(modalities)) - twice

    def names(self, modalities: Sequence[str]) -> list[str]:
        """Name the experts in the order of the gates."""
        shared, specific = ["shared"] * (self.shared_rank > 0), [f"specific {m}" for m in modalities] * (self.specific_rank > 0)
        return shared + specific + [f"dynamic {i + 1}" for i in range(self.n_dynamic)] * self.has_dynamic

    @property
    def later_rank(self) -> int:
        """Return the rank of the expert of a modality that is added to a trained mixture."""
        return self.specific_rank or self.shared_rank or 1

    @property
    def has_dynamic(self) -> bool:
        """Tell whether there are experts that a router chooses."""
        return min(self.dynamic_rank, self.n_dynamic) > 0


class ExpertConfig(MixtureConfig):
    """The mixture in a classifier: the experts, and where they sit."""

    targets: tuple[Target, ...] = ("q", "k", "v", "out", "fc1", "fc2")
    """Beside which frozen Linear layers, or "ffn" for the whole feed-forward block (the paper)."""
    layers: tuple[int, ...] | Literal["all"] = "all"
    """Layers of the backbone that have experts, counted from 0."""
    scope: Literal["all", "own"] = "all"
    """Tokens a modality-specific expert acts on: all, or its own modality's."""
    projection: bool = False
    """GELU and a dense projection after the sum of experts, as the paper's code; only with targets = ["ffn"]."""
    path: Literal["auto", "low-rank", "folded"] = "auto"
    """How experts are computed: beside the layer, or folded into its weights; auto folds to predict few patterns."""
    scale: float = Field(4.0, ge=0, allow_inf_nan=False)
    """The same scale for every expert; 0 takes alpha / r, as the paper's code."""

    @model_validator(mode="after")
    def _each_place_once(self) -> ExpertConfig:
        for key, given in (("targets", self.targets), ("layers", () if self.layers == "all" else self.layers)):
            if twice := [x for i, x in enumerate(given) if x in given[:i]]:
                raise ValueError(f"experts.{key} names {twice[0]!r} more than once; a place has one mixture, name it once")
        return self


class RouterConfig(Section):
    """The dynamic router."""

    rule: Rule = "mlp"
    """How it decides: a file each in model/rules/, with its source."""
    input: Literal["pattern", "pattern+content", "content"] = "pattern"
    """What it sees: which modalities are there, the tokens, or both."""
    code_dim: Size = 8
    """Width of psi, the embedded availability."""
    hidden: Size = 32
    """Width of the router's hidden layer, of rules that have one."""
    temperature: float = Field(1.0, ge=0.3)
    """Divides what goes into the gates' softmax: lower is harder."""
    balance: float = Field(0.0, ge=0)
    """Weight of what the rule adds to the loss: mostly load balancing."""


class ModelConfig(Section):
    """How tokens are fused and what is classified."""

    fusion: Literal["joint", "late"] = "joint"
    """"joint": one pass over the tokens of all modalities; "late": one pass a modality, features side by side."""
    task: Literal["dense", "centre"] = "dense"
    """Scenes: "dense" classifies every pixel of a window, "centre" the middle pixel of a patch (the paper)."""
    prompts: int = Field(0, ge=0, le=256)
    """Learned tokens per pattern and layer (missing-aware prompts, a baseline); only without experts."""
    head_hidden: Size = 96
    """Width of the classification head's hidden layer."""
    dropout: Unit = 0.3
    """Dropout in the head while training."""


class TrainConfig(Section):
    """The training loop."""

    steps: Positive = 1500
    """Training steps at most; it stops earlier when `patience` says so."""
    batch: Positive = 32
    """Windows or samples of a step."""
    lr: float = Field(1e-3, gt=0)
    """Highest learning rate of AdamW."""
    weight_decay: float = Field(0.02, ge=0)
    """Of AdamW."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Of AdamW."""
    warmup: Unit = 0.1
    """Share of the steps with a rising learning rate."""
    decay: Literal["linear", "cosine"] = "cosine"
    """How the learning rate falls to zero after the warm-up."""
    clip: float = Field(1.0, gt=0)
    """Longest gradient; a longer one is shortened to it."""
    label_smoothing: Unit = 0.05
    """Share of a label that is spread over all classes."""
    class_balance: Unit = 0.3
    """Power of the inverse class frequency in the loss; 0 is plain cross-entropy."""
    patterns: Literal["none", "dropout", "uniform"] = "uniform"
    """How modalities go missing in training (PROTOCOL 3); with "none" the best weights are those for what samples have."""
    missing_rate: Unit = 0.5
    """Chance that a modality is dropped; only for patterns = "dropout"."""
    held_out: tuple[str, ...] = ()
    """Patterns that training never shows, such as "s1+s2": what `unseen` patterns cost (PROTOCOL 3)."""
    distill: float = Field(0.0, ge=0)
    """Weight of self-distillation from all present modalities to a subset; above 0, the former are learnt from as well."""
    more_vs_fewer: float = Field(0.0, ge=0)
    """Weight of max(0, L(more) - L(fewer)) [SimMLM, 2507.19264]; above 0, L(more) is added, too, with weight 1."""
    band_noise: float = Field(0.2, ge=0)
    """Standard deviation of the noise added to normalised values."""
    ema: Unit = 0.99
    """Decay of the running mean of the weights that is evaluated and kept; 0 keeps the last weights."""
    eval_every: Positive = 100
    """Steps between evaluations on validation; the state to resume from is saved at each."""
    patience: Positive = 5
    """Evaluations without a better validation score before stopping."""
    precision: Literal["no", "fp16", "bf16"] = "no"
    """Mixed precision of the steps."""
    train_tokenizers: bool = True
    """False trains experts, router and head alone."""


class Config(Section):
    """A whole run."""

    data: DataConfig = DataConfig()
    tokens: TokenConfig = TokenConfig()
    backbone: BackboneConfig = BackboneConfig()
    pretrain: PretrainConfig = PretrainConfig()
    experts: ExpertConfig = ExpertConfig()
    router: RouterConfig = RouterConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.experts.projection and self.experts.targets != ("ffn",):
            raise ValueError('experts.projection needs experts.targets = ["ffn"]')
        if self.model.prompts and (self.experts.ranks(1) or self.backbone.kind != "scene"):
            raise ValueError("model.prompts is a baseline without experts, on the scene backbone; set every rank to 0")
        if (
            self.backbone.kind == "scene"
            and self.experts.layers != "all"
            and any(i < 0 or i >= self.backbone.depth for i in self.experts.layers)
        ):
            raise ValueError(f"experts.layers {list(self.experts.layers)} must lie in 0..{self.backbone.depth - 1}")
        return self
