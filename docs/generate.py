"""Write the pages that the library itself knows best: models, registries, the API.

They go to files beside the others whose names ``.gitignore`` lists: ``zoo_table.md``,
``registry_tables.md`` and ``api/<package>.rst``.
"""

import gzip
import importlib
import inspect
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PACKAGES = (
    "retinue",
    "retinue.config",
    "retinue.data",
    "retinue.data.datasets",
    "retinue.data.samplers",
    "retinue.data.transforms",
    "retinue.structures",
    "retinue.layers",
    "retinue.modeling",
    "retinue.modeling.backbone",
    "retinue.modeling.proposal_generator",
    "retinue.modeling.roi_heads",
    "retinue.modeling.meta_arch",
    "retinue.model_zoo",
    "retinue.checkpoint",
    "retinue.solver",
    "retinue.engine",
    "retinue.evaluation",
    "retinue.visualization",
    "retinue.tracking",
    "retinue.export",
    "retinue.torchvision",
    "retinue.projects.deeplab",
    "retinue.projects.densepose",
    "retinue.projects.meshrcnn",
    "retinue.projects.panoptic_deeplab",
    "retinue.projects.point_rend",
    "retinue.projects.point_sup",
    "retinue.projects.rethinking_batchnorm",
    "retinue.projects.tensormask",
    "retinue.projects.tridentnet",
    "retinue.compat",
    "retinue.utils.comm",
    "retinue.utils.download",
    "retinue.utils.errors",
    "retinue.utils.events",
    "retinue.utils.file_io",
    "retinue.utils.lazy",
    "retinue.utils.logger",
    "retinue.utils.memory",
    "retinue.utils.registry",
    "retinue.utils.timer",
)
GOLDEN = "golden_models.json"  # of each model with recorded numbers, the config
UNRECORDED = {  # beginnings of names of which no config is recorded, and why not
    "projects/Rethinking-BatchNorm/configs/retinanet_SyncBNhead": (
        "detectron2's files `retinanet_SyncBNhead*.py` name `torch.nn.SyncBatchNorm2d`, which no"
        " PyTorch has, so detectron2 can't load them. Here they name `SyncBatchNorm`; their keys"
        " equal those of detectron2's models built with that."
    ),
    "projects/MeshRCNN/": (
        "Mesh R-CNN is not part of detectron2 but a repository of its own, and needs PyTorch3D; it"
        " was not run for the recording. Its tests check keys and shapes of its layers, and compare"
        " its operations with closed forms."
    ),
}


def main(docs: Path) -> None:
    """Write all generated pages below ``docs``."""
    _write(docs / "zoo_table.md", zoo_page(docs))
    _write(docs / "registry_tables.md", registry_page())
    names = [name for name in PACKAGES if importlib.util.find_spec(name)]
    homes: dict[int, str] = {}
    for name in names:
        _write(docs / "api" / f"{name}.rst", api_page(name, homes))
    _write(docs / "api" / "index.md", api_index(names))


def _write(path: Path, lines: Iterable[str]) -> None:
    text = "\n".join(lines) + "\n"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:  # else Sphinx reads it again
        path.parent.mkdir(exist_ok=True)  # a fresh checkout has no docs/api
        path.write_text(text, encoding="utf-8")


# ---- the zoo


def zoo_page(docs: Path) -> Iterator[str]:
    """Yield the table of every published model and what of it is checked."""
    from retinue.model_zoo.entries import entries

    state = ParityState(docs)
    rows = [(entry, state.of(entry.name)) for entry in entries()]
    yield "# Every published model"
    yield ""
    yield (
        "Written from the table that `retinue zoo list` prints. *Config* says that the merged"
        " config equals the one recorded from detectron2; *keys* that the built model has the same"
        " state-dict keys, shapes and dtypes; *numbers* that outputs, losses and gradients equal"
        " recorded ones in float64. Models that share their architecture with a recorded one have"
        " no numbers of their own."
    )
    yield ""
    counts = [sum(checks[i] for _, checks in rows) for i in range(3)]
    yield (
        f"{len(rows)} models; config checked: {counts[0]}, keys: {counts[1]}, numbers: {counts[2]}."
    )
    names = [entry.name for entry, checks in rows if not checks[0]]
    for beginning, reason in UNRECORDED.items():
        count = sum(name.startswith(beginning) for name in names)
        yield f"\n{count} have no recorded config: {reason}"
    for task in dict.fromkeys(entry.task for entry, _ in rows):
        yield f"\n## {task[0].upper()}{task[1:]}\n"
        head = ("model", "backbone", "published", "M params", "weights", "config, keys, numbers")
        yield from _table(head, (_zoo_row(*row) for row in rows if row[0].task == task))


def _zoo_row(entry: Any, checks: tuple[bool, bool, bool]) -> tuple[str, ...]:
    shown = {name: value for name, value in entry.scores.items() if name != "inference_s"}
    scores = ", ".join(f"{name} {value:g}" for name, value in shown.items())
    licence = f" ({entry.licence.partition(' (')[0]})" if entry.licence else ""
    return (
        f"`{entry.name}`",
        entry.backbone,
        scores,
        f"{entry.parameters / 1e6:.1f}" if entry.parameters else "",
        f"[file]({entry.url}){licence}" if entry.url else "",
        ", ".join("yes" if check else "–" for check in checks),
    )


