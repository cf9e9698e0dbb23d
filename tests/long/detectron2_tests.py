"""detectron2's own tests, and those of its projects, unmodified, on retinue.

``python detectron2_tests.py CLONE`` runs the tests of a clone of detectron2 under the import hook,
projects twice: with their own package, and with retinue's. What is left out is listed one by one,
with its reason, in ``tests/compat``: what only TorchScript can pass, what fails with detectron2,
too, and, unless ``--online`` is given, what downloads. Where ``DETECTRON2_DATASETS`` is not set,
those that read COCO get a generated one. Arguments that are not known here are pytest's.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from coco_layout import write_datasets

HERE = Path(__file__).resolve()
SOURCE = HERE.parents[2] / "src"
LISTS = HERE.parents[1] / "compat"
PROJECTS = ("DensePose", "TensorMask")  # those that have tests
# The pycocotools of today can't pass TestCOCOeval: reading results a second time, it compares an
# array with []. The served names are what runs where it is not installed.
RUN = (
    "import sys; from retinue.compat import run_program, served;"
    " served.COLLECTIONS['pycocotools'] = True; run_program(sys.argv[1:])"
)


def left_out(*names: str) -> list[str]:
    """Return the modules and cases that lists name."""
    lines = [line for name in names for line in (LISTS / f"{name}.txt").read_text().splitlines()]
    return [line.split()[0] for line in lines if not line.startswith("#")]


def run(
    clone: Path, folder: str, work: Path, *, without: Sequence[str], options: Sequence[str]
) -> int:
    """Run the tests in a folder of a clone of detectron2; return pytest's status.

    Args:
        clone: folder that ids of tests start from.
        folder: below it; what is beside ``tests`` there can be imported.
        work: folder with data, where the tests write.
        without: ids to leave out.
        options: pytest's.
    """
    words = [sys.executable, "-c", RUN, "-m", "pytest", "-q", "-c", os.devnull]
    words += ["-p", "no:cacheprovider", "-o", "consider_namespace_packages=true"]
    words += ["--rootdir", str(clone), str(clone / folder / "tests"), *options]
    for name in without:
        words += ["--deselect", name] if "::" in name else ["--ignore", str(clone / name)]
    print(f"== {clone / folder / 'tests'}", flush=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), str(clone / folder)]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DETECTRON2_DATASETS": os.environ.get("DETECTRON2_DATASETS") or str(work / "datasets"),
    }
    return subprocess.run(words, cwd=work, env=environment).returncode


def main() -> int:
    """Run all; return how many folders of tests failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clone", type=Path, help="of detectron2; it is only read")
    parser.add_argument("--online", action="store_true", help="run what downloads, too")
    parser.add_argument("--only", default="", help="project whose tests to run; . is detectron2")
    args, options = parser.parse_known_args()
    lists = ("torchscript_only", "fails_upstream") + (() if args.online else ("needs_network",))
    clone, without = args.clone.resolve(), left_out(*lists)
    statuses = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        write_datasets(work / "datasets")
        for project in (".", *PROJECTS):
            if args.only not in ("", project):
                continue
            folder = f"projects/{project}" if project in PROJECTS else project
            statuses.append(run(clone, folder, work, without=without, options=options))
            if project in PROJECTS:  # once more, away from its package
                for part in ("tests", "configs"):
                    shutil.copytree(clone / folder / part, work / folder / part)
                statuses.append(run(work, folder, work, without=without, options=options))
    failed = sum(map(bool, statuses))
    print(f"{len(statuses) - failed} of {len(statuses)} folders of tests pass")
    return failed


if __name__ == "__main__":
    sys.exit(main())
