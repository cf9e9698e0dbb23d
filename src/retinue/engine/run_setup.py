"""What a run needs before it starts: a config, data with names, heads and a schedule that fit.

Reading order: ``find_model`` turns a name, file or folder into a config; ``find_data`` finds COCO
files and ``DataSource.register`` names them; ``fit_heads`` and ``fit_schedule`` adjust the config.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retinue.checkpoint.reader import split_query
from retinue.checkpoint.sharded import is_shards
from retinue.config import CfgNode, get_cfg
from retinue.config.safe_yaml import load_yaml
from retinue.data.catalog import DatasetCatalog, Metadata, MetadataCatalog
from retinue.data.health import DataReport
from retinue.engine.detector import Detector
from retinue.utils.download import DownloadError
from retinue.utils.errors import InputError, close_names, unknown_name
from retinue.utils.file_io import PathManager, atomic_write

__all__ = [
    "DEMO",
    "DataSource",
    "ModelSource",
    "fetch_weights",
    "find_data",
    "find_model",
    "fit_heads",
    "fit_schedule",
    "fit_workers",
    "read_class_names",
    "tell_apart",
    "warn_of_frozen_noise",
    "write_class_names",
]

logger = logging.getLogger(__name__)

DEMO = Path(__file__).parents[1] / "model_zoo" / "demo"
_MIN_EVAL_PERIOD = 100  # iterations; shorter runs are evaluated at their end only
_CLASSES_FILE = "classes.json"
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
    if name.endswith(_WEIGHT_SUFFIXES):
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


_SAVED = ("thing_classes", "keypoint_names", "keypoint_flip_map", "keypoint_connection_rules")


def write_class_names(folder: str | Path, metadata: Any) -> None:
    """Write the names of classes and keypoints into the folder of a run.

    Args:
        folder: the folder.
        metadata: ``Metadata``, a dict like it, or just the list of class names.
    """
    if isinstance(metadata, Sequence):
        metadata = {"thing_classes": list(metadata)}
    known = {name: metadata.get(name) for name in _SAVED if metadata.get(name)}
    with atomic_write(Path(folder) / _CLASSES_FILE, "w") as f:
        json.dump(known, f, indent=1)


def read_class_names(folder: str | Path) -> dict[str, Any]:
    """Read what ``write_class_names`` wrote; empty if it wrote nothing."""
    path = Path(folder) / _CLASSES_FILE
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


@dataclass(frozen=True)
class DataSource:
    """A dataset.

    Attributes:
        name: in the catalogs.
        json_file: COCO annotations; empty if the name is registered already.
        image_root: folder of the images.
    """

    name: str
    json_file: str = ""
    image_root: str = ""

    def register(self) -> Metadata:
        """Put it into the catalogs, once; return its metadata, which loading it completes."""
        metadata = MetadataCatalog.get(self.name)
        if self.json_file and self.name not in DatasetCatalog:
            DatasetCatalog.register(self.name, _ReadAhead(self._load))
            files = {"json_file": self.json_file, "image_root": self.image_root}
            metadata.set(**files, evaluator_type="coco")
        return metadata

    def _load(self) -> list[dict[str, Any]]:
        from retinue.data.datasets.coco import convert_coco
        from retinue.data.datasets.coco_file import read_annotation_file

        content = read_annotation_file(self.json_file)
        MetadataCatalog.get(self.name).set(**_keypoint_metadata(content.get("categories", [])))
        return convert_coco(content, self.json_file, self.image_root, self.name)


class _ReadAhead:
    """Loads a dataset; every second caller gets what the one before has loaded.

    So the check of the data and the loader after it read a file once, and nothing is kept while a
    model trains.
    """

    def __init__(self, load: Callable[[], list[dict[str, Any]]]) -> None:
        self._load = load
        self._loaded: list[dict[str, Any]] | None = None

    def __call__(self) -> list[dict[str, Any]]:
        if self._loaded is None:
            self._loaded = self._load()
            return self._loaded
        loaded, self._loaded = self._loaded, None
        return loaded


def _keypoint_metadata(categories: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Read names, skeleton and mirror pairs of keypoints from a file's categories, if any has."""
    from retinue.visualization.colors import PALETTE, to_bytes

    for category in categories:
        names = category.get("keypoints")
        if names:
            pairs = [(n, n.replace("left", "right")) for n in names if "left" in n]
            bones = [(names[a - 1], names[b - 1]) for a, b in category.get("skeleton", [])]
            return {
                "keypoint_names": list(names),
                "keypoint_flip_map": [p for p in pairs if p[1] in names],
                "keypoint_connection_rules": [
                    (a, b, to_bytes(PALETTE[i % len(PALETTE)])) for i, (a, b) in enumerate(bones)
                ],
            }
    return {}


