"""Reading YAML as plain data, whatever tags it carries.

Configs that other tools saved are full of Python tags. Here a tag names a plain thing (a tuple, a
string, a mapping of attributes) or is refused; none makes an object or calls a function.
"""

from __future__ import annotations

import logging
from typing import IO, Any

import yaml

from retinue.config.yaml_expressions import Evaluator, ExpressionError

__all__ = ["load_yaml"]

logger = logging.getLogger(__name__)

_PREFIX = "tag:yaml.org,2002:python/"
_SCALARS = {"str": "str", "unicode": "str", "int": "int", "long": "int", "float": "float"}
_SCALARS |= {"bool": "bool", "none": "null"}
_MAX_BYTES = 32 << 20
_MAX_DEPTH = 100
_MAX_VALUES = 1_000_000  # with what aliases repeat written out
_ORDERED_DICT = "object/apply:collections.OrderedDict"
_EVAL = ("object/apply:eval", "object/apply:builtins.eval")


class _PlainLoader(yaml.SafeLoader):
    """The safe loader, which also understands the tags of plain things."""

    keep_names = False  # whether names of functions and classes stay callable by `instantiate`
    depth = 0

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.evaluator = Evaluator()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read one value, refusing nesting that would end in a stack overflow."""
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, f"values nested more than {_MAX_DEPTH} levels deep", mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """Read the document, refusing aliases that would become gigabytes."""
        node: yaml.Node | None = super().get_single_node()
        if node is not None and _expanded_size(node, {}) > _MAX_VALUES:
            raise yaml.composer.ComposerError(
                None, None, f"aliases make more than {_MAX_VALUES:,} values", node.start_mark
            )
        return node

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
        reason = ""
        if isinstance(node, yaml.SequenceNode) and suffix in _EVAL:
            try:
                return self.evaluator.evaluate(*map(str, self.construct_sequence(node)))
            except (ExpressionError, TypeError) as error:
                reason = f" ({error})"
        raise yaml.constructor.ConstructorError(
            None,
            None,
            f"tag !!python/{suffix} would run code, which reading a file never does{reason}; write"
            " the value itself",
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


def _expanded_size(node: yaml.Node, known: dict[int, float]) -> float:
    """Count the values below a node; a node inside itself counts as endless."""
    if isinstance(node, yaml.ScalarNode):
        return 1.0
    if id(node) not in known:
        known[id(node)] = float("inf")
        pairs = isinstance(node, yaml.MappingNode)
        below = [part for pair in node.value for part in pair] if pairs else node.value
        known[id(node)] = 1 + sum(_expanded_size(part, known) for part in below)
    return known[id(node)]


def _python_tag(loader: _PlainLoader, suffix: str, node: yaml.Node) -> Any:
    return loader.python_tag(suffix, node)


_PlainLoader.add_multi_constructor(_PREFIX, _python_tag)


def load_yaml(stream: str | IO[Any], *, keep_names: bool = False, trust: bool = False) -> Any:
    """Read one YAML document as dicts, lists, tuples, strings, numbers, booleans and None.

    Args:
        stream: text, or an open file.
        keep_names: turn the name of a function or class into a node that ``instantiate`` makes
            it from, and an object into a node with its ``_target_``; else a name is a string.
        trust: make the objects and call the functions that tags name; the log says so. For files
            of your own only.

    Raises:
        yaml.YAMLError: If it is not YAML, a tag would run code, or it would take more memory or
            depth than a config does; with line and column.

    Example:
        >>> load_yaml("STEPS: !!python/tuple [30, 40]")
        {'STEPS': (30, 40)}
    """
    text = stream if isinstance(stream, str) else stream.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise yaml.YAMLError(f"more than {_MAX_BYTES >> 20} MiB of YAML, which is no config")
    try:
        if trust:
            name = getattr(stream, "name", "YAML")
            logger.warning("%s: read with trust=True, which runs any code that it names", name)
            return yaml.load(text, yaml.UnsafeLoader)
        return yaml.load(text, _NameKeepingLoader if keep_names else _PlainLoader)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise yaml.YAMLError(f"not a value: {error}") from error  # such as the date 2020-99-99
