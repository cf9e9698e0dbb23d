"""``retinue migrate``: what a project uses is found, judged, and its imports change in place."""

import ast
import json
import os
import re
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from retinue.cli.main import app
from retinue.compat.migration import read_project, rewrite, rewrite_project
from retinue.compat.migration.rewrite import rewritten
from retinue.compat.migration.source import used_names
from retinue.compat.migration.verdict import judge
from retinue.utils.errors import InputError

MODEL = """\
import detectron2.utils.comm as comm
import fvcore.nn.weight_init as weight_init
from detectron2.layers import (
    Conv2d,  # kept
    ShapeSpec,
)
from detectron2.data.build import MetadataCatalog, build_detection_train_loader
from fvcore.common.config import CfgNode as CN
from pycocotools import mask as mask_util

comm.get_rank()
weight_init.c2_msra_fill(None)
"""


def _write(folder, **files):
    for name, text in files.items():
        parts = name.replace("____init__", "__INIT").replace("__", "/")
        path = folder / (parts.replace("INIT", "__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def _names(text):
    return [(use.line, use.name, use.kind) for use in used_names(ast.parse(text))]


def test_names_are_found_with_their_lines():
    text = "import a.b\nfrom c import d as e\nprint(a.b.f, e.g().h)\nx = 'a.b.i'\n"

    assert _names(text) == [
        (1, "a.b", "import"),
        (2, "c.d", "import"),
        (3, "a.b.f", "attribute"),
        (3, "c.d.g", "attribute"),
        (4, "a.b.i", "text"),
    ]


def test_variables_of_functions_hide_what_is_imported():
    text = (
        "from a import b\ndef f(b):\n    b.c\ndef g():\n    b = 1\n    b.d\n"
        "lambda *b: b.e\ndef h():\n    from x import b\n    b.f\ndef i():\n    global b\n"
        "    b = b.g\n"
    )

    assert [name for _, name, kind in _names(text) if kind == "attribute"] == ["x.b.f", "x.b.g"]


def test_a_name_that_is_set_need_not_be_there_before():
    assert _names("from a import b\nb.c.d = b.e\n")[1:] == [
        (2, "a.b.c", "attribute"),
        (2, "a.b.e", "attribute"),
    ]


def test_relative_imports_and_other_names_are_not_uses():
    assert _names("from . import x\nfrom .a import y\nz.w\n(1).real\n") == []


@pytest.mark.parametrize(
    ("module", "path", "home"),
    [
        ("detectron2", ("model_zoo", "get_config"), "retinue.model_zoo:get_config"),
        ("detectron2.modeling", ("build_model",), "retinue.modeling:build_model"),
        ("detectron2.data.build", ("MetadataCatalog",), "retinue.data.catalog:MetadataCatalog"),
        ("detectron2.engine", ("DefaultTrainer", "test"), "retinue.engine:DefaultTrainer.test"),
        ("detectron2", ("_C",), "retinue.compat.native"),
        ("detectron2._C", ("nms_rotated",), "retinue.compat.native:nms_rotated"),
        ("fvcore.nn", ("weight_init", "c2_msra_fill"), "retinue.layers.weight_init:c2_msra_fill"),
        ("pycocotools.mask", ("encode",), "hotcoco.mask:encode"),
        ("densepose", ("add_densepose_config",), "retinue.projects.densepose:add_densepose_config"),
    ],
)
def test_names_that_are_covered(module, path, home):
    verdict = judge(module, path)

    assert (verdict.state, verdict.home, verdict.note) == ("covered", home, "")


@pytest.mark.parametrize(
    ("module", "path", "note"),
    [
        (
            "detectron2.export",
            ("Caffe2Tracer",),
            "Caffe2Tracer is not carried over .* torch.export",
        ),
        ("detectron2.export.api", (), r"detectron2\.export\.api is not carried over"),
        ("detectron2.layers", ("Conv2D",), "has 'Conv2D' in detectron2.layers; did you mean"),
        (
            "detectron2.layer",
            (),
            r"has a module detectron2\.layer; did you mean detectron2\.layers",
        ),
        ("detectron2.structures", ("Boxes", "cutt"), "Boxes of retinue.structures has no 'cutt'"),
    ],
)
def test_names_that_need_a_change_say_which(module, path, note):
    verdict = judge(module, path)

    assert verdict.state == "needs a change"
    assert re.search(note, verdict.note)


def test_what_only_the_real_package_has():
    verdict = judge("iopath.common.event_logger", ("EventLogger",))

    assert verdict.state == "from its own package"
    assert "pip install iopath" in verdict.note
    assert "git+https://github.com/cocodataset" in judge("panopticapi.evaluation", ("x",)).note


def test_a_project_is_read_without_running_it(tmp_path):
    _write(tmp_path, net__model=MODEL, net____init__="raise SystemExit('was run')\n")
    report = read_project(tmp_path)

    assert report.num_files == 2
    assert report.changes == []
    assert {f.file for f in report.findings} == {"net/model.py"}
    found = {f.name: f.home for f in report.findings}
    assert found["detectron2.layers.ShapeSpec"] == "retinue.layers:ShapeSpec"
    assert found["detectron2.utils.comm.get_rank"] == "retinue.utils.comm:get_rank"


def test_what_today_has_no_more_is_reported(tmp_path):
    text = "import numpy as np\nfrom PIL import Image\nnp.float(1)\nImage.LINEAR\nimport imp\n"
    _write(tmp_path, old=text, python2="print 'x'\n")
    (tmp_path / "odd.py").write_bytes(b"x = '\xff'\n")
    report = read_project(tmp_path)
    found = {(f.file, f.line): f.note for f in report.changes}
    back = {f.name: f.note for f in report.of("covered")}

    assert back == {
        "numpy.float": "there again under the import hook; removed in numpy 1.24: write float",
        "PIL.Image.LINEAR": "there again under the import hook; removed in Pillow 10: write"
        " Image.BILINEAR",
    }
    assert "Python 3.12" in found["old.py", 5]
    assert "not Python 3" in found["python2.py", 1]
    assert "save it as UTF-8" in found["odd.py", 0]


def test_imports_that_may_fail_need_no_change(tmp_path):
    _write(
        tmp_path,
        a="try:\n    from detectron2.fb import x\nexcept ImportError:\n    x = None\n",
        b="try:\n    import detectron2.fb\nexcept (KeyError, Exception):\n    pass\n",
        c="try:\n    import detectron2.fb\nexcept ImportError:\n    raise SystemExit('no fb')\n",
        d="try:\n    import detectron2.fb\nexcept KeyError:\n    pass\n",
        e="try:\n    pass\nexcept:\n    import detectron2.fb\n",
    )
    report = read_project(tmp_path)

    assert [f.file for f in report.changes] == ["c.py", "d.py", "e.py"]
    (a, b) = report.of("covered")
    assert (a.name, b.name) == ("detectron2.fb.x", "detectron2.fb")
    assert a.note.startswith("the program goes on without it, by an except of its own; neither")


def test_extensions_and_requirements_are_reported(tmp_path):
    setup = (
        "from torch.utils.cpp_extension import CUDAExtension\nextension = CUDAExtension\n"
        "modules = [extension('mine._C', [])]\nsetup(install_requires=['detectron2'])\n"
    )
    _write(tmp_path, setup=setup)
    (tmp_path / "requirements.txt").write_text(
        "# detectron2\ndetectron2 @ git+https://example.org\ndetectron2>=0.5\ndetectron2-tools\n"
    )
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "Dockerfile").write_text(
        "RUN pip install 'git+https://example.org/facebookresearch/detectron2.git'\n"
        "RUN git clone https://example.org/me/my_detectron2\n"
    )
    found = {f.name: f for f in read_project(tmp_path).findings}

    assert found["extension 'mine._C'"].line == 3
    assert "build it as the project says" in found["extension 'mine._C'"].note
    places = {
        (f.file, f.line): f.state
        for f in read_project(tmp_path).findings
        if f.name.startswith("requirem")
    }
    assert places == {
        ("docker/Dockerfile", 1): "needs a change",
        ("requirements.txt", 2): "needs a change",
        ("requirements.txt", 3): "covered",
        ("setup.py", 4): "covered",
    }


def test_extensions_that_are_served_need_no_compiler(tmp_path):
    _write(tmp_path, setup="x = CUDAExtension(name='MultiScaleDeformableAttention', sources=[])\n")
    (found,) = read_project(tmp_path).findings

    assert (found.state, found.note[:16]) == ("covered", "nothing to build")


def test_a_copy_of_detectron2_gives_way_to_retinue(tmp_path):
    _write(
        tmp_path,
        detectron2____init__="",
        detectron2__layers="from detectron2.nope import x\n",
        main="from detectron2.layers import Added, Conv2d\n",
        mine____init__="",
        mine__detectron2____init__="from detectron2.config import CfgNode\n",
    )
    report = read_project(tmp_path)
    found = {f.name: f.state for f in report.findings}

    assert found == {
        "detectron2.layers.Added": "needs a change",
        "detectron2.layers.Conv2d": "covered",
        "detectron2.config.CfgNode": "covered",
        "detectron2/": "covered",
    }
    assert "what was changed in the copy is not there" in str(report)
    changed, left = rewrite_project(tmp_path)
    assert changed == ["main.py", "mine/detectron2/__init__.py"]
    assert left[-1] == "detectron2/  a copy of detectron2, left as it is"


def test_what_cannot_be_read_is_said_and_passed(tmp_path, monkeypatch):
    _write(tmp_path, a="import detectron2\n", sums="x = " + "+".join(["1"] * 600))
    (tmp_path / "deep.py").write_text("x = " + "+".join(["1"] * 20_000))
    (tmp_path / "broken.py").symlink_to("nowhere.py")
    (tmp_path / "second.py").symlink_to("a.py")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "locked.py").touch()
    read_bytes = Path.read_bytes

    def refuse(path):
        if path.name == "locked.py":
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    report = read_project(tmp_path)

    assert report.num_files == 4
    notes = {f.file: f.note for f in report.changes}
    too_deep = "nested too deeply for Python's parser"
    assert notes.pop("deep.py", too_deep) == too_deep  # Python 3.10 parses it
    assert notes == {"locked.py": "cannot be read: Permission denied"}


