"""``Detector``: a trained model that takes pictures and gives back named objects."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retinue.engine.picture_reader import NamedPicture, is_single, read_pictures
from retinue.structures import Instances

if TYPE_CHECKING:
    from torch import nn

    from retinue.config import CfgNode
    from retinue.utils.errors import InputError

__all__ = ["Detection", "Detector", "Names", "draw_instances"]


_FONT_SIZE = 1.3  # pages and phones show pictures smaller than they are


class Names(list):
    """The class name of each detection; indexed like the tensors of ``Instances``."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int):
            return super().__getitem__(index)
        if isinstance(index, slice):
            return Names(super().__getitem__(index))
        kept = np.arange(len(self))[np.asarray(index)]
        return Names(list.__getitem__(self, i) for i in kept.reshape(-1))


@dataclass(frozen=True)
class Detection:
    """What was found in one picture.

    Attributes:
        name: path of the picture, or its number if it came from memory.
        rgb: ``(H, W, 3)`` uint8, the picture.
        instances: the objects found, on the CPU.
    """

    name: str
    rgb: np.ndarray
    instances: Instances


def draw_instances(
    rgb: np.ndarray, instances: Instances, metadata: Any, *, scale: float | None = None
) -> np.ndarray:
    """Draw objects in the colour of their class, small pictures enlarged.

    Args:
        rgb: ``(H, W, 3)`` uint8.
        instances: predictions.
        metadata: names of classes and keypoints.
        scale: factor of the result's size; by default 1, or what brings the shorter side to 384.
    """
    from retinue.visualization.colors import palette_color
    from retinue.visualization.visualizer import Visualizer, _create_text_labels

    if scale is None:
        scale = max(1.0, round(384 / max(1, min(rgb.shape[:2]))))
    visualizer = Visualizer(rgb, metadata, scale=scale, font_size_scale=_FONT_SIZE)
    classes = instances.pred_classes.tolist()
    has = instances.has
    return visualizer.overlay_instances(
        boxes=instances.pred_boxes,
        masks=list(instances.pred_masks.numpy()) if has("pred_masks") else None,
        keypoints=instances.pred_keypoints if has("pred_keypoints") else None,
        labels=_create_text_labels(classes, instances.scores, metadata.get("thing_classes")),
        assigned_colors=[palette_color(c) for c in classes],
    ).get_image()


