"""Mesh operations against closed forms (cubes, spheres, tetrahedra) and finite differences."""

import math

import pytest
import torch

from retinue.projects.meshrcnn import ops
from retinue.projects.meshrcnn.ops import Meshes

TETRA = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
TETRA_FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
NOTHING = Meshes([], [])


def tetra(dtype=torch.float64):
    return Meshes([TETRA.to(dtype)], [TETRA_FACES])


def volume(mesh):
    """By the divergence theorem; negative if faces are seen from inside."""
    a, b, c = mesh.verts_packed()[mesh.faces_packed()].unbind(dim=1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


# Meshes


def test_the_forms_of_a_batch_hold_the_same():
    batch = Meshes(
        [TETRA, TETRA[:3] + 5, TETRA[:0]], [TETRA_FACES, TETRA_FACES[:1], TETRA_FACES[:0]]
    )

    assert len(batch) == 3
    assert batch.num_verts_per_mesh().tolist() == [4, 3, 0]
    assert batch.num_faces_per_mesh().tolist() == [4, 1, 0]
    assert batch.num_edges_per_mesh().tolist() == [6, 3, 0]
    assert batch.valid.tolist() == [True, True, False]
    assert not batch.isempty()
    assert not batch.equisized
    assert batch.faces_packed()[4].tolist() == [4, 6, 5]
    assert batch.faces_list()[1].tolist() == [[0, 2, 1]]
    assert batch.verts_packed_to_mesh_idx().tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert batch.mesh_to_verts_packed_first_idx().tolist() == [0, 4, 7]
    assert batch.mesh_to_faces_packed_first_idx().tolist() == [0, 4, 5]
    assert batch.faces_packed_to_mesh_idx().tolist() == [0, 0, 0, 0, 1]
    assert batch.edges_packed_to_mesh_idx().tolist() == [0] * 6 + [1] * 3
    assert batch.verts_padded().shape == (3, 4, 3)
    assert batch.faces_padded()[1].tolist() == [[0, 2, 1]] + [[-1] * 3] * 3
    again = batch.verts_padded().flatten(0, 1)[batch.verts_padded_to_packed_idx()]
    assert torch.equal(again, batch.verts_packed())
    padded = Meshes(batch.verts_padded(), batch.faces_padded())
    assert torch.equal(padded[1].faces_packed(), batch.faces_list()[1])


def test_an_edge_of_a_face_lies_opposite_its_vertex():
    mesh = tetra()
    ends = mesh.edges_packed()[mesh.faces_packed_to_edges_packed()]  # (F, 3, 2)
    for face, edges in zip(TETRA_FACES.tolist(), ends.tolist(), strict=True):
        assert [sorted(set(face) - {vertex}) for vertex in face] == edges


def test_selecting_splitting_repeating():
    batch = Meshes([TETRA, TETRA * 2], [TETRA_FACES] * 2)

    assert [len(part) for part in batch.split([1, 0, 1])] == [1, 0, 1]
    assert batch.extend(2).verts_list()[1].max() == 1
    assert batch[torch.tensor([False, True])].verts_packed().max() == 2
    assert batch[[1, 0]].verts_list()[0].max() == 2
    assert batch[-1].get_mesh_verts_faces(0)[0].max() == 2
    with pytest.raises(ValueError, match=r"sizes must add up to 2; got \[1\]"):
        batch.split([1])
    with pytest.raises(ValueError, match="vertices and faces of the same number of meshes; got 2"):
        Meshes([TETRA, TETRA], [TETRA_FACES])
    with pytest.raises(
        ValueError, match=r"each of verts must have shape \(rows, 3\); got \(3, 2\)"
    ):
        Meshes([torch.zeros(3, 2)], [TETRA_FACES])


def test_moving_and_scaling():
    batch = Meshes([TETRA, TETRA], [TETRA_FACES] * 2)
    moved = batch.offset_verts(torch.tensor([1.0, 0, 0]))
    scaled = batch.scale_verts(torch.tensor([2.0, 3.0]))

    assert moved.get_bounding_boxes()[0].tolist() == [[1, 2], [0, 1], [0, 1]]
    assert scaled.get_bounding_boxes()[:, 0, 1].tolist() == [2, 3]
    assert batch.scale_verts(2.0).verts_packed().max() == 2
    assert batch.clone().detach().cpu().to("cpu").verts_packed().dtype == torch.float64
    assert "num_verts=[4, 4]" in repr(batch)


def test_areas_and_normals_of_a_tetrahedron():
    mesh = tetra()
    root = math.sqrt(3)

    assert mesh.faces_areas_packed().tolist() == pytest.approx([0.5, 0.5, 0.5, root / 2])
    assert mesh.faces_normals_packed()[3].tolist() == pytest.approx([1 / root] * 3)
    assert mesh.verts_normals_packed()[0].tolist() == pytest.approx([-1 / root] * 3)
    assert volume(mesh) == pytest.approx(1 / 6)
    flat = Meshes([torch.zeros(3, 3)], [torch.tensor([[0, 1, 2]])])
    assert flat.faces_normals_packed().tolist() == [[0, 0, 0]]


# Surfaces


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("size_dhw", "area", "num_verts"),
    [((1, 1, 1), 6, 8), ((2, 3, 4), 52, 60 - 6), ((1, 1, 3), 14, 16)],
)
def test_a_full_grid_becomes_a_box(size_dhw, area, num_verts, dtype):
    """Side 2 / n along each axis; a box has (d+1)(h+1)(w+1) corners less those inside."""
    mesh = ops.cubify(torch.ones(1, *size_dhw, dtype=dtype), 0.5, align="corner")
    depth, height, width = size_dhw
    as_cells = mesh.with_verts((mesh.verts_packed() + 1) / 2 * torch.tensor([width, height, depth]))

    assert mesh.num_verts_per_mesh().tolist() == [num_verts]
    assert as_cells.faces_areas_packed().sum().item() == pytest.approx(area)
    assert volume(as_cells) == pytest.approx(depth * height * width)  # and faces look outwards
    assert volume(mesh) == pytest.approx(8)
    assert mesh.verts_packed().dtype == dtype