def test_a_thing_in_many_places_is_said_once(tmp_path):
    _write(tmp_path, a="import imp\nimport imp\n", b="\nimport imp\n")

    assert (
        "needs a change: 3\n  imp: removed in Python 3.12: use importlib\n"
        "    a.py:1, 2\n    b.py:2\nfrom its own" in str(read_project(tmp_path))
    )


CELLS = [
    ["# Title\n"],
    [
        "!pip install 'git+https://example.org/facebookresearch/detectron2.git'\n",
        "%matplotlib inline\n",
        "import detectron2\n",
        "from detectron2.export import Caffe2Tracer",
    ],
    "%%bash\nls import detectron2",
    "print('é', detectron2.structures.Boxes)",
    ["def f(:\n"],
]


def _notebook(path, **layout):
    kinds = ["markdown", *["code"] * 4]
    cells = [{"cell_type": k, "source": s} for k, s in zip(kinds, CELLS, strict=True)]
    path.write_text(json.dumps({"cells": cells, "nbformat": 4}, **layout) + "\n", encoding="utf-8")
    return path


def test_the_cells_of_a_notebook_are_read_as_one_program(tmp_path):
    report = read_project(_notebook(tmp_path / "a.ipynb"))
    found = {(f.file, f.line): (f.name, f.state) for f in report.findings}

    assert found["a.ipynb cell 2", 1] == ("requirement detectron2", "needs a change")
    assert found["a.ipynb cell 2", 3] == ("detectron2", "covered")
    assert found["a.ipynb cell 4", 1] == ("detectron2.structures.Boxes", "covered")
    assert found["a.ipynb cell 5", 1] == ("syntax", "needs a change")
    assert len(found) == 5


