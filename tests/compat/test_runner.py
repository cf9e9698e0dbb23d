"""Programs for detectron2, run unmodified, and the processes they start."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from retinue import compat
from retinue.cli.main import app

PROGRAM = """
import multiprocessing, subprocess, sys
import detectron2
from detectron2.structures import Boxes
from fvcore.common.config import CfgNode

def work(queue):
    import detectron2.structures
    queue.put(detectron2.structures.Boxes.__module__)

if __name__ == "__main__":
    print(sys.argv[1:], Boxes.__module__, CfgNode.__module__)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print("worker", queue.get())
    process.join()
    code = "import iopath, detectron2; print('child', detectron2.__version__)"
    print(subprocess.check_output([sys.executable, "-c", code], text=True).strip())
    sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", [["-m", "retinue", "run"], ["-m", "retinue.compat"]])
def test_a_script_and_its_processes(tmp_path, command):
    script = tmp_path / "train_net.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, *command, str(script), "--help", "-x", "KEY", "1"],
        capture_output=True,
        text=True,
    )

    assert done.stdout.splitlines() == [
        "['--help', '-x', 'KEY', '1'] retinue.structures.boxes retinue.config.config",
        "worker retinue.structures.boxes",
        "child 0.6",
    ], done.stderr
    assert done.returncode == 3


@pytest.mark.slow
def test_processes_in_a_clone_of_detectron2(tmp_path):
    """Where ``detectron2`` in the working directory is the real one."""
    for package in ("detectron2", "detectron2/config"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise RuntimeError('the real one')")
    script = tmp_path / "tools" / "train_net.py"
    script.parent.mkdir()
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "retinue.compat", str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.stdout.splitlines()[1:] == ["worker retinue.structures.boxes", "child 0.6"]
    assert done.returncode == 3


FIRST_OF_ALL = """
import pycocotools.mask  # before detectron2, as the imports of many programs are sorted
from densepose import add_densepose_config
from importlib.metadata import version

if __name__ == "__main__":
    import multiprocessing, subprocess, sys

    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print("worker", pool.apply(version, ("detectron2",)))
    code = "import pycocotools.mask as m; print('child', m.__name__)"
    print(subprocess.check_output([sys.executable, "-c", code], text=True).strip())
"""


@pytest.mark.slow
def test_processes_that_import_something_else_first(tmp_path):
    """The hook is there from the start, whatever an interpreter's own ``sitecustomize`` does."""
    script = tmp_path / "train_net.py"
    script.write_text(FIRST_OF_ALL)
    (tmp_path / "sitecustomize.py").write_text("import sys; print('mine', file=sys.stderr)")
    done = subprocess.run(
        [sys.executable, "-m", "retinue.compat", str(script)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )

    assert done.stdout.splitlines() == ["worker 0.6", "child pycocotools.mask"], done.stderr
    assert done.stderr.count("mine") >= 3  # this program, the worker, the child


@pytest.mark.slow
def test_a_module_beside_the_working_directory(tmp_path):
    (tmp_path / "tool.py").write_text("import sys, detectron2; print(sys.argv[1:])")
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "run", "-m", "tool", "--flag"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert done.stdout == "['--flag']\n", done.stderr


@pytest.mark.slow
def test_a_programs_own_error_is_a_traceback(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("raise ValueError('mine')")
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "run", str(script)], capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: mine" in done.stderr


def test_no_program():
    done = CliRunner().invoke(app, ["run", "nothing_here.py"])
    assert done.exit_code == 2
    assert "there is no file 'nothing_here.py'" in done.stderr

    assert not compat.is_installed()  # nothing was done
    assert CliRunner().invoke(app, ["run", "-m"]).exit_code == 2
    assert CliRunner().invoke(app, ["run"]).exit_code == 2
    done = CliRunner().invoke(app, ["run", "--help"])
    assert done.exit_code == 0
    assert "unmodified" in done.stdout


@pytest.mark.parametrize("word", ["-h", "--help", "--list"])
def test_the_module_says_how_to_use_it(word):
    done = subprocess.run(
        [sys.executable, "-m", "retinue.compat", word], capture_output=True, text=True, check=True
    )

    assert "usage: python -m retinue.compat SCRIPT" in done.stdout
    assert "visualize_data" in done.stdout