def test_cubes_that_touch_at_an_edge_share_its_vertices():
    voxels = torch.tensor([[[[1.0, 0], [0, 1]]]])
    mesh = ops.cubify(voxels, 0.5, align="corner")

    assert mesh.num_verts_per_mesh().tolist() == [8 + 8 - 2]
    assert mesh.num_faces_per_mesh().tolist() == [24]


def test_where_voxels_are():
    """Grid points run from -1 to 1: cubes begin there, or lie around, or all fill [-1, 1]."""
    voxels = torch.zeros(1, 3, 3, 3)
    voxels[0, 2, 1, 0] = 1  # z, y, x
    boxes = {
        align: ops.cubify(voxels, 0.5, align=align).get_bounding_boxes()[0].tolist()
        for align in ("topleft", "center", "corner")
    }
    assert boxes["topleft"] == [[-1, 0], [0, 1], [1, 2]]
    assert boxes["center"] == [[-1.5, -0.5], [-0.5, 0.5], [0.5, 1.5]]
    assert boxes["corner"][0] == pytest.approx([-1, -1 / 3])
    with pytest.raises(KeyError, match="did you mean 'center'"):
        ops.cubify(voxels, 0.5, align="centre")


def test_a_threshold_is_met_by_equality_and_nothing_gives_nothing():
    voxels = torch.tensor([0.2, 0.5]).reshape(2, 1, 1, 1)
    assert ops.cubify(voxels, 0.5).num_faces_per_mesh().tolist() == [0, 12]
    assert ops.cubify(voxels, 0.9).isempty()
    assert len(ops.cubify(torch.zeros(0, 2, 2, 2), 0.5)) == 0
    assert len(ops.cubify(torch.zeros(3, 2, 0, 2), 0.5)) == 3


