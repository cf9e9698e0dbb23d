"""``import detectron2`` is retinue: the same objects, and Python's import tools agree."""

import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import pickle
import pkgutil
import re
import subprocess
import sys
import types
import warnings

import pytest
import torch

import retinue
from retinue import compat
from retinue.compat.hook import real_detectron2


def test_without_the_hook_nothing_is_served():
    assert not compat.is_installed()
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("fvcore.common.config")


def test_installing_twice_is_installing_once(hook):
    before = list(sys.meta_path)
    hook.install()

    assert sys.meta_path == before


def test_modules_are_the_same_objects(hook):
    for name in ("structures", "structures.instances", "modeling.roi_heads", "utils.comm"):
        served = importlib.import_module(f"detectron2.{name}")
        assert served is importlib.import_module(f"retinue.{name}")
        assert served.__spec__.name == f"retinue.{name}"


def test_the_top_level_says_its_version(hook):
    import detectron2

    assert detectron2.__version__ == "0.6"
    assert importlib.metadata.version("detectron2") == "0.6"
    assert importlib.metadata.distribution("detectron2").metadata["Name"] == "detectron2"
    assert "detectron2" in {d.metadata["Name"] for d in importlib.metadata.distributions()}


def test_metadata_by_another_spelling_and_by_package(hook):
    assert importlib.metadata.version("Detectron2") == "0.6"
    assert importlib.metadata.packages_distributions()["detectron2"] == ["detectron2"]


def test_metadata_of_certain_folders_is_what_is_installed_there(hook, tmp_path):
    """As pip asks; it may be building the distribution of this name."""
    assert list(importlib.metadata.distributions(path=[str(tmp_path)])) == []
    assert list(importlib.metadata.distributions(name="detectron2", path=[str(tmp_path)])) == []


def test_files_beside_the_modules(hook):
    files = importlib.resources.files("detectron2")

    assert (files / "py.typed").is_file()
    assert pkgutil.get_data("detectron2", "py.typed") is not None
    zoo = importlib.resources.files("detectron2.model_zoo")
    assert (zoo / "configs" / "common" / "train.py").is_file()
    loader = importlib.util.find_spec("detectron2.utils.colormap").loader
    assert loader.get_data(loader.get_filename("detectron2.utils.colormap")).startswith(b'"""')


def test_classes_and_registries_are_shared(hook):
    from detectron2.modeling import BACKBONE_REGISTRY
    from detectron2.structures import Instances

    from retinue.modeling import BACKBONE_REGISTRY as ours
    from retinue.structures import Instances as OurInstances

    assert Instances is OurInstances
    assert isinstance(OurInstances((2, 3)), Instances)
    assert BACKBONE_REGISTRY is ours


def test_a_function_that_hides_its_module_stays_a_function(hook):
    from detectron2.config.instantiate import instantiate
    from detectron2.engine.launch import launch
    from detectron2.layers.nms import nms

    import retinue.config
    import retinue.engine
    import retinue.layers

    assert retinue.config.instantiate is instantiate
    assert retinue.engine.launch is launch
    assert retinue.layers.nms is nms
    assert isinstance(sys.modules["detectron2.config.instantiate"], types.ModuleType)


def test_pickles_load_under_either_name(hook):
    from detectron2.structures import Boxes, Instances

    boxes = Instances((4, 5), pred_boxes=Boxes(torch.ones(1, 4)))
    ours = pickle.dumps(boxes, protocol=0)
    theirs = ours.replace(b"retinue.structures", b"detectron2.structures")

    assert ours != theirs
    for data in (ours, theirs):
        loaded = pickle.loads(data)
        assert type(loaded) is Instances
        assert loaded.pred_boxes.tensor.tolist() == [[1.0, 1.0, 1.0, 1.0]]


def test_finding_specs(hook):
    spec = importlib.util.find_spec("detectron2.modeling.poolers")

    assert spec.name == "detectron2.modeling.poolers"
    assert spec.origin.endswith("poolers.py")
    assert importlib.util.find_spec("detectron2") is not None
    assert importlib.util.find_spec("detectron2.nothing") is None
    assert importlib.util.find_spec("fvcore.common.checkpoint") is not None


def test_walking_the_package(hook):
    import detectron2

    names = {m.name for m in pkgutil.walk_packages(detectron2.__path__, "detectron2.")}

    assert {"detectron2.structures.boxes", "detectron2.modeling.roi_heads.box_head"} <= names


