"""Configs as trees of keys: ``CfgNode``.

A key has the type of its default. Files and command lines can only set keys that are there; Python
code can add keys by assigning them, as projects' ``add_x_config(cfg)`` do. The defaults, and
``get_cfg``, are in defaults.py.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, Any

import yacs.config
import yaml

from retinue.config.compat import downgrade_config, guess_version, upgrade_config
from retinue.config.configurable import configurable
from retinue.config.safe_yaml import load_yaml
from retinue.utils.errors import InputError, UnknownNameError, close_names, unknown_name
from retinue.utils.file_io import PathManager

__all__ = [
    "CfgNode",
    "configurable",
    "get_cfg",  # noqa: F822 - see __getattr__
    "global_cfg",
    "set_global_cfg",
]

BASE_KEY = "_BASE_"
COMPUTED = "COMPUTED_"
_LAZY_HINT = (
    "expected YAML; a lazy config (.py) is read by LazyConfig.load, and trained by"
    " `retinue run lazyconfig_train_net`; "
)


class UnknownOverrideError(UnknownNameError, AssertionError):
    """An override, such as one of a command line, of a key that is not there."""


class CfgNode(yacs.config.CfgNode):  # type: ignore[misc] # yacs has no types
    """A node of a config tree: a dict whose keys are attributes, too.

    Example:
        >>> cfg = CfgNode({"SOLVER": {"BASE_LR": 0.02}})
        >>> cfg.merge_from_list(["SOLVER.BASE_LR", "1e-3"])
        >>> cfg.SOLVER.BASE_LR
        0.001
        >>> cfg.merge_from_list(["SOLVER.BASE_RL", 1.0])
        Traceback (most recent call last):
            ...
        retinue.config.config.UnknownOverrideError: unknown config key 'SOLVER.BASE_RL'; \
