"""Detectors built and called the way torchvision's users do."""

import re

import pytest
import torch
from torch import nn

from retinue.layers import ShapeSpec
from retinue.modeling.backbone import Backbone
from retinue.structures import Boxes, Instances
from retinue.torchvision import (
    AnchorGenerator,
    FasterRCNN,
    FastRCNNPredictor,
    KeypointRCNN,
    KeypointRCNNHeads,
    KeypointRCNNPredictor,
    MaskRCNN,
    MaskRCNNHeads,
    MaskRCNNPredictor,
    MultiScaleRoIAlign,
    RetinaNet,
    TwoMLPHead,
)
from retinue.torchvision.roi_heads import _is_tiny


class OneMap(nn.Module):
    """A backbone with one feature map of stride 16."""

    out_channels = 8

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 16, stride=16)

    def forward(self, x):
        return self.conv(x)


class Pyramid(OneMap):
    """A backbone with feature maps of strides 16 and 32."""

    def forward(self, x):
        x = self.conv(x)
        return {"fine": x, "coarse": x[:, :, ::2, ::2]}


ANCHORS = {"sizes": ((16, 32),), "aspect_ratios": ((0.5, 1.0, 2.0),)}
SMALL = {"min_size": 64, "max_size": 96}


def small_heads(num_classes=3):
    return {
        "box_head": TwoMLPHead(8 * 7 * 7, 16),
        "box_predictor": FastRCNNPredictor(16, num_classes),
    }


def images():
    torch.manual_seed(0)
    return [torch.rand(3, 60, 90), torch.rand(3, 80, 50)]


def targets(**extra):
    one = {"boxes": torch.tensor([[5.0, 5.0, 40.0, 45.0], [30, 10, 80, 50]])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    one["labels"] = torch.tensor([1, 2])
    if "masks" in extra:
        one["masks"] = torch.zeros(2, 60, 90, dtype=torch.uint8)
        one["masks"][:, 10:40, 20:60] = 1
        none["masks"] = torch.zeros(0, 80, 50, dtype=torch.uint8)
    if "keypoints" in extra:
        one["keypoints"] = torch.tensor([20.0, 30.0, 1.0]).repeat(2, 4, 1)
        none["keypoints"] = torch.zeros(0, 4, 3)
    return [one, none]


def test_faster_rcnn_from_plain_arguments():
    model = FasterRCNN(
        OneMap(),
        num_classes=2,
        rpn_anchor_generator=AnchorGenerator(**ANCHORS),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2),
        box_detections_per_img=10,
        **SMALL,
    )
    truth = targets()
    truth[0]["labels"][:] = 1

    losses = model(images(), truth)

    assert sorted(losses) == [
        "loss_box_reg",
        "loss_classifier",
        "loss_objectness",
        "loss_rpn_box_reg",
    ]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())

    model.eval()
    with torch.no_grad():
        found = model(images())
    assert [sorted(f) for f in found] == [["boxes", "labels", "scores"]] * 2
    assert set(found[0]["labels"].tolist()) == {1}
    high = found[0]["boxes"].max(dim=0).values
    assert high[2] <= 90
    assert high[3] <= 60


def test_all_parts_have_defaults():
    model = FasterRCNN(Pyramid(), num_classes=2, **SMALL).eval()

    assert model.rpn.anchor_generator.sizes == ((32,), (64,))
    assert model.roi_heads.box_roi_pool.featmap_names == ["fine", "coarse"]
    assert FasterRCNN(OneMap(), 2).rpn.anchor_generator.num_anchors_per_location() == [15]


def test_mask_rcnn():
    model = MaskRCNN(
        OneMap(),
        rpn_anchor_generator=AnchorGenerator(**ANCHORS),
        mask_head=MaskRCNNHeads(8, (6,)),
        mask_predictor=MaskRCNNPredictor(6, 5, 3),
        box_score_thresh=0.0,
        box_detections_per_img=4,
        **small_heads(),
        **SMALL,
    )

    losses = model(images(), targets(masks=True))
    assert losses["loss_mask"] > 0
    sum(losses.values()).backward()

    found = model.eval()(images())[0]
    assert found["masks"].shape == (4, 1, 60, 90)
    assert found["masks"].min() >= 0
    assert found["masks"].max() <= 1


