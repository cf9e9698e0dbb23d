"""One reader for any checkpoint.

``read_checkpoint`` takes a path or an address and returns weights by name and whatever else there
is; ``list_checkpoint`` the same without reading tensors. Formats are read in ``files``; here their
contents are understood: where the weights are, who wrote them, what is said of them.

Understood contents:
    detectron2's: ``{"model": weights, ...}``; a pickle also has ``__author__``.
    Detectron 1's: a pickle of blobs, maybe under ``blobs``; pycls's: ``model_state`` in ``.pyth``.
    Others': weights under ``state_dict``, ``model_state_dict`` and the like; bare state dicts.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from retinue.checkpoint.errors import CheckpointError
from retinue.checkpoint.files import find_format, list_file, read_file
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.torch_archive import TensorInfo

__all__ = [
    "Checkpoint",
    "has_averages",
    "list_checkpoint",
    "local_copy",
    "read_checkpoint",
    "record_of",
    "split_query",
    "understand",
]

logger = logging.getLogger(__name__)

WEIGHT_KEYS = ("model", "state_dict", "model_state_dict", "model_state", "weights", "params", "net")
EMA_KEYS = ("model_ema", "ema_state_dict", "state_dict_ema", "ema_model", "ema_state", "ema")
KNOWN_QUERIES = ("weights", "matching_heuristics")
MARKS = ("author", "matching_heuristics")
RECORD = "retinue"
"""Key of our record in a safetensors file: JSON with classes, config, versions and metrics."""


@dataclass
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        weights: name -> tensor (``TensorInfo`` if only listed).
        path: of the file on this machine.
        format: see ``retinue.checkpoint.files``.
        author: what the file says, or whose kind of file it is.
        matching_heuristics: whether names are to be matched by their endings.
        record: what the run that wrote it says: ``classes``, ``config``, versions, metrics.
        rest: everything else, such as ``optimizer`` and ``iteration``.
    """

    weights: dict[str, Any]
    path: str = ""
    format: str = ""
    author: str = ""
    matching_heuristics: bool = False
    record: dict[str, Any] = field(default_factory=dict)
    rest: dict[str, Any] = field(default_factory=dict)

    @property
    def class_names(self) -> list[str]:
        """The classes it was trained on; empty if unknown."""
        classes = self.record.get("classes")
        return [str(name) for name in classes] if isinstance(classes, list | tuple) else []


def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    trust: bool = False,
    mmap: bool = False,
    weights: str = "model",
) -> Checkpoint:
    """Read any checkpoint, on the CPU, without running code from it.

    Args:
        path: file, folder or address; ``?weights=ema`` and ``?matching_heuristics=True`` behind it
            are known.
        trust: run whatever code the file holds; the log says so. For files of your own only.
        mmap: leave tensors in the file until they are used, where the format allows. The file must
            not be cut while they live.
        weights: ``"model"``, or ``"ema"`` for the averaged weights that training kept beside it.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If it can't be downloaded.
        DamagedFileError: If it is not whole, or claims more than it holds.
        CheckpointError: If it holds what could run code, or no weights.

    Example:
        ``read_checkpoint("detectron2://ImageNetPretrained/MSRA/R-50.pkl").weights["conv1_w"]``
    """
    path, asked = split_query(path)
    local = local_copy(path)
    content, kind = read_file(local, trust=trust, mmap=mmap)
    return _checkpoint(content, local, kind, {"weights": weights} | asked)


def list_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint with a ``TensorInfo`` for each tensor; see ``read_checkpoint``."""
    path, asked = split_query(path)
    local = local_copy(path)
    content, kind = list_file(local)
    return _checkpoint(content, local, kind, asked)


def has_averages(path: str | os.PathLike[str]) -> bool:
    """Say whether a run of ours kept averaged weights in a file or folder of this machine.

    Those are what it evaluated. A file that can't be read without trust has none.
    """
    try:
        if find_format(os.fspath(path))[0] not in ("torch", "distributed"):
            return False
        content, _ = list_file(os.fspath(path))
    except (OSError, CheckpointError):
        return False
    return isinstance(content, dict) and all(
        isinstance(content.get(key), dict) for key in ("model_ema", "run")
    )


def split_query(path: str | os.PathLike[str]) -> tuple[str, dict[str, str]]:
    """Take what is asked for behind a path off it.

    >>> split_query("model_final.pth?weights=ema")
    ('model_final.pth', {'weights': 'ema'})
    """
    path, asked = os.fspath(path), {}
    while found := re.search(rf"[?&]({'|'.join(KNOWN_QUERIES)})=(\w+)$", path):
        path = path[: found.start()]
        asked[found[1]] = found[2]
    return path, asked


def local_copy(path: str | os.PathLike[str]) -> str:
    """Return where ``path`` lies on this machine, after a download if need be, shards included."""
    path = os.fspath(path)
    local = str(PathManager.get_local_path(path))
    if path.endswith(".index.json") and "://" in path:
        with open(local, encoding="utf-8") as file:
            shards = set(json.load(file).get("weight_map", {}).values())
        for shard in shards:
            PathManager.get_local_path(f"{path.rpartition('/')[0]}/{os.path.basename(shard)}")
    return local


def _checkpoint(content: Any, path: str, kind: str, asked: Mapping[str, str]) -> Checkpoint:
    content = understand(content, path, kind, weights=asked.get("weights", "model"))
    if asked.get("matching_heuristics") == "True":
        content["matching_heuristics"] = True
    record = {k: v for k, v in record_of(content).items() if k not in MARKS}
    state = content["model"]
    rest = {key: content[key] for key in content if key not in ("model", "metadata", "run")}
    if record and isinstance(rest.get("metrics"), dict):  # training writes them beside the rest
        record.setdefault("metrics", rest["metrics"])
    return Checkpoint(
        {name: _tensor(value, name, path) for name, value in state.items()},
        path,
        kind,
        str(rest.pop("__author__", "")),
        bool(rest.pop("matching_heuristics", False)),
        record,
        rest,
    )


def _tensor(value: Any, name: str, path: str) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return torch.from_numpy(value)
    if not isinstance(value, torch.Tensor | TensorInfo):
        raise CheckpointError(
            f"{path}: {name!r} must be a tensor or an array; got {type(value).__name__}"
        )
    return value


def record_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the run that wrote a checkpoint says of itself: classes, config, versions."""
    record = content.get("run")
    if isinstance(record, dict):
        return record
    metadata = content.get("metadata")  # the strings that a safetensors file carries
    if not isinstance(metadata, Mapping):
        return {}
    record = {key: value for key, value in metadata.items() if key != RECORD}
    try:
        ours = json.loads(metadata.get(RECORD, "{}"))
    except (TypeError, ValueError, RecursionError):
        ours = {}
    return record | (ours if isinstance(ours, dict) else {})


