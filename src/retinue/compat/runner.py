"""Run a program for detectron2 under the hook, and the processes that it starts."""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from retinue.compat.hook import install
from retinue.compat.served import STAND_INS
from retinue.compat.tools.table import find_tool, run_tool, why_no_tool
from retinue.utils.errors import InputError

__all__ = ["NoProgramError", "run_program"]


class NoProgramError(InputError):
    """There is no such script, or none was named."""


def _serve_in_subprocesses() -> None:
    """Let spawned workers and started programs find detectron2, fvcore and iopath."""
    paths = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if STAND_INS not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([STAND_INS, *paths])
    if STAND_INS not in sys.path:  # spawned workers take over the path
        sys.path.insert(0, STAND_INS)  # before a clone of detectron2 in the working directory


def run_program(arguments: Sequence[str]) -> None:
    """Run ``script.py args...`` or ``-m module args...`` as Python would, with the hook on.

    Where there is no such file, ``train_net args...`` and the like are detectron2's scripts.

    Args:
        arguments: what follows ``retinue run`` on a command line.

    Raises:
        NoProgramError: If no program is named, or the script is not there.
    """
    if not arguments or list(arguments) == ["-m"]:
        raise NoProgramError(
            "retinue run: expected a script or -m and a module, then their arguments; got nothing"
        )
    is_module, script = arguments[0] == "-m", arguments[0]
    tool = None
    if not is_module and not os.path.exists(script):
        tool = find_tool(script)
        if tool is None:
            raise NoProgramError(f"retinue run: {why_no_tool(script)}")
    _serve_in_subprocesses()
    install()
    if tool is not None:
        run_tool(tool, arguments[1:])
        return
    if is_module:
        sys.argv = list(arguments[1:])
        sys.path.insert(1, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = list(arguments)
    sys.path.insert(0, str(Path(script).resolve().parent))
    runpy.run_path(script, run_name="__main__")
