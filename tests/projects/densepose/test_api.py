"""Names and signatures of the ``densepose`` package against those recorded from detectron2."""

import enum
import gzip
import importlib
import inspect
import json
from pathlib import Path

import pytest

with gzip.open(Path(__file__).parents[2] / "golden" / "densepose_api.json.gz", "rt") as f:
    RECORDED = json.load(f)

KINDS = {
    "po": inspect.Parameter.POSITIONAL_ONLY,
    "pk": inspect.Parameter.POSITIONAL_OR_KEYWORD,
    "va": inspect.Parameter.VAR_POSITIONAL,
    "ko": inspect.Parameter.KEYWORD_ONLY,
    "vk": inspect.Parameter.VAR_KEYWORD,
}
ABSENT = {"densepose.modeling.hrnet": ["logger"]}  # nothing there logs


def find(dotted):
    """Import what a dotted name of ``densepose`` is here."""
    module, _, name = dotted.rpartition(".")
    return getattr(importlib.import_module(f"retinue.projects.{module}"), name)


@pytest.mark.parametrize("module", RECORDED["modules"])
def test_every_name_of_a_module_is_there(module):
    here = importlib.import_module(f"retinue.projects.{module}")
    missing = [name for name in RECORDED["modules"][module] if not hasattr(here, name)]
    assert missing == ABSENT.get(module, [])


@pytest.mark.parametrize("package", RECORDED["packages"])
def test_packages_export_the_same(package):
    here = importlib.import_module(f"retinue.projects.{package}")
    for name, home in RECORDED["packages"][package].items():
        module, _, attribute = home.partition(":")
        there = importlib.import_module(f"retinue.projects.{module}")
        wanted = getattr(there, attribute, None) or importlib.import_module(
            f"{there.__name__}.{attribute}"
        )
        assert getattr(here, name) is wanted, name


def describe(recorded):
    return [(name, KINDS[kind], bool(rest)) for name, kind, *rest in recorded]


def plain(value):
    """A recorded default as Python has it; None stands for what JSON can't say."""
    if isinstance(value, dict):
        return tuple(value["__tuple__"]) if "__tuple__" in value else NotImplemented
    return value


def expect_signature(function, recorded):
    found = list(inspect.signature(function).parameters.values())
    assert [(p.name, p.kind, p.default is not p.empty) for p in found] == describe(recorded)
    for parameter, (_, _, *default) in zip(found, recorded, strict=True):
        if default and plain(default[0]) is not NotImplemented:
            assert parameter.default == plain(default[0]), parameter.name


@pytest.mark.parametrize("dotted", RECORDED["functions"])
def test_functions_take_the_same_arguments(dotted):
    expect_signature(find(dotted), RECORDED["functions"][dotted])


@pytest.mark.parametrize("dotted", RECORDED["classes"])
def test_classes_and_methods_take_the_same_arguments(dotted):
    cls, recorded = find(dotted), RECORDED["classes"][dotted]
    if recorded["init"] is not None:
        expect_signature(cls, recorded["init"])
    for name, signature in recorded["methods"].items():
        member = inspect.getattr_static(cls, name, None)
        assert member is not None or hasattr(cls, name), name
        if signature is None:
            continue
        is_bound = isinstance(member, classmethod | staticmethod)
        function = member.__func__ if is_bound else getattr(cls, name)
        expect_signature(function, signature)


@pytest.mark.parametrize("dotted", RECORDED["enums"])
def test_enums_have_the_same_values(dotted):
    cls = find(dotted)
    assert issubclass(cls, enum.Enum)
    assert {member.name: member.value for member in cls} == RECORDED["enums"][dotted]


@pytest.mark.parametrize("dotted", RECORDED["constants"])
def test_constants_are_the_same(dotted):
    found = find(dotted)
    found = sorted(found) if isinstance(found, set) else found
    assert found == RECORDED["constants"][dotted]
