"""Reading YAML as plain data, whatever tags it carries.

Configs that other tools saved are full of Python tags. Here a tag names a plain thing (a tuple, a
string, a mapping of attributes) or is refused; none makes an object or calls a function.
"""

from __future__ import annotations

from typing import IO, Any

import yaml

__all__ = ["load_yaml"]

_PREFIX = "tag:yaml.org,2002:python/"
_SCALARS = {"str": "str", "unicode": "str", "int": "int", "long": "int", "float": "float"}
_SCALARS |= {"bool": "bool", "none": "null"}
_ORDERED_DICT = "object/apply:collections.OrderedDict"


class _PlainLoader(yaml.SafeLoader):
    """The safe loader, which also understands the tags of plain things."""

    keep_names = False  # whether names of functions and classes stay callable by `instantiate`

    def python_tag(self, suffix: str, node: yaml.Node) -> Any:
        """Turn ``!!python/<suffix>`` into plain data, or refuse it."""
        kind, _, name = suffix.partition(":")
        if suffix in _SCALARS:
            return self.yaml_constructors[f"tag:yaml.org,2002:{_SCALARS[suffix]}"](self, node)
        if kind in ("name", "module"):
            target = {"_target_": "retinue.utils.registry.locate", "name": name}
            return target if self.keep_names else name
        if isinstance(node, yaml.SequenceNode) and suffix in ("tuple", "list"):
            values = self.construct_sequence(node, deep=True)
            return tuple(values) if suffix == "tuple" else values
        if isinstance(node, yaml.SequenceNode) and suffix == _ORDERED_DICT:
            pairs = self.construct_sequence(node, deep=True)
            return dict(pairs[0]) if pairs else {}
        if isinstance(node, yaml.MappingNode) and suffix == "dict":
            return self.construct_mapping(node, deep=True)
        if isinstance(node, yaml.MappingNode) and kind in ("object", "object/new"):
            return self.attributes(name, node)
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"tag !!python/{suffix} would run code, which reading a file never does; write the"
            " value itself",
            node.start_mark,
        )

    def attributes(self, name: str, node: yaml.MappingNode) -> Any:
        """Return what an object holds: its items if it is a mapping, else its attributes."""
        held = self.construct_mapping(node, deep=True)
        if "dictitems" in held:
            return held["dictitems"]
        if "listitems" in held:
            return held["listitems"]
        held = held.get("state", held)
        return {"_target_": name, **held} if self.keep_names and isinstance(held, dict) else held


class _NameKeepingLoader(_PlainLoader):
    keep_names = True


def _python_tag(loader: _PlainLoader, suffix: str, node: yaml.Node) -> Any:
    return loader.python_tag(suffix, node)


_PlainLoader.add_multi_constructor(_PREFIX, _python_tag)


def load_yaml(stream: str | IO[Any], *, keep_names: bool = False) -> Any:
    """Read one YAML document as dicts, lists, tuples, strings, numbers, booleans and None.

    Args:
        stream: text, or an open file.
        keep_names: turn the name of a function or class into a node that ``instantiate`` makes
            it from, and an object into a node with its ``_target_``; else a name is a string.

    Raises:
        yaml.YAMLError: If it is not YAML, or a tag would run code; with line and column.

    Example:
        >>> load_yaml("STEPS: !!python/tuple [30, 40]")
        {'STEPS': (30, 40)}
    """
    return yaml.load(stream, _NameKeepingLoader if keep_names else _PlainLoader)
