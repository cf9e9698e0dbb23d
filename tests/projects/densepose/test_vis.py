"""Drawing annotations and predictions of DensePose: which pixels change, and to what."""

import numpy as np
import pytest
import torch

from retinue.projects.densepose import DensePoseDataRelative
from retinue.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseChartResult,
    DensePoseEmbeddingPredictorOutput,
    Mesh,
)
from retinue.projects.densepose.vis import (
    base,
    bounding_box,
    densepose_data_points,
    densepose_outputs_iuv,
    densepose_outputs_vertex,
    densepose_results,
    densepose_results_textures,
    drawing,
    extractor,
)
from retinue.structures import Boxes, Instances

BOX = [4, 2, 8, 6]


def black(height=12, width=20):
    return np.zeros((height, width, 3), dtype=np.uint8)


def changed(image):
    """Bounds of what is not black: x0, y0, x1, y1."""
    rows, columns = np.nonzero(image.any(axis=2))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_colour_maps_run_from_blue_to_yellow_and_red():
    blue, _, red = drawing.apply_colormap(np.array([0, 255]), drawing.PARULA).T
    assert blue[0] > red[0]
    assert red[1] > blue[1]
    jet = drawing.apply_colormap(np.array([0.0, 127.5, 255]), drawing.JET)
    assert jet.tolist() == [[128, 0, 0], [128, 255, 128], [0, 0, 128]]
    with pytest.raises(KeyError, match="unknown colour map '7'"):
        drawing.apply_colormap(np.array([0]), 7)


def test_a_matrix_covers_its_box_where_the_mask_says_so():
    mask = np.array([[1, 0]], dtype=np.uint8)
    draw = base.MatrixVisualizer(val_scale=1.0, alpha=0.5, cmap=drawing.JET)
    image = draw.visualize(black(), mask, np.array([[255, 255]]), BOX)
    assert changed(image) == (4, 2, 8, 8)
    assert image[3, 5].tolist() == [0, 0, 64]  # half of jet's last colour

    over_the_edge = draw.visualize(black(), mask, np.array([[255, 255]]), [-4, -3, 16, 6])
    assert changed(over_the_edge) == (0, 0, 4, 3)
    assert not draw.visualize(black(), mask, np.array([[255, 255]]), [0, 0, 0, 5]).any()
    apart = base.MatrixVisualizer(inplace=False)
    picture = black() + np.uint8(9)
    assert (apart.visualize(picture, mask, np.array([[255, 255]]), BOX)[0] == 0).all()
    assert (picture == 9).all()


def test_a_matrix_of_the_wrong_kind_is_refused(caplog):
    draw = base.MatrixVisualizer()
    mask, matrix = np.ones((1, 1), dtype=np.uint8), np.ones((1, 1))
    with pytest.raises(AssertionError, match=r"must be \(H, W, 3\) uint8"):
        draw.visualize(black().astype(float), mask, matrix, BOX)
    with pytest.raises(AssertionError, match=r"a mask \(h, w\) uint8"):
        draw.visualize(black(), mask.astype(bool), matrix, BOX)
    draw.visualize(black(), mask, matrix * 300, BOX)
    assert "values above 255" in caplog.text


def test_boxes_points_and_text():
    image = base.RectangleVisualizer().visualize(black(), BOX)
    assert changed(image) == (4, 2, 13, 9)
    assert not image[4, 6].any()
    image = base.RectangleVisualizer().visualize(black(), BOX, color=(1, 2, 3))
    assert image[2, 4].tolist() == [1, 2, 3]
    dots = base.PointsVisualizer(r=1).visualize(black(), [(3, 3), (9, 9)], [(1, 2, 3), (4, 5, 6)])
    assert dots[3, 3].tolist() == [1, 2, 3]
    assert dots[9, 9].tolist() == [4, 5, 6]

    text = base.TextVisualizer(fill_color_transparency=0.0)
    width, height = text.get_text_size_wh("0.5")
    image = text.visualize(black(40, 60), "0.5", (5, 6))
    assert changed(image) == (5, 6, 5 + width, 6 + height)


def test_scores_stand_at_their_boxes():
    boxes = torch.tensor([[2.0, 2, 10, 10]])
    image = bounding_box.ScoredBoundingBoxVisualizer().visualize(black(40, 60), (boxes, [0.25]))
    assert image.any()
    with pytest.raises(AssertionError, match="a score for each of 1 boxes; got 2"):
        bounding_box.ScoredBoundingBoxVisualizer().visualize(black(), (boxes, [0.2, 0.3]))
    both = base.CompoundVisualizer([bounding_box.BoundingBoxVisualizer()])
    assert both.visualize(black(), [boxes]).any()
    assert "BoundingBoxVisualizer" in str(both)
    with pytest.raises(AssertionError, match="data for each of 1 visualizers; got 0"):
        both.visualize(black(), [])