did you mean 'SOLVER.BASE_LR'?
    """

    def __init__(
        self,
        init_dict: dict[str, Any] | None = None,
        key_list: list[str] | None = None,
        new_allowed: bool = False,
    ) -> None:
        super().__init__(init_dict, key_list, new_allowed)
        self.__dict__["_path"] = ".".join(key_list or [])
        self.__dict__["_reviewed"] = frozenset()  # keys that a new one may be a misspelling of

    # ---- reading files

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        """Open a config file; a subclass may look elsewhere."""
        return PathManager.open(filename, "r")

    @classmethod
    def load_yaml_with_base(
        cls, filename: str, allow_unsafe: bool = False, *, trust: bool = False
    ) -> dict[str, Any]:
        """Read a YAML file, merged over the files that its ``_BASE_`` names.

        Args:
            filename: path or address. A base is a path relative to this file's folder, an absolute
                one, one that starts with ``~``, or an address; or a list of these, later ones over
                earlier ones.
            allow_unsafe: accepted for detectron2's sake. Python tags are read as plain data either
                way, and code is never run.
            trust: run the code that Python tags name; the log says so. For files of your own only.

        Raises:
            FileNotFoundError: If a base does not exist.
            InputError: If bases go round in a circle, or a file holds no mapping.
            yaml.YAMLError: If a file is not YAML.
        """
        return cls._load_over_bases(filename, (), trust)

    @classmethod
    def _load_over_bases(cls, filename: str, above: tuple[str, ...], trust: bool) -> dict[str, Any]:
        if filename in above:
            chain = " -> ".join([*above, filename])
            raise InputError(f"{filename}: {BASE_KEY} leads back to itself: {chain}")
        try:
            with cls._open_cfg(filename) as file:
                own = load_yaml(file, trust=trust)
        except yaml.YAMLError as error:
            hint = _LAZY_HINT if filename.endswith(".py") else ""
            raise type(error)(f"config file {filename}: {hint}{error}") from error
        if own is None:
            own = {}
        if not isinstance(own, dict):
            raise InputError(f"config file {filename}: expected keys and values; got {own!r}")
        bases = own.pop(BASE_KEY, [])
        merged: dict[str, Any] = {}
        for base in [bases] if isinstance(bases, str) else bases:
            path = _base_path(base, filename)
            if not PathManager.isfile(path):
                raise FileNotFoundError(
                    f"config file {filename}: its {BASE_KEY} {path!r} does not exist; a relative"
                    " path starts at the folder of the file that names it"
                )
            _merge_over(cls._load_over_bases(path, (*above, filename), trust), merged, path)
        _merge_over(own, merged, filename)
        return merged

    def merge_from_file(
        self, cfg_filename: str, allow_unsafe: bool = True, *, trust: bool = False
    ) -> None:
        """Set what a YAML file says; a file with keys of an older version is upgraded.

        Args:
            cfg_filename: path or address.
            allow_unsafe: accepted for detectron2's sake; see ``load_yaml_with_base``.
            trust: run the code that Python tags name; the log says so. For files of your own only.

        Raises:
            InputError: If there is no such file, or it is of a newer version.
            UnknownNameError: (a ``KeyError``) if it sets a key that is not there.
            ValueError: If a value's type differs from the key's.
        """
        if not PathManager.isfile(cfg_filename):
            raise InputError(
                f"config file {cfg_filename!r} does not exist; models of the zoo are found by"
                " retinue.model_zoo.get_config_file(name)"
            )
        how: dict[str, Any] = {"trust": True} if trust else {}  # subclasses may not know it
        content = self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe, **how)
        loaded = type(self)(content)
        if "VERSION" in self:
            self._merge_versioned(loaded, cfg_filename)
        else:
            self._merge_loaded(loaded, cfg_filename)

    def _merge_loaded(self, loaded: CfgNode, filename: str) -> None:
        try:
            self.merge_from_other_cfg(loaded)
        except (InputError, UnknownNameError) as error:
            raise type(error)(f"config file {filename}: {error}") from error

    def _merge_versioned(self, loaded: CfgNode, filename: str) -> None:
        version = loaded.get("VERSION", None)
        if version is None:
            version = guess_version(loaded, filename)
        if version > self.VERSION:
            raise InputError(
                f"config file {filename}: expected VERSION up to {self.VERSION}; got {version};"
                " it needs a newer release of the library"
            )
        if version == self.VERSION:
            self._merge_loaded(loaded, filename)
            return
        logging.getLogger(__name__).warning(
            "%s has keys of version %d; reading it as such. `upgrade_config` rewrites them",
            filename,
            version,
        )
        old = downgrade_config(self, to_version=version)
        old._merge_loaded(loaded, filename)
        new = upgrade_config(old)
        self.clear()
        self.update(new)

    # ---- merging

    def merge_from_other_cfg(self, cfg_other: CfgNode) -> None:
        """Set what another tree says.

        Raises:
            UnknownNameError: If it has a key that is not there and not allowed to be new.
            ValueError: If a value's type differs from the key's.
        """
        if BASE_KEY in cfg_other:
            raise InputError(f"{BASE_KEY} has a meaning in files only; got it in a tree to merge")
        self._check(cfg_other, self, "")
        super().merge_from_other_cfg(cfg_other)

    def merge_from_list(self, cfg_list: Sequence[Any]) -> None:
        """Set keys from ``[key, value, key, value, ...]``, as they come from a command line.

        A value that is text is read as a Python literal if it is one: ``"1e-3"``, ``"('a',)"``.

        Raises:
            InputError: If a value is missing.
            UnknownOverrideError: If a key is not there.
            ValueError: If a value's type differs from the key's.
        """
        if len(cfg_list) % 2:
            raise InputError(
                f"config overrides: expected pairs KEY VALUE; got {len(cfg_list)} words:"
                f" {list(cfg_list)}"
            )
        pairs = list(zip(cfg_list[0::2], cfg_list[1::2], strict=True))
        for key, value in pairs:
            if key == BASE_KEY or key.endswith("." + BASE_KEY):
                raise InputError(f"{BASE_KEY} has a meaning in files only; got it as an override")
            *folders, name = key.split(".")
            node: Any = self
            for folder in folders:
                node = node.get(folder) if isinstance(node, CfgNode) else None
            known = isinstance(node, CfgNode) and name in node
            if not known and not self.key_is_deprecated(key) and not self.key_is_renamed(key):
                raise UnknownOverrideError(str(self._unknown(key)))
            if known:
                _refuse_other_type(key, node[name], self._decode_cfg_value(value))
        super().merge_from_list(cfg_list)

    def _check(self, other: CfgNode, mine: CfgNode, path: str) -> None:
        """Refuse unknown keys of ``other``, and text where a tuple belongs, by name."""
        for key, value in other.items():
            full = f"{path}{key}"
            if key in mine:
                if isinstance(mine[key], CfgNode) and isinstance(value, CfgNode):
                    self._check(value, mine[key], full + ".")
                else:
                    _refuse_other_type(full, mine[key], self._decode_cfg_value(value))
            elif not (
                mine.is_new_allowed() or self.key_is_deprecated(full) or self.key_is_renamed(full)
            ):
                raise self._unknown(full)

    def _unknown(self, key: str) -> Exception:
        """Build the error for a key that is not there; those beside it are the first suspects."""
        node, prefix, rest = self, "", key
        while isinstance(node.get(head := rest.partition(".")[0]), CfgNode) and "." in rest:
            node, prefix, rest = node[head], f"{prefix}{head}.", rest.partition(".")[2]
        close = close_names(head, node) if "." not in rest else []
        known = [prefix + name for name in close] or list(_full_keys(self))
        if not close_names(key, known):
            known = [prefix + name for name in node]
        return unknown_name("config key", key, known)

    # ---- assigning

    def __setattr__(self, name: str, val: Any) -> None:
        path = self.__dict__.get("_path", "")
        full = f"{path}.{name}" if path else name
        if name.startswith(COMPUTED):
            self._set_computed(name, val)
            return
        if name in self:
            _refuse_bare_text(full, self[name], val)
        else:
            self._warn_if_misspelt(name)
        super().__setattr__(name, val)
        if isinstance(val, CfgNode):
            _set_path(val, full)

    def _set_computed(self, name: str, val: Any) -> None:
        if name in self and self[name] != val:
            raise KeyError(f"{name} was computed before as {self[name]!r}; now as {val!r}")
        self[name] = val

    def _warn_if_misspelt(self, name: str) -> None:
        for known in self.__dict__.get("_reviewed", ()):
            if _is_one_slip_apart(name, known):
                warnings.warn(
                    f"new config key {name!r} is one slip away from {known!r}; it is added, and"
                    f" {known!r} keeps its value",
                    stacklevel=3,
                )

    def review_new_keys(self) -> None:
        """Warn from now on when a new key looks like a misspelling of one that is here now."""
        self.__dict__["_reviewed"] = frozenset(self)
        for value in self.values():
            if isinstance(value, CfgNode):
                value.review_new_keys()

    # ---- writing

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Return the tree as YAML; arguments go to ``yaml.safe_dump``."""
        return str(super().dump(*args, **kwargs))


