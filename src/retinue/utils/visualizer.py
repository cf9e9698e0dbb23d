"""Drawing predictions: see ``retinue.visualization.visualizer``, where it lives."""

from retinue.utils.lazy import forward_module

__getattr__, __dir__ = forward_module(__name__, "retinue.visualization.visualizer")