@pytest.mark.parametrize("kind", ["U", "V", "I"])
def test_annotated_points_are_coloured(kind, annotation):
    draw = getattr(densepose_data_points, f"DensePoseDataPoints{kind}Visualizer")()
    draw.points_visualizer.r = 1
    data = DensePoseDataRelative(annotation)
    boxes = [torch.tensor([0.0, 0, 25.5, 25.5])]
    image = draw.visualize(black(30, 30), (boxes, [data]))
    assert image[12, 6].any()  # 128 / 10 and 64 / 10
    assert image[6, 19].any()
    assert changed(image) == (5, 5, 21, 14)
    assert (image[12, 6] != image[6, 19]).any()
    assert not draw.visualize(black(), None).any()


def test_annotated_parts_fill_the_box(annotation):
    draw = densepose_data_points.DensePoseDataCoarseSegmentationVisualizer(alpha=1.0)
    data = DensePoseDataRelative(annotation)
    image = draw.visualize(black(40, 40), ([torch.tensor([0.0, 0, 32, 32])], [data]))
    assert changed(image) == (0, 2, 32, 32)  # the top 16 of 256 are background
    assert (image[10, 2] != image[10, 30]).any()


def predicted(count=1):
    """Chart 2 in the left half; u is 1 there, v 0."""
    output = DensePoseChartPredictorOutput(*(torch.zeros(count, c, 4, 4) for c in (2, 25, 25, 25)))
    output.coarse_segm[:, 1, :, :2] = 1
    output.fine_segm[:, 2] = 1
    output.u[:, 2] = 1
    return output


@pytest.mark.parametrize("kind", ["U", "V", "FineSegmentation"])
def test_predictions_are_stretched_over_boxes(kind):
    draw = getattr(densepose_outputs_iuv, f"DensePoseOutputs{kind}Visualizer")(alpha=1.0)
    image = draw.visualize(black(), (predicted(), torch.tensor([BOX])))
    assert changed(image) == (4, 2, 8, 8)
    scale = {"U": 255, "V": 0, "FineSegmentation": 2 * 255 / 24}[kind]
    want = drawing.apply_colormap(np.array(scale).astype(np.uint8), drawing.PARULA)
    assert image[4, 5].tolist() == want.tolist()
    assert not draw.visualize(black(), (None, None)).any()
    with pytest.raises(AssertionError, match="of 2 instances"):
        draw.visualize(black(), (predicted(), torch.tensor([BOX, BOX])))
    with pytest.raises(KeyError, match="unknown output to visualize 'W'"):
        densepose_outputs_iuv.DensePoseOutputsVisualizer(to_visualize="W")


def result(height=6, width=8):
    """Chart 1 all over; u grows to the right, v downwards."""
    v, u = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return DensePoseChartResult(torch.ones(height, width, dtype=torch.int64), torch.stack([u, v]))


@pytest.mark.parametrize("kind", ["U", "V", "FineSegmentation"])
def test_results_are_coloured(kind):
    draw = getattr(densepose_results, f"DensePoseResults{kind}Visualizer")(alpha=1.0)
    image = draw.visualize(black(), ([result()], torch.tensor([BOX])))
    assert changed(image) == (4, 2, 12, 8)
    assert (image[2, 4] == image[7, 4]).all() == (kind != "V")
    assert (image[2, 4] == image[2, 11]).all() == (kind != "U")
    assert not draw.visualize(black(), (None, None)).any()


def test_contours_of_u_are_upright_lines():
    """u runs from 0 to 1 over 8 pixels; the line of 0.5 is half way."""
    draw = densepose_results.DensePoseResultsCustomContourVisualizer([0.5])
    box = torch.tensor([[0.0, 0, 16, 16]])
    image = draw.visualize(black(20, 20), ([result(9, 9)], box))
    assert (image[1:16, 8].any(axis=1)).all()
    assert (image[8, 1:16].any(axis=1)).all()
    assert not image[2:7, 2:7].any()


def test_contour_segments_cross_saddles_twice():
    array = np.array([[1.0, 0.0], [0.0, 1.0]])
    segments = list(densepose_results._contour_segments(array, np.ones((2, 2), bool), 0.5))
    assert len(segments) == 2
    points = {tuple(point) for line in segments for point in line.tolist()}
    assert points == {(0.5, 0), (0, 0.5), (1, 0.5), (0.5, 1)}
    assert not list(densepose_results._contour_segments(array, np.zeros((2, 2), bool), 0.5))