@pytest.mark.parametrize("layout", [{"indent": 1, "ensure_ascii": False}, {}])
def test_the_cells_of_a_notebook_change_and_the_rest_stays(tmp_path, layout):
    path = _notebook(tmp_path / "a.ipynb", **layout)
    before = path.read_text(encoding="utf-8")
    changed, left = rewrite_project(path)
    expected = before.replace('import detectron2\\n"', 'import retinue\\n"')

    assert changed == ["a.ipynb"]
    assert path.read_text(encoding="utf-8") == expected.replace(
        "detectron2.structures", "retinue.structures"
    )
    assert [note.partition("  ")[0] for note in left] == ["a.ipynb cell 2:4"]
    assert rewrite_project(path)[0] == []


def test_a_notebook_of_another_layout_or_none_is_left(tmp_path):
    path = _notebook(tmp_path / "a.ipynb", indent=3)
    (tmp_path / "b.ipynb").write_text("{}")
    (tmp_path / "c.ipynb").write_text('{"cells": 1}')

    assert {f.file: f.note for f in read_project(tmp_path).changes if "." in f.file[-6:]} == {
        "b.ipynb": "no notebook of version 4: KeyError 'cells'",
        "c.ipynb": "no notebook of version 4: its cells are no list",
    }
    changed, left = rewrite_project(path)
    assert changed == []
    assert left[-1] == "a.ipynb  left as it is: its JSON is not laid out as Jupyter does;" + (
        " save it there once"
    )