def test_attributes_of_the_top_level(hook):
    import detectron2

    assert detectron2.structures is retinue.structures
    with pytest.raises(AttributeError, match="'detectron2' has no attribute 'nothing'"):
        _ = detectron2.nothing
    with pytest.raises(ModuleNotFoundError, match=r"detectron2\.nothing"):
        importlib.import_module("detectron2.nothing")


def test_source_and_code_of_an_alias(hook):
    loader = importlib.util.find_spec("detectron2.utils.collect_env").loader
    name = "detectron2.utils.collect_env"

    assert loader.get_code(name).co_filename.endswith("collect_env.py")
    assert "def collect_env_info" in loader.get_source(name)
    assert loader.get_filename(name).endswith("collect_env.py")
    assert not loader.is_package(name)


def test_reloading_an_alias_reloads_the_module(hook):
    import detectron2.utils.develop as module

    assert importlib.reload(module) is module


def test_numbers_that_visualizers_of_projects_import(hook):
    from detectron2.utils.visualizer import (
        _BLACK,
        _KEYPOINT_THRESHOLD,
        _LARGE_MASK_AREA_THRESH,
        _SMALL_OBJECT_AREA_THRESH,
    )

    assert (_SMALL_OBJECT_AREA_THRESH, _LARGE_MASK_AREA_THRESH) == (1000, 120000)
    assert (_BLACK, _KEYPOINT_THRESHOLD) == ((0, 0, 0), 0.05)


def test_names_that_a_module_only_imported(hook):
    from detectron2.data.build import MetadataCatalog
    from detectron2.modeling.roi_heads.roi_heads import nonzero_tuple

    from retinue.data import MetadataCatalog as ours
    from retinue.layers import nonzero_tuple as our_function

    assert MetadataCatalog is ours
    assert nonzero_tuple is our_function


def test_fvcore_and_iopath_are_ours(hook):
    from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer
    from fvcore.common.config import BASE_KEY, CfgNode
    from fvcore.common.file_io import PathManager
    from fvcore.nn import c2_xavier_fill, sigmoid_focal_loss_jit, smooth_l1_loss
    from fvcore.transforms.transform import HFlipTransform, Transform
    from iopath.common.file_io import PathManager as PathManagerClass
    from iopath.common.file_io import g_pathmgr

    import retinue.checkpoint
    import retinue.config
    import retinue.data.transforms as T
    import retinue.layers.losses
    from retinue.layers.weight_init import c2_xavier_fill as fill
    from retinue.utils.file_io import PathManager as manager

    assert CfgNode is retinue.config.CfgNode
    assert BASE_KEY == "_BASE_"
    assert Checkpointer is retinue.checkpoint.Checkpointer
    assert PeriodicCheckpointer is retinue.checkpoint.PeriodicCheckpointer
    assert PathManager is manager
    assert g_pathmgr is manager
    assert isinstance(manager, PathManagerClass)
    assert (HFlipTransform, Transform) == (T.HFlipTransform, T.Transform)
    assert sigmoid_focal_loss_jit is retinue.layers.losses.sigmoid_focal_loss
    assert smooth_l1_loss is retinue.layers.losses.smooth_l1_loss
    assert c2_xavier_fill is fill


def test_every_listed_name_is_found(hook):
    from retinue.compat.modules import resolve
    from retinue.compat.served import _rows

    for module, rows in _rows().items():
        for name, target in rows.items():
            found = target == "logger" or resolve(target)
            assert found is not None, (module, name)


def test_star_import_of_a_collection(hook):
    namespace = {}
    exec("from fvcore.transforms.transform import *", namespace)

    assert "HFlipTransform" in namespace


def _write_package(folder, name, **files):
    package = folder / name
    package.mkdir(parents=True)
    for file, text in {"__init__": "", **files}.items():
        (package / f"{file}.py").write_text(text)


def test_what_we_lack_falls_through_to_a_real_fvcore(tmp_path, monkeypatch):
    _write_package(tmp_path, "fvcore", extra="value = 7")
    timer = "class Timer: pass\ndef only_there(): return 8"
    _write_package(tmp_path / "fvcore", "common", timer=timer, config="CfgNode = None")
    monkeypatch.syspath_prepend(str(tmp_path))
    compat.install()
    try:
        from fvcore.common.config import CfgNode
        from fvcore.common.timer import Timer, only_there
        from fvcore.extra import value

        from retinue.config import CfgNode as ours
        from retinue.utils.timer import Timer as OurTimer

        assert (value, only_there()) == (7, 8)
        assert CfgNode is ours
        assert Timer is OurTimer
    finally:
        compat.uninstall()
        for name in [n for n in sys.modules if n.startswith(("fvcore", "_retinue_real"))]:
            del sys.modules[name]


