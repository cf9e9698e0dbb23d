"""The space of a box: its corners, its inverse, and what cropping masks, voxels, meshes gives."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from retinue.projects.meshrcnn.ops import cubify
from retinue.projects.meshrcnn.structures import MeshInstances, VoxelInstances
from retinue.projects.meshrcnn.structures import voxel as voxels
from retinue.projects.meshrcnn.structures.mask import (
    batch_crop_masks_within_box,
    crop_mask_within_box,
)
from retinue.projects.meshrcnn.structures.mesh import batch_crop_meshes_within_box
from retinue.projects.meshrcnn.utils import shape
from retinue.projects.meshrcnn.utils.projtransform import ProjectiveTransform

K = torch.tensor([[100.0, 32, 24]], dtype=torch.float64)
BOX = torch.tensor([[10.0, 8, 40, 44]], dtype=torch.float64)
RANGE = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
SIZE_WH = torch.tensor([[64.0, 48.0]], dtype=torch.float64)
CUBOID = shape.box2D_to_cuboid3D(RANGE, K, BOX, SIZE_WH)


def unproject(x, y, z):
    """The point of camera space seen at pixel x, y; axes point to the left and up."""
    return [(SIZE_WH[0, 0] - 1 - 32 - x) * z / 100, (SIZE_WH[0, 1] - 1 - 24 - y) * z / 100, z]


def corners(device_dtype=torch.float64):
    rows = [unproject(x, y, z) for z in (2, 3) for y in (8, 44) for x in (10, 40)]
    return torch.tensor(rows, dtype=device_dtype)


def test_corners_of_the_frustum_are_corners_of_the_cube():
    owner = torch.zeros(8, dtype=torch.int64)
    got = shape.camera_to_box(corners(), owner, CUBOID)
    want = [[x, y, z] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))


def test_there_and_back_with_gradients():
    points = (corners() * 0.9).requires_grad_()
    owner = torch.zeros(8, dtype=torch.int64)
    back = shape.box_to_camera(shape.camera_to_box(points, owner, CUBOID), owner, CUBOID)
    torch.testing.assert_close(back, points)
    assert torch.autograd.gradcheck(lambda p: shape.camera_to_box(p, owner, CUBOID), (points,))


def test_the_closed_form_is_the_map_through_four_points():
    """Least squares through the corners of the two trapezoids find the same matrices."""
    square = torch.tensor([[[-1.0, -1], [1, -1], [-1, 1], [1, 1]]], dtype=torch.float64)
    for axis, closed in enumerate(shape.cuboid3D_to_unitbox3D(CUBOID)):
        near, far, depth = CUBOID[0, axis], CUBOID[0, 2 + axis], CUBOID[0, 4]
        ends = [(near[0], depth[0]), (near[1], depth[0]), (far[0], depth[1]), (far[1], depth[1])]
        found = ProjectiveTransform()
        assert found.estimate(torch.tensor([ends], dtype=torch.float64), square)
        scale = closed.params / closed.params[:, 2:, 1:2]
        torch.testing.assert_close(found(torch.tensor([ends])), square)
        torch.testing.assert_close(
            found.params / found.params[:, 2:, 1:2], scale, rtol=1e-6, atol=1e-6
        )


def test_maps_of_the_plane_say_what_they_need():
    with pytest.raises(ValueError, match=r"got \(1, 4, 2\) and \(1, 3, 2\)"):
        ProjectiveTransform().estimate(torch.zeros(1, 4, 2), torch.zeros(1, 3, 2))
    with pytest.raises(ValueError, match="matrix must have shape"):
        ProjectiveTransform(torch.eye(3))
    with pytest.raises(ValueError, match="coords must have shape"):
        ProjectiveTransform()(torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="zranges must have shape"):
        shape.box2D_to_cuboid3D(RANGE[:, :1], K, BOX, SIZE_WH)


def test_a_flat_thing_stays_finite():
    flat = shape.box2D_to_cuboid3D(
        torch.tensor([[2.0, 2.0]]), K.float(), BOX.float(), SIZE_WH.float()
    )
    assert torch.isfinite(
        shape.camera_to_box(torch.tensor([[0.0, 0, 2]]), torch.zeros(1).long(), flat)
    ).all()


def test_rotating_and_moving():
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    got = shape.transform_verts(torch.tensor([[1.0, 0, 0]]), turn, torch.tensor([0.0, 0, 5]))
    assert got.tolist() == [[0, 1, 5]]
    assert shape.transform_verts(got, None, None) is got
    with pytest.raises(ValueError, match="R must have shape"):
        shape.transform_verts(got, turn[:2], None)


def test_a_solid_that_fills_its_frustum_fills_the_grid():
    cells = torch.cartesian_prod(*[torch.linspace(-1, 1, 25, dtype=torch.float64)] * 3)
    points = shape.box_to_camera(cells, torch.zeros(len(cells)).long(), CUBOID)
    grid = voxels.batch_crop_voxels_within_box(VoxelInstances([points]), BOX, K, 8)

    assert grid.shape == (1, 8, 8, 8)
    assert grid.mean() > 0.99
    left = points[cells[:, 0] < -0.01]  # in the left half of the box
    grid = voxels.batch_crop_voxels_within_box(
        VoxelInstances([left, points]), BOX.expand(2, 4), K.expand(2, 3), 8
    )
    assert grid[0, :, :, :4].mean() > 0.99
    assert grid[0, :, :, 5:].sum() == 0
    assert grid[1].mean() > 0.99
    none = voxels.batch_crop_voxels_within_box(VoxelInstances([]), BOX[:0], K[:0], 8)
    assert none.shape == (0, 8, 8, 8)


def test_a_mesh_in_its_box_reaches_from_end_to_end():
    faces = cubify(torch.ones(1, 1, 1, 1), 0.5).faces_list()[0]
    mesh = MeshInstances([(corners(), faces), (corners()[:5], faces[:1] * 0)])
    got = batch_crop_meshes_within_box(mesh, BOX.expand(2, 4), K.expand(2, 3))

    assert got.get_bounding_boxes()[0].flatten().tolist() == pytest.approx([-1, 1] * 3)
    assert got.num_verts_per_mesh().tolist() == [8, 5]
    assert len(batch_crop_meshes_within_box(MeshInstances([]), BOX[:0], K[:0])) == 0


def test_points_become_voxels():
    """x to the left, y up: column and row count from the other end."""
    points = torch.tensor([[-1.0, -1, -1], [1, 1, 1], [-1, 1, 0], [3, 0, 0]])
    grid = voxels.verts2voxel(points, [3, 3, 3])
    assert grid.nonzero().tolist() == [[0, 0, 2], [0, 2, 1], [2, 2, 0]]
    grid = torch.arange(8.0).reshape(2, 2, 2)
    assert voxels.downsample(grid, 2).tolist() == [[[7]]]
    assert voxels.downsample(grid, 2, use_max=False).tolist() == [[[3.5]]]
    stretched = voxels.normalize_verts(torch.tensor([[0.0, 10, -1], [2, 30, 1], [1, 10, 0]]))
    assert stretched.tolist() == [[-1, -1, -1], [1, 1, 1], [0, -1, 0]]


@pytest.mark.parametrize(
    "box", [[2.7, 1.2, 9.9, 8.4], [0, 0, 12, 10], [3, 3, 4, 4], [-2, 1, 20, 9]]
)
def test_masks_are_cropped_as_by_interpolation(box):
    """Against PyTorch's interpolation of the crop itself; filled where it is above 0."""
    mask = (torch.rand(10, 12, generator=torch.Generator().manual_seed(2)) > 0.6).float()
    x0, y0, x1, y1 = (max(0, int(v)) for v in box)
    crop = mask[y0:y1, x0:x1][None, None]
    want = F.interpolate(crop, size=(7, 7), mode="bilinear", align_corners=False)[0, 0] > 0
    assert torch.equal(crop_mask_within_box(mask, torch.tensor(box), 7).bool(), want)
    assert batch_crop_masks_within_box(mask[None][:0], torch.zeros(0, 4), 7).shape == (0, 7, 7)


