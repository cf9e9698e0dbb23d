"""Comparing the installed PyTorch with a version."""

from __future__ import annotations

import re

import torch

__all__ = ["min_torch_version"]


def min_torch_version(min_version: str) -> bool:
    """Say whether the installed PyTorch is ``min_version`` (e.g. ``"2.6"``) or newer.

    Development and pre-release builds count as the release they lead to.
    """

    def numbers(version: str) -> list[int]:
        found = re.match(r"\d+(\.\d+)*", version)
        return [int(part) for part in found.group().split(".")] if found else [0]

    have, want = numbers(torch.__version__), numbers(min_version)
    length = max(len(have), len(want))
    return have + [0] * (length - len(have)) >= want + [0] * (length - len(want))
