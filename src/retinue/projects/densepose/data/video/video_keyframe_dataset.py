"""Key frames of videos: those that are stored whole, so that no other need be decoded for them.

Reading needs PyAV (``pip install retinue[video]``).
"""

import csv
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from retinue.projects.densepose.data.image_list_dataset import one_category_each
from retinue.projects.densepose.data.utils import maybe_prepend_base_path
from retinue.projects.densepose.data.video.frame_selector import FrameSelector, FrameTsList
from retinue.utils.file_io import PathManager

__all__ = [
    "FrameList",
    "FrameTransform",
    "VideoKeyframeDataset",
    "list_keyframes",
    "read_keyframe_helper_data",
    "read_keyframes",
    "video_list_from_file",
]

FrameList = list[Any]
FrameTransform = Callable[[torch.Tensor], torch.Tensor]
logger = logging.getLogger(__name__)


def _open(path: str) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("reading videos needs PyAV: pip install retinue[video]") from error
    return av.open(PathManager.get_local_path(path))


def list_keyframes(video_fpath: str, video_stream_idx: int = 0) -> FrameTsList:
    """Return the time stamps of a video's key frames, in units of its time base.

    A video that can't be read is logged, and has none.
    """
    try:
        with _open(video_fpath) as container:
            stream = container.streams.video[video_stream_idx]
            packets = container.demux(stream)
            return sorted(p.pts for p in packets if p.is_keyframe and p.pts is not None)
    except (OSError, RuntimeError, IndexError) as error:
        logger.warning("%s has no key frames that can be read: %s", video_fpath, error)
        return []


def read_keyframes(
    video_fpath: str, keyframes: FrameTsList, video_stream_idx: int = 0
) -> FrameList:
    """Return PyAV's frames at time stamps of key frames, up to the first that can't be read."""
    frames: FrameList = []
    try:
        with _open(video_fpath) as container:
            stream = container.streams.video[video_stream_idx]
            for stamp in keyframes:
                container.seek(stamp, any_frame=False, stream=stream)
                frames.append(next(container.decode(stream)))
    except (OSError, RuntimeError, IndexError, StopIteration) as error:
        logger.warning("%s: %d frames read, then: %s", video_fpath, len(frames), error)
    return frames


def video_list_from_file(video_list_fpath: str, base_path: str | None = None) -> list[str]:
    """Return the paths in a text file, one a line; relative ones are below ``base_path``."""
    with PathManager.open(video_list_fpath, "r") as file:
        return [maybe_prepend_base_path(base_path, line.strip()) for line in file]


def read_keyframe_helper_data(fpath: str) -> dict[int, list[int]]:
    """Read the time stamps of key frames that were listed before.

    The file is CSV with columns ``video_id`` and ``keyframes``, such as ``2,"[1,11,21]"``. One that
    can't be read is logged, and gives none.
    """
    try:
        with PathManager.open(fpath, "r") as file:
            rows = list(csv.DictReader(file))
        pairs = [(int(row["video_id"]), row["keyframes"].strip("[] ")) for row in rows]
        stamps = {number: [int(s) for s in text.split(",") if s] for number, text in pairs}
    except (OSError, KeyError, ValueError) as error:
        logger.warning("%s: the list of key frames can't be read: %r", fpath, error)
        return {}
    if len(stamps) < len(pairs):
        logger.warning("%s names a video twice; its last line counts", fpath)
    return stamps


class VideoKeyframeDataset(Dataset[dict[str, Any]]):
    """Key frames of each video.

    Args:
        video_list: paths.
        category_list: what each video shows, or all of them.
        frame_selector: chooses among the time stamps; all by default.
        transform: of ``(N, 3, H, W)`` BGR.
        keyframe_helper_fpath: see :func:`read_keyframe_helper_data`; videos are numbered by
            ``video_list``.

    Raises:
        InputError: If there are not as many categories as videos.
    """

    def __init__(
        self,
        video_list: list[str],
        category_list: str | list[str] | None = None,
        frame_selector: FrameSelector | None = None,
        transform: FrameTransform | None = None,
        keyframe_helper_fpath: str | None = None,
    ) -> None:
        self.category_list = one_category_each(video_list, category_list)
        self.video_list = video_list
        self.frame_selector = frame_selector
        self.transform = transform
        self.keyframe_helper_data = (
            None
            if keyframe_helper_fpath is None
            else read_keyframe_helper_data(keyframe_helper_fpath)
        )

    def __getitem__(self, idx: int) -> dict[str, Any]:
        """Return ``images`` ``(N, 3, H, W)`` float32 BGR, and ``categories``, one for all.

        A video without a frame that can be read gives no image and no category.
        """
        path = self.video_list[idx]
        known = self.keyframe_helper_data or {}
        stamps = known[idx] if idx in known else list_keyframes(path)
        if self.frame_selector is not None:
            stamps = self.frame_selector(stamps)
        frames = read_keyframes(path, stamps) if stamps else []
        if not frames:
            return {"images": torch.zeros(0, 3, 1, 1), "categories": []}
        pixels = np.stack([frame.to_ndarray(format="bgr24") for frame in frames])
        images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
        if self.transform is not None:
            images = self.transform(images)
        return {"images": images, "categories": [self.category_list[idx]]}

    def __len__(self) -> int:
        return len(self.video_list)