def test_lists_of_objects_are_indexed_as_tensors_are():
    instances = VoxelInstances([torch.full((n, 3), float(n)) for n in range(4)])

    assert [len(v) for v in instances[torch.tensor([True, False, False, True])]] == [0, 3]
    assert [len(v) for v in instances[torch.tensor([1, 0, 0, 1], dtype=torch.uint8)]] == [0, 3]
    assert [len(v) for v in instances[torch.tensor([2, 1])]] == [2, 1]
    assert [len(v) for v in instances[1:3]] == [1, 2]
    assert len(instances[-1]) == 1
    assert len(VoxelInstances.cat([instances, instances[:1]])) == 5
    assert repr(instances.to("cpu")) == "VoxelInstances(num_instances=4)"
    meshes = MeshInstances([(torch.zeros(3, 3), torch.zeros(1, 3).long())])
    assert meshes.to("meta").data[0][1].is_meta


def test_voxels_of_either_file_are_centred_and_scaled(tmp_path):
    """Three cells in a row along Pix3D's second axis, which ends up as z, reversed."""
    io = pytest.importorskip("scipy.io")
    grid = np.zeros((4, 5, 6), dtype=np.uint8)
    grid[1, 1:4, 2] = 1
    np.save(tmp_path / "v.npy", grid)
    io.savemat(tmp_path / "v.mat", {"voxel": grid})
    points = shape.read_voxel(tmp_path / "v.npy")

    assert sorted(points[:, 2].tolist()) == [-0.5, 0, 0.5]
    assert points[:, :2].abs().sum() == 0
    assert torch.equal(shape.read_voxel(tmp_path / "v.mat"), points)
    np.save(tmp_path / "none.npy", grid * 0)
    with pytest.raises(ValueError, match="expected filled voxels; got none"):
        shape.read_voxel(tmp_path / "none.npy")


def test_without_scipy_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    (tmp_path / "v.mat").write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'retinue\[meshrcnn\]'"):
        shape.read_voxel(tmp_path / "v.mat")
