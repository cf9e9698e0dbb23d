"""``python -m retinue.compat script.py args...`` runs a program for detectron2 on retinue."""

import sys

from retinue.compat.runner import NoProgramError, run_program
from retinue.compat.tools.table import describe

_USAGE = """usage: python -m retinue.compat SCRIPT | -m MODULE | TOOL  [its arguments]

Runs a program written for detectron2: its `import detectron2` is retinue. The tools:
"""

if __name__ == "__main__":
    if sys.argv[1:] in (["-h"], ["--help"], ["--list"]):
        print(_USAGE + describe())
        sys.exit()
    try:
        run_program(sys.argv[1:])
    except NoProgramError as error:
        sys.exit(f"error: {error}")
