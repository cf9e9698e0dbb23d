"""``retinue run demo``: draw what a model finds in pictures, a video or the webcam."""

from __future__ import annotations

import argparse
import glob
import os
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from retinue.compat.tools.common import config_file_of
from retinue.compat.tools.pictures import save_picture, show_picture
from retinue.config import CfgNode
from retinue.data.catalog import Metadata, MetadataCatalog
from retinue.data.detection_utils import read_image
from retinue.engine import DefaultPredictor
from retinue.projects.files import read_config
from retinue.utils.errors import InputError
from retinue.utils.logger import setup_logger
from retinue.visualization import ColorMode, VideoVisualizer, Visualizer

__all__ = ["draw", "main"]

_SCORE_KEYS = (
    "MODEL.RETINANET.SCORE_THRESH_TEST",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH",
)


def draw(visualizer: Any, predictions: dict[str, Any], *frame: np.ndarray) -> np.ndarray:
    """Draw the panoptic result, or the semantic one and the objects; return RGB.

    Args:
        visualizer: a ``Visualizer``, or a ``VideoVisualizer`` with the frame to draw on.
        predictions: what the model returned for one picture.
        frame: ``(H, W, 3)`` RGB.
    """
    drawn = None
    if "panoptic_seg" in predictions:
        labels, segments = predictions["panoptic_seg"]
        drawn = visualizer.draw_panoptic_seg_predictions(*frame, labels.to("cpu"), segments)
    else:
        if "sem_seg" in predictions:
            labels = predictions["sem_seg"].argmax(dim=0).to("cpu")
            drawn = visualizer.draw_sem_seg(*frame, labels)
        if "instances" in predictions:
            instances = predictions["instances"].to("cpu")
            drawn = visualizer.draw_instance_predictions(*frame, instances)
    if drawn is None:
        raise InputError(f"the model gives {sorted(predictions)}; nothing of it can be drawn")
    picture: np.ndarray = drawn.get_image()
    return picture


def _config(args: argparse.Namespace) -> CfgNode:
    cfg: Any = read_config(config_file_of(args.config_file))
    cfg.merge_from_list(args.opts)
    for key in _SCORE_KEYS:
        cfg.merge_from_list([key, args.confidence_threshold])
    cfg.freeze()
    return cfg


def _summary(predictions: dict[str, Any]) -> str:
    found = predictions.get("instances")
    return "finished" if found is None else f"detected {len(found)} instances"


def _files(paths: list[str], output: str | None) -> list[str]:
    """Return the pictures to draw on; several need a folder to go to, which is made."""
    files = sorted(glob.glob(os.path.expanduser(paths[0]))) if len(paths) == 1 else paths
    for path in files or paths:
        if not os.path.isfile(path):
            raise InputError(f"--input: there is no file {path!r}")
    if len(files) > 1 and output is not None and not os.path.isdir(output):
        if os.path.exists(output) or os.path.splitext(output)[1]:
            raise InputError(
                f"--output: expected a folder for {len(files)} pictures; got {output!r}"
            )
        os.makedirs(output)
    return files


def _pictures(files: list[str], output: str | None, predictor: Any, metadata: Any) -> None:
    is_folder = output is not None and os.path.isdir(output)
    for path in files:
        image = read_image(path, "BGR")
        start = time.perf_counter()
        predictions = predictor(image)
        print(f"{path}: {_summary(predictions)} in {time.perf_counter() - start:.2f}s")
        picture = draw(
            Visualizer(image[:, :, ::-1], metadata, instance_mode=ColorMode.IMAGE), predictions
        )
        if output is None:
            show_picture(path, picture)
        else:
            name = os.path.join(output, os.path.basename(path)) if is_folder else output
            save_picture(name, picture)
            print(f"-> {name}")


def _av() -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("videos need PyAV: pip install retinue[video]") from error
    return av


def _drawn(frames: Iterable[np.ndarray], predictor: Any, metadata: Any) -> Iterator[np.ndarray]:
    """Draw each RGB frame; an object keeps its colour from frame to frame."""
    visualizer = VideoVisualizer(metadata, ColorMode.IMAGE)
    for frame in frames:
        yield draw(visualizer, predictor(frame[:, :, ::-1]), frame)


def _video_output(path: str, output: str | None) -> str:
    """Return the video to write for the one at ``path``, which can be read."""
    if not os.path.isfile(path):
        raise InputError(f"--video-input: there is no file {path!r}")
    if output is None:
        raise InputError("--video-input: name the video to write with --output")
    if os.path.isdir(output):
        output = os.path.join(output, os.path.splitext(os.path.basename(path))[0] + ".mp4")
    if os.path.exists(output):
        raise InputError(f"--output: {output!r} is there already")
    av = _av()
    try:
        with av.open(path) as source:
            if source.streams.video:
                return output
    except av.error.FFmpegError as error:
        raise InputError(f"--video-input: {path!r} cannot be read as a video ({error})") from error
    raise InputError(f"--video-input: {path!r} has no pictures in it")


def _video(path: str, output: str, predictor: Any, metadata: Any) -> None:
    av = _av()
    with av.open(path) as source, av.open(output, "w") as target:
        stream = source.streams.video[0]
        rate = stream.average_rate or Fraction(30)
        frames = (frame.to_ndarray(format="rgb24") for frame in source.decode(stream))
        written = None
        for picture in _drawn(frames, predictor, metadata):
            picture = picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]
            if written is None:
                written = target.add_stream("mpeg4", rate=rate)
                written.height, written.width = picture.shape[:2]
                written.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            target.mux(written.encode(frame))
        if written is not None:
            target.mux(written.encode(None))
    print(f"-> {output}")


def _webcam(predictor: Any, metadata: Any) -> None:
    try:
        import cv2
    except ImportError as error:
        raise ImportError("--webcam needs OpenCV: pip install opencv-python") from error
    camera = cv2.VideoCapture(0)
    if not camera.isOpened():
        raise InputError("--webcam: there is no webcam, or this program may not use it")

    def frames() -> Iterator[np.ndarray]:
        while (read := camera.read())[0]:
            yield read[1][:, :, ::-1]

    try:
        for picture in _drawn(frames(), predictor, metadata):
            cv2.imshow("retinue", picture[:, :, ::-1])
            if cv2.waitKey(1) == 27:  # Esc
                break
    finally:
        camera.release()
        cv2.destroyAllWindows()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Draw what a model finds.")
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="a config file or a name of the zoo")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--webcam", action="store_true", help="look through the webcam")
    source.add_argument("--video-input", metavar="FILE", help="a video")
    source.add_argument("--input", nargs="+", metavar="FILE", help="pictures, or one pattern")
    add("--output", help="file or folder to write; pictures are shown without it")
    add("--confidence-threshold", type=float, default=0.5, help="lowest score")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the command line."""
    args = parse()
    setup_logger(name="fvcore")  # checkpoints and counts of operators are its lines
    setup_logger()
    cfg = _config(args)
    # What is wrong with the files is said before a model is loaded.
    files = _files(args.input, args.output) if args.input else []
    video = _video_output(args.video_input, args.output) if args.video_input else ""
    predictor = DefaultPredictor(cfg)
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0]) if cfg.DATASETS.TEST else Metadata()
    if args.input:
        _pictures(files, args.output, predictor, metadata)
    elif video:
        _video(args.video_input, video, predictor, metadata)
    else:
        _webcam(predictor, metadata)
