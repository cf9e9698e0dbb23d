"""The names of detectron2 against those served here: which are there, and with which signature.

The lists in ``tests/golden/detectron2_*.json.gz`` were recorded from detectron2 0.6 (and fvcore
0.1.5, iopath 0.1.10) by importing it: module -> name -> kind and signature; see ``rows``.
"""

import gzip
import importlib
import inspect
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

GOLDEN = Path(__file__).parents[1] / "golden"
LISTS = ("api", "api_projects", "api_densepose", "fvcore_api")

_STEPS = "a step inside a method that works otherwise here"

ACCEPTED = {
    "detectron2.structures.masks:BitMasks.from_roi_masks": "detectron2's calls a method without an"
    " argument that it needs: the boxes",
    "fvcore.common.config:CfgNode.merge_from_file": "YAML is read safely either way; the one"
    " CfgNode has detectron2's default",
    "iopath.common.file_io:LazyPath.KEPT_ATTRIBUTES": "how iopath pickles what is looked up late",
    "iopath.common.file_io:PathManager._PathManager__get_open_keys": "iopath's records of use",
    "iopath.common.file_io:PathManager._PathManager__log_tmetry_keys": "iopath's records of use",
    "iopath:TabularPathHandler": "comes with iopath, not with what detectron2 uses of it",
    "iopath:TabularUriParser": "comes with iopath, not with what detectron2 uses of it",
    "densepose.structures.mesh:Mesh._compute_geodists": "detectron2's returns None",
    **{
        f"densepose.{name}": _STEPS
        for name in (
            "evaluation.densepose_coco_evaluation:DensePoseCocoEval._generate_rlemask_on_image",
            "evaluation.densepose_coco_evaluation:DensePoseCocoEval._loadGEval",
            "modeling.hrnet:HighResolutionModule._check_branches",
            "modeling.hrnet:HighResolutionModule._make_branches",
            "modeling.hrnet:HighResolutionModule._make_one_branch",
            "modeling.hrnet:PoseHigherResolutionNet._get_deconv_cfg",
            "utils.dbhelper:FieldEntrySelector._get_range_spec",
            "utils.dbhelper:FieldEntrySelector._is_range_spec",
            "utils.dbhelper:FieldEntrySelector._parse_error",
            "utils.dbhelper:FieldEntrySelector._parse_field_name_type",
            "utils.dbhelper:FieldEntrySelector._parse_specifier_into_predicates",
            "vis.densepose_results:DensePoseResultsCustomContourVisualizer._bin_code_2_lines",
            "vis.densepose_results:DensePoseResultsCustomContourVisualizer._contours",
            "vis.densepose_results:DensePoseResultsCustomContourVisualizer._draw_line",
        )
    },
}
"""What differs, and why: a name that starts to differ, or stops, fails the tests."""

_KINDS = {
    "po": inspect.Parameter.POSITIONAL_ONLY,
    "pk": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "va": inspect.Parameter.VAR_POSITIONAL,
    "ko": inspect.Parameter.KEYWORD_ONLY,
    "vk": inspect.Parameter.VAR_KEYWORD,
}


class Row(NamedTuple):
    """One name: where, what it is, and what differs ("" if nothing does)."""

    module: str
    name: str
    kind: str
    state: str


def rows(*lists: str) -> Iterator[Row]:
    """Compare every name of the lists; the import hook must be installed."""
    for name in lists or LISTS:
        for module, content in _modules(name).items():
            yield from _module_rows(module, content)


def missing_imports(name: str) -> list[str]:
    """Return the public names that modules of a list import from each other and lack here."""
    missing = []
    for module, content in _modules(name).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
        for imported, origin in content.get("imported", {}).items():
            is_public = not imported.startswith("_")
            is_served = origin.startswith(("detectron2", "fvcore", "iopath"))
            if is_public and is_served and not hasattr(found, imported):
                missing.append(f"{module}: {imported} of {origin}")
    return missing


def _modules(name: str) -> dict[str, Any]:
    with gzip.open(GOLDEN / f"detectron2_{name}.json.gz", "rt") as file:
        modules: dict[str, Any] = json.load(file)["modules"]
    return modules


