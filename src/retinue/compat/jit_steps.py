"""Steps of ``fvcore.nn.jit_analysis.JitModelAnalysis`` that old subclasses call.

fvcore reads a traced graph; retinue counts while the model runs and needs none of them itself.
"""

from __future__ import annotations

import itertools
from typing import Any

__all__ = ["get_all_ancestors", "should_ignore_node", "simplify_op_name"]


def get_all_ancestors(self: Any, module_name: str) -> set[str]:
    """Return a module's canonical name and those of the modules around it, ``""`` for the model."""
    parts = self.canonical_module_name(module_name).split(".")
    return {"", *itertools.accumulate(parts, "{}.{}".format)}


def simplify_op_name(self: Any, full_op_name: str) -> str:
    """Return the name of an operator without its namespace: ``conv2d`` of ``aten::conv2d``."""
    return full_op_name.rpartition("::")[2]


def should_ignore_node(self: Any, node: Any) -> bool:
    """Tell whether a node of a TorchScript graph is never counted."""
    kind = node.kind()
    if kind in self._ignored_ops:
        return True
    calls = ("prim::PythonOp", "prim::CallFunction")  # code that may compute something
    return kind.startswith("prim::") and not kind.startswith(calls)
