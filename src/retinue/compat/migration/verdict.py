"""Whether retinue has a name of detectron2, fvcore, iopath or pycocotools, and where.

The answers are those of the import hook: its tables, and retinue's own modules, which are imported
to look.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from retinue.compat.absent import why_absent
from retinue.compat.modules import resolve
from retinue.compat.served import (
    COLLECTIONS,
    FALLBACKS,
    PACKAGES,
    SOURCES,
    home_of,
    names_of,
)
from retinue.utils.errors import close_names

__all__ = ["Verdict", "is_served", "judge", "module_home"]

COVERED = "covered"
CHANGE = "needs a change"
ELSEWHERE = "from its own package"


@dataclass(frozen=True)
class Verdict:
    """What becomes of a name.

    Attributes:
        state: ``"covered"``, ``"needs a change"``, or ``"from its own package"``, which is then to
            be installed.
        home: ``"module"`` or ``"module:attribute"`` that it is; empty where there is none.
        note: what to know or do; empty where it is simply there.
    """

    state: str
    home: str = ""
    note: str = ""


def is_served(module: str, own: frozenset[str] = frozenset()) -> bool:
    """Whether the hook knows the package of a module that is none of the project's ``own``."""
    top = module.partition(".")[0]
    return top not in own and (top in PACKAGES or top in COLLECTIONS or top in FALLBACKS)


def _import(module: str) -> ModuleType | None:
    try:
        if importlib.util.find_spec(module) is None:
            return None
    except ModuleNotFoundError:
        return None
    return importlib.import_module(module)


def _is_module(name: str) -> bool:
    home = home_of(name)
    return names_of(name) is not None or (home is not None and _import(home) is not None)


def _main_home(rows: Mapping[str, str]) -> str:
    """Return the module that most forwarded names live in under their own names, or nothing."""
    homes = Counter(
        target.partition(":")[0]
        for name, target in rows.items()
        if target.partition(":")[2] == name
    )
    for home, number in homes.most_common(1):
        if 2 * number > len(rows):
            return home
    return ""


def module_home(module: str) -> str | None:
    """Return the module of retinue's that can take a module's place, or None.

    >>> module_home("detectron2.layers"), module_home("fvcore.nn.weight_init")
    ('retinue.layers', 'retinue.layers.weight_init')
    """
    home = home_of(module)
    if home is not None:
        return home if _import(home) else None
    return _main_home(names_of(module) or {}) or None


def _of_own_package(module: str, name: str = "") -> Verdict:
    package = module.partition(".")[0]
    what = f"{name!r} of {module}" if name else f"module {module}"
    return Verdict(
        ELSEWHERE,
        note=f"retinue has no {what}; `pip install {SOURCES.get(package, package)}` brings it, and"
        " the import hook lets it through",
    )


@functools.cache
def judge(module: str, path: tuple[str, ...] = ()) -> Verdict:
    """Say what becomes of ``path`` in a served ``module``.

    Example:
        >>> judge("detectron2.structures", ("Boxes", "clip")).home
        'retinue.structures:Boxes.clip'
        >>> judge("detectron2.structures", ("Box",)).state
        'needs a change'
    """
    if reason := why_absent(module):
        return Verdict(CHANGE, note=reason)
    home = home_of(module)
    rows = names_of(module)
    found = _import(home) if home else None
    if found is None and rows is None:
        return _unknown_module(module)
    if not path:
        return Verdict(COVERED, module_home(module) or "")
    name, rest = path[0], path[1:]
    if reason := why_absent(module, name):
        return Verdict(CHANGE, note=reason)
    if name == "*" or name.startswith("__"):
        return _special(module, name, home or "")
    if found is not None and (verdict := _in_module(found, home or "", name, rest)):
        return verdict
    if rows and name in rows:
        if rows[name] == "logger":
            return Verdict(COVERED)
        target = rows[name]
        return _follow(resolve(target), target, rest) or _no_attribute(module, path)
    if _is_module(f"{module}.{name}"):
        return judge(f"{module}.{name}", rest)
    if home is None:
        return _of_own_package(module, name)
    return _unknown_name(module, name, found, rows)


def _special(module: str, name: str, home: str) -> Verdict:
    if name == "*" and not home:
        return Verdict(COVERED, note="covered under the import hook only: name what is used")
    if name == "__version__" and "." not in module:
        return Verdict(COVERED, note="under the import hook it is the version that is served")
    return Verdict(COVERED, f"{home}:{name}" if name != "*" else home)


def _in_module(found: ModuleType, home: str, name: str, rest: tuple[str, ...]) -> Verdict | None:
    try:
        value = getattr(found, name)
    except AttributeError:
        return None
    except ImportError as error:
        return Verdict(COVERED, f"{home}:{name}", str(error))
    verdict = _follow(value, f"{home}:{name}", rest)
    return verdict or _no_attribute(home, (name, *rest))


def _follow(value: Any, target: str, rest: tuple[str, ...]) -> Verdict | None:
    """Walk on from a value; what instances have is not known without running anything."""
    for position, name in enumerate(rest):
        if isinstance(value, ModuleType):
            target = f"{target.replace(':', '.')}:{name}"
        elif isinstance(value, type):
            target = f"{target}.{name}"
        else:
            break
        if not hasattr(value, name):
            is_package = isinstance(value, ModuleType) and value.__name__.startswith("retinue.")
            if not is_package:
                return None
            served = value.__name__.replace("retinue", "detectron2", 1)
            return judge(served, rest[position:])
        value = getattr(value, name)
    return Verdict(COVERED, target)


def _unknown_module(module: str) -> Verdict:
    package = module.partition(".")[0]
    if package in COLLECTIONS:
        return _of_own_package(module)
    parent = module.rpartition(".")[0]
    around = _import(home_of(parent) or "retinue")
    siblings = [m.name for m in pkgutil.iter_modules(getattr(around, "__path__", []))]
    near = close_names(module.rpartition(".")[2], siblings)
    hint = f"; did you mean {parent}.{near[0]}?" if near else ""
    return Verdict(CHANGE, note=f"neither detectron2 0.6 nor retinue has a module {module}{hint}")


def _unknown_name(
    module: str, name: str, found: ModuleType | None, rows: Mapping[str, str] | None
) -> Verdict:
    near = close_names(name, [*dir(found), *(rows or {})])
    hint = f"; did you mean {near[0]!r}?" if near else ""
    text = f"neither detectron2 0.6 nor retinue has {name!r} in {module}{hint}"
    return Verdict(CHANGE, note=text)


def _no_attribute(module: str, path: tuple[str, ...]) -> Verdict:
    owner = ".".join(path[:-1])
    return Verdict(CHANGE, note=f"{owner} of {module} has no {path[-1]!r} in retinue")
