"""Refuses to build into an environment that has the real detectron2: pip would replace it."""

import os
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RefuseReal(BuildHookInterface):
    """Looks into the environment that is being installed to before anything is built."""

    def initialize(self, version, build_data):
        """Raise if the real detectron2 is there."""
        for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            found = distributions(name="detectron2", path=[place])
            is_listed = any("retinue" not in d.version for d in found)  # editable ones, too
            if is_listed or Path(place, "detectron2", "config", "defaults.py").exists():
                raise RuntimeError(
                    f"the real detectron2 is installed in {place}, and this package would take"
                    " its place. Remove it first (pip uninstall detectron2), or keep it and run"
                    f" programs on retinue by `retinue run SCRIPT`{os.linesep}"
                )