def test_keypoint_rcnn():
    model = KeypointRCNN(
        OneMap(),
        rpn_anchor_generator=AnchorGenerator(**ANCHORS),
        keypoint_head=KeypointRCNNHeads(8, (6,)),
        keypoint_predictor=KeypointRCNNPredictor(6, 4),
        box_score_thresh=0.0,
        box_detections_per_img=3,
        **small_heads(),
        **SMALL,
    )

    losses = model(images(), targets(keypoints=True))
    assert losses["loss_keypoint"] > 0

    found = model.eval()(images())[1]
    assert found["keypoints"].shape == (3, 4, 3)
    assert found["keypoints"][..., 2].unique().tolist() == [1]
    assert found["keypoints_scores"].shape == (3, 4)


def test_retinanet():
    model = RetinaNet(OneMap(), num_classes=3, anchor_generator=AnchorGenerator(**ANCHORS), **SMALL)

    losses = model(images(), targets())
    assert sorted(losses) == ["bbox_regression", "classification"]
    sum(losses.values()).backward()

    model.score_thresh = model.test_score_thresh = 0.0
    found = model.eval()(images())
    assert len(found[0]["boxes"]) == len(found[0]["scores"]) > 0
    assert RetinaNet(Pyramid(), 3).anchor_generator.num_anchors_per_location() == [9, 9]


def test_predictors_are_replaced_to_detect_other_classes():
    """The first step of fine-tuning: the new head decides how many classes there are."""
    model = MaskRCNN(
        OneMap(), num_classes=91, **SMALL, box_score_thresh=0.0, box_detections_per_img=5
    )

    in_features = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_predictor = FastRCNNPredictor(in_features, 2)
    in_features_mask = model.roi_heads.mask_predictor.conv5_mask.in_channels
    model.roi_heads.mask_predictor = MaskRCNNPredictor(in_features_mask, 256, 2)

    assert set(model.eval()(images())[0]["labels"].tolist()) == {1}
    with pytest.raises(ValueError, match="labels go from 1 to 1, 0 is background; label 1 is 2"):
        model.train()(images(), targets(masks=True))


def test_a_part_of_ones_own_takes_the_place_of_a_predictor():
    class Cosine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(16, 3 * 5)

        def forward(self, x):
            return self.layer(nn.functional.normalize(x)).split((3, 12), dim=1)

    heads = small_heads() | {"box_predictor": Cosine()}
    model = FasterRCNN(OneMap(), **heads, **SMALL)

    sum(model(images(), targets()).values()).backward()
    assert model.roi_heads.box_predictor.layer.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_it_learns_where_an_object_is():
    """One picture with one bright square: a few steps on it, and it is found."""
    torch.manual_seed(0)
    image = torch.zeros(3, 64, 64)
    image[:, 16:48, 16:48] = 1
    truth = [{"boxes": torch.tensor([[16.0, 16, 48, 48]]), "labels": torch.tensor([1])}]
    anchors = AnchorGenerator(sizes=((32,),), aspect_ratios=((1.0,),))
    model = FasterRCNN(OneMap(), rpn_anchor_generator=anchors, **small_heads(2), **SMALL)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model([image], truth).values()).backward()
        optimizer.step()

    best = model.eval()([image])[0]

    assert best["scores"][0] > 0.5
    assert (best["boxes"][0] - truth[0]["boxes"][0]).abs().max() < 6


# ------------------------------------------------------------------- what doesn't fit is refused


@pytest.mark.parametrize("model_class", [FasterRCNN, RetinaNet])
def test_anchors_for_other_levels_are_refused_at_construction(model_class):
    name = "rpn_anchor_generator" if model_class is FasterRCNN else "anchor_generator"
    flat = AnchorGenerator(sizes=(32, 64, 128), aspect_ratios=(0.5, 1.0, 2.0))
    with pytest.raises(
        ValueError,
        match=r"sizes for 3 feature maps.*returns 1: '0' \(stride 16\).*sizes=\(\(32, 64, 128\),\)",
    ):
        model_class(OneMap(), 2, **{name: flat})
    with pytest.raises(
        ValueError, match=r"sizes for 1 feature maps.*returns 2.*\(\(32,\), \(64,\)\)"
    ):
        model_class(Pyramid(), 2, **{name: AnchorGenerator(**ANCHORS)})