@pytest.mark.parametrize("level", [0, 1, 3])
def test_spheres(level):
    """The icosahedron's volume is known; finer ones approach 4 pi and 4 pi / 3 from below."""
    mesh = ops.ico_sphere(level, dtype=torch.float64)
    num_faces = 20 * 4**level

    assert mesh.num_faces_per_mesh().tolist() == [num_faces]
    assert mesh.num_verts_per_mesh().tolist() == [num_faces // 2 + 2]  # Euler
    torch.testing.assert_close(
        mesh.verts_packed().norm(dim=1), torch.ones(num_faces // 2 + 2, dtype=torch.float64)
    )
    if level == 0:
        edge = 1 / math.sin(2 * math.pi / 5)
        assert volume(mesh) == pytest.approx(5 * (3 + math.sqrt(5)) / 12 * edge**3)
    if level == 3:
        assert 4 * math.pi * 0.99 < mesh.faces_areas_packed().sum() < 4 * math.pi
        assert 4 / 3 * math.pi * 0.98 < volume(mesh) < 4 / 3 * math.pi
    with pytest.raises(ValueError, match="level must be 0 or more; got -1"):
        ops.ico_sphere(-1)


def test_splitting_faces_changes_no_surface():
    batch = Meshes([TETRA, TETRA[:3], TETRA[:0]], [TETRA_FACES, TETRA_FACES[:1], TETRA_FACES[:0]])
    feats = batch.verts_packed() * 2
    finer, finer_feats = ops.SubdivideMeshes()(batch, feats)

    assert finer.num_verts_per_mesh().tolist() == [10, 6, 0]
    assert finer.num_faces_per_mesh().tolist() == [16, 4, 0]
    assert volume(finer[0]) == pytest.approx(1 / 6)
    torch.testing.assert_close(finer_feats, finer.verts_packed() * 2)
    torch.testing.assert_close(finer.faces_areas_packed()[16:], torch.full((4,), 0.125).double())


# Networks on meshes


def test_features_are_read_where_vertices_are():
    ramp = torch.arange(4.0).reshape(1, 1, 1, 4).expand(1, 1, 3, 4)  # the column's number
    places = torch.tensor([[[-1.0, -1, 0], [1, 1, 5], [0, 0, 0], [-3, 0, 0]]])

    assert ops.vert_align(ramp, places)[0, :, 0].tolist() == [0, 3, 1.5, 0]
    assert ops.vert_align(ramp + 1, places, padding_mode="border")[0, 3, 0] == 1
    both = ops.vert_align([ramp, ramp * 2], places, return_packed=True)
    assert both[2].tolist() == [1.5, 3]
    with pytest.raises(ValueError, match="a feature map for each of 1 meshes; got 2"):
        ops.vert_align(ramp.expand(2, -1, -1, -1), places)


def test_reading_features_packed_skips_what_only_fills_up():
    batch = Meshes([TETRA[:1].float(), TETRA.float()], [TETRA_FACES[:0], TETRA_FACES])
    maps = torch.tensor([10.0, 20.0]).reshape(2, 1, 1, 1).expand(2, 1, 3, 3)
    assert ops.vert_align(maps, batch, return_packed=True)[:, 0].tolist() == [10, 20, 20, 20, 20]
    assert ops.vert_align(maps[:0], NOTHING, return_packed=True).shape == (0, 1)


def test_a_graph_convolution_sums_neighbours():
    """A path 0 - 1 - 2 by hand, with W0 = 1 and W1 = 10."""
    layer = ops.GraphConv(1, 1)
    with torch.no_grad():
        for linear, value in ((layer.w0, 1.0), (layer.w1, 10.0)):
            linear.weight.fill_(value)
            linear.bias.zero_()
        values, path = torch.tensor([[1.0], [2], [3]]), torch.tensor([[0, 1], [1, 2]])
        assert layer(values, path)[:, 0].tolist() == [21, 42, 23]
        assert layer(values[:0], path[:0]).shape == (0, 1)
        layer.directed = True
        assert layer(values, path)[:, 0].tolist() == [21, 32, 3]
    assert ops.GraphConv(2, 3, init="zero").w1.weight.abs().sum() == 0
    with pytest.raises(KeyError, match="did you mean 'normal'"):
        ops.GraphConv(1, 1, init="norml")


# Points


def test_points_are_spread_by_area():
    """Two triangles of areas 1/2 and 3/2; z is 0 on the first, 1 on the second."""
    verts = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [3, 0, 1], [0, 1, 1]])
    mesh = Meshes([verts, verts[:0]], [torch.tensor([[0, 1, 2], [3, 4, 5]]), TETRA_FACES[:0]])
    torch.manual_seed(0)
    points, normals = ops.sample_points_from_meshes(mesh, 4000, True)

    assert points[0, :, 2].mean().item() == pytest.approx(0.75, abs=0.03)
    lower = points[0][points[0, :, 2] == 0]
    assert lower.mean(dim=0).tolist() == pytest.approx([1 / 3, 1 / 3, 0], abs=0.03)
    assert (lower[:, 0] + lower[:, 1]).max() <= 1 + 1e-6
    assert normals[0].unique(dim=0).tolist() == [[0, 0, 1]]
    assert points[1].abs().sum() == normals[1].abs().sum() == 0
    assert ops.sample_points_from_meshes(NOTHING, 7).shape == (0, 7, 3)


