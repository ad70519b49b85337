"""How a router decides: one rule a file, all of them over the same experts (METHOD.md section 4).

A new rule is a subclass of Router with `build` and `decide`, and one row here.
"""

from __future__ import annotations

from mamol.config import MixtureConfig, RouterConfig
from mamol.errors import ConfigError
from mamol.model.router import Router
from mamol.model.rules.dense import Dense
from mamol.model.rules.expert_choice import ExpertChoice
from mamol.model.rules.flex import Flex
from mamol.model.rules.laplace import Laplace
from mamol.model.rules.masked import Masked
from mamol.model.rules.mlp import Mlp
from mamol.model.rules.noisy_top_k import NoisyTopK
from mamol.model.rules.soft import Soft
from mamol.model.rules.switch import Switch
from mamol.model.rules.table import Table
from mamol.model.rules.threshold import Threshold

RULES: dict[str, type[Router]] = {
    "mlp": Mlp,
    "table": Table,
    "dense": Dense,
    "switch": Switch,
    "noisy-top-k": NoisyTopK,
    "expert-choice": ExpertChoice,
    "soft": Soft,
    "laplace": Laplace,
    "flex": Flex,
    "masked": Masked,
    "threshold": Threshold,
}


def make_router(modalities: int, width: int, experts: MixtureConfig, config: RouterConfig) -> Router:
    """Build the router of one layer for tokens of `width`; raises ConfigError if the rule needs other experts."""
    return RULES[config.rule](modalities, width, experts, config)


def by_pattern(experts: MixtureConfig, config: RouterConfig) -> bool:
    """Tell whether gates depend on the pattern alone, so that a known pattern has one weight and folds."""
    rule = RULES[config.rule]
    sees_content = rule.uses_features and config.input != "pattern"
    return not experts.has_dynamic or not (sees_content or rule.mixes_tokens)


def refuse_mixing(experts: MixtureConfig, config: RouterConfig) -> None:
    """Raise ConfigError for a rule that must see which tokens are padding: somebody's model does not tell."""
    if experts.has_dynamic and RULES[config.rule].mixes_tokens:
        others = ", ".join(k for k, r in RULES.items() if not r.mixes_tokens)
        raise ConfigError(
            f'router.rule = "{config.rule}" looks at all tokens of a sample and needs to know which of them are padding; '
            f"that works on the scene backbone only. Beside another model take one of: {others}."
        )
