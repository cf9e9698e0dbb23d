"""``pkg_resources``, gone from setuptools 82: the few functions that projects use of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from typing import Any

__all__ = [
    "DistributionNotFound",
    "get_distribution",
    "parse_requirements",
    "parse_version",
    "resource_exists",
    "resource_filename",
    "resource_isdir",
    "resource_listdir",
    "resource_string",
]

DistributionNotFound = PackageNotFoundError


def __getattr__(name: str) -> Any:
    """Answer ``from pkg_resources import packaging``, whose ``version`` is there at once."""
    if name != "packaging":
        raise AttributeError(f"module 'pkg_resources' has no attribute {name!r}", name=name)
    import_module("packaging.version")
    return import_module("packaging")


def resource_filename(package_or_requirement: str, resource_name: str) -> str:
    """Return the path of a file or folder of a package.

    Raises:
        ModuleNotFoundError: If there is no such package.
    """
    spec = find_spec(package_or_requirement)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        raise ModuleNotFoundError(
            f"pkg_resources: no package {package_or_requirement!r}", name=package_or_requirement
        )
    places = list(spec.submodule_search_locations or [os.path.dirname(str(spec.origin))])
    paths = [os.path.join(place, *resource_name.split("/")) for place in places]
    return next((path for path in paths if os.path.exists(path)), paths[0])


def resource_exists(package_or_requirement: str, resource_name: str) -> bool:
    """Say whether a package has a file or folder."""
    return os.path.exists(resource_filename(package_or_requirement, resource_name))


def resource_isdir(package_or_requirement: str, resource_name: str) -> bool:
    """Say whether a package has a folder."""
    return os.path.isdir(resource_filename(package_or_requirement, resource_name))


def resource_listdir(package_or_requirement: str, resource_name: str) -> list[str]:
    """Return the names in a folder of a package."""
    return sorted(os.listdir(resource_filename(package_or_requirement, resource_name)))


def resource_string(package_or_requirement: str, resource_name: str) -> bytes:
    """Return the content of a file of a package."""
    with open(resource_filename(package_or_requirement, resource_name), "rb") as file:
        return file.read()


def get_distribution(dist: str) -> Distribution:
    """Return what is installed under a name; its ``version`` is a string."""
    return distribution(dist)


def parse_version(v: str) -> Any:
    """Return a version that compares with others."""
    return __getattr__("packaging").version.parse(v)


def parse_requirements(strs: Any) -> Iterator[Any]:
    """Yield the requirements of a file's lines, without comments."""
    requirements = import_module("packaging.requirements")
    for line in strs.splitlines() if isinstance(strs, str) else strs:
        if text := line.partition("#")[0].strip():
            yield requirements.Requirement(text)
