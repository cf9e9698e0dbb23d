"""The writers that a training has unless it is told otherwise."""

from __future__ import annotations

from retinue.utils.events import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter
from retinue.utils.file_io import PathManager

__all__ = ["default_writers"]


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Make the writers for the console, ``metrics.json``, and TensorBoard where it is installed.

    Args:
        output_dir: folder for the files.
        max_iter: iterations of the run, for the time left.
    """
    PathManager.mkdirs(output_dir)
    writers = [CommonMetricPrinter(max_iter), JSONWriter(f"{output_dir}/metrics.json")]
    if _has_tensorboard():
        writers.append(TensorboardXWriter(output_dir))
    return writers


def _has_tensorboard() -> bool:
    import importlib.util

    return importlib.util.find_spec("tensorboard") is not None
