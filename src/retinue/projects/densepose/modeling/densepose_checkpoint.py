"""Reads checkpoints, also those of HRNet as its authors publish them."""

from typing import Any

from torch import nn

from retinue.checkpoint import DetectionCheckpointer

__all__ = ["DensePoseCheckpointer"]

HRNET_KEYS, HRNET_STAGE_KEYS = 1956, 1716  # which no other file has


class DensePoseCheckpointer(DetectionCheckpointer):
    """:class:`DetectionCheckpointer` that knows HRNet's weights by their number.

    Args:
        model: what is saved and loaded.
        save_dir: where files go.
        save_to_disk: whether this process writes; by default, the main one does.
        **checkpointables: what else is saved, by name.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        content = super()._load_file(filename)
        state = content["model"]
        num_stages = sum(key.startswith("stage") for key in state)
        if (len(state), num_stages) != (HRNET_KEYS, HRNET_STAGE_KEYS):
            return content
        return {"model": {f"backbone.bottom_up.{key}": value for key, value in state.items()}}
