"""Drawing predictions and annotations, plots, and report pages."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ColorMode": "retinue.visualization.visualizer",
        "GenericMask": "retinue.visualization.generic_mask",
        "VideoVisualizer": "retinue.visualization.video_visualizer",
        "VisImage": "retinue.visualization.vis_image",
        "Visualizer": "retinue.visualization.visualizer",
        "write_report": "retinue.visualization.report",
    },
)
