"""What ``importlib.metadata`` says of detectron2 under the hook."""

from __future__ import annotations

import os
from importlib.metadata import Distribution
from typing import NoReturn

from retinue.compat.served import VERSION

__all__ = ["ServedDistribution"]


class ServedDistribution(Distribution):
    """A distribution named detectron2 without files."""

    def read_text(self, filename: str) -> str | None:
        """Return the metadata, or which package it is; other files are absent."""
        if filename == "top_level.txt":
            return "detectron2\n"
        if filename not in ("METADATA", "PKG-INFO"):
            return None
        return (
            f"Metadata-Version: 2.1\nName: detectron2\nVersion: {VERSION}\n"
            "Summary: detectron2's names, served by retinue\n"
        )

    def locate_file(self, path: str | os.PathLike[str]) -> NoReturn:
        """Raise: there are no files."""
        raise FileNotFoundError(f"detectron2 is served by retinue and has no file {path!s}")