def test_aspect_ratios_for_other_levels_are_refused():
    with pytest.raises(ValueError, match=r"aspect_ratios has lists for 2 .* there are 3"):
        AnchorGenerator(sizes=((32,), (64,), (128,)), aspect_ratios=((1.0,), (2.0,)))


def test_anchors_need_a_model_first():
    with pytest.raises(ValueError, match="strides come from a backbone"):
        AnchorGenerator()([torch.zeros(1, 1, 2, 2)])


def test_poolers_name_maps_that_there_are():
    pool = MultiScaleRoIAlign(featmap_names=["0", "1"], output_size=7, sampling_ratio=2)
    with pytest.raises(ValueError, match=r"box_roi_pool: .* among \['0'\].*got \['0', '1'\]"):
        FasterRCNN(OneMap(), 2, box_roi_pool=pool)
    with pytest.raises(ValueError, match="mask_roi_pool: expected names"):
        MaskRCNN(OneMap(), 2, mask_roi_pool=pool)


def test_anchors_are_whole_pixels_ratio_by_ratio():
    """torchvision's: sqrt(0.5) * 32 = 22.6 wide halves to 11.3, so 11; ratios before sizes."""
    anchors = AnchorGenerator(sizes=((32, 64),), aspect_ratios=((0.5, 1.0),))

    assert next(iter(anchors.cell_anchors)).tolist() == [
        [-23, -11, 23, 11],
        [-45, -23, 45, 23],
        [-16, -16, 16, 16],
        [-32, -32, 32, 32],
    ]


def test_flat_sizes_are_one_a_level():
    """As torchvision reads them: nested by level, and the ratios repeated."""
    flat = AnchorGenerator(sizes=(16, 32), aspect_ratios=(0.5, 1.0, 2.0))
    nested = AnchorGenerator(sizes=((16,), (32,)), aspect_ratios=((0.5, 1.0, 2.0),) * 2)
    models = [FasterRCNN(Pyramid(), 2, rpn_anchor_generator=one) for one in (flat, nested)]
    maps = [torch.zeros(1, 8, 4, 6), torch.zeros(1, 8, 2, 3)]
    found, expected = (model.rpn.anchor_generator(maps) for model in models)

    assert flat.num_anchors_per_location() == [3, 3]
    for level, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert len(one) == 3 * (24, 6)[level]
        sides = one.tensor[:3, 2:] - one.tensor[:3, :2]  # whole pixels, whence the tolerance
        assert sides.prod(dim=1).sqrt().tolist() == pytest.approx([(16, 32)[level]] * 3, rel=0.05)
        torch.testing.assert_close(one.tensor, other.tensor)


def test_cells_that_reach_beyond_the_batch_move_closer():
    """96 pixels are 6 cells of stride 16, and 2 of stride 64: positions 48 pixels apart."""
    anchors = AnchorGenerator(sizes=((32,), (128,)), aspect_ratios=((1.0,), (1.0,)))
    shapes = {"0": ShapeSpec(channels=1, stride=16), "1": ShapeSpec(channels=1, stride=64)}

    _, coarse = anchors.fit(shapes)([torch.zeros(1, 1, 6, 6), torch.zeros(1, 1, 2, 2)])

    assert coarse.get_centers().tolist() == [[0, 0], [48, 0], [0, 48], [48, 48]]


def test_a_backbone_of_this_library_tells_its_channels_and_colours():
    class Own(Backbone):
        image_mean, image_std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)

        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 16, stride=16)

        def forward(self, x):
            return {"stride16": self.conv(x)}

        def output_shape(self):
            return {"stride16": ShapeSpec(channels=8, stride=16)}

    for model in (FasterRCNN(Own(), 2), RetinaNet(Own(), 2)):
        assert model.transform.image_mean == (0.1, 0.2, 0.3)
        assert model.transform.image_std == (0.4, 0.5, 0.6)
    assert FasterRCNN(Own(), 2, image_mean=(0, 0, 0)).transform.image_mean == (0, 0, 0)


