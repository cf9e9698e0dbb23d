"""Frames of videos."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.data.video"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "FirstKFramesSelector": f"{_HERE}.frame_selector",
        "FrameSelectionStrategy": f"{_HERE}.frame_selector",
        "FrameSelector": f"{_HERE}.frame_selector",
        "FrameTsList": f"{_HERE}.frame_selector",
        "LastKFramesSelector": f"{_HERE}.frame_selector",
        "RandomKFramesSelector": f"{_HERE}.frame_selector",
        "VideoKeyframeDataset": f"{_HERE}.video_keyframe_dataset",
        "frame_selector": "",
        "list_keyframes": f"{_HERE}.video_keyframe_dataset",
        "read_keyframes": f"{_HERE}.video_keyframe_dataset",
        "video_keyframe_dataset": "",
        "video_list_from_file": f"{_HERE}.video_keyframe_dataset",
    },
)
