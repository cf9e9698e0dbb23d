import pickle
import sys
import types

import numpy as np
import pytest
import torch

from retinue.utils import collect_env, develop, env, tracing
from retinue.utils.colormap import colormap, random_color, random_colors
from retinue.utils.memory import retry_if_cuda_oom
from retinue.utils.serialize import PicklableWrapper
from retinue.utils.timer import Timer
from retinue.utils.torch_version_utils import min_torch_version


def test_colormap_is_detectrons():
    assert colormap().shape == (74, 3)
    assert colormap(rgb=True, maximum=1)[0] == pytest.approx([0, 0.447, 0.741])
    assert colormap()[1] == pytest.approx([0.098 * 255, 0.325 * 255, 0.85 * 255])


def test_random_colors_differ():
    colors = random_colors(74, rgb=True, maximum=1)
    assert {tuple(c) for c in colors} == {tuple(c) for c in colormap(True, 1)}
    assert random_color().shape == (3,)
    np.random.seed(0)  # noqa: NPY002 - whose next number below 74 is 44
    assert random_color().tolist() == colormap()[44].tolist()
    assert random_colors(0) == []
    with pytest.raises(ValueError, match="larger"):
        random_colors(75)


def test_memory_runs_out_twice(caplog):
    calls = []

    def greedy(x, scale=1):
        """Doc."""
        calls.append(x.device.type)
        if len(calls) < 3:
            raise torch.OutOfMemoryError("full")
        return x * scale

    wrapped = retry_if_cuda_oom(greedy)
    assert wrapped.__doc__ == "Doc."
    assert wrapped(torch.ones(2), scale=3).tolist() == [3, 3]
    assert len(calls) == 3


def test_other_errors_are_not_retried():
    def wrong():
        raise RuntimeError("other")

    with pytest.raises(RuntimeError, match="other"):
        retry_if_cuda_oom(wrong)()


def test_picklable_wrapper_behaves_like_its_function():
    wrapped = PicklableWrapper(PicklableWrapper(torch.add))
    assert wrapped(1, 2) == 3
    assert wrapped.__name__ == "add"
    assert pickle.loads(pickle.dumps(wrapped)) is torch.add


def test_stand_ins_say_what_is_missing():
    klass = develop.create_dummy_class("Thing", "thinglib", "pip install thinglib")
    function = develop.create_dummy_func("thing", ("a", "b"))
    with pytest.raises(ImportError, match=r"Thing needs thinglib.*pip install thinglib"):
        klass()
    with pytest.raises(ImportError, match="Thing needs thinglib"):
        klass.anything  # noqa: B018 - asking is what raises
    with pytest.raises(ImportError, match="thing needs a, b"):
        function(1)


def test_timer(monkeypatch):
    now = 0.0
    monkeypatch.setattr("retinue.utils.timer.perf_counter", lambda: now)
    timer = Timer()
    now = 2.0
    timer.pause()
    now = 10.0
    assert timer.is_paused()
    assert timer.seconds() == 2
    with pytest.raises(ValueError, match="got a paused one"):
        timer.pause()
    timer.resume()
    with pytest.raises(ValueError, match="got a running one"):
        timer.resume()
    now = 14.0
    assert timer.seconds() == 6
    assert timer.avg_seconds() == 3
    timer.reset()
    assert timer.seconds() == 0


@pytest.mark.parametrize(
    ("version", "expected"), [("1.0", True), ("2.6.0", True), ("99", False), ("2.999.1", False)]
)
def test_min_torch_version(version, expected):
    assert min_torch_version(version) is expected


def test_min_torch_version_of_a_development_build(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.7.0a0+git1234")
    assert min_torch_version("2.7")
    assert not min_torch_version("2.7.1")


def test_assert_fx_safe():
    assert tracing.assert_fx_safe(True, "").item() == 1
    with pytest.raises(AssertionError, match="wrong"):
        tracing.assert_fx_safe(False, "wrong")
    with pytest.raises(TypeError, match="must be a bool"):
        tracing.assert_fx_safe("x.shape == (1,)", "")
    assert not tracing.is_fx_tracing()

    def traced(x):
        tracing.assert_fx_safe(False, "not checked while tracing")
        return x

    torch.fx.symbolic_trace(traced)


def test_seeding_makes_draws_repeat(monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")

    def draw():
        return torch.rand(1).item(), np.random.rand(), __import__("random").random()  # noqa: NPY002

    env.seed_all_rng(3)
    first = draw()
    env.seed_all_rng(3)
    assert draw() == first
    env.seed_all_rng()
    assert draw() != first


def test_environment_variables(monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", "/a")
    monkeypatch.delenv("RETINUE_CACHE", raising=False)
    assert env.cache_root() == "/a"
    monkeypatch.setenv("RETINUE_CACHE", "/b")
    assert env.cache_root() == "/b"
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data")
    assert env.datasets_root() == "/data"
    monkeypatch.delenv("DETECTRON2_DATASETS")
    assert env.datasets_root() == "datasets"


def test_custom_setup_module_runs_once(tmp_path, monkeypatch):
    path = tmp_path / "site_setup.py"
    path.write_text(
        "import sys\n"
        "def setup_environment():\n"
        "    sys.setup_calls = getattr(sys, 'setup_calls', 0) + 1\n"
    )
    monkeypatch.setattr(env, "_is_set_up", False)
    monkeypatch.setattr(sys, "setup_calls", 0, raising=False)
    monkeypatch.setenv("DETECTRON2_ENV_MODULE", str(path))
    env.setup_environment()
    env.setup_environment()
    assert sys.setup_calls == 1
    assert collect_env.get_env_module() == ("DETECTRON2_ENV_MODULE", str(path))


def test_setup_module_without_the_function():
    with pytest.raises(AssertionError, match=r"'math': expected a function setup_environment"):
        env.setup_custom_environment("math")
    with pytest.raises(ImportError, match="not a Python file"):
        env._import_file("x", "/nowhere/x.txt")


def test_import_file_can_make_importable(tmp_path):
    (tmp_path / "m.py").write_text("A = 5")
    assert env._import_file("retinue_test_m", str(tmp_path / "m.py"), make_importable=True).A == 5
    assert sys.modules.pop("retinue_test_m").A == 5


def test_module_metadata_is_fixed_for_documentation_only(monkeypatch):
    names = {"Thing": types.SimpleNamespace(__module__="pkg.inner"), "_x": 1, "y": 2}
    env.fixup_module_metadata("pkg", names)
    assert names["Thing"].__module__ == "pkg.inner"
    monkeypatch.setattr(env, "DOC_BUILDING", True)
    env.fixup_module_metadata("pkg", names)
    assert names["Thing"].__module__ == "pkg"


def test_environment_table_names_the_parts():
    text = collect_env.collect_env_info()
    for part in ("retinue", "torch", "Python", "hotcoco", "PyTorch built with"):
        assert part in text
    assert collect_env.detect_compute_compatibility("/nowhere", "x.so") == (
        "x.so; cannot find cuobjdump"
    )
