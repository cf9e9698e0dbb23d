"""The names of other packages that a Python file uses, found in its syntax tree.

A use is a module and a path below it: ``from a.b import c`` uses ``("a.b", ("c",))``; where ``c``
is then asked for ``c.d``, that is another use, ``("a.b", ("c", "d"))``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Use", "used_names"]

_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
_IMPORT_ERRORS = frozenset({"ImportError", "Exception", "BaseException"})
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


@dataclass(frozen=True)
class Use:
    """One place that names something of another package.

    Attributes:
        line: counted from 1.
        module: the module imported from.
        path: what is used of it, attribute by attribute; empty for the module itself.
        kind: ``"import"``, ``"attribute"`` or ``"text"``, a string that holds the dotted name.
        is_guarded: whether an ``except ImportError`` goes on where the import fails.
    """

    line: int
    module: str
    path: tuple[str, ...]
    kind: str
    is_guarded: bool = False

    @property
    def name(self) -> str:
        """The dotted name."""
        return ".".join((self.module, *self.path))


def _goes_on(handler: ast.ExceptHandler) -> bool:
    """Whether an ``except`` takes an ImportError and raises nothing in its place."""
    caught = ast.walk(handler.type) if handler.type else ()
    taken = {node.id for node in caught if isinstance(node, ast.Name)}
    is_taken = handler.type is None or bool(taken & _IMPORT_ERRORS)
    return is_taken and not any(isinstance(n, ast.Raise) for n in ast.walk(handler))


def _guarded_lines(tree: ast.Module) -> frozenset[int]:
    """Return the lines of imports that may fail."""
    bodies = [
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.Try) and any(map(_goes_on, node.handlers))
    ]
    nodes = (node for body in bodies for statement in body for node in ast.walk(statement))
    return frozenset(n.lineno for n in nodes if isinstance(n, ast.Import | ast.ImportFrom))


def _imports(tree: ast.Module) -> tuple[list[Use], dict[str, tuple[str, tuple[str, ...]]]]:
    """Return the imports, and what each local name was last imported as, in the whole file."""
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    guarded = _guarded_lines(tree)
    uses = []
    aliases: dict[str, tuple[str, tuple[str, ...]]] = {}
    for node in sorted(nodes, key=lambda n: (n.lineno, n.col_offset)):
        for alias in node.names:
            name, line = alias.name, node.lineno
            is_guarded = line in guarded
            if isinstance(node, ast.Import):
                top = name.partition(".")[0]
                uses.append(Use(line, name, (), "import", is_guarded))
                aliases[alias.asname or top] = (name if alias.asname else top, ())
            elif node.level == 0 and node.module is not None:
                uses.append(Use(line, node.module, (name,), "import", is_guarded))
                aliases[alias.asname or name] = (node.module, (name,))
    return uses, aliases


def _chain(node: ast.Attribute) -> tuple[str, ...] | None:
    """Return ``("a", "b", "c")`` for ``a.b.c``; None where it doesn't start with a name."""
    parts: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        parts.append(inner.attr)
        inner = inner.value
    return (inner.id, *reversed(parts)) if isinstance(inner, ast.Name) else None


def _names_bound_in(function: _Function) -> frozenset[str]:
    """Return the arguments and variables of a function, which hide imports of the same name."""
    args = function.args
    bound = {a.arg for a in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
    bound |= {a.arg for a in (args.vararg, args.kwarg) if a is not None}
    imported: set[str] = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.Global | ast.Nonlocal):
            imported |= set(node.names)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            imported |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    return frozenset(bound - imported)


def _attributes(tree: ast.AST) -> Iterator[ast.Attribute]:
    """Yield the outermost attribute of each chain that starts with no variable of a function."""
    todo: list[tuple[ast.AST, frozenset[str]]] = [(tree, frozenset())]
    while todo:
        node, hidden = todo.pop()
        if isinstance(node, _Function):
            hidden |= _names_bound_in(node)
        if isinstance(node, ast.Attribute) and (chain := _chain(node)):
            if chain[0] not in hidden:
                yield node
        else:
            todo += [(child, hidden) for child in ast.iter_child_nodes(node)]


def used_names(tree: ast.Module) -> list[Use]:
    """Return what a file uses of the modules it imports, by place.

    Example:
        >>> tree = ast.parse("import a.b as x" + chr(10) + "print(x.c.d)")
        >>> [use.name for use in used_names(tree)]
        ['a.b', 'a.b.c.d']
    """
    uses, aliases = _imports(tree)
    for node in _attributes(tree):
        chain = _chain(node)
        if chain and chain[0] in aliases:
            module, path = aliases[chain[0]]
            path += chain[1:] if isinstance(node.ctx, ast.Load) else chain[1:-1]  # a name it sets
            uses.append(Use(node.lineno, module, path, "attribute"))
    for child in ast.walk(tree):
        if not isinstance(child, ast.Constant) or not isinstance(child.value, str):
            continue
        if _DOTTED.fullmatch(child.value):
            module, *names = child.value.split(".")
            uses.append(Use(child.lineno, module, tuple(names), "text"))
    return sorted(uses, key=lambda use: (use.line, use.name))
