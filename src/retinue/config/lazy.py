"""Configs in Python: ``LazyCall`` describes a call, ``LazyConfig`` reads and writes such configs.

A config file is an ordinary module of Python; its dicts and lazy calls are the config. It can
import from files beside and above it with relative imports, and each import gets a copy of its own.

Reading order: LazyCall, LazyConfig, then the modules that they lean on: ``lazy_files`` reads Python
files, ``lazy_text`` writes YAML and Python.
"""

from __future__ import annotations

import ast
import dataclasses
import logging
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf, SCMode

from retinue.config.lazy_files import as_config, load_namespace
from retinue.config.lazy_text import plain, python_code
from retinue.config.safe_yaml import load_yaml
from retinue.utils.errors import InputError, close_names, unknown_name
from retinue.utils.file_io import PathManager, atomic_write
from retinue.utils.registry import _convert_target_to_string

__all__ = ["LazyCall", "LazyConfig"]


class LazyCall:
    """Describes a call without making it; ``instantiate`` makes it.

    Args:
        target: what to call, its dotted name, or a node that makes it.

    Raises:
        TypeError: If ``target`` is nothing to call.

    Example:
        >>> from datetime import timedelta
        >>> from retinue.config import instantiate
        >>> node = LazyCall(timedelta)(hours=2)
        >>> node.hours = 3
        >>> instantiate(node)
        datetime.timedelta(seconds=10800)
    """

    def __init__(self, target: Any) -> None:
        if not (callable(target) or isinstance(target, (str, Mapping))):
            raise TypeError(f"LazyCall: expected something to call, or its name; got {target!r}")
        self._target = target

    def __call__(self, **kwargs: Any) -> DictConfig:
        """Return the node; its entries can be changed until it is instantiated."""
        target = self._target
        # omegaconf would take these for schemas, not for things to call
        if dataclasses.is_dataclass(target) or any(target is kind for kind in (dict, list, tuple)):
            target = _convert_target_to_string(target)
        content: dict[Any, Any] = {**kwargs, "_target_": target}
        return DictConfig(content, flags={"allow_objects": True})