class ParityState:
    """What the tests and the comparison with recorded numbers say of each model."""

    def __init__(self, docs: Path) -> None:
        tests = docs.parent / "tests"
        passed = (tests / "parity" / "passed.txt").read_text().splitlines()
        self._keys = {_short(p.removeprefix("state_keys/")) for p in passed if "state_keys/" in p}
        configs = json.loads((docs / GOLDEN).read_text())
        golden = [p.removeprefix("models/") for p in passed if p.startswith("models/")]
        self._numbers = {_short(configs[name]) for name in golden if name in configs}
        self._configs: set[str] = set()
        for file in ("zoo_configs.json.gz", "project_configs.json.gz"):
            with gzip.open(tests / "golden" / file, "rt") as text:
                recorded = json.load(text)
            for kind in recorded.values():
                if isinstance(kind, dict):
                    self._configs |= kind.keys()

    def of(self, name: str) -> tuple[bool, bool, bool]:
        """Return whether a model's config, keys and numbers are checked."""
        return name in self._configs, name in self._keys, name in self._numbers


def _short(path: str) -> str:
    """Return what the zoo calls a config at a path of detectron2's repository."""
    return path.removeprefix("configs/")


# ---- registries


def registry_page() -> Iterator[str]:
    """Yield a table of every registry and its rows."""
    yield "# Every registry"
    yield ""
    yield (
        "A config names a part by the left column under the registry's key; the right column is"
        " where it lives. Each is imported when first asked for. Add your own beside them by"
        " `@NAME_REGISTRY.register()`."
    )
    for module_name, name, registry in registries():
        yield f"\n## {registry._name}\n"
        key = f", config key `{registry._key}`" if registry._key else ""
        yield f"`{module_name}.{name}`{key}\n"
        families = {f"{name}:...": home for name, home in registry._families.items()}
        rows = sorted((registry._catalog | families).items())
        yield from _table(("name", "home"), ((f"`{k}`", f"`{home}`") for k, home in rows))


def registries() -> Iterator[tuple[str, str, Any]]:
    """Yield module, name and object of every registry that the library's source defines."""
    import retinue

    root = Path(retinue.__file__).parent
    for path in sorted(root.rglob("*.py")):
        names = re.findall(r"^(\w+_REGISTRY) = Registry\($", path.read_text(), re.MULTILINE)
        module_name = ".".join(("retinue", *path.relative_to(root).with_suffix("").parts))
        for name in names:
            yield module_name, name, getattr(importlib.import_module(module_name), name)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + " --- |" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


# ---- the API


def api_index(names: Iterable[str]) -> Iterator[str]:
    """Yield the page that lists the packages with the first line of what each says of itself."""
    yield "# API"
    yield ""
    yield (
        "Names are detectron2's, under `retinue`. Packages look a name up when it is first used,"
        " so importing one costs next to nothing."
    )
    yield ""
    yield from _table(
        ("package", "what it holds"),
        ((f"{{doc}}`{name}`", _first_line(importlib.import_module(name))) for name in names),
    )
    yield "\n```{toctree}\n:hidden:\n"
    yield from names
    yield "```"


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n\n")[0].replace("\n", " ")


def api_page(name: str, homes: dict[int, str]) -> Iterator[str]:
    """Yield the page of a package: its docstring, then each public name.

    Args:
        name: of the package.
        homes: where objects are described already, by ``id``; filled.
    """
    module = importlib.import_module(name)
    yield name
    yield "=" * len(name)
    yield f"\n.. automodule:: {name}\n   :no-members:\n"
    yield f".. currentmodule:: {name}\n"
    for public in sorted(getattr(module, "__all__", ())):
        try:
            found = getattr(module, public)
        except ImportError:  # an extra that is not installed
            continue
        if inspect.ismodule(found):
            continue
        home = homes.setdefault(id(found), name)
        if home != name:
            yield f".. py:data:: {public}\n   :no-index:\n\n   See :doc:`{home}`.\n"
        else:
            yield from _directive(public, found)


def _directive(name: str, found: Any) -> Iterator[str]:
    origin = getattr(found, "__module__", None) or ""
    is_ours = origin.startswith("retinue")
    if inspect.isclass(found) and is_ours:
        yield f".. autoclass:: {name}\n   :members:\n   :show-inheritance:\n"
    elif callable(found) and hasattr(found, "__name__") and is_ours:
        yield f".. autofunction:: {name}\n"
    else:
        yield f".. py:data:: {name}\n"
        if hasattr(found, "__name__"):
            yield f"   ``{origin}.{found.__name__}``\n"
        elif _is_object_with_words(found):
            yield f"   {_first_line(type(found))}\n"


def _is_object_with_words(found: Any) -> bool:
    return not isinstance(found, (str, int, float, tuple, list, dict, set, frozenset))
