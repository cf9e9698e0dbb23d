"""The table of published models: what each does, its scores, weights and their licence.

Nothing is built or downloaded here, and PyTorch is not imported. What is said of the weights is
said by a page that is named in ``source``; where no page says it, it stays empty.

Reading order: Entry (one row), entries (all rows), find_entry (one by name).
"""

from __future__ import annotations

import functools
import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retinue.model_zoo.lazy_presets import LAZY_PRESETS
from retinue.model_zoo.presets import PRESETS, Preset
from retinue.utils.errors import UnknownNameError, unknown_name

__all__ = ["Entry", "UnknownModelError", "entries", "find_entry"]

LAZY_CONFIGS = Path(__file__).parent / "configs"
WEIGHTS_PREFIX = "https://dl.fbaipublicfiles.com/detectron2/"

_REPOSITORY = "https://github.com/facebookresearch/detectron2/blob/main/"
ZOO_PAGE = _REPOSITORY + "MODEL_ZOO.md"
"""Gives the licence of all weights it lists, and says that file names end in their MD5's start."""
_DENSEPOSE = "projects/DensePose/"
DENSEPOSE_PAGE = f"{_REPOSITORY}{_DENSEPOSE}doc/DENSEPOSE_IUV.md"
"""Gives the licence of its weights, too; the page on continuous surface embeddings says nothing."""
PAGES = {  # of what a project publishes, by how its names begin; else it is the project's README
    _DENSEPOSE + "configs/cse/": f"{_REPOSITORY}{_DENSEPOSE}doc/DENSEPOSE_CSE.md",
    _DENSEPOSE: DENSEPOSE_PAGE,
    "projects/MeshRCNN/": (
        "https://github.com/facebookresearch/meshrcnn/blob/main/INSTRUCTIONS_PIX3D.md"
    ),
}
LICENCE = "CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/)"

SHA256 = {  # from https://huggingface.co/xboix/detectron2-coco, an unmodified mirror
    "model_final_f10217.pkl": "9a737e290372f1f70994ebcbd89d8004dbb3ae30a605fd915a190fa4a782dd66",
    "model_final_a6e10b.pkl": "48cc65c6f9ff63dabe64bf6082eb257d8515b42b31f0e44ff43cf9470f5107e4",
}

DETECTION, INSTANCES = "detection", "instance segmentation"
KEYPOINTS, PANOPTIC, SEMANTIC = "keypoints", "panoptic segmentation", "semantic segmentation"
PROPOSALS, DENSE_POSE, MESHES = "proposals", "dense pose", "meshes"
CLASSIFICATION = "classification"

# The first pattern that a name matches says what the model does.
_TASKS = (
    (r"DensePose/", DENSE_POSE),
    (r"MeshRCNN/", MESHES),
    (r"imagenet_R_50", CLASSIFICATION),
    (r"panoptic_(fpn|deeplab)_", PANOPTIC),
    (r"semantic_|deeplab_v3", SEMANTIC),
    (r"keypoint_rcnn", KEYPOINTS),
    (r"mask_rcnn|pointrend|tensormask", INSTANCES),
    (r"(^|/)rpn_", PROPOSALS),
    (r"rcnn|retinanet|fcos|tridentnet", DETECTION),
)
MAIN_SCORES = {
    DETECTION: "box_ap",
    INSTANCES: "mask_ap",
    KEYPOINTS: "keypoint_ap",
    PANOPTIC: "pq",
    SEMANTIC: "miou",
    PROPOSALS: "proposal_ar",
    DENSE_POSE: "dp_ap_gpsm",
}
_TRUNKS = (
    (r"_(R|X)_(\d+)_32x8d", r"\1\2-32x8d"),
    (r"_(R|X)_?(\d+)", r"\1\2"),
    (r"regnet([xy])_4gf", r"RegNet\1-4GF"),
    (r"mvitv2_(\w)_", lambda m: f"MViTv2-{m[1].upper()}"),
    (r"vitdet_(\w)_", lambda m: f"ViT-{m[1].upper()}"),
    (r"swin_(\w)_", lambda m: f"Swin-{m[1].upper()}"),
    (r"HRNet_(w\d+)", r"HRNet-\1"),
    (r"Rethinking-BatchNorm/", "R50"),
)
_NECKS = ((r"C4(_|$)", "-C4"), (r"DC5", "-DC5"), (r"FPN|fpn|BNhead|MViTv2/|tensormask", "-FPN"))
# What configs are made of:
_NOT_MODELS = re.compile(r"(^|/)(Base-[^/]*|MESH-RCNN-FPN.yaml|common/.*)$")


class UnknownModelError(UnknownNameError, RuntimeError):
    """No published model has that name; a ``RuntimeError``, as in detectron2."""