def _base_path(base: str, filename: str) -> str:
    base = os.path.expanduser(base)
    if os.path.isabs(base) or "://" in base:
        return base
    folder = filename.rpartition("/")[0] if "://" in filename else os.path.dirname(filename)
    return f"{folder}/{base}" if "://" in filename else os.path.join(folder, base)


def _merge_over(top: dict[str, Any], bottom: dict[str, Any], filename: str) -> None:
    """Merge ``top`` into ``bottom``, in place."""
    for key, value in top.items():
        below = bottom.get(key)
        if isinstance(value, dict) and key in bottom:
            if not isinstance(below, dict):
                raise InputError(
                    f"config file {filename}: {key} has keys below it here, but is the value"
                    f" {below!r} in its {BASE_KEY}"
                )
            _merge_over(value, below, filename)
        else:
            bottom[key] = value


def _full_keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _full_keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _set_path(node: CfgNode, path: str) -> None:
    node.__dict__["_path"] = path
    for key, value in node.items():
        if isinstance(value, CfgNode):
            _set_path(value, f"{path}.{key}")


def _refuse_bare_text(key: str, old: Any, new: Any) -> None:
    """Refuse ``("x")``, which Python reads as the text ``"x"``, where a sequence belongs."""
    if isinstance(old, (tuple, list)) and isinstance(new, str):
        kind = type(old).__name__
        fixed = f"({new!r},) with the comma" if kind == "tuple" else f"[{new!r}]"
        raise InputError(f"{key}: expected a {kind}; got the text {new!r}; write {fixed}")


def _refuse_other_type(key: str, old: Any, new: Any) -> None:
    """Refuse a value of another type than the key's; tuples and lists stand for each other."""
    _refuse_bare_text(key, old, new)
    both_sequences = isinstance(old, (tuple, list)) and isinstance(new, (tuple, list))
    if old is None or new is None or type(old) is type(new) or both_sequences:
        return
    if isinstance(old, CfgNode):
        raise InputError(f"{key}: expected keys below it ({', '.join(old)}); got {new!r}")
    fix = f"; write {float(new)}" if isinstance(old, float) and type(new) is int else ""
    raise InputError(f"{key}: expected {type(old).__name__}, such as {old!r}; got {new!r}{fix}")


def _is_one_slip_apart(a: str, b: str) -> bool:
    """Say whether inserting, dropping, replacing or swapping letters once turns ``a`` into ``b``.

    Names that differ in a digit only (RES4, RES5) are meant to be different.
    """
    if min(len(a), len(b)) < 4 or abs(len(a) - len(b)) > 1:
        return False
    head = _num_shared(a, b)
    tail = _num_shared(a[head:][::-1], b[head:][::-1])
    rest_a, rest_b = a[head : len(a) - tail], b[head : len(b) - tail]
    if any(ch.isdigit() for ch in rest_a + rest_b):
        return False
    is_swap = len(rest_a) == 2 and rest_a == rest_b[::-1]
    return is_swap or max(len(rest_a), len(rest_b)) == 1


def _num_shared(a: str, b: str) -> int:
    """Return how many letters both words begin with."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


global_cfg = CfgNode()


def set_global_cfg(cfg: CfgNode) -> None:
    """Let ``global_cfg`` hold what ``cfg`` holds; for projects that read it from anywhere."""
    global_cfg.clear()
    global_cfg.update(cfg)


def __getattr__(name: str) -> Any:
    if name == "get_cfg":  # detectron2's path of what stands above, beside the defaults
        return importlib.import_module("retinue.config.defaults").get_cfg
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
