"""Losses of DensePose at annotated points, derived by hand."""

import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retinue.projects.densepose import DensePoseDataRelative, DensePoseList
from retinue.projects.densepose.data.meshes.catalog import MeshCatalog, MeshInfo, register_mesh
from retinue.projects.densepose.modeling.losses import DENSEPOSE_LOSS_REGISTRY
from retinue.projects.densepose.modeling.losses.chart_with_confidences import (
    IIDIsotropicGaussianUVLoss,
    IndepAnisotropicGaussianUVLoss,
)
from retinue.projects.densepose.modeling.losses.utils import (
    BilinearInterpolationHelper,
    ChartBasedAnnotationsAccumulator,
    extract_packed_annotations_from_matches,
    resample_data,
    sample_random_indices,
)
from retinue.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseEmbeddingPredictorOutput,
    decorate_predictor_output_class_with_confidences,
)

SIDE = 28


def predictions(count=1, parts=2):
    """Coordinates are 0.5 everywhere, all charts and parts equally likely."""
    out = DensePoseChartPredictorOutput(
        torch.zeros(count, parts, SIDE, SIDE),
        torch.zeros(count, 25, SIDE, SIDE),
        torch.full((count, 25, SIDE, SIDE), 0.5),
        torch.full((count, 25, SIDE, SIDE), 0.5),
    )
    for value in vars(out).values():
        value.requires_grad_()
    return out


def loss(cfg, name="DensePoseChartLoss"):
    return DENSEPOSE_LOSS_REGISTRY.get(name)(cfg)


def test_losses_of_charts_at_two_points(densepose_cfg, regions):
    """Errors of u are 0.25 and 0, of v 0.25 and 0.5; smooth L1 is half of the square."""
    losses = loss(densepose_cfg)([regions], predictions())

    assert losses["loss_densepose_U"].item() == pytest.approx(0.01 * 0.25**2 / 2)
    assert losses["loss_densepose_V"].item() == pytest.approx(0.01 * (0.25**2 + 0.5**2) / 2)
    assert losses["loss_densepose_I"].item() == pytest.approx(math.log(25), rel=1e-5)
    assert losses["loss_densepose_S"].item() == pytest.approx(5 * math.log(2), rel=1e-5)


def test_points_are_read_between_the_cells_around_them(regions):
    """At x = 64 of 256 a point is at cell 7 of 28, at y = 128 at cell 14."""
    packed = extract_packed_annotations_from_matches([regions], ChartBasedAnnotationsAccumulator())
    helper = BilinearInterpolationHelper.from_matches(packed, (SIDE, SIDE))
    columns = torch.arange(SIDE, dtype=torch.float32)
    ramp = columns.expand(1, 25, SIDE, SIDE)

    assert helper.j_valid.tolist() == [True, True]
    assert helper.extract_at_points(ramp).tolist() == [7, 21]
    assert helper.extract_at_points(ramp.transpose(2, 3)).tolist() == [14, 7]
    assert helper.extract_all_channels(ramp).shape == (2, 25)
    moved = regions.proposal_boxes.tensor + torch.tensor([1.0, 0, 1, 0])  # 1 of 40 pixels
    packed.bbox_xywh_est = torch.cat([moved[:, :2], moved[:, 2:] - moved[:, :2]], dim=1)
    helper = BilinearInterpolationHelper.from_matches(packed, (SIDE, SIDE))
    torch.testing.assert_close(helper.extract_at_points(ramp), torch.tensor([6.3, 20.3]))


def test_points_outside_a_region_do_not_count(densepose_cfg, regions):
    regions.proposal_boxes.tensor[0, 0] = 35  # the first point is at 20 + 64 / 256 * 40 = 30
    losses = loss(densepose_cfg)([regions], predictions())

    assert losses["loss_densepose_U"].item() == 0
    assert losses["loss_densepose_V"].item() == pytest.approx(0.01 * 0.5**2 / 2)


def test_without_points_all_losses_are_zero_and_reach_everything(densepose_cfg, regions):
    nothing = DensePoseList([None], regions.gt_boxes.tensor, regions.image_size)
    regions.gt_densepose = nothing
    out = predictions()
    sum(loss(densepose_cfg)([regions], out).values()).backward()
    assert all(value.grad.eq(0).all() for value in vars(out).values())

    out = predictions(0)
    losses = loss(densepose_cfg)([regions[:0]], out)
    assert [value.item() for value in losses.values()] == [0, 0, 0, 0]