def test_points_of_a_mesh_without_area():
    dot = Meshes([torch.ones(3, 3)], [torch.tensor([[0, 1, 2]])])
    torch.testing.assert_close(ops.sample_points_from_meshes(dot, 5), torch.ones(1, 5, 3))


@pytest.mark.parametrize("norm", [1, 2])
def test_nearest_neighbours_equal_a_full_table(norm):
    torch.manual_seed(1)
    p1, p2 = torch.randn(2, 5, 3), torch.randn(2, 7, 3)
    lengths1, lengths2 = torch.tensor([5, 3]), torch.tensor([2, 7])
    found = ops.knn_points(p1, p2, lengths1, lengths2, norm=norm, K=3, return_nn=True)

    away = (p1[:, :, None] - p2[:, None]).abs()
    table = away.sum(dim=3) if norm == 1 else (away**2).sum(dim=3)
    torch.testing.assert_close(found.dists[1, :3], table[1, :3].sort(dim=1).values[:, :3])
    torch.testing.assert_close(found.dists[0, :, :2], table[0, :, :2].sort(dim=1).values)
    assert found.dists[0, :, 2].abs().sum() == found.dists[1, 3:].abs().sum() == 0
    assert found.knn.shape == (2, 5, 3, 3)
    torch.testing.assert_close(found.knn[1, 0, 0], p2[1, table[1, 0].argmin()])


def test_neighbours_in_blocks_and_of_nothing(monkeypatch):
    from retinue.projects.meshrcnn.ops import knn

    p1, p2 = torch.randn(1, 9, 3), torch.randn(1, 4, 3)
    whole = ops.knn_points(p1, p2).idx
    monkeypatch.setattr(knn, "MAX_DISTANCES", 8)
    assert torch.equal(ops.knn_points(p1, p2).idx, whole)
    assert ops.knn_points(p1[:0], p2[:0]).dists.shape == (0, 9, 1)
    assert ops.knn_points(p1, p2[:, :0]).dists.abs().sum() == 0
    assert ops.knn_points(p1[:, :0], p2).idx.shape == (1, 0, 1)
    with pytest.raises(ValueError, match="norm must be 1 or 2; got 3"):
        ops.knn_points(p1, p2, norm=3)


# Losses