def test_contours_by_matplotlib_keep_the_size():
    draw = densepose_results.DensePoseResultsContourVisualizer(
        levels=3, linewidths=0.5, cfg=None, texture_atlas=None, texture_atlases_dict=None
    )
    image = draw.visualize(black(40, 60), ([result()], torch.tensor([[10, 5, 30, 20]])))
    assert image.shape == (40, 60, 3)
    x0, y0, x1, y1 = changed(image)
    assert x0 >= 8
    assert y0 >= 3
    assert x1 <= 42
    assert y1 <= 27


def test_textures_fill_charts():
    """The square of chart 2, second in the first column, is green; others are transparent."""
    atlas = np.zeros((12, 8, 3), dtype=np.uint8)
    atlas[2:4, 0:2, 1] = 200
    draw = densepose_results_textures.DensePoseResultsVisualizerWithTexture(atlas)
    chart_2 = DensePoseChartResult(torch.tensor([[2, 1], [0, 2]]), torch.full((2, 2, 2), 0.4))
    image = draw.visualize(black() + np.uint8(9), ([chart_2], torch.tensor([[1, 1, 2, 2]])))
    assert image[1, 1].tolist() == [0, 200, 0]
    assert image[2, 2].tolist() == [0, 200, 0]
    assert image[1, 2].tolist() == [9, 9, 9]
    clear = np.concatenate([atlas, np.full((12, 8, 1), 51, dtype=np.uint8)], axis=2)  # a fifth
    draw = densepose_results_textures.DensePoseResultsVisualizerWithTexture(clear)
    image = draw.visualize(black(), ([chart_2], torch.tensor([[1, 1, 2, 2]])))
    assert image[1, 1].tolist() == [0, 40, 0]
    with pytest.raises(AssertionError, match="6 x 4 squares"):
        densepose_results_textures.DensePoseResultsVisualizerWithTexture(atlas[:, :4])


def test_an_atlas_is_read_with_red_and_blue_swapped(tmp_path):
    from PIL import Image

    Image.fromarray(np.full((2, 2, 3), (10, 20, 30), dtype=np.uint8)).save(tmp_path / "a.png")
    assert densepose_results_textures.get_texture_atlas(None) is None
    atlas = densepose_outputs_vertex.get_texture_atlases(f'{{"m": "{tmp_path}/a.png"}}')["m"]
    assert atlas[0, 0].tolist() == [30, 20, 10]


@pytest.fixture
def embedded(densepose_cfg, monkeypatch):
    """A mesh of two vertices on the axes; the upper half of a box is at the second."""
    head = densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD
    head.CSE.EMBED_SIZE = 2
    spec = type(densepose_cfg)({"TYPE": "vertex_direct", "NUM_VERTICES": 2})
    spec.INIT_FILE, spec.IS_TRAINABLE = "", True
    head.CSE.EMBEDDERS.pair = spec
    densepose_cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING["0"] = "pair"
    mesh = Mesh(
        vertices=torch.tensor([[0.0, 0, 0], [1, 0, 0]]),
        texcoords=torch.tensor([[0.0, 0.0], [0.9, 0.9]]),
    )
    module = densepose_outputs_vertex
    monkeypatch.setattr(module, "create_mesh", lambda name, device: mesh)
    module.get_xyz_vertex_embedding.cache_clear()
    embedding = torch.zeros(1, 2, 2, 2)
    embedding[0, 1, 0] = embedding[0, 0, 1] = 1
    segm = torch.stack([torch.zeros(1, 2, 2), torch.ones(1, 2, 2)], dim=1)
    output = DensePoseEmbeddingPredictorOutput(embedding, segm)
    yield densepose_cfg, (output, torch.tensor([BOX]), [0])
    module.get_xyz_vertex_embedding.cache_clear()


def on_axes(draw):
    draw.mesh_vertex_embeddings["pair"] = torch.eye(2)
    return draw


def test_vertices_are_coloured(embedded):
    cfg, predicted = embedded
    draw = on_axes(
        densepose_outputs_vertex.DensePoseOutputsVertexVisualizer(cfg, alpha=1.0, device="cpu")
    )
    image = draw.visualize(black(), predicted)
    assert image[2, 5].tolist() == [0, 0, 128]  # jet at 1
    assert image[7, 5].tolist() == [128, 0, 0]  # and at 0
    assert not draw.visualize(black(), (None, None, None)).any()
    with pytest.raises(AssertionError, match=r"of 1 instances; got 1, 1 and 2"):
        draw.visualize(black(), (*predicted[:2], [0, 0]))
    with pytest.raises(AssertionError, match="expected a DensePoseEmbeddingPredictorOutput"):
        draw.visualize(black(), ("x", *predicted[1:]))