def test_parts_are_learnt_where_the_region_is(densepose_cfg, regions):
    """Confident and right: background in the top 16 of 256 rows, body below."""
    out = predictions()
    rows = torch.arange(SIDE) * 256 / SIDE
    with torch.no_grad():
        out.coarse_segm[:, 1] = torch.where(rows >= 16, 50.0, -50.0)[:, None]
    losses = loss(densepose_cfg)([regions], out)
    assert losses["loss_densepose_S"].item() == pytest.approx(0, abs=1e-6)

    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS = True
    with torch.no_grad():
        out.coarse_segm[:, 1] = 50  # the mask fills the box
    losses = loss(densepose_cfg)([regions], out)
    assert losses["loss_densepose_S"].item() == pytest.approx(0, abs=1e-6)


def test_resampling_onto_the_same_boxes_keeps_values():
    values = torch.arange(16.0).reshape(1, 1, 4, 4)
    boxes = torch.tensor([[3.0, 4.0, 8.0, 8.0]])
    # cell i of 3 is read at i / 3 of the box, that is at i of the 4 corners' 0 to 3
    same = resample_data(values, boxes, boxes, 3, 3)
    assert same[0, 0].tolist() == [[0, 1, 2], [4, 5, 6], [8, 9, 10]]
    away = resample_data(values, boxes, boxes + torch.tensor([100.0, 0, 0, 0]), 3, 3)
    assert away.eq(0).all()
    with pytest.raises(AssertionError, match="got 1 and 2"):
        resample_data(values, boxes, boxes.repeat(2, 1), 3, 3)


def test_isotropic_confidence_is_a_likelihood():
    """With a variance of s: (log 2 pi + 2 log s + d^2 / s) / 2, at two points."""
    s = math.log1p(math.e) + 0.01  # the softplus of 1, and the least variance
    u, zero = torch.tensor([0.3, 0.0]), torch.zeros(2)
    got = IIDIsotropicGaussianUVLoss(0.01)(u, zero, torch.ones(2), zero, zero)
    want = math.log(2 * math.pi) + 2 * math.log(s) + 0.3**2 / s / 2
    assert got.item() == pytest.approx(want, rel=1e-6)


def test_anisotropic_confidence_is_a_likelihood():
    """Against the inverse and determinant of the covariance s I + r r^T."""
    s = math.log1p(math.e) + 0.01
    d, r = np.array([0.3, -0.2]), np.array([0.5, 0.4])
    covariance = s * np.eye(2) + np.outer(r, r)
    want = math.log(2 * math.pi) + math.log(np.linalg.det(covariance))
    want += d @ np.linalg.inv(covariance) @ d
    args = [torch.tensor([x], dtype=torch.float64) for x in (*d, 1.0, *r, 0.0, 0.0)]
    got = IndepAnisotropicGaussianUVLoss(0.01)(*args)
    assert got.item() == pytest.approx(want / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("iid_iso", ["sigma_2"]), ("indep_aniso", ["sigma_2", "kappa_u", "kappa_v"])],
)
def test_confidences_join_the_losses_of_coordinates(densepose_cfg, regions, kind, fields):
    uv = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.UV_CONFIDENCE
    uv.ENABLED, uv.TYPE = True, kind
    both = decorate_predictor_output_class_with_confidences(DensePoseChartPredictorOutput)
    extra = {name: torch.zeros(1, 25, SIDE, SIDE, requires_grad=True) for name in fields}
    out = both(**vars(predictions()), **extra)
    losses = loss(densepose_cfg, "DensePoseChartWithConfidenceLoss")([regions], out)

    assert set(losses) == {"loss_densepose_UV", "loss_densepose_I", "loss_densepose_S"}
    losses["loss_densepose_UV"].backward()
    assert extra["sigma_2"].grad.abs().sum() > 0
    nothing = loss(densepose_cfg, "DensePoseChartWithConfidenceLoss")([], out)
    assert nothing["loss_densepose_UV"].item() == 0