def test_chamfer_distance_by_hand():
    """From x to y: 0 and 1; from y to x: 0 and 4."""
    x = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
    y = torch.tensor([[[0.0, 0, 0], [0, 2, 0]]])

    assert ops.chamfer_distance(x, y) == (0.5 + 2, None)
    assert ops.chamfer_distance(x, y, single_directional=True)[0] == 0.5
    assert ops.chamfer_distance(x, y, point_reduction="sum")[0] == 5
    assert ops.chamfer_distance(x, y, point_reduction="max")[0] == 4
    assert ops.chamfer_distance(x, y, norm=1)[0] == 0.5 + 1
    there, back = ops.chamfer_distance(x, y, point_reduction=None, batch_reduction=None)[0]
    assert (there.tolist(), back.tolist()) == ([[0, 1]], [[0, 4]])
    one = torch.tensor([1])
    assert ops.chamfer_distance(x, y, x_lengths=one, y_lengths=one)[0] == 0


def test_chamfer_distance_of_spheres():
    """Radii 1 and 1.25: each way a quarter, squared, and normals that agree."""
    sphere = ops.ico_sphere(4, dtype=torch.float64)
    points = sphere.verts_packed()[None]
    distance, tilt = ops.chamfer_distance(
        points, points * 1.25, x_normals=points, y_normals=-points
    )
    assert distance.item() == pytest.approx(2 * 0.25**2, rel=1e-9)
    assert tilt.item() == pytest.approx(0, abs=1e-9)
    _, turned = ops.chamfer_distance(
        points, points, x_normals=points, y_normals=-points, abs_cosine=False
    )
    assert turned.item() == pytest.approx(4)


def test_chamfer_distance_of_cubes():
    """Cubes of sides 2 and 2.2, one in the other: faces are 0.1 apart, corners a little more."""
    torch.manual_seed(0)
    inner = ops.cubify(torch.ones(1, 1, 1, 1, dtype=torch.float64), 0.5, align="corner")
    clouds = [ops.sample_points_from_meshes(m, 4000) for m in (inner, inner.scale_verts(1.1))]
    distance = ops.chamfer_distance(*clouds)[0]
    assert 2 * 0.1**2 < distance < 2 * 0.13**2


def test_weights_choose_pairs():
    x, y = torch.zeros(2, 1, 3), torch.tensor([1.0, 3]).reshape(2, 1, 1).expand(2, 1, 3)
    values = ops.chamfer_distance(x, y, batch_reduction=None)[0]
    assert values.tolist() == [6, 54]
    assert ops.chamfer_distance(x, y, weights=torch.tensor([1.0, 0]))[0] == 6
    assert ops.chamfer_distance(x, y, weights=torch.tensor([1.0, 3]))[0] == (6 + 3 * 54) / 4
    assert ops.chamfer_distance(x, y, weights=torch.zeros(2))[0] == 0
    assert ops.chamfer_distance(x, y, batch_reduction="sum")[0] == 60
    assert ops.chamfer_distance(x[:0], y[:0])[0] == 0


def test_reductions_that_do_not_exist():
    x = torch.zeros(1, 1, 3)
    with pytest.raises(
        ValueError, match="batch_reduction must be 'mean', 'sum' or None; got 'max'"
    ):
        ops.chamfer_distance(x, x, batch_reduction="max")
    with pytest.raises(ValueError, match=r"point_reduction must be .* got 'min'"):
        ops.chamfer_distance(x, x, point_reduction="min")
    with pytest.raises(ValueError, match="without point_reduction"):
        ops.chamfer_distance(x, x, point_reduction=None)
    with pytest.raises(ValueError, match="normals can't be compared"):
        ops.chamfer_distance(x, x, x_normals=x, y_normals=x, point_reduction="max")


def test_edges_of_a_tetrahedron():
    """Three of length 1, three of the square root of 2; each mesh counts alike."""
    assert ops.mesh_edge_loss(tetra()).item() == pytest.approx((3 * 1 + 3 * 2) / 6)
    both = Meshes([TETRA, TETRA[:0]], [TETRA_FACES, TETRA_FACES[:0]])
    assert ops.mesh_edge_loss(both).item() == pytest.approx(0.75)
    about_one = ops.mesh_edge_loss(tetra(), 1.0).item()
    assert about_one == pytest.approx((math.sqrt(2) - 1) ** 2 / 2)
    assert ops.mesh_edge_loss(NOTHING) == 0