class Detector:
    """A model ready to use.

    Predictions come from a private copy that is prepared for speed when first needed; after
    changing the model's weights, make a new ``Detector``.

    Args:
        cfg: its config. Sizes, channel order and thresholds are taken from it.
        model: the model, in evaluation mode or not; it is put there.
        metadata: names of classes (``thing_classes``) and keypoints; classes are numbers without.
        source: where it came from, for people.

    Example:
        ``retinue.load("output/train").predict("street.jpg").pred_class_names``
    """

    def __init__(
        self, cfg: CfgNode, model: nn.Module, metadata: Mapping[str, Any] = {}, source: str = ""
    ) -> None:
        from retinue.data.catalog import Metadata
        from retinue.data.transforms import ResizeShortestEdge

        self.cfg = cfg
        self.model = model.eval()
        self.metadata = Metadata().set(**dict(metadata))
        self.source = source
        self._resize = ResizeShortestEdge(
            [cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST], cfg.INPUT.MAX_SIZE_TEST
        )

    def __repr__(self) -> str:
        kind = self.cfg.MODEL.META_ARCHITECTURE
        return f"Detector({kind}, {len(self.class_names)} classes, from {self.source or 'memory'})"

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, by number."""
        return list(self.metadata.get("thing_classes", ()))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @cached_property
    def _prepared(self) -> nn.Module:
        from retinue.modeling.optimize import optimize_for_inference

        return optimize_for_inference(self.model)

    def predict(
        self,
        images: Any,
        *,
        threshold: float | None = None,
        batch_size: int | None = None,
        channels: str = "RGB",
    ) -> Any:
        """Find objects.

        Args:
            images: one picture or several: see ``retinue.engine.picture_reader.read_pictures``.
            threshold: lowest score; by default what the config says.
            batch_size: pictures of one size that go through the model together; by default 8 on
                an accelerator, 1 on a CPU. A picture's result does not depend on it.
            channels: order of colours in arrays and tensors, ``"RGB"`` or ``"BGR"``.

        Returns:
            ``Instances`` with ``pred_boxes``, ``scores``, ``pred_classes``, ``pred_class_names``
            and, by model, ``pred_masks`` and ``pred_keypoints``, in the picture's own pixels. For
            several pictures, a list of them.
        """
        found = self.stream(images, threshold=threshold, batch_size=batch_size, channels=channels)
        results = [d.instances for d in found]
        return results[0] if is_single(images) else results

    __call__ = predict

    def stream(
        self,
        images: Any,
        *,
        threshold: float | None = None,
        batch_size: int | None = None,
        channels: str = "RGB",
        on_unreadable: Callable[[InputError], object] | None = None,
    ) -> Iterator[Detection]:
        """Find objects in any number of pictures, holding one batch in memory at a time.

        Args:
            images: as for ``predict``, like the others.
            threshold: lowest score.
            batch_size: pictures that go through the model together.
            channels: order of colours.
            on_unreadable: given the error of a file that can't be read, which is then left out; by
                default the error is raised.
        """
        if batch_size is None:
            batch_size = 1 if self.device.type == "cpu" else 8
        read = read_pictures(images, channels=channels, on_unreadable=on_unreadable)
        pictures = ((p, self._input(p)) for p in read)
        # Pictures of one size only, so that nothing is padded and neighbours don't matter.
        for _, group in itertools.groupby(pictures, key=lambda pair: pair[1]["image"].shape):
            while batch := list(itertools.islice(group, batch_size)):
                yield from self._run(batch, threshold)

    def _input(self, picture: NamedPicture) -> dict[str, Any]:
        """Resize a picture and put its channels in the model's order."""
        height, width = picture.rgb.shape[:2]
        image = self._resize.get_transform(picture.rgb).apply_image(picture.rgb)
        if self.cfg.INPUT.FORMAT == "BGR":
            image = image[..., ::-1]
        tensor = torch.from_numpy(np.array(image.transpose(2, 0, 1)))
        return {"image": tensor, "height": height, "width": width}

    def _run(
        self, batch: list[tuple[NamedPicture, dict[str, Any]]], threshold: float | None
    ) -> Iterator[Detection]:
        with torch.inference_mode():
            outputs = self._prepared([one for _, one in batch])
        for (picture, _), output in zip(batch, outputs, strict=True):
            found = output["instances"].to("cpu")
            if threshold is not None:
                found = found[found.scores >= threshold]
            names = self.class_names
            classes = found.pred_classes.tolist()
            found.pred_class_names = Names(names[c] if c < len(names) else str(c) for c in classes)
            yield Detection(picture.name, picture.rgb, found)

    def draw(self, image: Any, instances: Instances | None = None, **options: Any) -> np.ndarray:
        """Draw what is found in one picture (or ``instances``); return ``(H, W, 3)`` uint8 RGB."""
        picture = next(read_pictures(image, channels=options.pop("channels", "RGB")))
        if instances is None:
            instances = self.predict(picture.rgb, **options)
        return draw_instances(picture.rgb, instances, self.metadata)

    def save(self, folder: str | Path, *, half: bool = False) -> Path:
        """Write config, class names and weights to a folder that ``retinue.load`` reads.

        Args:
            folder: made if need be.
            half: store weights as float16, at half the size.
        """
        from safetensors.torch import save

        from retinue.engine.class_names import write_class_names
        from retinue.utils.file_io import atomic_write

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: (v.half() if half and v.dtype == torch.float32 else v).detach().cpu().contiguous()
            for name, v in self.model.state_dict().items()
        }
        cfg = copy.deepcopy(self.cfg)
        cfg.defrost()
        cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = "", "."
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ()  # files of this machine mean nothing elsewhere
        with atomic_write(folder / "config.yaml", "w") as f:
            f.write(cfg.dump())
        write_class_names(folder, self.metadata)
        with atomic_write(folder / "model.safetensors", "wb") as f:
            f.write(save(weights))
        return folder