@pytest.mark.skipif(importlib.util.find_spec("pycocotools") is not None, reason="is installed")
def test_pycocotools_is_served_where_it_is_absent(hook):
    import numpy as np
    from pycocotools import mask as mask_util
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rle = mask_util.encode(np.asfortranarray(np.ones((3, 4), dtype=np.uint8)))

    assert mask_util.area(rle) == 12
    assert isinstance(COCO, type)
    assert issubclass(type("Mine", (COCOeval,), {}), COCOeval)


def test_projects_are_served_under_their_own_names(hook):
    import point_sup
    import tensormask.config
    import tridentnet

    assert point_sup.__name__ == "retinue.projects.point_sup"
    assert tensormask.config is sys.modules["retinue.projects.tensormask.config"]
    assert tridentnet is sys.modules["retinue.projects.tridentnet"]
    assert importlib.util.find_spec("detectron2.projects.point_rend") is not None


@pytest.mark.parametrize(
    ("package", "dataset", "file"),
    [
        ("densepose", "densepose_coco_2014_minival", "coco/annotations/densepose_minival2014.json"),
        ("densepose", "densepose_chimps_cse_val", "densepose_chimps/densepose_chimps_cse_val.json"),
        ("meshrcnn.data", "pix3d_s1_test", "pix3d/pix3d_s1_test.json"),
        (
            "point_sup",
            "coco_2017_train_points_n10_v1_without_masks",
            "coco/annotations/instances_train2017_n10_v1_without_masks.json",
        ),
    ],
)
def test_importing_a_project_makes_its_datasets_known(hook, monkeypatch, package, dataset, file):
    from retinue.data import DatasetCatalog, MetadataCatalog

    monkeypatch.setenv("DETECTRON2_DATASETS", "elsewhere")
    importlib.import_module(f"retinue.projects.{package}")
    assert dataset not in DatasetCatalog.list()

    importlib.import_module(package)
    assert MetadataCatalog.get(dataset).json_file == f"elsewhere/{file}"
    del sys.modules[package]
    importlib.import_module(package)  # known already, which is no error


def test_an_installed_project_is_not_replaced(tmp_path, monkeypatch, hook):
    _write_package(tmp_path, "tensormask", config="mine = True")
    monkeypatch.syspath_prepend(str(tmp_path))
    import tensormask.config

    assert tensormask.config.mine
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("tensormask.arch")
    for name in ("tensormask", "tensormask.config"):
        del sys.modules[name]


@pytest.mark.parametrize("module", ["api", "caffe2_modeling", "c10"])
def test_modules_left_out_say_why(hook, module):
    with pytest.raises(ImportError, match=rf"detectron2\.export\.{module} is not carried over"):
        importlib.import_module(f"detectron2.export.{module}")


def test_names_left_out_say_why_and_what_to_use(hook):
    with pytest.raises(ImportError, match=r"Caffe2Tracer is not carried over.*torch\.export"):
        from detectron2.export import Caffe2Tracer  # noqa: F401
    with pytest.raises(ImportError, match=r"export\.c10 is not carried over.*torch\.export"):
        from detectron2.export import c10  # noqa: F401


def test_names_left_out_are_not_there_for_who_asks_first(hook):
    import detectron2.export
    import detectron2.layers.mask_ops as mask_ops

    for name in ("Caffe2Tracer", "Caffe2Model", "export_onnx_model", "api", "no_such_name"):
        assert not hasattr(detectron2.export, name)
        assert getattr(detectron2.export, name, "mine") == "mine"
    assert not hasattr(mask_ops, "_do_paste_mask")
    assert getattr(mask_ops, "_do_paste_mask", "mine") == "mine"
    with pytest.raises(AttributeError, match=r"Caffe2Tracer is not carried over.*torch\.export"):
        detectron2.export.Caffe2Tracer  # noqa: B018


def test_private_names_left_out_say_what_to_use(hook):
    from retinue.compat.absent import _private_names

    with pytest.raises(ImportError, match=r"_do_paste_mask is not .*; use paste_masks_in_image"):
        from detectron2.layers.mask_ops import _do_paste_mask  # noqa: F401
    for module, rows in _private_names().items():
        served = importlib.import_module(module)
        assert rows.keys().isdisjoint(vars(served))
        for name, reason in rows.items():
            message = rf"{module}\.{name} is not carried over"
            assert not hasattr(served, name)
            with pytest.raises(AttributeError, match=message):
                getattr(served, name)
            with pytest.raises(ImportError, match=message):
                exec(f"from {module} import {name}")
            assert "use " in reason
    with pytest.raises(ImportError, match="cannot import name '_do_paste_musk'"):
        from detectron2.layers.mask_ops import _do_paste_musk  # noqa: F401