def find_data(data: Any) -> list[DataSource]:
    """Find what a user calls data.

    Args:
        data: a COCO file and the folder of its images, as a pair; the file alone, if the images lie
            beside it; the name of a registered dataset; or a list of these.

    Raises:
        InputError: If a file or folder does not exist.
        UnknownNameError: (a ``KeyError``) for a name that is not registered.
    """
    if isinstance(data, str | os.PathLike):
        return [_one_source(os.fspath(data))]
    if not isinstance(data, Sequence) or len(data) == 0:
        raise InputError(
            "data: expected (annotations.json, image folder), the json alone, or the name of a"
            f" registered dataset; got {data!r}"
        )
    is_pair = len(data) == 2 and all(isinstance(d, str | os.PathLike) for d in data)
    if is_pair and os.path.isdir(data[0]) and _is_file(data[1], ".json"):
        raise InputError(
            f"data: the annotations come first, then the folder of their images; got {data!r}"
        )
    if is_pair and os.fspath(data[0]).endswith(".json") and not _is_file(data[1], ".json"):
        return [_coco_source(os.fspath(data[0]), os.fspath(data[1]))]
    return [source for one in data for source in find_data(one)]


def _is_file(path: Any, suffix: str) -> bool:
    return os.fspath(path).endswith(suffix)


def _one_source(name: str) -> DataSource:
    if not name.endswith(".json"):
        if name not in DatasetCatalog:
            hint = "or give a COCO .json and the folder of its images"
            raise unknown_name("dataset", name, DatasetCatalog.list(), hint, max_listed=0)
        return DataSource(name)
    if not PathManager.isfile(name):
        raise InputError(f"annotation file {name!r} does not exist")
    return _coco_source(name, _image_folder(Path(name)))


def tell_apart(sources: Sequence[DataSource], others: Sequence[DataSource]) -> list[DataSource]:
    """Give ``sources`` other names where ``others`` have the same file with other images."""
    roots = {other.name: other.image_root for other in others}
    return [
        replace(one, name=f"{one.name} ({one.image_root})")
        if roots.get(one.name, one.image_root) != one.image_root
        else one
        for one in sources
    ]


def _image_folder(json_file: Path) -> str:
    """Guess where a COCO file's images are: the first of them decides."""
    from retinue.data.datasets.coco_file import read_annotation_file

    images = read_annotation_file(json_file)["images"]
    first = images[0]["file_name"] if images else ""
    folder = json_file.parent
    stem = json_file.stem.removeprefix("instances_").removeprefix("person_keypoints_")
    guesses = [
        folder / stem,
        folder / "images",
        folder,
        folder.parent / stem,
        folder.parent / "images",
    ]
    for guess in guesses:
        if first and (guess / first).is_file():
            return str(guess)
    looked = ", ".join(map(str, guesses))
    raise InputError(
        f"{json_file}: cannot find its images ({first!r}) in {looked}; name the folder"
    )


def _coco_source(json_file: str, image_root: str) -> DataSource:
    if not PathManager.isfile(json_file):
        raise InputError(f"annotation file {json_file!r} does not exist")
    if PathManager.isfile(image_root):
        raise InputError(f"image folder {image_root!r} is a file; give the folder that has them")
    if not PathManager.isdir(image_root):
        raise InputError(f"image folder {image_root!r} does not exist")
    return DataSource(_name_of(json_file, image_root), json_file, image_root)


def _name_of(json_file: str, image_root: str) -> str:
    """Name a dataset after its file, so that the same files keep the same name."""
    path = json_file if "://" in json_file else os.path.abspath(json_file)
    root = image_root if "://" in image_root else os.path.abspath(image_root)
    taken = MetadataCatalog.get(path)
    if path in DatasetCatalog and os.path.abspath(taken.get("image_root", root)) != root:
        return f"{path} ({root})"
    return path


def fit_heads(cfg: CfgNode, report: DataReport, metadata: Metadata) -> list[str]:
    """Set the numbers of classes and keypoints to what the data has.

    Args:
        cfg: changed in place.
        report: on the training data.
        metadata: of the training data.

    Returns:
        Sentences that say what was chosen.
    """
    num = len(report.class_names)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = cfg.MODEL.RETINANET.NUM_CLASSES = num
    said = [f"{num} classes, from the data: {_some(report.class_names)}"]
    annotated = report.annotated
    if cfg.MODEL.MASK_ON and not any(annotated[kind] for kind in ("polygons", "rle", "bitmap")):
        cfg.MODEL.MASK_ON = False
        said.append("the data has no masks: MODEL.MASK_ON is False")
    names = metadata.get("keypoint_names")
    if cfg.MODEL.KEYPOINT_ON and names:
        cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = len(names)
        if len(names) != 17 and len(cfg.TEST.KEYPOINT_OKS_SIGMAS) != len(names):
            cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.05] * len(names)
            said.append(f"{len(names)} keypoints, scored with TEST.KEYPOINT_OKS_SIGMAS 0.05 each")
    return said


def fit_workers(cfg: CfgNode, *, fixed: Iterable[Any] = ()) -> None:
    """Read images in no more processes than there are CPU cores, unless the user set their number.

    Args:
        cfg: changed in place.
        fixed: keys that the user set.
    """
    if "DATALOADER.NUM_WORKERS" not in fixed:
        cfg.DATALOADER.NUM_WORKERS = min(cfg.DATALOADER.NUM_WORKERS, os.cpu_count() or 1)