class LazyConfig:
    """Reads, changes and writes configs of lazy calls."""

    @staticmethod
    def load_rel(filename: str, keys: str | Sequence[str] | None = None) -> Any:
        """Load a file named relative to the one that calls this; see ``load``."""
        caller = sys._getframe(1).f_code.co_filename
        if caller.startswith("<"):
            raise InputError(f"load_rel: the caller must be a file; got {caller}; use load()")
        return LazyConfig.load(os.path.join(os.path.dirname(caller), filename), keys)

    @staticmethod
    def load(filename: str, keys: str | Sequence[str] | None = None, *, trust: bool = False) -> Any:
        """Load a config file.

        Args:
            filename: ``.py``, ``.yaml`` or ``.yml``; path or address. YAML is read as plain data.
            keys: a name of the file to return, or several, which are returned as a tuple. None
                returns all names that do not start with an underscore and hold a dict or a list.
            trust: run the code that Python tags in YAML name; the log says so. For files of your
                own only.

        Raises:
            InputError: If the file is of another kind.
            UnknownNameError: If it has no such name.
            ImportError: If it imports a config file that is not there.
        """
        suffix = os.path.splitext(filename)[1]
        if suffix not in (".py", ".yaml", ".yml"):
            raise InputError(f"config file {filename!r}: expected .py, .yaml or .yml")
        if suffix == ".py":
            names: Mapping[str, Any] = load_namespace(filename)
        else:
            with PathManager.open(filename, "r") as file:
                names = OmegaConf.create(
                    load_yaml(file, keep_names=True, trust=trust), flags={"allow_objects": True}
                )
        if keys is None:
            return _all_configs(names) if suffix == ".py" else names
        wanted = [keys] if isinstance(keys, str) else list(keys)
        for key in wanted:
            if key not in names:
                raise unknown_name(f"name in {filename}", key, [k for k in names if k[0] != "_"])
        found = tuple(as_config(names[key]) for key in wanted)
        return found[0] if isinstance(keys, str) else found

    @staticmethod
    def save(cfg: Any, filename: str) -> None:
        """Write a config as YAML that ``load`` reads back.

        Functions and classes are written by name. What has no form in YAML is written as a note
        that says what it was, with a warning; such a file is for reading only. Where the package
        cloudpickle is installed, the config itself is written beside it then, to ``.pkl``, for
        programs that trust it; nothing here reads it.
        """
        lost: list[str] = []
        content = plain(_container(cfg), "", lost)
        if lost:
            logging.getLogger(__name__).warning(
                "%s cannot hold %s; loading it will not give the same config",
                filename,
                ", ".join(lost),
            )
            _save_pickled(cfg, filename + ".pkl")
        with atomic_write(filename, "w") as file:
            yaml.safe_dump(content, file, default_flow_style=None, allow_unicode=True, width=9999)

    @staticmethod
    def apply_overrides(cfg: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """Set entries from words ``key=value``, in place, and return the config.

        Keys are dotted, with numbers for places in a list. Values are Python literals or YAML, and
        text otherwise: ``train.amp.enabled=True``, ``model.input=[1, 2]``, ``optimizer.lr=1e-3``.

        Raises:
            InputError: If a word has no ``=``.
            KeyError: If a key goes through something that has no entries.
        """
        for word in overrides:
            key, equals, text = word.partition("=")
            key = key.lstrip("+").strip()
            if not equals or not key or key.startswith("~"):
                raise InputError(f"config override: expected key=value; got {word!r}")
            _update(cfg, key, _parse(text))
        return cfg

    @staticmethod
    def to_py(cfg: Any, prefix: str = "cfg.") -> str:
        """Return the config as lines that look like Python, for people to read and search.

        Args:
            prefix: put before the name at the start of each line.
        """
        return python_code(OmegaConf.to_container(OmegaConf.create(cfg), resolve=True), prefix)


def _save_pickled(cfg: Any, path: str) -> None:
    try:
        import cloudpickle
    except ImportError:
        return
    with atomic_write(path, "wb") as file:
        cloudpickle.dump(cfg, file)


def _container(cfg: Any) -> Any:
    """Return nested dicts and lists, with dataclasses whole."""
    if not OmegaConf.is_config(cfg):
        return cfg
    return OmegaConf.to_container(cfg, resolve=False, structured_config_mode=SCMode.INSTANTIATE)


def _all_configs(names: Mapping[str, Any]) -> DictConfig:
    kinds = (DictConfig, ListConfig, dict)
    return DictConfig(
        {
            name: as_config(value)
            for name, value in names.items()
            if isinstance(value, kinds) and not name.startswith("_")
        },
        flags={"allow_objects": True},
    )


def _parse(text: str) -> Any:
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        pass
    try:
        return load_yaml(text)
    except yaml.YAMLError:
        return text


def _update(cfg: DictConfig, key: str, value: Any) -> None:
    parts = key.split(".")
    for count in range(1, len(parts)):
        above = ".".join(parts[:count])
        node = OmegaConf.select(cfg, above, default=None)
        if node is None:
            break
        if not OmegaConf.is_config(node):
            raise KeyError(f"cannot set {key!r}: {above!r} is {node!r}, which has no entries")
    else:
        _warn_if_misspelt(cfg, parts)
    OmegaConf.update(cfg, key, value, merge=True, force_add=True)


def _warn_if_misspelt(cfg: DictConfig, parts: Sequence[str]) -> None:
    """Warn of a new entry in a node of plain settings; a call's node may get any argument."""
    *folders, name = parts
    node = OmegaConf.select(cfg, ".".join(folders)) if folders else cfg
    if isinstance(node, DictConfig) and name not in node and "_target_" not in node:
        close = close_names(name, map(str, node), num=1)
        if close:
            warnings.warn(
                f"new config key {'.'.join(parts)!r}; was {close[0]!r} meant?", stacklevel=4
            )
