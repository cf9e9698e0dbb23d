"""Build the proposal generator that a config names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from retinue.modeling.catalog import PROPOSAL_GENERATOR_REGISTRY

if TYPE_CHECKING:
    from retinue.config import CfgNode
    from retinue.layers import ShapeSpec

__all__ = ["PROPOSAL_GENERATOR_REGISTRY", "build_proposal_generator"]


def build_proposal_generator(cfg: CfgNode, input_shape: dict[str, ShapeSpec]) -> nn.Module | None:
    """Build ``cfg.MODEL.PROPOSAL_GENERATOR.NAME``.

    Returns:
        the module, or None for ``"PrecomputedProposals"``: then proposals come with the inputs.

    Raises:
        UnknownNameError: If no proposal generator has that name.
    """
    name = cfg.MODEL.PROPOSAL_GENERATOR.NAME
    if name == "PrecomputedProposals":
        return None
    return PROPOSAL_GENERATOR_REGISTRY.get(name)(cfg, input_shape)
