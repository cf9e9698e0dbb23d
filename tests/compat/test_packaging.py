"""The distribution called detectron2, in ``packaging/``."""

import os
import subprocess
import sys
import sysconfig
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "packaging" / "detectron2"

pytestmark = pytest.mark.skipif(not PACKAGE.exists(), reason="comes with the repository only")


def run(code, *folders):
    """Run a program that finds the stand-in and ``folders``; return its result."""
    paths = [PACKAGE / "src", ROOT / "src", *folders]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
    )


def test_plain_imports_are_retinue():
    done = run(
        "import detectron2.utils.registry, retinue.utils.registry, importlib.metadata\n"
        "print(detectron2.utils.registry is retinue.utils.registry, detectron2.__version__)\n"
        "print(importlib.metadata.version('detectron2'))"
    )

    assert done.stdout.split() == ["True", "0.6", "0.6"], done.stderr


def test_a_second_detectron2_is_refused(tmp_path):
    (tmp_path / "detectron2" / "config").mkdir(parents=True)
    (tmp_path / "detectron2" / "__init__.py").write_text("")
    (tmp_path / "detectron2" / "config" / "defaults.py").write_text("")

    assert (
        "ImportError: two packages are called detectron2"
        in run("import detectron2", tmp_path).stderr
    )


AT_START = (PACKAGE / "src" / "detectron2-by-retinue.pth").read_text() if PACKAGE.exists() else ""


def test_a_name_of_fvcore_may_come_before_detectron2():
    """Python runs the ``.pth`` file when it starts; many programs import fvcore first."""
    done = run(
        AT_START + "import sys, importlib.util\n"
        "found = [importlib.util.find_spec(n) for n in ('fvcore', 'pycocotools', 'densepose')]\n"
        "print(None in found, 'retinue.compat.hook' in sys.modules, 'torch' in sys.modules)\n"
        "from fvcore.common.registry import Registry\n"
        "import detectron2.utils.registry, iopath\n"
        "print(Registry is detectron2.utils.registry.Registry, iopath.__version__)\n"
        "print(sys.modules['fvcore'].__spec__.loader.__class__.__name__)\n"
        "import retinue.compat; retinue.compat.uninstall(); import pycocotools.mask\n"
        "print(retinue.compat.is_installed())\n"
    )

    assert done.stdout.split() == [
        *("False", "False", "False"),  # asking where they are changes nothing
        *("True", "0.1.10", "CollectionLoader", "True"),
    ], done.stderr


def test_starting_python_adds_the_finders_once(monkeypatch):
    from retinue.compat import early

    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    early.watch()
    early.watch()

    assert [type(f) for f in sys.meta_path].count(early.EarlyFinder) == 2
    assert early.EarlyFinder(always=True).find_spec("pycocotools", None) is None
    assert early.EarlyFinder(always=False).find_spec("nothing", None) is None
    assert early.EarlyFinder(always=False).find_spec("fvcore.nn", ["there"]) is None


@pytest.fixture
def refuse(tmp_path, monkeypatch):
    """The check before building, for an environment whose packages are in ``tmp_path``."""
    plugin = types.ModuleType("hatchling.builders.hooks.plugin.interface")
    plugin.BuildHookInterface = object
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    monkeypatch.setattr(sysconfig, "get_path", lambda scheme: str(tmp_path))
    namespace = {}
    exec((PACKAGE / "refuse_real.py").read_text(encoding="utf-8"), namespace)
    return lambda: namespace["RefuseReal"]().initialize("standard", {})


@pytest.mark.parametrize(
    "file", ["detectron2/config/defaults.py", "detectron2-0.6.dist-info/METADATA"]
)
def test_it_is_not_built_into_an_environment_with_a_real_one(tmp_path, refuse, file):
    refuse()
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text("Metadata-Version: 2.1\nName: detectron2\nVersion: 0.6\n")

    with pytest.raises(RuntimeError, match="the real detectron2 is installed in"):
        refuse()


def test_it_takes_the_place_of_itself(tmp_path, refuse):
    (tmp_path / "detectron2-0.6+retinue.dist-info").mkdir()
    metadata = "Metadata-Version: 2.1\nName: detectron2\nVersion: 0.6+retinue\n"
    (tmp_path / "detectron2-0.6+retinue.dist-info" / "METADATA").write_text(metadata)

    refuse()
