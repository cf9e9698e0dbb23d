"""Initial weights as Caffe2 draws them, which detectron2's models start from."""

from torch import nn

__all__ = ["c2_msra_fill", "c2_xavier_fill"]


def c2_xavier_fill(module: nn.Module) -> None:
    """Fill ``module.weight`` as Caffe2's XavierFill does, uniform in ``±sqrt(3 / fan_in)``.

    The bias, where there is one, becomes 0.
    """
    nn.init.kaiming_uniform_(module.weight, a=1)  # type: ignore[arg-type]
    _zero_bias(module)


def c2_msra_fill(module: nn.Module) -> None:
    """Fill ``module.weight`` as Caffe2's MSRAFill does, normal with ``std = sqrt(2 / fan_out)``.

    He et al., "Delving Deep into Rectifiers" (2015), section 2.2. The bias becomes 0.
    """
    nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
    _zero_bias(module)


def _zero_bias(module: nn.Module) -> None:
    bias = getattr(module, "bias", None)
    if bias is not None:
        nn.init.zeros_(bias)
