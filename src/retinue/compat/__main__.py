"""``python -m retinue.compat script.py args...`` runs a program for detectron2 on retinue."""

import sys

from retinue.compat.runner import NoProgramError, run_program

if __name__ == "__main__":
    try:
        run_program(sys.argv[1:])
    except NoProgramError as error:
        sys.exit(f"error: {error}")
