"""What the finders answer with.

``AliasLoader`` gives a module of retinue's under a second name: the same object, so that there is
one registry and one ``Instances``. ``CollectionLoader`` makes a module whose names live elsewhere
and are looked up when asked for. ``RefusingLoader`` explains why a module can't be imported.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import opcode
import sys
from collections.abc import Mapping
from importlib.abc import InspectLoader, Loader
from importlib.machinery import ModuleSpec
from types import CodeType, FrameType, ModuleType
from typing import Any

from retinue.compat.absent import (
    NotCarriedError,
    NotCarriedNameError,
    lacks_names,
    modules_lacking_names,
    why_absent,
)
from retinue.compat.patches import HANDED_ON, hand_on_from, take_all_back
from retinue.compat.served import (
    PACKAGES,
    REGISTRATIONS,
    VERSION,
    VERSIONS,
    home_of,
    members_of,
    modules_with_members,
    names_of,
    served_modules,
)

__all__ = [
    "AliasLoader",
    "CollectionLoader",
    "RefusingLoader",
    "ShimLoader",
    "add_to",
    "is_added_to",
    "undo_additions",
]


def resolve(target: str) -> Any:
    """Return what ``"module:attribute"`` or ``"module"`` names."""
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


def _missing(module: str, name: str) -> AttributeError:
    return AttributeError(f"module {module!r} has no attribute {name!r}", name=name)


def _look_up(module: str, name: str, rows: Mapping[str, str]) -> Any:
    if name in rows:
        return logging.getLogger(module) if name == rows[name] == "logger" else resolve(rows[name])
    if names_of(f"{module}.{name}") is not None:
        return importlib.import_module(f"{module}.{name}")
    if reason := why_absent(module, name) or why_absent(f"{module}.{name}"):
        if _is_import_statement(sys._getframe(2)):
            raise NotCarriedError(reason)
        raise NotCarriedNameError(reason, name=name)
    raise _missing(module, name)


def _is_import_statement(frame: FrameType) -> bool:
    """Whether what runs in a frame is ``from module import name``.

    Python makes a bare ImportError of its own of an AttributeError there, so that statement has to
    get ours; ``hasattr`` and ``getattr`` with a default need an AttributeError.
    """
    return frame.f_code.co_code[frame.f_lasti] == opcode.opmap["IMPORT_FROM"]


class _WithFiles:
    """Gives the files beside a module of retinue's, as its own loader does."""

    home = "retinue"

    def _home_loader(self) -> Any:
        spec = importlib.util.find_spec(self.home)
        return spec.loader if spec else None

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a file, for ``pkgutil.get_data``."""
        data: bytes = self._home_loader().get_data(path)
        return data

    def get_resource_reader(self, fullname: str) -> Any:
        """Return what ``importlib.resources`` reads with."""
        return self._home_loader().get_resource_reader(self.home)


class AliasLoader(_WithFiles, InspectLoader):
    """Loads ``home``, a module of retinue's, as ``name``."""

    def __init__(self, name: str, home: str) -> None:
        self.name = name
        self.home = home

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.home)
        self._own_spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._own_spec  # importlib has put the alias's there
        add_to(module)
        canonical = self.home.replace("retinue.", "detectron2.", 1)
        for changed in (canonical, *modules_with_members(canonical)):
            add_members(changed)  # a class may be imported from the package alone
        _alias_hidden_modules(module, self.name)
        if self.name == "detectron2.layers":  # which defines torch.ops.detectron2 there
            importlib.import_module("retinue.compat.native")
        if self.name in REGISTRATIONS:
            from retinue.utils.env import datasets_root  # imports torch, which the hook does not

            resolve(REGISTRATIONS[self.name])(datasets_root())

    def is_package(self, fullname: str) -> bool:
        return bool(self._home_loader().is_package(self.home))

    def get_code(self, fullname: str) -> CodeType | None:
        code: CodeType | None = self._home_loader().get_code(self.home)
        return code

    def get_source(self, fullname: str) -> str | None:
        source: str | None = self._home_loader().get_source(self.home)
        return source

    def get_filename(self, fullname: str) -> str:
        return str(self._home_loader().get_filename(self.home))


def _alias_hidden_modules(module: ModuleType, alias: str) -> None:
    """Alias submodules that a name of their package hides, such as ``config.instantiate``.

    Importing one later would put the module where the package has the function.
    """
    for name, value in list(vars(module).items()):
        submodule = sys.modules.get(f"{module.__name__}.{name}")
        if submodule is not None and submodule is not value:
            sys.modules.setdefault(f"{alias}.{name}", submodule)


