"""Drawing on videos: see ``retinue.visualization.video_visualizer``, where it lives."""

from retinue.utils.lazy import forward_module

__getattr__, __dir__ = forward_module(__name__, "retinue.visualization.video_visualizer")