def test_boxes_without_area_in_the_image_are_no_detections():
    proposals = [Instances((50, 60)), Instances((20, 30))]
    for one, boxes in zip(proposals, ([[0.0, 0, 9, 9]], [[0.0, 0, 9, 9]]), strict=True):
        one.proposal_boxes = Boxes(boxes)
    boxes = torch.tensor([[5.0, 5, 9, 9, 61, 0, 70, 9], [5, 21, 9, 29, -5, -5, 9, 9]])

    assert _is_tiny(boxes, proposals).tolist() == [[False, True], [True, False]]


def test_older_numbers_are_names():
    pool = MultiScaleRoIAlign(featmap_names=[0], output_size=7, sampling_ratio=2)

    assert FasterRCNN(OneMap(), 2, box_roi_pool=pool).roi_heads.box_roi_pool.pooler


def test_parts_may_be_shared_by_models_of_other_strides():
    anchors = AnchorGenerator(**ANCHORS)
    pool = MultiScaleRoIAlign(featmap_names=["0"], output_size=7, sampling_ratio=2)
    fine = nn.Conv2d(3, 8, 8, stride=8)
    models = [
        FasterRCNN(backbone, 2, rpn_anchor_generator=anchors, box_roi_pool=pool)
        for backbone in (fine, OneMap())
    ]

    assert [m.rpn.anchor_generator.strides for m in models] == [[8], [16]]
    assert [m.roi_heads.box_roi_pool.pooler.max_level for m in models] == [3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "expected either num_classes or box_predictor.*got none of them"),
        ({"num_classes": 2, "box_predictor": FastRCNNPredictor(4, 2)}, "got both"),
    ],
)
def test_classes_are_told_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        FasterRCNN(OneMap(), **arguments)


def test_an_unknown_argument_is_refused():
    with pytest.raises(TypeError, match="box_detections_per_image"):
        FasterRCNN(OneMap(), 2, box_detections_per_image=5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": [[9, 9, 3, 20]]}, r"targets\[0\]: boxes .* box 0 is \[9.0, 9.0, 3.0, 20.0\]"),
        ({"boxes": [9, 9, 30, 20]}, r"boxes must have shape \(M, 4\); got \(4,\)"),
        ({"labels": [0]}, "labels go from 1 to 2, 0 is background; label 0 is 0"),
        ({"labels": [3]}, "label 0 is 3; num_classes counts the background"),
        ({"labels": [1, 1]}, "labels must have 1 entries, as boxes has; got 2"),
        ({"labels": None}, r"\['labels'\] missing; the dict has \['boxes'\]"),
    ],
)
def test_a_wrong_target_is_named(change, message):
    model = FasterRCNN(OneMap(), **small_heads(), **SMALL)
    target = {"boxes": [[5.0, 5.0, 40.0, 45.0]], "labels": [1]} | change
    target = {
        k: torch.tensor(v, dtype=torch.float32 if k == "boxes" else torch.int64)
        for k, v in target.items()
        if v is not None
    }
    with pytest.raises(AssertionError, match=message):
        model(images()[:1], [target])


def test_training_needs_targets():
    model = FasterRCNN(OneMap(), **small_heads(), **SMALL)
    with pytest.raises(AssertionError, match="a list of 2 dicts, one an image; got None"):
        model(images())
    with pytest.raises(AssertionError, match="list of 2 dicts, one an image; got 1"):
        model(images(), targets()[:1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 20, 20, dtype=torch.uint8), "floats in .* write `image / 255`"),
        (torch.zeros(20, 20), r"image 0 must have shape \(3, H, W\).*got \(20, 20\)"),
        ("picture.jpg", "must be a tensor .*; got str"),
    ],
)
def test_a_wrong_image_is_named(image, message):
    with pytest.raises(ValueError, match=message):
        FasterRCNN(OneMap(), **small_heads(), **SMALL).eval()([image])


# -------------------------------------------------------------------------------- single parts


