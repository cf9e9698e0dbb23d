"""``install``: from then on ``import detectron2`` is retinue.

Finders are added to those that Python's import asks. The first stands before all others and
knows ``detectron2``, fvcore and iopath; the last stands behind them and knows what is served where
nothing is installed, such as pycocotools. ``served`` says what they know. One between them puts
back what numpy and others have dropped, see ``dropped``.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder
from pathlib import Path
from types import ModuleType

from retinue.compat import logs
from retinue.compat.absent import (
    CompiledExtensionError,
    NotCarriedError,
    unbuilt_extension,
    why_absent,
)
from retinue.compat.dropped import (
    DROPPED_MODULES,
    DROPPED_NAMES,
    PutBackFinder,
    call_after_loading,
    put_back,
    take_away,
)
from retinue.compat.metadata import ServedDistribution
from retinue.compat.modules import (
    AliasLoader,
    CollectionLoader,
    RefusingLoader,
    ShimLoader,
    add_to,
    is_added_to,
    undo_additions,
)
from retinue.compat.served import (
    COLLECTIONS,
    COMPILED,
    FALLBACKS,
    PACKAGES,
    SOURCES,
    STAND_INS,
    home_of,
    names_of,
)

__all__ = ["install", "is_installed", "real_detectron2", "uninstall"]

logger = logging.getLogger(__name__)


def _spec_of_alias(name: str, home: str) -> ModuleSpec | None:
    try:
        found = importlib.util.find_spec(home)
    except ModuleNotFoundError:
        return None
    if found is None:
        return None
    locations = found.submodule_search_locations
    spec = ModuleSpec(
        name, AliasLoader(name, home), origin=found.origin, is_package=locations is not None
    )
    spec.submodule_search_locations = locations
    spec.has_location = found.has_location
    return spec


def _spec_of_shim() -> ModuleSpec:
    found = importlib.util.find_spec("retinue")
    assert found is not None
    spec = ModuleSpec("detectron2", ShimLoader(), origin=found.origin, is_package=True)
    spec.submodule_search_locations = found.submodule_search_locations
    spec.has_location = True
    return spec


def _spec_of_collection(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    rows = names_of(name)
    if rows is None:
        return None
    is_package = not rows or name in ("fvcore.nn", "fvcore.transforms", "iopath", "iopath.common")
    places = [p for p in sys.path if p != STAND_INS] if path is None else path
    real = PathFinder.find_spec(name, places)
    spec = ModuleSpec(name, CollectionLoader(real), origin="retinue", is_package=is_package)
    if is_package:  # what isn't listed falls through to the real package
        spec.submodule_search_locations = list((real and real.submodule_search_locations) or [])
    return spec


class _First(MetaPathFinder):
    """Finds what is always served."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = fullname.partition(".")[0]
        if top in PACKAGES:
            if fullname == "detectron2":
                return _spec_of_shim()
            if reason := why_absent(fullname):
                return ModuleSpec(fullname, RefusingLoader(NotCarriedError(reason)))
            home = home_of(fullname)
            alias = _spec_of_alias(fullname, home) if home else None
            return alias or _spec_of_collection(fullname, path)  # a module of before 0.6
        if top == "retinue" and is_added_to(fullname):
            spec = PathFinder.find_spec(fullname, path)
            return spec and call_after_loading(spec, add_to)
        if COLLECTIONS.get(top):
            return _spec_of_collection(fullname, path)
        if top in FALLBACKS and fullname != top and _is_ours(top):
            home = home_of(fullname)  # before the file is found and loaded a second time
            return _spec_of_alias(fullname, home) if home else None
        return None

    def find_distributions(
        self, context: DistributionFinder.Context | None = None
    ) -> Iterable[Distribution]:
        """Answer ``importlib.metadata`` for detectron2.

        Who asks for certain folders, as pip does, gets what is installed there.
        """
        asked = vars(context) if context is not None else {}
        name = asked.get("name") or "detectron2"
        is_asked = name.lower() == "detectron2" and "path" not in asked
        return [ServedDistribution()] if is_asked else []


