"""torchvision's own weights for our models: names are translated as they are loaded."""

import functools
import re
from typing import Any

from torch import nn

from retinue.checkpoint.names_torchvision import is_torchvision_detector, rename_torchvision_parts

__all__ = ["take_torchvision_names"]


def take_torchvision_names(model: nn.Module, pyramid: str) -> None:
    """Let ``model.load_state_dict`` take the state dict of torchvision's model of the same kind.

    Args:
        model: the model; its class says ``takes_torchvision_names``, so that whoever reads a file
            for it leaves the names alone.
        pyramid: what names of the feature pyramid and its backbone begin with.
    """
    model.register_load_state_dict_pre_hook(functools.partial(_translate, pyramid))


def _translate(
    pyramid: str, module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any
) -> None:
    given = {n.removeprefix(prefix): n for n in state if n.startswith(prefix)}
    if not is_torchvision_detector(given):
        return
    renamed = rename_torchvision_parts({n: state.pop(full) for n, full in given.items()})[0]
    own = module.state_dict()
    for name, tensor in renamed.items():
        name = re.sub(r"^backbone\.(?=bottom_up|fpn_|top_block)", pyramid, name)
        name = re.sub(r"^proposal_generator\.", "rpn.", name)
        if name in own or not name.endswith("num_batches_tracked"):
            state[prefix + name] = tensor
