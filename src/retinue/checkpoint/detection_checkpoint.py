"""Checkpoints of detectors: ours, detectron2's, Detectron 1's, pycls's and safetensors.

What is read from a file, by its extension:
    ``.pkl``: detectron2's model zoo if it has the keys ``model`` and ``__author__``; Detectron 1's
    otherwise. Plain data only, see ``retinue.utils.restricted_pickle``.
    ``.pyth``: pycls's. ``.safetensors``: tensors alone. All others: what ``torch.save`` wrote.

Ending a path in ``?matching_heuristics=True`` matches names by their endings, see
``c2_model_loading``; Detectron 1's and pycls's names always are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from torch import nn

from retinue.checkpoint.c2_model_loading import align_and_update_state_dicts
from retinue.checkpoint.checkpointer import (
    Checkpointer,
    CheckpointError,
    DamagedFileError,
    IncompatibleKeys,
)
from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.restricted_pickle import RestrictedPickleError
from retinue.utils.restricted_pickle import load as load_pickle

__all__ = ["DetectionCheckpointer"]


class DetectionCheckpointer(Checkpointer):
    """Saves on the main process, and loads any detector's checkpoint in all of them.

    A process that can't read the file gets its content from the main process.

    Args:
        model: the model.
        save_dir: folder that checkpoints are saved in and resumed from.
        save_to_disk: whether this process saves; the main process alone by default.
        checkpointables: further objects by name.

    Example:
        ``DetectionCheckpointer(model).load("detectron2://ImageNetPretrained/MSRA/R-50.pkl")``
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        **checkpointables: Any,
    ) -> None:
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(model, save_dir, save_to_disk=save_to_disk, **checkpointables)
        self.path_manager = PathManager
        self._query = ""

    def load(
        self, path: str, checkpointables: Sequence[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Load a checkpoint, see ``Checkpointer.load``.

        Raises:
            OSError: If the main process can't read the file.
            ValueError: If the path ends in a query other than ``?matching_heuristics=True``.
        """
        if not path:
            return super().load(path, checkpointables, **kwargs)
        path, _, self._query = str(path).partition("?")
        try:
            return super().load(self._local_path(path), checkpointables, **kwargs)
        finally:
            self._query = ""

    def _local_path(self, path: str) -> str:
        path = self.path_manager.get_local_path(path)
        if comm.get_world_size() == 1 and not os.path.isfile(path):
            raise FileNotFoundError(f"checkpoint {path!r}: there is no such file")
        return path

    def _load_file(self, filename: str) -> dict[str, Any]:
        if comm.get_world_size() == 1:
            return self._read(filename)
        readable = comm.all_gather(os.path.isfile(filename))
        if not readable[0]:
            raise FileNotFoundError(f"checkpoint {filename!r}: the main process can't find it")
        if all(readable):
            return self._read(filename)
        absent = [rank for rank, found in enumerate(readable) if not found]
        self.logger.warning("%s is not on ranks %s: rank 0 sends it", filename, absent)
        outcome: Any = None
        if comm.is_main_process():
            try:
                outcome = self._read(filename)
            except Exception as error:  # the others are waiting to hear of it
                outcome = error
        outcome = comm.all_gather(outcome)[0]
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    def _read(self, path: str) -> dict[str, Any]:
        if path.endswith(".pkl"):
            return self._read_pickle(path)
        if path.endswith(".pyth"):
            return _from_pycls(path, self._torch_load(path))
        content = (
            _read_safetensors(path) if path.endswith(".safetensors") else self._torch_load(path)
        )
        if "model" not in content:
            content = {"model": content}
        queries = parse_qs(self._query)
        if queries.pop("matching_heuristics", []) == ["True"]:
            content["matching_heuristics"] = True
        if queries:
            raise ValueError(
                f"{path}?{self._query}: unknown query {', '.join(queries)};"
                " only ?matching_heuristics=True is known"
            )
        return content

    def _torch_load(self, f: str) -> Any:
        return super()._load_file(f)

    def _read_pickle(self, path: str) -> dict[str, Any]:
        with PathManager.open(path, "rb") as file:
            try:
                data = load_pickle(file, name=path)
            except RestrictedPickleError as error:
                raise CheckpointError(str(error)) from error
        if not isinstance(data, dict):
            raise CheckpointError(f"{path}: expected a dict of weights; got {type(data).__name__}")
        if "model" in data and "__author__" in data:
            self.logger.info("The file names its author: %s", data["__author__"])
            return data
        blobs = data.get("blobs", data)
        blobs = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
        return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys:
        if checkpoint.get("matching_heuristics"):
            self._convert_ndarray_to_tensor(checkpoint["model"])
            checkpoint["model"] = align_and_update_state_dicts(
                self.model.state_dict(),
                checkpoint["model"],
                c2_conversion=checkpoint.get("__author__") == "Caffe2",
            )
        incompatible = super()._load_model(checkpoint)
        # The config sets pixel statistics, which older files lack; older files have anchors, which
        # are computed nowadays. Neither is worth a word.
        from_config = {"pixel_mean", "pixel_std"} & {
            name for name, _ in self.model.named_buffers(recurse=False)
        }
        return IncompatibleKeys(
            [name for name in incompatible.missing_keys if name not in from_config],
            [n for n in incompatible.unexpected_keys if "anchor_generator.cell_anchors" not in n],
            incompatible.incorrect_shapes,
        )


def _from_pycls(path: str, content: dict[str, Any]) -> dict[str, Any]:
    if "model_state" not in content:
        raise InputError(
            f"{path}: a .pyth file is expected to be pycls's, with the key 'model_state'; it has"
            f" {', '.join(map(repr, content))}; rename it to .pth if it comes from elsewhere"
        )
    state = {
        k: v for k, v in content["model_state"].items() if not k.endswith("num_batches_tracked")
    }
    return {"model": state, "__author__": "pycls", "matching_heuristics": True}


def _read_safetensors(path: str) -> dict[str, Any]:
    import safetensors.torch

    try:
        return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise DamagedFileError(f"{path}: not a whole safetensors file ({error})") from error