def test_a_package_of_the_project_is_its_own(tmp_path):
    _write(
        tmp_path, densepose____init__="", main="import densepose.other\nimport detectron2.nope\n"
    )

    assert [f.name for f in read_project(tmp_path).findings] == ["detectron2.nope"]


def test_environments_and_build_folders_are_left_out(tmp_path):
    _write(tmp_path, env__x="import detectron2\n", build__y="import detectron2\n", z="")
    (tmp_path / "env" / "pyvenv.cfg").touch()

    assert read_project(tmp_path).num_files == 1


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="expected a project's folder or file; no"):
        read_project(tmp_path / "nothing")


def test_imports_change_and_the_rest_stays():
    new, left = rewritten(MODEL)

    assert (
        new
        == """\
import retinue.utils.comm as comm
import retinue.layers.weight_init as weight_init
from retinue.layers import (
    Conv2d,  # kept
    ShapeSpec,
)
from retinue.data.catalog import MetadataCatalog
from retinue.data.build import build_detection_train_loader
from retinue.config.config import CfgNode as CN
from hotcoco import mask as mask_util

comm.get_rank()
weight_init.c2_msra_fill(None)
"""
    )
    assert left == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if 1: from detectron2.data.build import BoxMode, get_detection_dataset_dicts  # é\n",
         "if 1: from retinue.structures import BoxMode; from retinue.data.build import"
         " get_detection_dataset_dicts  # é\n"),
        ("import os, detectron2\nprint('é', detectron2.structures.Boxes)\n",
         "import os, retinue\nprint('é', retinue.structures.Boxes)\n"),
        ("from detectron2.layers import *\n", "from retinue.layers import *\n"),
        ("from fvcore.nn import sigmoid_focal_loss_jit\n",
         "from retinue.layers.losses import sigmoid_focal_loss as sigmoid_focal_loss_jit\n"),
        ("patch('detectron2.engine.launch')\n", "patch('retinue.engine.launch')\n"),
        ("logging.getLogger('detectron2.mine')\n", "logging.getLogger('retinue.mine')\n"),
        ("x = 'detectron2://R-50', 'detectron2'\n", "x = 'detectron2://R-50', 'detectron2'\n"),
        ("import fvcore.nn\n", "import fvcore.nn\n"),
        ("find_spec('detectron2')\n", "find_spec('retinue')\n"),
        ("from detectron2.data.build import (  # a\n    BoxMode,\n    # b\n"
         "    get_detection_dataset_dicts,  # c\n)  # d\n",
         "# a\n# b\n# c\nfrom retinue.structures import BoxMode\n"
         "from retinue.data.build import get_detection_dataset_dicts  # d\n"),
    ],
)  # fmt: skip
def test_single_changes(text, expected):
    assert rewritten(text)[0] == expected


def test_long_imports_are_split_over_lines():
    names = "MetadataCatalog, build_batch_data_loader, get_detection_dataset_dicts"
    names += ", filter_images_with_few_keypoints"
    text = f"def f():\r\n    from detectron2.data.build import {names}\r\n"
    new, _ = rewritten(text)

    assert "    from retinue.data.build import (\r\n        build_batch_data_loader,\r\n" in new
    assert "\n" not in new.replace("\r\n", "")
    ast.parse(new)


