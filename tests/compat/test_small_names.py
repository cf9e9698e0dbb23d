"""Names of fvcore and iopath that only old code asks for."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from retinue.compat import paths
from retinue.compat.benchmark import benchmark, timeit
from retinue.compat.squeeze_excitation import (
    ChannelSpatialSqueezeExcitation,
    SpatialSqueezeExcitation,
    SqueezeExcitation,
)
from retinue.compat.transform_util import to_float_tensor, to_numpy


def test_timing(capsys):
    calls = []
    stats = timeit(num_iters=3, warmup_iters=2)(calls.append)(1)

    assert len(calls) == 5
    assert stats["iterations"] == 3
    assert stats["min"] <= stats["median"] <= stats["max"]

    benchmark(lambda size: lambda: size, "nothing", [{"size": 1}, {"size": 2}], num_iters=2)
    out = capsys.readouterr().out
    assert out.startswith("nothing: times in milliseconds\n| arguments")
    assert "size=2" in out


def test_a_lazy_path_is_found_out_once(tmp_path):
    asked = []
    file = tmp_path / "a.txt"
    file.write_text("x")
    lazy = paths.LazyPath(lambda: asked.append(1) or str(file))

    with pytest.raises(AttributeError, match="'upper' is known only once"):
        lazy.upper  # noqa: B018
    with pytest.raises(TypeError, match="only once the path has been used"):
        lazy[0]
    assert Path(lazy).read_text() == "x"
    assert Path(lazy).read_text() == "x"
    assert asked == [1]
    assert str(lazy) == str(file)
    assert lazy.endswith("a.txt")
    assert lazy[0] == "/"
    assert isinstance(pickle.loads(pickle.dumps(paths.LazyPath(str))), paths.LazyPath)


def test_managers_by_name():
    factory = paths.PathManagerFactory
    assert factory.get() is paths.g_pathmgr
    mine = factory.get("mine")
    assert factory.get("mine") is mine is not paths.g_pathmgr
    factory.remove("mine")
    with pytest.raises(KeyError):
        factory.remove("mine")


def test_onedrive_addresses():
    handler = paths.OneDrivePathHandler()
    url = handler.create_one_drive_direct_download("https://1drv.ms/u/s!Ab")

    assert handler._get_supported_prefixes() == ["https://1drv.ms/u/s!"]
    assert url == (
        "https://api.onedrive.com/v1.0/shares/u!aHR0cHM6Ly8xZHJ2Lm1zL3UvcyFBYg/root/content"
    )


def test_images_as_tensors_and_back():
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for image in (gray, np.stack([gray] * 3, axis=2), np.stack([gray] * 8).reshape(2, 2, 3, 4)):
        tensor = to_float_tensor(image)
        assert tensor.dtype == torch.float32
        assert (to_numpy(tensor, image.shape, np.uint8) == image).all()
    assert to_float_tensor(gray).shape == (1, 1, 2, 3)
    assert to_numpy(torch.full((1, 1, 1, 1), 1.7), (1, 1), np.uint8).item() == 2
    assert to_float_tensor(gray.astype(np.float64)).dtype == torch.float64
    with pytest.raises(AssertionError, match=r"2 to 4 dimensions; got shape \(3,\)"):
        to_float_tensor(np.zeros(3))


@pytest.mark.parametrize("is_3d", [False, True])
def test_squeeze_and_excitation(is_3d):
    """With all weights zero the sigmoids give one half."""
    shape = (2, 4, 3, 5, 6) if is_3d else (2, 4, 5, 6)
    x = torch.rand(shape)
    for block in (
        SqueezeExcitation(4, is_3d=is_3d),
        SpatialSqueezeExcitation(4, is_3d=is_3d),
        ChannelSpatialSqueezeExcitation(4, 2, is_3d=is_3d),
    ):
        for parameter in block.parameters():
            torch.nn.init.zeros_(parameter)
        assert torch.allclose(block(x), x / 2)


@pytest.fixture
def manager(hook):
    from iopath.common.file_io import PathManager

    return PathManager()


def test_writing_in_another_thread(manager, tmp_path):
    closed = []
    names = [str(tmp_path / name) for name in "ab"]
    with manager.opena(names[0], "w", callback_after_file_close=lambda: closed.append(1)) as file:
        assert file.write("first ") == 6
        file.write("second")
    with manager.opena(names[1], "wb") as file:
        file.write(b"third")
    assert manager.async_join(names[0])
    assert Path(names[0]).read_text() == "first second"
    assert closed == [1]
    assert manager.async_join()
    assert manager.async_close()
    assert Path(names[1]).read_bytes() == b"third"
    with pytest.raises(ValueError, match="a mode that only writes, such as 'w'; got 'r'"):
        manager.opena(names[0])


def test_a_write_that_fails_is_told(manager, tmp_path):
    with manager.opena(str(tmp_path / "a"), "wb") as file:
        file.write("text, not bytes")
    assert manager.async_close() is False


def test_a_working_directory_of_the_managers_own(manager, tmp_path):
    (tmp_path / "a.txt").write_text("there")
    assert manager.set_cwd(str(tmp_path))
    with manager.open("a.txt") as file:
        assert file.read() == "there"
    assert manager.exists("a.txt")
    assert manager._native._get_path_with_cwd("a.txt") == str(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="set_cwd: expected a folder; got 'nowhere'"):
        manager.set_cwd("nowhere")
    assert manager.set_cwd(None)
    assert not manager.exists("a.txt")


def test_what_a_handler_has_not(manager):
    from iopath.common.file_io import HTTPURLHandler, PathHandler, TabularIO

    handler = HTTPURLHandler()
    assert handler.MAX_FILENAME_LEN == 250
    assert manager._PathManager__get_path_handler("/a") is manager._native
    assert PathHandler()._get_path_with_cwd("a") == "a"
    manager.set_logging(False)
    with pytest.raises(NotImplementedError, match="does not support opent"):
        manager.opent("/a")
    with pytest.raises(NotImplementedError, match="does not support set_cwd"):
        handler._set_cwd("/a")
    with TabularIO() as table, pytest.raises(NotImplementedError, match="must define __iter__"):
        iter(table)


def test_private_names_of_checkpoints(hook):
    from fvcore.common.checkpoint import _IncompatibleKeys, _strip_prefix_if_present

    state = {"module.a": torch.zeros(1), "module.b": torch.ones(1)}
    _strip_prefix_if_present(state, "module.")
    keys = _IncompatibleKeys(missing_keys=["c"], unexpected_keys=[], incorrect_shapes=[])

    assert list(state) == ["a", "b"]
    assert keys.missing_keys == ["c"]


def test_meshes_of_pytorch3d(hook, tmp_path):
    import pytorch3d
    from pytorch3d.io import load_obj, save_obj
    from pytorch3d.loss import chamfer_distance
    from pytorch3d.ops import cubify, knn_gather, knn_points
    from pytorch3d.structures import Meshes

    cube = cubify(torch.ones(1, 1, 1, 1), 0.5)
    assert isinstance(cube, Meshes)
    save_obj(tmp_path / "cube.obj", *cube.get_mesh_verts_faces(0))
    verts, faces, textures = load_obj(tmp_path / "cube.obj", load_textures=False)
    assert (verts.shape, faces.verts_idx.shape, textures) == ((8, 3), (12, 3), None)
    for mode in ("r", "rb"):
        with open(tmp_path / "cube.obj", mode) as file:
            assert torch.equal(load_obj(file)[0], verts)
    assert chamfer_distance(verts[None], verts[None])[0] == 0

    lengths = torch.tensor([1])
    found = knn_points(verts[None], verts[None], lengths2=lengths, K=2)
    near = knn_gather(verts[None], found.idx, lengths)
    torch.testing.assert_close(near[0, :, 0], verts[:1].expand(8, 3))
    assert not near[0, :, 1].any()
    torch.testing.assert_close(knn_gather(verts[None], found.idx)[:, :, 0], near[:, :, 0])
    with pytest.raises(AttributeError, match="renderer"):
        _ = pytorch3d.renderer
