"""``retinue migrate``: what a project written for detectron2 uses, and its imports changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def migrate(
    path: Annotated[Path, typer.Argument(help="The project's folder, or one file or notebook.")],
    write: Annotated[
        bool, typer.Option("--write", help="Change the imports to retinue, in place.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, every place.")] = False,
) -> None:
    """Read a project written for detectron2, without running it, and say what it needs.

    Most need nothing: `retinue run script.py` serves `import detectron2`.
    """
    from retinue.compat.migration import read_project, rewrite_project

    report = read_project(path)
    changed, left = rewrite_project(path) if write else ([], [])
    if as_json:
        extra = {"changed": changed, "left": left} if write else {}
        print(json.dumps(report.as_dict() | extra, indent=1))
        return
    print(report)
    if write:
        print(f"\n{len(changed)} files changed" + "".join(f"\n  {name}" for name in changed))
        if left:
            print("left to you:" + "".join(f"\n  {note}" for note in left))
    elif report.findings:
        print("\nrun it as it is: retinue run SCRIPT; to change its imports, add --write")
        if any(".ipynb" in found.file for found in report.findings):
            print("in a notebook, first of all: import retinue.compat; retinue.compat.install()")