def test_what_is_left_is_told():
    text = (
        "import detectron2\nimport detectron2.data.build as B\n"
        "from detectron2.export import Caffe2Tracer\n"
        "B.MetadataCatalog\ndetectron2.__version__\nimport torch, fvcore.nn.weight_init\n"
        "torch.ops.detectron2.nms_rotated\nversion('detectron2')\n"
    )
    new, left = rewritten(text)

    assert "from detectron2.export import Caffe2Tracer" in new
    assert any(n.startswith("3  detectron2.export.Caffe2Tracer is not") for n in left)
    assert (
        "4  detectron2.data.build.MetadataCatalog is retinue.data.catalog.MetadataCatalog" in left
    )
    assert left[2:] == [
        "5  detectron2.__version__ is the version of retinue now",
        "6  fvcore.nn.weight_init: left as it is; retinue.layers.weight_init has its names",
        "7  torch.ops.detectron2.nms_rotated needs `import retinue.compat.native`",
        "8  'detectron2', a distribution's name, is left as it is",
    ]


def test_what_only_the_hook_puts_back_is_told():
    text = "import numpy as np\nfrom detectron2.config import get_cfg\nnp.float(1)\n'numpy.float'\n"

    assert rewritten(text)[1] == ["3  numpy.float: removed in numpy 1.24: write float"]


def test_writing_keeps_mode_and_encoding_and_runs_without_the_hook(tmp_path):
    script = tmp_path / "script.py"
    text = (
        "# -*- coding: latin-1 -*-\nfrom detectron2.structures import Boxes  # \xe9\nname = Boxes\n"
    )
    script.write_bytes(text.encode("latin-1"))
    script.chmod(0o755)
    changed, left = rewrite_project(tmp_path)

    assert (changed, left) == (["script.py"], [])
    assert script.read_bytes() == text.replace("detectron2", "retinue").encode("latin-1")
    assert stat.S_IMODE(os.stat(script).st_mode) == 0o755
    namespace = {}
    exec(compile(script.read_bytes(), "script.py", "exec"), namespace)
    assert namespace["name"].__module__ == "retinue.structures.boxes"
    assert rewrite_project(tmp_path) == ([], [])
    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]


def test_all_files_change_or_none(tmp_path, monkeypatch):
    files = {"a": "import detectron2\n", "b": "x = 1\n", "c": "import detectron2 as d\n"}
    _write(tmp_path, **files)
    real = rewrite.atomic_write

    def full_at_c(path, mode):
        if path.name == "c.py":
            raise OSError(28, "No space left on device")
        return real(path, mode)

    monkeypatch.setattr(rewrite, "atomic_write", full_at_c)
    with pytest.raises(
        InputError, match=r"c\.py' cannot be written .*No space.*no file was changed"
    ):
        rewrite_project(tmp_path)

    assert {p.stem: p.read_text() for p in tmp_path.iterdir()} == files


def test_the_command_says_how_a_notebook_runs(tmp_path):
    _notebook(tmp_path / "a.ipynb")
    said = CliRunner().invoke(app, ["migrate", str(tmp_path)]).output

    assert "in a notebook, first of all: import retinue.compat; retinue.compat.install()" in said


def test_the_command(tmp_path):
    _write(tmp_path, model=MODEL, other="from detectron2.export import Caffe2Tracer\n")
    run = CliRunner().invoke

    said = run(app, ["migrate", str(tmp_path)]).output
    assert "needs a change: 1\n  other.py:1  detectron2.export.Caffe2Tracer is not carried" in said
    assert (tmp_path / "model.py").read_text() == MODEL
    data = json.loads(run(app, ["migrate", str(tmp_path), "--json", "--write"]).output)
    assert data["changed"] == ["model.py"]
    assert data["summary"]["needs a change"] == 1
    assert data["left"][0].startswith("other.py:1  detectron2.export.Caffe2Tracer")
    wrong = run(app, ["migrate", str(tmp_path / "nothing")])
    assert wrong.exit_code == 2
