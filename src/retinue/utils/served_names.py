"""Names of this library under which it is shown while it serves as another package.

``retinue.compat.install`` makes retinue ``detectron2`` for a program; what the program then logs
and saves has the names that it knows. Nothing is renamed otherwise.
"""

__all__ = ["served_name", "serving"]

serving: dict[str, str] = {}
"""Own package name -> the name it is served under."""


def served_name(name: str) -> str:
    """Return the dotted name under which ``name`` is known to the program.

    >>> served_name("retinue.structures.Boxes")
    'retinue.structures.Boxes'
    """
    top, dot, rest = name.partition(".")
    return serving.get(top, top) + dot + rest
