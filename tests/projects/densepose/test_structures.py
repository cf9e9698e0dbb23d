"""Annotations, predictions, results and meshes of DensePose; expectations are derived by hand."""

import pickle

import numpy as np
import pytest
import torch

import retinue.data.transforms as T
from retinue.projects.densepose import DensePoseDataRelative, DensePoseList, DensePoseTransformData
from retinue.projects.densepose.converters import (
    HFlipConverter,
    ToChartResultConverter,
    ToChartResultConverterWithConfidences,
    ToMaskConverter,
)
from retinue.projects.densepose.data.meshes.catalog import MeshCatalog, MeshInfo, register_mesh
from retinue.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseChartResult,
    DensePoseEmbeddingPredictorOutput,
    Mesh,
    compress_quantized_densepose_chart_result,
    create_mesh,
    decompress_compressed_densepose_chart_result,
    decorate_predictor_output_class_with_confidences,
    quantize_densepose_chart_result,
)
from retinue.structures import Boxes


def symmetries():
    """In a mirror, u of chart c becomes c / 100, v becomes half of what it was."""
    v, u = torch.meshgrid(torch.arange(256.0), torch.arange(256.0), indexing="ij")
    charts = torch.arange(1.0, 25)[:, None, None]
    tables = {
        "U_transforms": (charts / 100).expand(24, 256, 256),
        "V_transforms": (v / 255 / 2 + 0 * u).expand(24, 256, 256),
    }
    return DensePoseTransformData(tables, torch.device("cpu"))


def test_a_mirror_swaps_sides_of_points_and_parts(annotation):
    data = DensePoseDataRelative(annotation)
    data.apply_transform(T.TransformList([T.HFlipTransform(96)]), symmetries())

    assert data.x.tolist() == [192, 64]  # 256 - x
    assert data.y.tolist() == [128, 64]
    assert data.i.tolist() == [4, 3]  # right hand, left hand
    torch.testing.assert_close(data.u, torch.tensor([0.03, 0.04]))  # by the chart before
    torch.testing.assert_close(data.v, torch.tensor([191 / 255 / 2, 0.5]))  # 0.75 * 255 = 191.25
    assert data.segm[100, 10] == 3  # was 2 at the right
    assert data.segm[100, 200] == 2
    assert data.segm[0].eq(0).all()


def test_two_mirrors_leave_points_where_they_were(annotation):
    data = DensePoseDataRelative(annotation)
    twice = T.TransformList([T.HFlipTransform(96), T.HFlipTransform(96)])
    data.apply_transform(twice, None)

    assert data.x.tolist() == annotation["dp_x"]
    with pytest.raises(ValueError, match="need chart symmetries"):
        data.apply_transform(T.TransformList([T.HFlipTransform(96)]), None)


def test_half_a_turn_takes_points_through_the_centre(annotation):
    data = DensePoseDataRelative(annotation)
    data.apply_transform(T.TransformList([T.RotationTransform(80, 60, 180)]), None)

    torch.testing.assert_close(data.x, torch.tensor([192.0, 64.0]))
    torch.testing.assert_close(data.y, torch.tensor([128.0, 192.0]))
    assert data.segm.shape == (256, 256)
    assert data.segm[200, 10] == 2
    assert data.segm[-8:].eq(0).all()


def test_mirrored_vertices_follow_the_symmetry_of_their_mesh(tmp_path):
    file = tmp_path / "symmetry.pkl"
    file.write_bytes(pickle.dumps({"vertex_transforms": np.array([2, 1, 0])}))
    register_mesh(MeshInfo("little", "none.pkl", symmetry=str(file)), None)
    try:
        data = DensePoseDataRelative(
            {"dp_x": [1.0, 2.0], "dp_y": [0.0, 0.0], "dp_vertex": [0, 1], "ref_model": "little"}
        )
        data.apply_transform(T.TransformList([T.HFlipTransform(9)]), None)
        assert data.vertex_ids.tolist() == [2, 1]
        assert MeshCatalog.get_mesh_name(data.mesh_id) == "little"
    finally:
        del MeshCatalog["little"]


def test_coarse_parts_are_decoded_from_runs():
    import hotcoco.mask as runs

    mask = np.zeros((256, 256), dtype=np.uint8, order="F")
    mask[:, :100] = 1
    left = runs.encode(mask)
    mask[:, :50] = 0
    middle = runs.encode(mask)
    extract = DensePoseDataRelative.extract_segmentation_mask

    labels = extract({"dp_masks": [left, [], middle]})
    assert labels[0, [0, 49, 50, 99, 100]].tolist() == [1, 1, 3, 3, 0]
    assert extract({"dp_masks": left}).sum() == 100 * 256
    assert extract({"dp_masks": []}).sum() == 0


