"""The picture that a visualizer draws on, and gives back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retinue.utils.file_io import atomic_write
from retinue.visualization.canvas import Canvas
from retinue.visualization.colors import to_rgb
from retinue.visualization.labels import Label, Rect, arrange

__all__ = ["VisImage"]

_DPI = 100.0  # matplotlib's default, so that sizes in points come out as there
_POINTS_PER_INCH = 72.0
_VECTOR_FORMATS = (".svg", ".eps", ".ps", ".pgf", ".svgz")


class VisImage:
    """A picture with drawings on it.

    Shapes are painted with Pillow at once; texts are kept back and written when the picture is
    asked for, over everything else, so that they stay readable and off one another.

    Args:
        img: ``(H, W, 3)`` RGB in 0..255.
        scale: enlarges the result.

    Attributes:
        img: the picture as it came.
        scale: as given.
        width: columns of ``img``.
        height: rows of ``img``.
        dpi: dots an inch; sizes of fonts and lines in points refer to it.
        painter: draws shapes, in pixels of the enlarged picture.
        fig: a matplotlib figure that shows the picture, made when first asked for.
        ax: its axes, in pixels of ``img``; what is drawn on them is part of the result.
        canvas: its canvas.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.img = img
        self.scale = scale
        self.width, self.height = img.shape[1], img.shape[0]
        self.dpi = _DPI
        self._figure: dict[str, Any] = {}
        self._labels: list[Label] = []
        self._obstacles: list[Rect] = []
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Replace the picture and what was painted on it; texts stay."""
        picture = Image.fromarray(np.ascontiguousarray(img).astype(np.uint8)).convert("RGB")
        # The small summand keeps 0.999... from becoming one pixel less.
        size = int(self.width * self.scale + 1e-2), int(self.height * self.scale + 1e-2)
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BILINEAR)
        self.painter = Canvas(picture)

    def pixels(self, points: float) -> float:
        """Convert a size in points to pixels of the result."""
        return points * self.scale * self.dpi / _POINTS_PER_INCH

    def add_label(self, label: Label) -> None:
        """Keep a text to be written over the finished picture."""
        self._labels.append(label)

    def avoid(self, rect: Rect) -> None:
        """Ask that texts stay off a rectangle, in pixels of the result, where they can."""
        self._obstacles.append(rect)

    def _finished(self) -> Image.Image:
        canvas = Canvas(self.painter.image.copy())
        places = arrange(self._labels, canvas.image.size, self._obstacles)
        for label, place in zip(self._labels, places, strict=True):
            canvas.tag(
                label.text,
                place,
                size=label.size,
                color=to_rgb(label.color),
                background=label.background,
                background_alpha=label.background_alpha,
                rotation=label.rotation,
            )
        return canvas.image

    def get_image(self) -> np.ndarray:
        """Return the result, ``(H * scale, W * scale, 3)`` uint8 RGB."""
        image = np.array(self._finished())
        if not self._figure:
            return image
        self._figure["shown"].set_data(image)
        self.canvas.draw()
        return np.asarray(self.canvas.buffer_rgba())[..., :3].copy()

    def save(self, filepath: Any) -> None:
        """Write the result to a file of the format that its name ends in; PNG if it has no end."""
        if hasattr(filepath, "write"):
            Image.fromarray(self.get_image()).save(filepath, "PNG")
            return
        path = Path(filepath)
        if path.suffix.lower() in _VECTOR_FORMATS:
            self.get_image()
            self.fig.savefig(path)
            return
        path = path if path.suffix else path.with_suffix(".png")
        form = Image.registered_extensions().get(path.suffix.lower(), "PNG")
        with atomic_write(path, "wb") as f:
            Image.fromarray(self.get_image()).save(f, form, **_SAVE_OPTIONS.get(form, {}))

    def _setup_figure(self, img: np.ndarray) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "VisImage.fig and .ax need matplotlib: pip install 'retinue[plot]'"
            ) from error
        size = self.painter.image.size
        figure = Figure(frameon=False, dpi=self.dpi)
        figure.set_size_inches((size[0] + 1e-2) / self.dpi, (size[1] + 1e-2) / self.dpi)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.axis("off")
        shown = axes.imshow(
            img, extent=(0, self.width, self.height, 0), interpolation="nearest", zorder=-10
        )
        self._figure.update(fig=figure, ax=axes, canvas=FigureCanvasAgg(figure), shown=shown)

    def _figure_part(self, name: str) -> Any:
        if not self._figure:
            self._setup_figure(np.array(self._finished()))
        return self._figure[name]

    @property
    def fig(self) -> Any:
        return self._figure_part("fig")

    @property
    def ax(self) -> Any:
        return self._figure_part("ax")

    @property
    def canvas(self) -> Any:
        return self._figure_part("canvas")


_SAVE_OPTIONS: dict[str, dict[str, Any]] = {"JPEG": {"quality": 92}, "PNG": {"compress_level": 4}}
