"""Which names are served by what.

A name under one of ``PACKAGES`` or ``FALLBACKS`` is a module of retinue's, the same object. The
packages of ``COLLECTIONS`` exist as tables of names only: ``names.tsv`` says where each lives, in
rows of module, name and ``module:attribute``. Rows whose module is served by one of retinue's add
names that detectron2's module happened to import, or that moved. A name such as ``RPN.step`` is
added to the class.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

__all__ = [
    "COLLECTIONS",
    "COMPILED",
    "FALLBACKS",
    "PACKAGES",
    "REGISTRATIONS",
    "SOURCES",
    "STAND_INS",
    "VERSION",
    "VERSIONS",
    "home_of",
    "members_of",
    "modules_with_members",
    "names_of",
    "served_modules",
]

STAND_INS = str(Path(__file__).parent / "stand_ins")
"""Modules that install the hook, as Python starts or when imported, for started programs."""

VERSION = "0.6"
"""The version of detectron2 whose interface is served."""

VERSIONS = {"fvcore": "0.1.5", "iopath": "0.1.10", "pycocotools": "2.0.8", "pytorch3d": "0.7.9"}

COMPILED = {
    "adet._C": "retinue.compat.adet_native",
    "detectron2._C": "retinue.compat.native",
    "tensormask._C": "retinue.compat.tensormask_native",
}

PACKAGES = {"detectron2": "retinue"}
"""Always served, whatever is installed."""

FALLBACKS = {
    name: f"retinue.projects.{name}"
    for name in (
        "deeplab",
        "densepose",
        "meshrcnn",
        "panoptic_deeplab",
        "point_rend",
        "point_sup",
        "tensormask",
        "tridentnet",
    )
}
"""Served where no package of the name is installed; detectron2's projects bring them."""

REGISTRATIONS = {
    "densepose": "retinue.projects.densepose.data.datasets.builtin:register_all",
    "meshrcnn.data": "retinue.projects.meshrcnn.data.datasets.builtin:register_all_pix3d",
    "point_sup": "retinue.projects.point_sup.register_point_annotations"
    ":register_all_coco_train_points",
}
"""Packages whose import makes datasets known, and what does it, given the datasets' folder."""

COLLECTIONS = {
    "MultiScaleDeformableAttention": False,
    "fvcore": True,
    "iopath": True,
    "panopticapi": False,
    "pycocotools": False,
    "pytorch3d": False,
}
"""Packages of forwarded names, and whether they are served even where the real one is installed."""

SOURCES = {"panopticapi": "git+https://github.com/cocodataset/panopticapi"}
"""What pip installs them from where it isn't their name."""


def home_of(name: str) -> str | None:
    """Return the module of retinue's that the module ``name`` is, or None.

    >>> home_of("detectron2.structures"), home_of("densepose.config"), home_of("fvcore")
    ('retinue.structures', 'retinue.projects.densepose.config', None)
    """
    if name in COMPILED:
        return COMPILED[name]
    top, dot, rest = name.partition(".")
    home = PACKAGES.get(top) or FALLBACKS.get(top)
    return None if home is None else home + dot + rest


@functools.cache
def _rows() -> Mapping[str, Mapping[str, str]]:
    table: dict[str, dict[str, str]] = {}
    text = resources.files(__package__).joinpath("names.tsv").read_text(encoding="utf-8")
    for line in text.splitlines():
        module, name, target = line.split("\t")
        table.setdefault(module, {})[name] = target
    for module in list(table):  # packages without names of their own
        while "." in module:
            module = module.rpartition(".")[0]
            table.setdefault(module, {})
    return table


@functools.cache
def names_of(module: str) -> Mapping[str, str] | None:
    """Return the forwarded names of a served module: name -> ``"module:attribute"``."""
    rows = _rows().get(module)
    return None if rows is None else {name: t for name, t in rows.items() if "." not in name}


def served_modules() -> Iterable[str]:
    """Return the modules that have forwarded names."""
    return _rows().keys()


def members_of(module: str) -> Mapping[str, str]:
    """Return what is added to classes of a served module: ``Class.name`` -> target."""
    rows = _rows().get(module, {})
    return {name: target for name, target in rows.items() if "." in name}


@functools.cache
def modules_with_members(package: str) -> tuple[str, ...]:
    """Return the modules of a package, one level below it, whose classes are added to."""
    inside = (m for m in _rows() if m.rpartition(".")[0] == package)
    return tuple(m for m in inside if members_of(m))