def test_annotations_say_what_they_lack(annotation):
    validate = DensePoseDataRelative.validate_annotation
    assert validate(annotation) == (True, None)
    without = {k: v for k, v in annotation.items() if k != "dp_U"}
    assert validate(without)[1].startswith("the annotation needs dp_I, dp_U, dp_V")
    assert validate({"dp_x": []}) == (False, "the annotation has no dp_y")
    DensePoseDataRelative(annotation, cleanup=True)
    assert not annotation


def test_a_list_takes_numbers_slices_masks_and_lists(annotation):
    data = DensePoseDataRelative(annotation)
    several = DensePoseList([data, None, data], torch.arange(12.0).reshape(3, 4), (5, 7))

    assert len(several) == 3
    assert several[0].x.tolist() == annotation["dp_x"]
    assert [d is None for d in several[1:]] == [True, False]
    assert [d is None for d in several[torch.tensor([True, True, False])]] == [False, True]
    chosen = several[torch.tensor([2, 1])]
    assert chosen.boxes_xyxy_abs[:, 0].tolist() == [8, 4]
    assert [d is None for d in chosen[[1, 0, 1]]] == [True, False, True]
    assert len(several[:0]) == 0
    assert repr(several) == "DensePoseList(num_instances=3, image_width=7, image_height=5)"
    with pytest.raises(AssertionError, match="a box for each of 1 annotations; got 2"):
        DensePoseList([None], torch.zeros(2, 4), (5, 7))
    with pytest.raises(AssertionError, match="got str"):
        DensePoseList(["x"], torch.zeros(1, 4), (5, 7))


def output(count=2, parts=2, side=8):
    """Instance n shows chart n + 1 in its left half, background in the right."""
    coarse = torch.zeros(count, parts, side, side)
    coarse[:, 1, :, : side // 2] = 5
    coarse[:, 0, :, side // 2 :] = 5
    fine = torch.zeros(count, 25, side, side)
    for n in range(count):
        fine[n, n + 1] = 5
    u = torch.arange(25.0)[None, :, None, None].expand(count, -1, side, side) / 25
    return DensePoseChartPredictorOutput(coarse, fine, u.clone(), 1 - u)


def test_predictions_are_indexed_like_lists():
    two = output()
    assert len(two) == 2
    assert len(two[1]) == 1
    assert len(two[-1]) == 1
    assert two[1].fine_segm.argmax(dim=1).unique().tolist() == [2]
    assert len(two[torch.tensor([True, False])]) == 1
    assert len(two[:0]) == 0

    with_confidences = decorate_predictor_output_class_with_confidences(type(two))
    assert with_confidences.__name__ == "DensePoseChartPredictorOutputWithConfidences"
    assert with_confidences is decorate_predictor_output_class_with_confidences(type(two))
    more = with_confidences(**vars(two), sigma_2=torch.ones(2, 25, 8, 8))
    assert more[1].sigma_2.shape == (1, 25, 8, 8)
    assert more[1].kappa_u is None
    assert isinstance(more.to(torch.device("cpu")), DensePoseChartPredictorOutput)


def test_masks_are_where_charts_are_and_cut_at_the_image():
    boxes = Boxes(torch.tensor([[2.0, 1.0, 10.0, 5.0], [-4.0, -2.0, 4.0, 2.0]]))
    masks = ToMaskConverter.convert(output(), boxes, (6, 12)).tensor

    want = torch.zeros(2, 6, 12, dtype=torch.bool)
    want[0, 1:5, 2:6] = True  # the left half of 8 columns
    assert torch.equal(masks, want)  # of the second, the left half lies outside
    assert len(ToMaskConverter.convert(output(0), Boxes(torch.zeros(0, 4)), (6, 12))) == 0


def test_results_read_each_pixel_in_its_chart():
    boxes = Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]]))
    result = ToChartResultConverter.convert(output()[1], boxes)

    assert result.labels[:, :4].eq(2).all()
    assert result.labels[:, 4:].eq(0).all()
    torch.testing.assert_close(result.uv[:, 0, 0], torch.tensor([2 / 25, 23 / 25]))
    assert result.uv[:, :, 4:].eq(0).all()
    with pytest.raises(AssertionError, match="one prediction and one box; got 2 and 1"):
        ToChartResultConverter.convert(output(), boxes)
    with pytest.raises(KeyError, match="nothing converts a int"):
        ToChartResultConverter.convert(3, boxes)


