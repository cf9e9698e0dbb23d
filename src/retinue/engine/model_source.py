"""From what a user calls a model to its config and what is known beside it.

Reading order: ``find_model`` tells what it was given; a function for each kind follows.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retinue.checkpoint.reader import split_query
from retinue.checkpoint.sharded import is_shards
from retinue.config import CfgNode, get_cfg
from retinue.config.safe_yaml import load_yaml
from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.engine.class_names import read_class_names
from retinue.engine.detector import Detector
from retinue.utils.errors import InputError, close_names, unknown_name
from retinue.utils.file_io import PathManager

__all__ = ["DEMO", "ModelSource", "find_model"]

DEMO = Path(__file__).parents[1] / "model_zoo" / "demo"
_WEIGHT_SUFFIXES = (".pth", ".pkl", ".pt", ".safetensors", ".ckpt", ".bin")
_CONFIG_SUFFIXES = (".yaml", ".yml")


@dataclass
class ModelSource:
    """A model's config and what is known beside it.

    Attributes:
        cfg: not frozen. ``MODEL.WEIGHTS`` names the weights to start from.
        name: what it was asked for as.
        is_published: a model of the zoo, whose schedule is meant for COCO and 8 devices.
        metadata: what stands for each class and keypoint; empty if not known.
        planned: the config's solver as it came, before anything was set over it.
    """

    cfg: CfgNode
    name: str
    is_published: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)
    planned: CfgNode = field(init=False)

    def __post_init__(self) -> None:
        self.planned = self.cfg.SOLVER.clone()

    @property
    def class_names(self) -> list[str]:
        """Names of the classes; empty if not known."""
        return list(self.metadata.get("thing_classes", ()))


def find_model(model: Any = None, *, trained: bool = False) -> ModelSource:
    """Find what a user calls a model.

    Args:
        model: a name of the zoo, in full or its last part; a config file; a folder that a run
            wrote; a checkpoint with a ``config.yaml`` beside it; a config; a ``Detector``; or
            ``"demo"``. ``?weights=model`` and ``?weights=ema`` behind a name choose the weights.
        trained: for a model of the zoo, start from its published weights instead of those its
            config names.

    Raises:
        InputError: If a file or folder lacks what is needed.
        UnknownNameError: (a ``KeyError``) If there is no such model, with the nearest names.
    """
    if isinstance(model, Detector):
        known = {k: v for k, v in model.metadata.as_dict().items() if k != "name"}
        return ModelSource(model.cfg.clone(), model.source or "a detector", metadata=known)
    if isinstance(model, CfgNode):
        return ModelSource(model.clone(), "a config", metadata=_builtin_metadata(model))
    name = os.fspath(model) if model is not None else "demo"
    plain, asked = split_query(name)
    if asked:
        found = find_model(plain, trained=trained)
        found.cfg.MODEL.WEIGHTS += name.removeprefix(plain) if found.cfg.MODEL.WEIGHTS else ""
        return found
    if name == "demo":
        return _from_folder(DEMO, "demo")
    if is_shards(name):
        return _from_checkpoint(name)
    if os.path.isdir(name):
        return _from_folder(Path(name), name)
    if name.partition("?")[0].endswith(_WEIGHT_SUFFIXES):  # behind it a server's own query
        return _from_checkpoint(name)
    if name.endswith(_CONFIG_SUFFIXES) and PathManager.isfile(name):
        cfg = get_cfg()
        cfg.merge_from_file(name)
        return ModelSource(cfg, name, metadata=_builtin_metadata(cfg))
    return _from_zoo(name, trained=trained)


def _from_zoo(name: str, *, trained: bool) -> ModelSource:
    from retinue import model_zoo
    from retinue.model_zoo.presets import PRESETS

    if name.endswith(".py"):
        raise InputError(
            f"{name}: lazy configs are Python; build them by retinue.config.instantiate, or train"
            f" by `retinue run lazyconfig_train_net --config-file {name}`"
        )
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    ends = [known for known in PRESETS if known.rpartition("/")[2] == stem]
    if stem not in PRESETS and not ends:
        known = list(PRESETS) if "/" in stem else [n.rpartition("/")[2] for n in PRESETS]
        if name.endswith(_CONFIG_SUFFIXES) and not close_names(stem, known):
            raise InputError(f"config file {name!r} does not exist; nor has the zoo such a model")
        if os.path.isfile(name):
            suffixes = ", ".join((*_CONFIG_SUFFIXES, *_WEIGHT_SUFFIXES))
            raise InputError(f"file {name!r} is neither a config nor a checkpoint ({suffixes})")
        hint = "no file or folder has that name, either"
        raise unknown_name("model", name, known, hint, max_listed=0)
    if stem not in PRESETS and len(ends) > 1:
        raise InputError(f"model {name!r} stands for several: {', '.join(ends)}; name one in full")
    stem = stem if stem in PRESETS else ends[0]
    cfg = model_zoo.get_config(stem, trained=trained)
    return ModelSource(cfg, stem, is_published=True, metadata=_builtin_metadata(cfg))


def _from_folder(folder: Path, name: str) -> ModelSource:
    """Read the folder of a run: its config, its class names, its best or last checkpoint."""
    config = folder / "config.yaml"
    if not config.is_file():
        raise InputError(f"folder {name!r} has no config.yaml; is it the output of a run?")
    names = ["model_best.pth", "model_best", "model.safetensors", "model_final.pth", "model_final"]
    last = folder / "last_checkpoint"
    if last.is_file():
        names.append(last.read_text().strip())
    found = [folder / n for n in names if (folder / n).is_file() or is_shards(str(folder / n))]
    if not found:
        raise InputError(f"folder {name!r} has no checkpoint; looked for {', '.join(names)}")
    return _from_files(config, found[0], name)


def _from_checkpoint(path: str) -> ModelSource:
    if "://" not in path and not os.path.exists(path):
        raise InputError(f"checkpoint {path!r} does not exist")
    config = Path(path).parent / "config.yaml"
    if config.is_file():
        return _from_files(config, Path(path), path)
    record = _run_record(path)
    if "config" not in record:
        raise InputError(
            f"checkpoint {path!r} has no config.yaml beside it, so its model is unknown; give the"
            " model's name or config, and this file as its weights"
        )
    cfg = get_cfg()
    cfg.merge_from_other_cfg(CfgNode(load_yaml(record["config"])))
    cfg.MODEL.WEIGHTS = path
    return ModelSource(cfg, path, metadata={"thing_classes": list(record.get("classes") or ())})


def _run_record(path: str) -> dict[str, Any]:
    """Read what a checkpoint says of the run that wrote it; empty if it says nothing."""
    from retinue.checkpoint.reader import list_checkpoint

    return list_checkpoint(path).record


def _from_files(config: Path, weights: Path, name: str) -> ModelSource:
    cfg = get_cfg()
    cfg.merge_from_file(str(config))
    cfg.MODEL.WEIGHTS = str(weights)
    metadata = read_class_names(config.parent) or _builtin_metadata(cfg)
    return ModelSource(cfg, name, metadata=metadata)


def _builtin_metadata(cfg: CfgNode) -> dict[str, Any]:
    """Return what is known of the datasets a config names, if anything."""
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        if name in DatasetCatalog:
            return MetadataCatalog.get(name).as_dict()
    return {}