def test_a_pooler_works_by_itself():
    """Strides are told from the sizes; a map that is constant pools to its value."""
    pool = MultiScaleRoIAlign(["a", "c"], output_size=3, sampling_ratio=2)
    maps = {
        "a": torch.full((1, 2, 64, 64), 1.0),
        "b": torch.full((1, 2, 32, 32), 2.0),
        "c": torch.full((1, 2, 32, 32), 3.0),
    }
    boxes = torch.tensor([[10.0, 10, 60, 60], [10, 10, 500, 500]])

    out = pool(maps, [boxes], [(512, 512)])

    assert out.shape == (2, 2, 3, 3)
    assert out[:, 0, 1, 1].tolist() == [1.0, 3.0]
    with pytest.raises(ValueError, match=r"feature maps \['a', 'c'\] expected; got \['a'\]"):
        pool({"a": maps["a"]}, [boxes], [(512, 512)])


def test_results_are_in_the_images_own_pixels():
    """The transform doubles a 32 x 48 image; boxes go there and come back."""
    from retinue.structures import Instances
    from retinue.torchvision import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(64, 96, [0.5] * 3, [0.5] * 3)
    target = {"boxes": torch.tensor([[4.0, 6.0, 20.0, 30.0]]), "labels": torch.tensor([1])}

    batch, truths = transform([torch.full((3, 32, 48), 0.75)], [target])

    assert batch.image_sizes == [(64, 96)]
    assert batch.tensor.unique().tolist() == [0.5]
    assert truths[0].gt_boxes.tensor.tolist() == [[8.0, 12.0, 40.0, 60.0]]
    found = Instances((64, 96), pred_boxes=Boxes([[8.0, 12, 40, 60]]))
    found.scores, found.pred_classes = torch.ones(1), torch.ones(1)
    assert transform.postprocess([found], [(32, 48)])[0]["boxes"].tolist() == [[4, 6, 20, 30]]


def test_sizes_of_images():
    from retinue.torchvision import GeneralizedRCNNTransform

    limits = [0.0] * 3, [1.0] * 3
    size_of = GeneralizedRCNNTransform((40, 80), 100, *limits).eval()
    for size, want in [((40, 40), (80, 80)), ((40, 80), (50, 100))]:
        assert size_of([torch.zeros(3, *size)])[0].image_sizes == [want]
    size_of.train()
    sizes = {size_of([torch.zeros(3, 40, 40)])[0].image_sizes[0] for _ in range(40)}
    assert sizes == {(40, 40), (80, 80)}
    fixed = GeneralizedRCNNTransform(40, 80, *limits, fixed_size=(70, 30))
    assert fixed([torch.zeros(3, 40, 40)])[0].image_sizes == [(30, 70)]


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (nn.Linear(3, 3), "expected an attribute out_channels"),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), "a feature map"),
        (nn.Conv2d(4, 8, 3), "it failed on an image of 3 x 256 x 256"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), "out_channels says 7 channels; got {'0': 4}"),
    ],
)
def test_a_backbone_that_does_not_fit_is_told_why(backbone, message):
    if not isinstance(backbone, nn.Linear):
        backbone.out_channels = 7
    with pytest.raises(ValueError, match=message):
        FasterRCNN(backbone, 2)


def test_a_look_at_the_backbone_leaves_no_trace():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Dropout())
    backbone.out_channels = 4
    backbone[2].eval()
    FasterRCNN(backbone, 2)

    assert backbone[1].num_batches_tracked == 0
    assert [m.training for m in backbone] == [True, True, False]


@pytest.mark.parametrize(("kernel", "stride"), [(16, 16), (14, 14), (7, 4), (3, 1)])
def test_strides_are_told_from_sizes(kernel, stride):
    from retinue.torchvision.backbone import look_at_backbone

    backbone = nn.Conv2d(3, 4, kernel, stride)
    if stride == 14:  # as vision transformers made for 224 pixels
        backbone.register_forward_pre_hook(_only_224)

    assert look_at_backbone(backbone, 3)["0"].stride == stride


def _only_224(module, args):
    if args[0].shape[-1] != 224:
        raise RuntimeError("made for 224 pixels")


def test_nothing_stands_in_the_readme_of_the_package_that_is_not_there():
    import retinue.torchvision as package

    for name in re.findall(r"\b(?:FasterRCNN|AnchorGenerator)\b", package.__doc__):
        assert getattr(package, name)
    assert all(getattr(package, name) for name in package.__all__)
