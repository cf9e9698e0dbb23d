"""Files of the library import each other one way, also inside functions and for types alone."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import retinue

SOURCE = Path(retinue.__file__).parent


def module_name(path):
    parts = ("retinue", *path.relative_to(SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree):
    """Name each module, or name of a module, that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", node.module) for alias in node.names)


def arrows(files):
    """Map each module to those of ``files``, name -> text, that it imports."""
    graph = {}
    for name, text in files.items():
        found = (one if one in files else home for one, home in imported(ast.parse(text)))
        graph[name] = {target for target in found if target in files and target != name}
    return graph


@pytest.mark.slow
def test_no_circle_of_imports():
    files = {module_name(path): path.read_text("utf-8") for path in SOURCE.rglob("*.py")}
    graph = arrows(files)
    assert "retinue.structures" in graph["retinue.modeling.poolers"]

    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_a_circle_is_seen():
    files = {
        "a": "def f():\n    from b import g\n",
        "b": "import c.d\n",
        "c.d": "from a import f\n",
    }
    with pytest.raises(CycleError) as caught:
        TopologicalSorter(arrows(files)).prepare()
    assert set(caught.value.args[1]) == {"a", "b", "c.d"}
