"""Selecting entries of a list of dicts by a short text, such as ``score=0.9,id:int=3-7``."""

from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = ["AllEntrySelector", "EntrySelector", "FieldEntrySelector"]

TYPES: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}


class EntrySelector:
    """Base of what tells whether an entry is wanted."""

    @staticmethod
    def from_string(spec: str) -> "EntrySelector":
        """Make the selector of a text: ``*`` for all, else see :class:`FieldEntrySelector`."""
        return (
            AllEntrySelector() if spec == AllEntrySelector.SPECIFIER else FieldEntrySelector(spec)
        )


class AllEntrySelector(EntrySelector):
    """Wants every entry."""

    SPECIFIER: ClassVar[str] = "*"

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        """Return True."""
        return True


class FieldEntrySelector(EntrySelector):
    """Wants entries whose fields have certain values.

    Args:
        spec: ``<field>[:<type>]=<value>`` or ``<field>[:<type>]=<least>-<most>``, several with
            commas between; the type is ``str`` or another builtin one, ``str`` by default.

    Raises:
        ValueError: If the text is none of these.

    Example:
        >>> wanted = FieldEntrySelector("kind=cat,id:int=3-7")
        >>> wanted({"kind": "cat", "id": 5}), wanted({"kind": "cat", "id": 8})
        (True, False)
    """

    def __init__(self, spec: str) -> None:
        self._bounds = [_parse(part) for part in spec.split(",")]

    def __call__(self, entry: Mapping[str, Any]) -> bool:
        """Tell whether the entry is wanted."""
        return all(least <= entry[name] <= most for name, least, most in self._bounds)


def _parse(part: str) -> tuple[str, Any, Any]:
    """Return a field, its least and its greatest value."""
    field, equals, values = part.partition("=")
    name, _, kind = field.partition(":")
    if not name or not equals or (kind or "str") not in TYPES:
        raise ValueError(
            f"entry selector {part!r}: expected <field>=<value> or <field>:<type>=<least>-<most>,"
            f" types being {', '.join(TYPES)}"
        )
    least, dash, most = values.partition("-") if values[:1] != "-" else (values, "", "")
    convert = TYPES[kind or "str"]
    return name, convert(least), convert(most if dash else least)