def test_an_unbuilt_extension_is_named(tmp_path, monkeypatch, hook):
    _write_package(tmp_path, "someproject")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ImportError, match=r"someproject\._C is a compiled extension"):
        from someproject import _C  # noqa: F401
    with pytest.raises(ModuleNotFoundError, match="build it as that project says"):
        importlib.import_module("someproject._C")
    del sys.modules["someproject"]


def test_a_real_detectron2_beside_ours_is_told(tmp_path, monkeypatch):
    _write_package(tmp_path, "detectron2")
    _write_package(tmp_path / "detectron2", "config", defaults="")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert real_detectron2() == str(tmp_path / "detectron2")
    with pytest.warns(UserWarning, match="another detectron2 is installed in .*retinue serves"):
        compat.install()
    import detectron2

    assert detectron2.__retinue__ == retinue.__version__
    compat.uninstall()


def test_an_editable_real_detectron2_is_told(tmp_path, monkeypatch):
    """As setuptools installs it: a finder that maps the name to the clone."""
    _write_package(tmp_path, "detectron2")
    _write_package(tmp_path / "detectron2", "config", defaults="")
    file = tmp_path / "detectron2" / "__init__.py"

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            return importlib.util.spec_from_file_location(name, file)

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    with pytest.warns(UserWarning, match="another detectron2 is installed in"):
        compat.install()
    compat.uninstall()


def test_a_real_detectron2_already_imported_is_an_error(monkeypatch):
    real = types.ModuleType("detectron2")
    real.__file__ = "/somewhere/detectron2/__init__.py"
    monkeypatch.setitem(sys.modules, "detectron2", real)

    with pytest.raises(ImportError, match="another detectron2 has been imported already, from /so"):
        compat.install()
    assert not compat.is_installed()


def test_a_clone_in_the_working_directory_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "detectron2" / "detectron2").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compat.install()
    compat.uninstall()


def test_uninstall_leaves_nothing(hook):
    import detectron2.config  # noqa: F401
    import fvcore.nn  # noqa: F401
    import tensormask  # noqa: F401

    hook.uninstall()

    left = [n for n in sys.modules if n.partition(".")[0] in ("detectron2", "fvcore", "tensormask")]
    assert left == []


def test_the_users_setup_module_runs(tmp_path):
    """``DETECTRON2_ENV_MODULE`` names a module that detectron2 calls when it is imported."""
    (tmp_path / "site_setup.py").write_text("def setup_environment(): print('set up')")
    code = "import retinue.compat; retinue.compat.install(); import detectron2; print('imported')"
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"DETECTRON2_ENV_MODULE": str(tmp_path / "site_setup.py"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )

    assert out.stdout.split("\n")[:2] == ["set up", "imported"]


def _attention_inputs():
    generator = torch.Generator().manual_seed(0)
    shapes = torch.tensor([[4, 6], [2, 3]])
    starts = torch.tensor([0, 24])
    value = torch.rand(2, 30, 2, 3, generator=generator, dtype=torch.float64)
    points = torch.rand(2, 5, 2, 2, 3, 2, generator=generator, dtype=torch.float64) * 1.4 - 0.2
    weights = torch.rand(2, 5, 2, 2, 3, generator=generator, dtype=torch.float64)
    return value, shapes, starts, points, weights


def _attention_at(value, points, weights, n, q, m):
    """Head ``m`` of query ``q`` by loops: bilinear between the centres of positions."""
    total = torch.zeros(3, dtype=torch.float64)
    for level, (start, height, width) in enumerate([(0, 4, 6), (24, 2, 3)]):
        for p in range(3):
            x = points[n, q, m, level, p, 0] * width - 0.5
            y = points[n, q, m, level, p, 1] * height - 0.5
            for row in range(height):
                for column in range(width):
                    share = (1 - (x - column).abs()).clamp(0) * (1 - (y - row).abs()).clamp(0)
                    here = value[n, start + row * width + column, m]
                    total = total + weights[n, q, m, level, p] * share * here
    return total