def _module_rows(module: str, content: dict[str, Any]) -> Iterator[Row]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = importlib.import_module(module)
    except ImportError as error:
        yield Row(module, "", "module", f"absent: {error}")
        return
    yield Row(module, "", "module", "")
    for name, entry in content["names"].items():
        try:
            value = getattr(found, name)
        except (AttributeError, ImportError) as error:
            yield Row(module, name, entry["kind"], f"absent: {error}")
            continue
        yield Row(module, name, entry["kind"], _difference(entry, value))
        if entry["kind"] == "class":
            yield from _member_rows(module, name, entry, value)
    for name in content.get("all") or ():
        if name not in content["names"] and not hasattr(found, name) and name.isidentifier():
            yield Row(module, name, "in __all__", "absent")


def _member_rows(module: str, name: str, entry: dict[str, Any], cls: Any) -> Iterator[Row]:
    for member, what in {**entry.get("members", {}), **entry.get("protected", {})}.items():
        full = f"{name}.{member}"
        if not hasattr(cls, member) and not _is_field(cls, member):
            yield Row(module, full, what["kind"], "absent")
            continue
        if "sig" in what:
            raw = inspect.getattr_static(cls, member, None)
            inner = getattr(raw, "__func__", raw)
            yield Row(module, full, what["kind"], _signature_difference(what["sig"], inner))
        else:
            yield Row(module, full, what["kind"], "")


def _is_field(cls: Any, member: str) -> bool:
    return member in getattr(cls, "__annotations__", {}) or member in getattr(cls, "_fields", ())


def _difference(entry: dict[str, Any], value: Any) -> str:
    kind = entry["kind"]
    if kind == "class":
        if not inspect.isclass(value):
            return "not a class"
        takes_config = entry.get("init") and entry["init"][0][0] == "cfg"
        if takes_config and hasattr(value, "from_config"):
            return ""  # built from a config as there; its own arguments are explicit
        if entry.get("own_init"):
            init = value.__init__
            return _signature_difference(entry["init"], init, skip_self=True)
        return ""
    if kind == "function" and "sig" in entry:
        return _signature_difference(entry["sig"], value)
    if kind == "constant" and "value" in entry and not isinstance(entry["value"], dict | list):
        return "" if value == entry["value"] else f"value {value!r}, not {entry['value']!r}"
    return ""


def _signature_difference(wanted: list[Any], function: Any, *, skip_self: bool = False) -> str:
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return ""
    if skip_self:
        found = found[1:]
    problems = []
    wanted_names = [w[0] for w in wanted]
    mine = {p.name: p for p in found}
    takes_any = {p.kind for p in found}
    for index, (name, kind, *default) in enumerate(wanted):
        if kind in ("va", "vk"):
            if _KINDS[kind] not in takes_any and len(mine) <= sum(w[1][0] != "v" for w in wanted):
                problems.append(f"no *{name}" if kind == "va" else f"no **{name}")
            continue
        if name not in mine:
            is_self = index == 0 and name in ("self", "cls")
            if not is_self:
                problems.append(f"no argument {name}")
            continue
        parameter = mine[name]
        is_positional = kind in ("po", "pk")
        if is_positional and parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            problems.append(f"{name} by keyword only")
        elif is_positional and [p.name for p in found].index(name) != index:
            problems.append(f"{name} at another place")
        if default and parameter.default is inspect.Parameter.empty:
            problems.append(f"{name} without default")
        elif default and _is_plain(default[0]) and not _equal(parameter.default, default[0]):
            problems.append(f"{name}={parameter.default!r}, not {default[0]!r}")
    required = [
        p.name
        for p in found
        if p.default is inspect.Parameter.empty
        and p.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        and p.name not in wanted_names
    ]
    may_be_any = any(w[1] in ("va", "vk") for w in wanted)
    if required and not may_be_any and required != ["self"]:
        problems.append(f"needs {', '.join(required)}, too")
    return "; ".join(problems)


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _equal(found: Any, wanted: Any) -> bool:
    renamed = wanted.replace("detectron2", "retinue") if isinstance(wanted, str) else wanted
    return found in (wanted, renamed)