def test_colours_of_people_are_read_from_an_array_of_objects(tmp_path, monkeypatch):
    module = densepose_outputs_vertex
    objects = np.empty(2, dtype=object)
    objects[:] = [np.array([[3.0, 9.0], [1.0, 9.0], [2.0, 9.0]]), 0.5]
    np.save(tmp_path / "colors.npy", objects, allow_pickle=True)
    monkeypatch.setattr(module, "PEOPLE_COLORS", str(tmp_path / "colors.npy"))
    module.get_xyz_vertex_embedding.cache_clear()
    colors = module.get_xyz_vertex_embedding("smpl_27554", torch.device("cpu"))
    module.get_xyz_vertex_embedding.cache_clear()
    assert colors.tolist() == [1, 0, 0.5]


def test_vertices_are_searched_where_the_model_is(embedded, monkeypatch):
    cfg, predicted = embedded
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    draw = on_axes(densepose_outputs_vertex.DensePoseOutputsVertexVisualizer(cfg))  # cuda
    assert draw.device.type == "cpu"
    assert draw.visualize(black(), predicted).any()


def test_vertices_are_dressed(embedded):
    cfg, predicted = embedded
    texture = np.zeros((2, 2, 3), dtype=np.uint8)
    texture[1, 1] = (1, 2, 3)
    draw = on_axes(
        densepose_outputs_vertex.DensePoseOutputsTextureVisualizer(
            cfg, {"pair": texture}, device="cpu"
        )
    )
    picture = black()
    image = draw.visualize(picture, predicted)
    assert image[2, 5].tolist() == [1, 2, 3]
    assert not image[7, 5].any()
    assert not picture.any()
    draw.texture_image_dict.clear()
    assert not draw.visualize(picture, predicted).any()


def test_vertices_need_meshes(densepose_cfg):
    with pytest.raises(ValueError, match=r"needs MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS"):
        densepose_outputs_vertex.DensePoseOutputsVertexVisualizer(densepose_cfg, device="cpu")


def instances():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [40, 0, 50, 10]])
    return Instances(
        (20, 60),
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([0.5, 0.9, 0.3]),
        pred_classes=torch.tensor([0, 0, 1]),
        pred_densepose=predicted(3),
    )


def test_extractors_take_what_visualizers_draw():
    found = instances()
    results, boxes = extractor.DensePoseResultExtractor()(found)
    assert len(results) == 3
    assert boxes[1].tolist() == [1, 0, 10, 10]
    assert results[0].labels.shape == (10, 10)
    best = extractor.NmsFilteredExtractor(extractor.extract_scores_from_instances, 0.5)
    assert best(found).tolist() == pytest.approx([0.9, 0.3])
    sure = extractor.ScoreThresholdedExtractor(best, 0.4)
    assert sure(found).tolist() == pytest.approx([0.9])
    results, boxes = extractor.ScoreThresholdedExtractor(extractor.DensePoseResultExtractor(), 0.8)(
        found
    )
    assert len(results) == len(boxes) == 1
    output, boxes, classes = extractor.DensePoseOutputsExtractor()(found, found.scores < 0.4)
    assert (len(output), boxes.tolist(), classes) == (1, [[40, 0, 10, 10]], [1])
    assert extractor.BoundingBoxExtractor()(found).shape == (3, 4)
    assert len(extractor.ScoredBoundingBoxExtractor()(found, [0])[1]) == 1

    nothing = Instances((20, 60))
    assert extractor.DensePoseResultExtractor()(nothing) == (None, None)
    assert extractor.DensePoseOutputsExtractor()(nothing) == (None, None, None)
    assert best(nothing) is None
    assert sure(nothing) is None


def test_an_extractor_is_found_for_each_visualizer(caplog):
    several = base.CompoundVisualizer(
        [
            bounding_box.BoundingBoxVisualizer(),
            bounding_box.ScoredBoundingBoxVisualizer(),
            densepose_results.DensePoseResultsUVisualizer(),
        ]
    )
    datas = extractor.create_extractor(several)(instances())
    image = several.visualize(black(20, 60), datas)
    assert image.any()
    assert extractor.create_extractor("x") is None
    assert "no extractor for a str" in caplog.text