def test_confidences_come_by_chart_or_for_all():
    kind = decorate_predictor_output_class_with_confidences(DensePoseChartPredictorOutput)
    sigma = torch.arange(25.0)[None, :, None, None].expand(1, -1, 8, 8)
    one = kind(**vars(output(1)), sigma_2=sigma, fine_segm_confidence=torch.full((1, 1, 8, 8), 7.0))
    boxes = Boxes(torch.tensor([[0.0, 0.0, 8.0, 8.0]]))
    result = ToChartResultConverterWithConfidences.convert(one, boxes)

    assert result.sigma_2[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert result.fine_segm_confidence.eq(7).all()
    assert result.kappa_u is None


def test_mirrored_predictions_change_sides_charts_and_coordinates():
    before = output(2)
    after = HFlipConverter.convert(before, symmetries())

    assert after.fine_segm[0].argmax(dim=0).unique().tolist() == [1]  # torso stays
    assert after.coarse_segm[0].argmax(dim=0)[0].tolist() == [0] * 4 + [1] * 4
    torch.testing.assert_close(after.u[0, 4], torch.full((8, 8), 0.03))  # chart 4 was chart 3
    assert len(HFlipConverter.convert(before[:0], symmetries())) == 0


def test_results_survive_bytes_and_pictures():
    result = DensePoseChartResult(torch.tensor([[0, 24]]), torch.tensor([[[0.5, 2]], [[-1, 1.0]]]))
    quantized = quantize_densepose_chart_result(result)
    assert quantized.labels_uv_uint8[:, 0].tolist() == [[0, 24], [127, 255], [0, 255]]

    compressed = compress_quantized_densepose_chart_result(quantized)
    assert compressed.shape_chw == (3, 1, 2)
    back = decompress_compressed_densepose_chart_result(compressed)
    assert torch.equal(back.labels_uv_uint8, quantized.labels_uv_uint8)


def test_a_mesh_reads_its_files_when_asked(tmp_path):
    (tmp_path / "mesh.pkl").write_bytes(
        pickle.dumps({"vertices": np.eye(3), "faces": np.array([[0, 1, 2]])})
    )
    (tmp_path / "geodists.pkl").write_bytes(pickle.dumps(np.ones((3, 3)) - np.eye(3)))
    register_mesh(MeshInfo("triangle", "mesh.pkl", geodists="geodists.pkl"), str(tmp_path))
    try:
        mesh = create_mesh("triangle", torch.device("cpu"))
        assert mesh.vertices.shape == (3, 3)
        assert mesh.faces.dtype == torch.int64
        assert mesh.get_geodists()[0].tolist() == [0, 1, 1]
        assert mesh.symmetry is None
        assert mesh is create_mesh("triangle", torch.device("cpu"))
        with pytest.raises(KeyError, match="unknown mesh 'triangel'; did you mean 'triangle'"):
            create_mesh("triangel")
    finally:
        del MeshCatalog["triangle"]


def test_a_mesh_of_tensors_checks_them():
    mesh = Mesh(vertices=torch.zeros(4, 3), texcoords=torch.zeros(4, 2))
    assert mesh.to(torch.device("cpu")).texcoords.shape == (4, 2)
    with pytest.raises(AssertionError, match="needs vertices, or a mesh_info"):
        Mesh()
    with pytest.raises(AssertionError, match="texcoords for 4 vertices; got 5"):
        Mesh(vertices=torch.zeros(4, 3), texcoords=torch.zeros(5, 2))


def test_embedded_pixels_find_the_nearest_vertex():
    from retinue.projects.densepose.modeling.cse.utils import (
        get_closest_vertices_mask_from_ES,
        squared_euclidean_distance_matrix,
    )

    vertices = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    embedding = torch.zeros(1, 2, 2, 2)
    embedding[0, :, 0, 0] = vertices[1]
    embedding[0, :, 0, 1] = vertices[0]
    segm = torch.tensor([[[[0.0, 0.0], [9.0, 9.0]], [[9.0, 9.0], [0.0, 0.0]]]])
    closest, mask = get_closest_vertices_mask_from_ES(
        embedding, segm, 2, 2, vertices, torch.device("cpu")
    )
    assert closest.tolist() == [[1, 0], [0, 0]]
    assert mask.tolist() == [[True, True], [False, False]]
    distances = squared_euclidean_distance_matrix(vertices, vertices[:1])
    torch.testing.assert_close(distances, torch.tensor([[0.0], [2.0]]))
    one = DensePoseEmbeddingPredictorOutput(embedding, segm)
    masks = ToMaskConverter.convert(one, Boxes(torch.tensor([[0.0, 0.0, 2.0, 2.0]])), (2, 2))
    assert torch.equal(masks.tensor[0], mask)