@dataclass(frozen=True)
class Entry:
    """A published model.

    Attributes:
        name: what ``model_zoo.get_config`` takes, with its ending; ``.py`` is a lazy config.
        task: such as ``"instance segmentation"``.
        backbone: such as ``"R50-FPN"``.
        scores: published numbers, by name; see ``Preset``.
        url: address of the trained weights; "" if there are none.
        parameters: how many numbers are trained or frozen; None if that is not known.
        licence: of the weights; "" if no page says.
        md5: how the MD5 of the file begins; "" if no page says.
        sha256: of the file, likewise.
        source: the page that the scores, the address and the licence are from.
    """

    name: str
    task: str
    backbone: str
    scores: Mapping[str, float]
    url: str
    parameters: int | None
    licence: str
    md5: str
    sha256: str
    source: str

    @property
    def is_lazy(self) -> bool:
        """Whether the config is Python."""
        return self.name.endswith(".py")

    @property
    def main_score(self) -> float | None:
        """The published score that the task is judged by; None if there is none."""
        return self.scores.get(MAIN_SCORES.get(self.task, ""))

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values."""
        return {**vars(self), "scores": dict(self.scores)}


@functools.cache
def entries() -> tuple[Entry, ...]:
    """Return every published model, those of projects last."""
    return tuple(_own_entries()) + tuple(_project_entries())


def find_entry(name: str) -> Entry:
    """Return a published model by its name, in full or its last part, with or without ending.

    Raises:
        UnknownModelError: (a ``RuntimeError``) If there is none, or several, of that name.
    """
    stem = stem_of(name)
    by_stem: dict[str, list[Entry]] = {}
    for entry in entries():
        for key in {stem_of(entry.name), stem_of(entry.name).rpartition("/")[2]}:
            by_stem.setdefault(key, []).append(entry)
    found = by_stem.get(stem, [])
    if len(found) > 1 and name != stem:  # the ending tells a lazy config from its twin
        found = [e for e in found if e.name.endswith(name.rpartition("/")[2])]
    yaml = [entry for entry in found if not entry.is_lazy]
    if len(found) == 2 and len(yaml) == 1 and len({stem_of(e.name) for e in found}) == 1:
        return yaml[0]
    if len(found) > 1:
        names = ", ".join(entry.name for entry in found)
        raise UnknownModelError(f"model {name!r} stands for several: {names}; name one in full")
    if not found:
        known = [key for key in by_stem if ("/" in key) == ("/" in stem)]
        hint = "`retinue zoo list` lists all"
        raise UnknownModelError(str(unknown_name("model", name, known, hint, max_listed=0)))
    return found[0]


def stem_of(name: str) -> str:
    """Return a name without its ending."""
    return name.removesuffix(".yaml").removesuffix(".yml").removesuffix(".py")


def lazy_names() -> list[str]:
    """Return the names of all lazy configs that belong to no project."""
    return sorted(p.relative_to(LAZY_CONFIGS).as_posix() for p in LAZY_CONFIGS.rglob("*.py"))


def _own_entries() -> Iterator[Entry]:
    rows = {f"{stem}.yaml": preset for stem, preset in PRESETS.items()}
    published = PRESETS | LAZY_PRESETS  # a lazy config takes the weights of its YAML twin
    rows |= {name: published.get(stem_of(name), Preset(())) for name in lazy_names()}
    for name, preset in rows.items():
        if _NOT_MODELS.search(name):
            continue
        url = f"{WEIGHTS_PREFIX}{stem_of(name)}/{preset.weights}" if preset.weights else ""
        yield _entry(name, preset, url, source=ZOO_PAGE if url else "", has_licence=bool(url))


def _project_entries() -> Iterator[Entry]:
    zoo = importlib.import_module("retinue.projects.zoo")  # a floor above: looked up when asked
    for name in zoo.config_paths():
        if _NOT_MODELS.search(name):
            continue
        preset = zoo.find_preset(name)
        readme = f"{_REPOSITORY}{'/'.join(name.split('/')[:2])}/README.md"
        page = next((page for start, page in PAGES.items() if name.startswith(start)), readme)
        url = zoo.get_checkpoint_url(name) if preset.weights else ""
        yield _entry(
            name,
            preset,
            url,
            source=page if url or preset.scores else "",
            has_licence=bool(url) and page == DENSEPOSE_PAGE,
        )


def _entry(name: str, preset: Preset, url: str, *, source: str, has_licence: bool) -> Entry:
    md5 = re.search(r"_([0-9a-f]{6})\.pkl$", url) if source == ZOO_PAGE else None
    return Entry(
        name=name,
        task=_first_match(_TASKS, name),
        backbone=_first_match(_TRUNKS, name) + _first_match(_NECKS, name),
        scores=preset.scores,
        url=url,
        parameters=_parameters().get(name),
        licence=LICENCE if has_licence else "",
        md5=md5[1] if md5 else "",
        sha256=SHA256.get(url.rpartition("/")[2], ""),
        source=source,
    )


def _first_match(table: tuple[tuple[str, Any], ...], name: str) -> str:
    """Return what the first pattern found in ``name`` stands for; "" if none is."""
    for pattern, meaning in table:
        if match := re.search(pattern, stem_of(name)):
            return meaning(match) if callable(meaning) else match.expand(meaning)
    return ""


@functools.cache
def _parameters() -> dict[str, int]:
    """Return how many parameters each model has; recorded, for building takes a while."""
    table: dict[str, int] = json.loads((Path(__file__).parent / "parameters.json").read_text())
    return table
