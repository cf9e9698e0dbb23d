"""The operator that TensorMask adds."""

from retinue.projects.tensormask.layers.swap_align2nat import SwapAlign2Nat, swap_align2nat

__all__ = ["SwapAlign2Nat", "swap_align2nat"]