@pytest.fixture
def meshes(tmp_path):
    """Two meshes, of 3 and 4 vertices, each as far from the next as from all others."""
    for name, count in (("three", 3), ("four", 4)):
        file = tmp_path / f"{name}.pkl"
        file.write_bytes(pickle.dumps(1 - np.eye(count)))
        register_mesh(MeshInfo(name, "none.pkl", geodists=str(file)), None)
    yield ["three", "four"]
    for name in ("three", "four"):
        del MeshCatalog[name]


class OnAxes(torch.nn.Module):
    """Vertex k of each mesh lies on axis k."""

    mesh_names = ("three", "four")

    def forward(self, name):
        return torch.eye(4)[: {"three": 3, "four": 4}[name]]


def cse_case(regions, vertices=(0, 1)):
    annotation = {
        "dp_x": [64.0, 192.0],
        "dp_y": [128.0, 64.0],
        "dp_vertex": list(vertices),
        "ref_model": "three",
    }
    data = DensePoseDataRelative(annotation)
    regions.gt_densepose = DensePoseList([data], regions.gt_boxes.tensor, regions.image_size)
    embedding = torch.zeros(1, 4, SIDE, SIDE)
    embedding[:, 0] = 2.0  # all pixels are at vertex 0, once of length 1
    return DensePoseEmbeddingPredictorOutput(
        embedding.requires_grad_(), torch.zeros(1, 2, SIDE, SIDE)
    )


def test_embedding_losses_compare_with_all_vertices(densepose_cfg, regions, meshes):
    """Squared distances are 0 and 2; scores are their negatives over sigma, here 1."""
    cse = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
    cse.EMBEDDING_DIST_GAUSS_SIGMA = 1.0
    cse.GEODESIC_DIST_GAUSS_SIGMA = 1.0
    out = cse_case(regions)
    losses = loss(densepose_cfg, "DensePoseCseLoss")([regions], out, OnAxes())

    right, wrong = (-F.log_softmax(torch.tensor([0.0, -2, -2]), dim=0))[:2].tolist()
    assert losses["loss_densepose_Ethree"].item() == pytest.approx(0.6 * (right + wrong) / 2)
    assert losses["loss_densepose_Efour"].item() == 0
    assert losses["loss_densepose_S"].item() == 0  # no parts are annotated

    cse.EMBED_LOSS_NAME = "SoftEmbeddingLoss"
    losses = loss(densepose_cfg, "DensePoseCseLoss")([regions], out, OnAxes())
    share = torch.tensor([0.0, -1, -1]).softmax(dim=0)
    first = share[0] * right + 2 * share[1] * wrong
    second = share[1] * right + (share[0] + share[1]) * wrong
    want = 0.6 * (first + second).item() / 2
    assert losses["loss_densepose_Ethree"].item() == pytest.approx(want, rel=1e-5)

    cse.EMBED_LOSS_NAME = "SoftEmbedingLoss"
    with pytest.raises(KeyError, match="did you mean 'SoftEmbeddingLoss'"):
        loss(densepose_cfg, "DensePoseCseLoss")


def test_cycles_of_separate_vertices_cost_little(densepose_cfg, regions, meshes):
    head = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD
    head.CSE.EMBEDDERS.three = ""
    head.CSE.EMBEDDERS.four = ""
    for cycle in (head.CSE.SHAPE_TO_SHAPE_CYCLE_LOSS, head.CSE.PIX_TO_SHAPE_CYCLE_LOSS):
        cycle.ENABLED, cycle.WEIGHT = True, 1.0
    out = cse_case(regions)
    losses = loss(densepose_cfg, "DensePoseCseLoss")([regions], out, OnAxes())

    # Vertices 0 to 2 return; the fourth of `four` goes to any of three, at temperature 0.05.
    assert losses["loss_shape2shape"].item() == pytest.approx(math.sqrt(3) / 3, rel=1e-3)
    assert losses["loss_pix2shape"].item() > 1  # all pixels look alike: none returns
    losses["loss_pix2shape"].backward()
    assert out.embedding.grad.isfinite().all()

    nothing = loss(densepose_cfg, "DensePoseCseLoss")([], out, OnAxes())
    assert {name: value.item() for name, value in nothing.items()} == dict.fromkeys(losses, 0)


def test_drawing_indices():
    assert sample_random_indices(5, 5) is None
    assert sample_random_indices(5, 0) is None
    assert sorted(sample_random_indices(5, 4).tolist()) != [0, 1, 2, 3, 4]
    assert len(set(sample_random_indices(9, 4).tolist())) == 4
