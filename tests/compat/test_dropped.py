"""What numpy, Pillow, PyTorch and setuptools have dropped is there again under the hook."""

import collections
import importlib
import importlib.util
import inspect
import math
import subprocess
import sys
from collections import abc
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from retinue import compat
from retinue.compat import dropped
from retinue.compat.dropped import DROPPED_NAMES


def test_numpy_has_its_old_aliases_until_the_hook_goes(hook):
    assert [vars(np)[name] for name in ("int", "float", "str")] == [int, float, str]
    assert np.zeros(2, dtype=vars(np)["float_"]).dtype == np.float64
    assert math.isnan(vars(np)["NaN"])
    compat.uninstall()
    assert "int" not in vars(np)
    assert "LINEAR" not in vars(Image)


def test_names_that_are_there_stay_as_they_are(hook):
    """numpy 2 has a ``bool`` of its own, which earlier versions lack."""
    assert np.bool is (np.bool_ if int(np.__version__.split(".")[0]) >= 2 else bool)


def test_old_names_of_pictures(hook):
    assert (Image.LINEAR, Image.CUBIC, Image.ANTIALIAS) == (
        Image.Resampling.BILINEAR,
        Image.Resampling.BICUBIC,
        Image.Resampling.LANCZOS,
    )


def test_sizes_of_text_are_those_of_its_box(hook):
    """The box counts from the line's top, as the old height did."""
    font = ImageFont.load_default(20)
    if not isinstance(font, ImageFont.FreeTypeFont):
        pytest.skip("this Pillow is without FreeType")
    left, _, right, bottom = font.getbbox("gap")
    assert font.getsize("gap") == (right - left, bottom)
    draw = ImageDraw.Draw(Image.new("L", (64, 32)))
    assert draw.textsize("gap", font) == pytest.approx((right - left, bottom))


def test_abstract_classes_are_in_collections(hook):
    assert collections.Mapping is abc.Mapping


@pytest.mark.filterwarnings("ignore:inspect.getargspec")  # Python 3.10's own
def test_arguments_as_four_fields(hook):
    args, varargs, keywords, defaults = inspect.getargspec(lambda a, b=1, *c, **d: None)
    assert (args, varargs, keywords, defaults) == (["a", "b"], "c", "d", (1,))


def test_what_models_after_detr_take_from_torchvision():
    """Of its time before 0.7: an empty tensor, and the sides after interpolation, rounded down."""
    assert dropped._empty_tensor(torch.ones(2), [0, 3]).shape == (0, 3)
    x = torch.zeros(1, 1, 5, 7)
    assert dropped._size_after_scaling(2, x, 4, None) == [4, 4]
    assert dropped._size_after_scaling(2, x, (4, 6), None) == [4, 6]
    assert dropped._size_after_scaling(2, x, None, 0.5) == [2, 3]
    assert dropped._size_after_scaling(2, x, None, (2, 1)) == [10, 7]


def test_modules_that_are_gone_are_served(hook):
    six = importlib.import_module("torch._six")
    assert isinstance("a", six.string_classes)
    assert six.inf == math.inf
    compat.uninstall()
    assert "torch._six" not in sys.modules


def test_resources_of_packages():
    """By its module, since tests may run beside a setuptools that has the real one."""
    from retinue.compat import package_resources as served

    path = served.resource_filename("retinue.compat", "names.tsv")
    assert served.resource_string("retinue.compat", "names.tsv") == Path(path).read_bytes()
    assert served.resource_exists("retinue", "compat/names.tsv")
    assert not served.resource_exists("retinue", "compat/names.csv")
    assert served.resource_isdir("retinue", "compat")
    assert "names.tsv" in served.resource_listdir("retinue", "compat")
    assert served.get_distribution("numpy").version == np.__version__
    with pytest.raises(served.DistributionNotFound):
        served.get_distribution("no-such-distribution")
    with pytest.raises(ModuleNotFoundError, match="no package 'nowhere'"):
        served.resource_filename("nowhere", "a")
    with pytest.raises(AttributeError, match="has no attribute 'working_set'"):
        served.working_set  # noqa: B018


def test_versions_and_requirements():
    pytest.importorskip("packaging")
    from retinue.compat import package_resources as served

    assert served.parse_version("0.10") > served.parse_version("0.9.1")
    assert served.packaging.version.parse("1.0") == served.parse_version("1")
    lines = "numpy>=1.24  # arrays\n\ntorch\n"
    assert [r.name for r in served.parse_requirements(lines)] == ["numpy", "torch"]


def test_modules_imported_later_have_them_too():
    code = (
        "import sys; from retinue.compat import install; install();"
        "assert 'PIL.ImageDraw' not in sys.modules;"
        "import numpy, PIL.ImageDraw;"
        "assert numpy.int is int and hasattr(PIL.ImageDraw.ImageDraw, 'textsize');"
        "assert 'exec_module' not in vars(PIL.ImageDraw.__spec__.loader)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_old_name_can_be_put_back(hook):
    for module, names in DROPPED_NAMES.items():
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            continue  # torchvision is no requirement
        found = importlib.import_module(module)
        for name in names:
            owner, _, member = name.rpartition(".")
            assert hasattr(getattr(found, owner) if owner else found, member), f"{module}.{name}"


def test_pillow_is_one_that_dropped_them():
    assert int(PIL.__version__.split(".")[0]) >= 10