class _Last(MetaPathFinder):
    """Finds what is served where nothing else is installed, and explains missing extensions."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top, _, rest = fullname.partition(".")
        if top in COLLECTIONS and (not rest or _is_ours(top)):
            spec = _spec_of_collection(fullname, path)
            if rest and spec is None:
                raise ModuleNotFoundError(_from_own_package(fullname), name=fullname)
            return spec
        if fullname in FALLBACKS:
            return _spec_of_alias(fullname, FALLBACKS[fullname])
        if fullname in DROPPED_MODULES:
            return _spec_of_alias(fullname, DROPPED_MODULES[fullname])
        if fullname in COMPILED:  # of a project's own folder
            return _spec_of_alias(fullname, COMPILED[fullname])
        if rest and fullname.endswith("._C"):
            error = CompiledExtensionError(unbuilt_extension(fullname))
            return ModuleSpec(fullname, RefusingLoader(error))
        return None


def _from_own_package(module: str) -> str:
    package = module.partition(".")[0]
    return (
        f"No module named {module!r}: retinue serves the names of {package} that code for"
        f" detectron2 uses, and has no such module; `pip install {SOURCES.get(package, package)}`"
        " brings it, and the import hook lets it through"
    )


def _is_ours(top: str) -> bool:
    """Whether a package is served by retinue, not from a folder on the path."""
    module = sys.modules.get(top)
    name = getattr(module, "__name__", "")
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return name == FALLBACKS.get(top) or isinstance(loader, CollectionLoader)


_finders: list[MetaPathFinder] = []


def is_installed() -> bool:
    """Whether ``import detectron2`` is retinue."""
    return bool(_finders)


def real_detectron2() -> str | None:
    """Return the folder of another detectron2 that Python would import, or None."""
    places = [PathFinder.find_spec("detectron2", [entry]) for entry in sys.path]
    # an editable installation may bring a finder of its own
    others = [f for f in sys.meta_path if f is not PathFinder and f not in _finders]
    places += [finder.find_spec("detectron2", None) for finder in others]
    for spec in places:
        if spec is not None and spec.origin:
            folder = Path(spec.origin).parent
            if (folder / "config" / "defaults.py").is_file():
                return str(folder)
    return None


def _is_foreign(name: str) -> bool:
    top = name.partition(".")[0]
    return top in PACKAGES or COLLECTIONS.get(top, False)


def install() -> None:
    """Serve ``detectron2`` and its submodules as the same objects as retinue's.

    The names of fvcore and iopath that detectron2 code uses are ours, too, so that there is one
    ``CfgNode``, ``Checkpointer``, ``Transform`` and registry; their other modules are found in the
    real packages where these are installed. ``pycocotools`` and the packages of detectron2's
    projects are served where they are absent. What numpy, Pillow and others have dropped since,
    such as ``numpy.float``, is put back. Calling it again does nothing.

    Raises:
        ImportError: If another detectron2 has been imported already.

    Warns:
        UserWarning: If another detectron2 is installed, which retinue stands before.

    Example:
        >>> install()
        >>> import detectron2.structures, retinue.structures
        >>> detectron2.structures.Instances is retinue.structures.Instances
        True
        >>> uninstall()
    """
    if is_installed():
        return
    loaded = sys.modules.get("detectron2")
    if loaded is not None and not hasattr(loaded, "__retinue__"):
        raise ImportError(
            f"another detectron2 has been imported already, from {loaded.__file__}; call"
            " retinue.compat.install() before the first import of detectron2"
        )
    for name in [n for n in sys.modules if _is_foreign(n)]:
        del sys.modules[name]
    _finders.extend((_First(), PutBackFinder(), _Last()))
    sys.meta_path[:0] = _finders[:2]
    sys.meta_path.append(_finders[2])
    for name, module in list(sys.modules.items()):
        if name in DROPPED_NAMES:
            put_back(module)
        elif is_added_to(name):
            add_to(module)
    logs.connect()
    importlib.invalidate_caches()
    if folder := real_detectron2():
        warnings.warn(
            f"another detectron2 is installed in {folder}; retinue serves `import detectron2` in"
            " this program. Without retinue.compat.install() or `retinue run` it is the other one",
            stacklevel=2,
        )


def uninstall() -> None:
    """Undo ``install``: remove the finders and the modules they served."""
    if not is_installed():
        return
    for finder in _finders:
        if finder in sys.meta_path:
            sys.meta_path.remove(finder)
    _finders.clear()
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        is_alias = top in FALLBACKS and getattr(module, "__name__", "").startswith("retinue.")
        is_alias |= getattr(module, "__name__", "") == DROPPED_MODULES.get(name, "-")
        if _is_foreign(name) or is_alias or (top in COLLECTIONS and _is_ours(top)):
            del sys.modules[name]
    undo_additions()
    take_away()
    logs.disconnect()