def fetch_weights(weights: str) -> None:
    """Make sure that ``MODEL.WEIGHTS`` are on this machine, before anything is built for them.

    Raises:
        DownloadError: (an ``OSError``) If they can't be downloaded, with what can be done.
        InputError: If there is no such file.
    """
    from retinue.checkpoint.reader import local_copy

    address = weights.partition("?")[0]
    if "://" not in address:
        if address and not PathManager.exists(address):
            raise InputError(f"weights {address!r}: there is no such file")
        return
    try:
        local_copy(address)
    except DownloadError as error:
        raise type(error)(
            f"{error}; or start from weights of your own (--weights FILE, or MODEL.WEIGHTS), or"
            " from none (--weights '')"
        ) from error


def warn_of_frozen_noise(cfg: CfgNode) -> list[str]:
    """Say so if layers that start from random weights would stay as they are."""
    frozen = cfg.MODEL.BACKBONE.FREEZE_AT > 0
    norm = cfg.MODEL.RESNETS.NORM == "FrozenBN"
    if cfg.MODEL.WEIGHTS or "resnet" not in cfg.MODEL.BACKBONE.NAME or not (frozen or norm):
        return []
    return [
        "MODEL.WEIGHTS is empty, but parts of the backbone are frozen at random weights: to train"
        " from scratch, set MODEL.BACKBONE.FREEZE_AT 0 MODEL.RESNETS.NORM GN MODEL.FPN.NORM GN"
    ]


def _some(names: Sequence[str], num: int = 12) -> str:
    more = f", and {len(names) - num} more" if len(names) > num else ""
    return ", ".join(names[:num]) + more


def default_epochs(num_images: int) -> int:
    """Choose how often to pass over the data: about 24,000 pictures, but 12 to 100 times."""
    return max(12, min(100, math.ceil(24_000 / max(1, num_images))))


def fit_schedule(
    cfg: CfgNode,
    num_images: int,
    *,
    epochs: float | None = None,
    batch_size: int | None = None,
    num_devices: int = 1,
    is_published: bool = False,
    planned: CfgNode | None = None,
    fixed: Iterable[str] = (),
) -> list[str]:
    """Make the schedule fit the data and the machine.

    A published schedule is for COCO on 8 devices: 2 images a device stay, and the learning rate
    follows the batch in proportion (Goyal et al., 2017, https://arxiv.org/abs/1706.02677). Other
    configs keep their batch unless ``batch_size`` says otherwise.

    Args:
        cfg: changed in place.
        num_images: of the training data.
        epochs: passes over them; by default, for a published model, ``default_epochs``.
        batch_size: images a step, all devices together.
        num_devices: that train.
        is_published: whether the config's schedule is COCO's.
        planned: the solver that learning rate, steps and warm-up are meant for; by default the
            config's own.
        fixed: keys that the user set and that stay.

    Returns:
        Sentences that say what was chosen.

    Raises:
        InputError: If epochs or batch are none.
    """
    if epochs is not None and epochs <= 0:
        raise InputError(f"epochs must be more than 0; got {epochs}")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch size must be at least 1; got {batch_size}")
    solver, fixed, planned = cfg.SOLVER, set(fixed), (planned or cfg.SOLVER).clone()
    if "SOLVER.IMS_PER_BATCH" not in fixed:
        if batch_size is not None:
            solver.IMS_PER_BATCH = batch_size
        elif is_published:
            solver.IMS_PER_BATCH = max(1, min(planned.IMS_PER_BATCH, 2 * num_devices))
    if "SOLVER.BASE_LR" not in fixed:
        solver.BASE_LR = planned.BASE_LR * solver.IMS_PER_BATCH / planned.IMS_PER_BATCH
    if "SOLVER.MAX_ITER" not in fixed and (epochs is not None or is_published):
        passes = default_epochs(num_images) if epochs is None else epochs
        solver.MAX_ITER = max(1, math.ceil(passes * num_images / solver.IMS_PER_BATCH))
    ratio = solver.MAX_ITER / planned.MAX_ITER
    if ratio != 1:
        if "SOLVER.STEPS" not in fixed:
            steps = {int(s * ratio) for s in planned.STEPS}
            solver.STEPS = tuple(sorted(s for s in steps if 0 < s < solver.MAX_ITER))
        if "SOLVER.WARMUP_ITERS" not in fixed:
            solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, solver.MAX_ITER // 10)
        if "SOLVER.CHECKPOINT_PERIOD" not in fixed:
            solver.CHECKPOINT_PERIOD = max(1, min(solver.CHECKPOINT_PERIOD, solver.MAX_ITER // 5))
        if "TEST.EVAL_PERIOD" not in fixed:
            fifth = solver.MAX_ITER // 5
            cfg.TEST.EVAL_PERIOD = fifth if fifth >= _MIN_EVAL_PERIOD else 0
    passes = solver.MAX_ITER * solver.IMS_PER_BATCH / max(1, num_images)
    return [
        f"{solver.MAX_ITER:,} iterations of {solver.IMS_PER_BATCH} images ({passes:.3g} passes"
        f" over the data), learning rate {solver.BASE_LR:.4g}"
    ]