@functools.cache
def _aliases() -> Mapping[str, list[str]]:
    """Return for each module of retinue's that is added to the names that it is served under."""
    aliases: dict[str, list[str]] = {home: [] for home in HANDED_ON}
    for alias in sorted({*served_modules(), *modules_lacking_names()} - PACKAGES.keys()):
        if home := home_of(alias):
            aliases.setdefault(home, []).append(alias)
    return aliases


def is_added_to(name: str) -> bool:
    """Whether a module of retinue's gets names that only detectron2's module had."""
    return name in _aliases()


def add_to(module: ModuleType) -> None:
    """Add what detectron2's module had beside, however the module was imported."""
    for alias in _aliases().get(module.__name__, ()):
        _add_names(module, alias)
    hand_on_from(module)


_replaced: dict[str, tuple[ModuleType, Any]] = {}


def _add_names(module: ModuleType, alias: str) -> None:
    """Let a module of retinue's answer to names that only detectron2's module had."""
    rows = names_of(alias) or {}
    if alias in _replaced or not (rows or lacks_names(alias)):
        return
    own = vars(module).get("__getattr__")

    def getattr_(name: str) -> Any:
        if own is not None:
            try:
                return own(name)
            except AttributeError:
                pass
        return _look_up(alias, name, rows)

    _replaced[alias] = (module, own)
    module.__dict__["__getattr__"] = getattr_


_members: dict[tuple[type, str], Any] = {}  # what a class had under a name that was added
_ABSENT = object()


def add_members(module: str) -> None:
    """Give classes of a module the methods that only code for detectron2 looks for."""
    for name, target in members_of(module).items():
        class_name, member = name.split(".")
        home = (names_of(module) or {}).get(class_name) or f"{home_of(module)}:{class_name}"
        cls = resolve(home)
        if (cls, member) not in _members:
            found = resolve(target)
            _members[cls, member] = vars(cls).get(member, _ABSENT)
            setattr(cls, member, found)


def undo_additions() -> None:
    """Take back what was added to modules and classes."""
    take_all_back()
    for (cls, member), before in _members.items():
        if before is _ABSENT:
            delattr(cls, member)
        else:
            setattr(cls, member, before)
    _members.clear()
    for module, own in reversed(_replaced.values()):
        if own is None:
            del module.__dict__["__getattr__"]
        else:
            module.__dict__["__getattr__"] = own
    _replaced.clear()


class CollectionLoader(Loader):
    """Makes a module of forwarded names.

    Args:
        real: finds the module's spec where the real package is installed; its other names and
            submodules are then found there.
    """

    def __init__(self, real: ModuleSpec | None) -> None:
        self._real = real

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        rows = names_of(name) or {}

        def getattr_(attribute: str) -> Any:
            if attribute.startswith("__"):
                raise _missing(name, attribute)
            is_ours = attribute in rows or names_of(f"{name}.{attribute}") is not None
            if is_ours or self._real is None:
                return _look_up(name, attribute, rows)
            return getattr(self._load_real(name), attribute)

        module.__dict__.update(
            __getattr__=getattr_,
            __dir__=lambda: sorted({*module.__dict__, *rows}),
            __doc__=f"Names of {name}, served by retinue.",
        )
        if rows:
            module.__dict__["__all__"] = sorted(n for n in rows if not n.startswith("_"))
        add_members(name)
        if name in VERSIONS:
            module.__dict__["__version__"] = VERSIONS[name]

    def _load_real(self, name: str) -> ModuleType:
        """Load the real module beside ours, for names that we lack."""
        hidden = f"_retinue_real.{name}"
        if hidden not in sys.modules:
            assert self._real is not None
            assert self._real.loader is not None
            module = importlib.util.module_from_spec(self._real)
            self._real.loader.exec_module(module)
            sys.modules[hidden] = module
        return sys.modules[hidden]


class ShimLoader(_WithFiles, Loader):
    """Makes the top-level ``detectron2``: its version, and the way to its submodules."""

    def exec_module(self, module: ModuleType) -> None:
        import retinue
        from retinue.utils.env import setup_environment

        def getattr_(name: str) -> Any:
            if name.startswith("__"):
                raise _missing("detectron2", name)
            try:
                return importlib.import_module(f"detectron2.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"detectron2.{name}":
                    raise
                raise _missing("detectron2", name) from None

        module.__dict__.update(
            __getattr__=getattr_,
            __version__=VERSION,
            __doc__=f"detectron2's names, served by retinue {retinue.__version__}.",
            __retinue__=retinue.__version__,
            setup_environment=setup_environment,
        )
        setup_environment()


class RefusingLoader(Loader):
    """Fails to load, and says why.

    Args:
        error: what is raised.
    """

    def __init__(self, error: ImportError) -> None:
        self._error = error

    def exec_module(self, module: ModuleType) -> None:
        raise self._error