def test_deformable_attention_of_many_projects(hook):
    import MultiScaleDeformableAttention as attention

    value, shapes, starts, points, weights = _attention_inputs()
    found = attention.ms_deform_attn_forward(value, shapes, starts, points, weights, 64)

    assert found.shape == (2, 5, 6)
    for n, q, m in [(0, 0, 0), (1, 3, 1), (0, 4, 1)]:
        expected = _attention_at(value, points, weights, n, q, m)
        torch.testing.assert_close(found[n, q, 3 * m : 3 * m + 3], expected)

    leaves = [t.clone().requires_grad_() for t in (value, points, weights)]
    out = attention.ms_deform_attn_forward(leaves[0], shapes, starts, *leaves[1:])
    grad = torch.ones_like(out)
    out.backward(grad)
    grads = attention.ms_deform_attn_backward(value, shapes, starts, points, weights, grad, 64)
    for got, leaf in zip(grads, leaves, strict=True):
        torch.testing.assert_close(got, leaf.grad)


@pytest.mark.parametrize(
    ("module", "source"),
    [("iopath.common.s4", "iopath"), ("panopticapi.sums", "git+https://github.com/cocodataset/")],
)
def test_a_module_that_only_the_real_package_has(hook, module, source):
    with pytest.raises(ModuleNotFoundError, match=rf"{module}.*`pip install {re.escape(source)}"):
        importlib.import_module(module)


def test_ids_of_panoptic_pictures(hook):
    import numpy as np
    from panopticapi.utils import id2rgb, rgb2id

    ids = np.array([[0, 255], [256, 65536 * 3 + 256 * 2 + 1]])

    assert id2rgb(ids).tolist() == [[[0, 0, 0], [255, 0, 0]], [[0, 1, 0], [1, 2, 3]]]
    assert rgb2id(id2rgb(ids)).tolist() == ids.tolist()
    assert (rgb2id((1, 2, 3)), id2rgb(513)) == (ids[1, 1], [1, 2, 0])


def test_scripts_that_write_panoptic_pictures_find_their_helpers(hook, tmp_path, capsys):
    from panopticapi.utils import IdGenerator, get_traceback, rgb2id, save_json

    classes = {1: {"color": [9, 0, 0], "isthing": 1}, 2: {"color": [0, 7, 0], "isthing": 0}}
    colours = IdGenerator(classes)
    things = [colours.get_id_and_color(1) for _ in range(50)]
    assert [colours.get_color(2), colours.get_color(2)] == [[0, 7, 0], [0, 7, 0]]
    assert things[0] == (9, [9, 0, 0])
    assert len({number for number, _ in things}) == 50
    assert all(number == rgb2id(colour) and colour != [0, 7, 0] for number, colour in things)
    assert colours.get_id(2) == 7 * 256

    save_json({"a": [1]}, str(tmp_path / "a.json"))
    assert (tmp_path / "a.json").read_text() == '{"a": [1]}'
    assert get_traceback(max)(1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        get_traceback(lambda: 1 / 0)()
    assert "division by zero" in capsys.readouterr().err


def test_a_projects_own_class_takes_the_place_of_ours():
    from retinue.utils.errors import InputError
    from retinue.utils.registry import Registry

    rows = {
        "TridentConv": "retinue.projects.tridentnet.trident_conv:TridentConv",
        "Other": "collections:Other",
    }
    registry = Registry("SHAPE", rows)
    ours = registry.get("TridentConv")
    theirs = registry.register(type("TridentConv", (), {}))

    assert registry.get("TridentConv") is theirs is not ours
    with pytest.raises(InputError, match="already registered"):
        registry.register(type("TridentConv", (), {}))
    with pytest.raises(InputError, match="already registered"):
        registry.register(type("Other", (), {}))


def test_a_submodule_taken_from_its_package_has_the_added_names(hook):
    """Such an import finds an attribute of the package, and no finder is asked."""
    from detectron2.data import build
    from detectron2.modeling import roi_heads
    from detectron2.utils import visualizer

    from retinue.data import MetadataCatalog

    assert build.MetadataCatalog is MetadataCatalog
    assert visualizer._BLACK == (0, 0, 0)
    assert callable(roi_heads.roi_heads.add_ground_truth_to_proposals)
    with pytest.raises(AttributeError, match=r"mask_ops\._do_paste_mask is not carried over"):
        importlib.import_module("retinue.layers.mask_ops")._do_paste_mask  # noqa: B018

    hook.uninstall()
    assert not hasattr(build, "MetadataCatalog")
    hook.install()
    assert build.MetadataCatalog is MetadataCatalog


@pytest.mark.slow
def test_added_names_where_nothing_was_imported_before():
    code = (
        "import retinue.compat; retinue.compat.install()\n"
        "from detectron2.data import build; print(build.MetadataCatalog.__class__.__name__)\n"
        "import detectron2.engine; print(detectron2.engine.defaults.verify_results.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stdout.split() == ["_MetadataCatalog", "verify_results"], done.stderr