def understand(content: Any, path: str, kind: str, *, weights: str = "model") -> dict[str, Any]:
    """Turn a file's content into ``{"model": weights, ...}``, as detectron2 does and further.

    Args:
        content: what ``read_file`` returned.
        path: whose ending tells pycls's files.
        kind: the format.
        weights: ``"model"`` or ``"ema"``.

    Returns:
        A dict that also has ``__author__`` and ``matching_heuristics`` where they apply.

    Raises:
        CheckpointError: If there are no weights in it.
    """
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict of weights; got {type(content).__name__}")
    if weights == "ema":
        return _averaged(content, path)
    if weights != "model":
        raise InputError(f"weights must be 'model' or 'ema'; got {weights!r}")
    if path.endswith(".pyth"):
        return _from_pycls(path, content)
    if kind == "pickle":
        return _from_pickle(path, content)
    if isinstance(content.get("model"), dict):
        return content | _marks(content)
    for key in WEIGHT_KEYS:
        if isinstance(content.get(key), dict) and _has_tensors(content[key]):
            rest = {name: value for name, value in content.items() if name != key}
            return {"model": _inner_state(content[key]), **rest}
    if "model" in content or not _has_tensors(content):
        keys = ", ".join(repr(key) for key in list(content)[:20])
        raise CheckpointError(f"{path}: no weights found; it has {keys or 'nothing'}")
    return {"model": content}


def _marks(content: Mapping[str, Any]) -> dict[str, Any]:
    """Take out of a safetensors file's record what the other formats have beside the weights."""
    record = record_of(content) if "metadata" in content else {}
    marks = {"__author__": record.get("author"), "matching_heuristics": record.get(MARKS[1])}
    return {key: value for key, value in marks.items() if value}


def _has_tensors(state: Mapping[Any, Any]) -> bool:
    if not state:
        return True
    kinds = torch.Tensor | np.ndarray | TensorInfo
    return any(isinstance(value, kinds) for value in _inner_state(state).values())


def _inner_state(state: Any) -> Any:
    """Look into a state dict inside a dict: ``{"module": weights}``."""
    for key in ("state_dict", "module", "model", "shadow"):
        if isinstance(state.get(key), dict):
            return state[key]
    return state


def _averaged(content: dict[str, Any], path: str) -> dict[str, Any]:
    for key in EMA_KEYS:
        if isinstance(content.get(key), dict):
            rest = {k: v for k, v in content.items() if k not in (key, *WEIGHT_KEYS)}
            return {"model": _inner_state(content[key]), **rest}
    raise CheckpointError(
        f"{path}: no averaged weights in it; looked for {', '.join(EMA_KEYS)}; it has"
        f" {', '.join(map(repr, list(content)[:20]))}"
    )


def _from_pycls(path: str, content: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(content.get("model_state"), dict):
        raise InputError(
            f"{path}: a .pyth file is expected to be pycls's, with the key 'model_state'; it has"
            f" {', '.join(map(repr, content))}; rename it to .pth if it comes from elsewhere"
        )
    state = {
        k: v for k, v in content["model_state"].items() if not k.endswith("num_batches_tracked")
    }
    return {"model": state, "__author__": "pycls", "matching_heuristics": True}


def _from_pickle(path: str, content: dict[str, Any]) -> dict[str, Any]:
    if "model" in content and "__author__" in content:
        if not isinstance(content["model"], dict):
            raise CheckpointError(f"{path}: its 'model' is no dict of weights")
        logger.info("Reading a file from '%s'", content["__author__"])
        return content
    blobs = content.get("blobs", content)
    if not blobs or not isinstance(blobs, dict) or not all(isinstance(n, str) for n in blobs):
        raise CheckpointError(f"{path}: no weights found in it; expected names and arrays")
    blobs = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
    return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}