def test_normals_across_edges():
    """A cube's 18 edges: 12 at right angles, 6 diagonals in a plane. Orientation doesn't matter."""
    cube = ops.cubify(torch.ones(1, 1, 1, 1), 0.5)
    assert ops.mesh_normal_consistency(cube).item() == pytest.approx(12 / 18)
    faces = cube.faces_list()[0]
    mixed = torch.cat((faces[:5].flip(1), faces[5:]))
    turned = Meshes(cube.verts_list(), [mixed])
    assert ops.mesh_normal_consistency(turned).item() == pytest.approx(12 / 18)
    assert ops.mesh_normal_consistency(NOTHING) == 0


@pytest.mark.parametrize(
    "loss",
    [
        ops.mesh_edge_loss,
        lambda m: ops.mesh_edge_loss(m, 0.3),
        ops.mesh_normal_consistency,
        Meshes.faces_areas_packed,
        Meshes.verts_normals_packed,
        lambda m: ops.SubdivideMeshes()(m).verts_packed(),
        lambda m: m.verts_padded(),
        lambda m: ops.chamfer_distance(m.verts_padded(), m.verts_padded()[:, :2] + 0.1)[0],
    ],
)
def test_gradients(loss):
    verts = (TETRA + torch.linspace(0, 0.1, 12, dtype=torch.float64).reshape(4, 3)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: loss(Meshes([v], [TETRA_FACES])), (verts,))


def test_gradients_of_sampled_points():
    def sample(verts):
        torch.manual_seed(3)
        return ops.sample_points_from_meshes(Meshes([verts], [TETRA_FACES]), 6, True)

    assert torch.autograd.gradcheck(sample, (TETRA.clone().requires_grad_(),))


def test_gradients_of_features_at_vertices_and_of_graph_convolutions():
    maps = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    places = (TETRA[None] * 0.7 - 0.31).requires_grad_()
    assert torch.autograd.gradcheck(ops.vert_align, (maps, places))
    layer = ops.GraphConv(2, 3).double()
    values = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: layer(v, tetra().edges_packed()), (values,))


# Files


def test_a_mesh_survives_its_file(tmp_path):
    path = tmp_path / "ball.obj"
    ball = ops.ico_sphere(1)
    ops.save_obj(path, *ball.get_mesh_verts_faces(0))
    verts, faces = ops.load_obj(path)

    assert torch.equal(verts, ball.verts_packed())
    assert torch.equal(faces, ball.faces_packed())
    ops.save_obj(path, verts, faces, decimal_places=1)
    assert path.read_text().startswith("v -")
    ops.save_obj(path, verts[:0], faces[:0])
    assert [len(x) for x in ops.load_obj(path)] == [0, 0]


def test_other_writers_faces(tmp_path):
    path = tmp_path / "square.obj"
    path.write_text(
        "# a comment\nmtllib x.mtl\nv 0 0 0\nv 1 0 0 0.5\nvn 0 0 1\nv 1 1 0\nv 0 1 0\n\n"
        "f 1/1/1 2/2 3//1 4\nf -4 -3 -2\n"
    )
    verts, faces = ops.load_obj(path)
    assert verts.shape == (4, 3)
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 0 0\n", r"line 1: expected a vertex or a face; got 'v 0 0' \(a vertex has three"),
        ("v a b c\n", "line 1: expected a vertex"),
        ("v 0 0 0\nf 1 1\n", r"line 2.*at least three vertices"),
        ("v 0 0 0\nf 0 1 1\n", "vertices count from 1"),
        ("v 0 0 0\nf 1 1 2\n", "a face names vertex 2; there are 1"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, message):
    path = tmp_path / "broken.obj"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ops.load_obj(path)
