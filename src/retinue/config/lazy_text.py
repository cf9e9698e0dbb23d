"""Writing lazy configs: as plain data for YAML, and as text that looks like Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from retinue.config.instantiate import dump_dataclass
from retinue.utils.registry import _convert_target_to_string

__all__ = ["plain", "python_code"]

_WIDTH = 88


def plain(value: Any, path: str, lost: list[str]) -> Any:
    """Turn a config into dicts, lists, text, numbers, booleans and None.

    Args:
        value: the config, or a part of it.
        path: the dotted key of that part.
        lost: gets a line for each value that has no plain form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dump_dataclass(value)
    if isinstance(value, Mapping):
        items = {str(key): plain(v, f"{path}.{key}", lost) for key, v in value.items()}
        if callable(target := value.get("_target_")):
            items["_target_"] = _convert_target_to_string(target)
        return items
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{path}.{i}", lost) for i, item in enumerate(value)]
    if value is None or type(value) in (str, int, float, bool):
        return value
    name = str(value) if isinstance(value, torch.dtype) else _name_of(value)
    if name:
        return {"_target_": "retinue.utils.registry.locate", "name": name}
    lost.append(f"{path.lstrip('.')} ({type(value).__name__})")
    return f"<{value!r}>"


def _name_of(value: Any) -> str:
    """Return the name that a function or class can be imported by, or nothing."""
    name = getattr(value, "__qualname__", "")
    if not callable(value) or not name or "<" in name or not getattr(value, "__module__", ""):
        return ""
    return _convert_target_to_string(value)


def python_code(content: Any, prefix: str) -> str:
    """Return ``cfg.key.key = value`` lines for nested dicts; a lazy call is shown as a call."""
    lines: list[str] = []
    _assignments(content, prefix.rstrip("."), lines)
    return "\n".join(lines) + "\n"


def _assignments(node: Any, path: str, lines: list[str]) -> None:
    if isinstance(node, Mapping) and "_target_" not in node and node:
        for key, value in sorted(node.items(), key=lambda item: str(item[0])):
            is_name = isinstance(key, str) and key.isidentifier()
            dotted = f"{path}.{key}" if path else str(key)
            _assignments(value, dotted if is_name else f"{path}[{_atom(key)}]", lines)
        return
    lines.append(_expression(node, f"{path} = ", ""))


def _atom(value: Any) -> str:
    if isinstance(value, str):
        text = repr(value)
        if text.startswith("'") and '"' not in text:
            return '"' + text[1:-1].replace("\\'", "'") + '"'
        return text
    name = str(value) if isinstance(value, torch.dtype) else _name_of(value)
    return name or repr(value)


def _expression(value: Any, start: str, indent: str, end: str = "") -> str:
    """Lay ``start value end`` out on one line, else its inside on one, else one part a line."""
    if isinstance(value, Mapping) and "_target_" in value:
        target = value["_target_"]
        name = target if isinstance(target, str) else _expression(target, "", indent)
        if callable(target):
            name = _convert_target_to_string(target)
        opening, closing = f"{name}(", ")"
        parts = [(f"{k}=", v) for k, v in sorted(value.items()) if k != "_target_"]
    elif isinstance(value, Mapping):
        opening, closing = "{", "}"
        parts = [(f"{_atom(k)}: ", v) for k, v in value.items()]
    elif isinstance(value, (list, tuple)):
        opening, closing = ("[", "]") if isinstance(value, list) else ("(", ")")
        parts = [("", v) for v in value]
    else:
        return f"{indent}{start}{_atom(value)}{end}"
    inner = ", ".join(_one_line(v, s) for s, v in parts)
    comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
    line = f"{indent}{start}{opening}{inner}{comma}{closing}{end}"
    if len(line) <= _WIDTH or not parts:
        return line
    deeper = indent + "    "
    if len(deeper + inner + comma) <= _WIDTH:
        return f"{indent}{start}{opening}\n{deeper}{inner}{comma}\n{indent}{closing}{end}"
    rows = [_expression(v, s, deeper, ",") for s, v in parts]
    return "\n".join([f"{indent}{start}{opening}", *rows, f"{indent}{closing}{end}"])


def _one_line(value: Any, start: str) -> str:
    """Return the expression without line breaks; it is exact whenever it fits on a line."""
    return " ".join(row.strip() for row in _expression(value, start, "").split("\n"))
