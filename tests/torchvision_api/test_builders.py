"""Complete models by name; built on the meta device, where they take no time."""

import copy
import pickle
from importlib import import_module

import pytest
import torch
from PIL import Image

from retinue.checkpoint import DetectionCheckpointer
from retinue.structures import Boxes, Instances
from retinue.torchvision import (
    AnchorGenerator,
    FasterRCNN,
    MaskRCNN_ResNet50_FPN_Weights,
    RPNHead,
    builders,
    fasterrcnn_resnet50_fpn,
    fcos_resnet50_fpn,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    resnet_fpn_backbone,
    retinanet_resnet50_fpn,
)
from retinue.torchvision.backbone import look_at_backbone
from retinue.torchvision.transform import GeneralizedRCNNTransform
from retinue.torchvision.weights import ResNetWeights, address_of_weights


@pytest.mark.parametrize(
    ("extra_levels", "strides"),
    [
        ("pool", {"0": 4, "1": 8, "2": 16, "3": 32, "pool": 64}),
        ("p6p7", {"0": 8, "1": 16, "2": 32, "p6": 64, "p7": 128}),
    ],
)
def test_feature_maps_have_torchvisions_names(extra_levels, strides):
    with torch.device("meta"):
        backbone = resnet_fpn_backbone("resnet18", out_channels=8, extra_levels=extra_levels)

    shapes = look_at_backbone(backbone, 3)
    assert {name: shape.stride for name, shape in shapes.items()} == strides
    assert {shape.channels for shape in shapes.values()} == {8}


@pytest.mark.parametrize(("trainable", "frozen"), [(5, []), (3, ["res2", "stem"]), (0, None)])
def test_stages_are_frozen_from_the_first(trainable, frozen):
    with torch.device("meta"):
        resnet = resnet_fpn_backbone("resnet18", trainable_layers=trainable).fpn.bottom_up

    got = {n.split(".")[0] for n, p in resnet.named_parameters() if not p.requires_grad}
    all_stages = ["res2", "res3", "res4", "res5", "stem"]
    assert sorted(got) == (all_stages if frozen is None else frozen)


def test_what_is_not_here_says_what_is():
    with pytest.raises(ImportError, match="fasterrcnn_resnet50_fpn_v2 is not here; build"):
        from retinue.torchvision import fasterrcnn_resnet50_fpn_v2  # noqa: F401
    with pytest.raises(ImportError, match="ssdlite320_mobilenet_v3_large is not here"):
        import_module("retinue.torchvision").ssdlite320_mobilenet_v3_large  # noqa: B018


def test_fcos_by_name_and_with_other_anchors():
    with torch.device("meta"):
        model = fcos_resnet50_fpn(num_classes=7)
        anchors = AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),))
        with pytest.raises(ValueError, match=r"FCOS: anchor_generator must make one .*got \[3, 3"):
            fcos_resnet50_fpn(anchor_generator=anchors)
    assert model.head.cls_score.out_channels == 7
    assert model.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))  # the strides


def test_boxes_without_area_stay_where_boxes_are_all_there_is():
    transform = GeneralizedRCNNTransform(50, 100, (0.0,), (1.0,))
    found = Instances((50, 100))
    found.pred_boxes = Boxes(torch.tensor([[-9.0, 0, -1, 9], [10, 10, 20, 30]]))
    found.scores, found.pred_classes = torch.tensor([0.9, 0.8]), torch.tensor([1, 2])
    (kept,) = transform.postprocess([found], [(100, 200)], keep_empty=True)
    (dropped,) = transform.postprocess([found], [(100, 200)])
    assert kept["boxes"].tolist() == [[0, 0, 0, 18], [20, 20, 40, 60]]
    assert dropped["boxes"].tolist() == [[20, 20, 40, 60]]
    assert kept["labels"].tolist() == [1, 2]
    assert found.pred_boxes.tensor[0, 0] == -9  # what came in stays


def test_models_by_name():
    with torch.device("meta"):
        faster = fasterrcnn_resnet50_fpn(num_classes=2)
        mask = maskrcnn_resnet50_fpn(num_classes=4)
        keypoint = keypointrcnn_resnet50_fpn(num_keypoints=5)
        retinanet = retinanet_resnet50_fpn(num_classes=7)

    assert faster.roi_heads.box_predictor.cls_score.out_features == 2
    assert faster.rpn.anchor_generator.strides == [4, 8, 16, 32, 64]
    assert faster.roi_heads.box_roi_pool.featmap_names == ["0", "1", "2", "3"]
    assert mask.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 4
    assert mask.roi_heads.mask_predictor.conv5_mask.in_channels == 256
    assert keypoint.roi_heads.keypoint_predictor.kps_score_lowres.out_channels == 5
    assert retinanet.head.cls_score.out_channels == 9 * 7


def test_weights_of_the_backbone_freeze_what_they_are_for(tmp_path):
    resnet = resnet_fpn_backbone("resnet18").fpn.bottom_up
    DetectionCheckpointer(resnet, save_dir=str(tmp_path)).save("resnet")

    backbone = resnet_fpn_backbone("resnet18", weights=str(tmp_path / "resnet.pth"))

    loaded = backbone.fpn.bottom_up
    assert loaded.res4[0].conv1.weight.equal(resnet.res4[0].conv1.weight)
    assert type(loaded.res4[0].conv1.norm).__name__ == "FrozenBatchNorm2d"
    assert not loaded.res2[0].conv1.weight.requires_grad


@pytest.mark.parametrize(
    ("weights", "file"),
    [
        ("DEFAULT", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
        ("MaskRCNN_ResNet50_FPN_Weights.COCO_V1", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
        (MaskRCNN_ResNet50_FPN_Weights.DEFAULT, "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
        ("output/model.pth", "output/model.pth"),
        ("detectron2://model.pkl", "detectron2://model.pkl"),
    ],
)
def test_weights_by_name_are_torchvisions_files(weights, file):
    address = address_of_weights(weights, MaskRCNN_ResNet50_FPN_Weights)

    assert address in (file, f"https://download.pytorch.org/models/{file}")


def test_weights_of_backbones_go_by_depth():
    newest = address_of_weights("DEFAULT", ResNetWeights, "RESNET50_")
    first = address_of_weights("IMAGENET1K_V1", ResNetWeights, "RESNET18_")

    assert newest.endswith("/resnet50-11ad3fa6.pth")
    assert first.endswith("/resnet18-f37072fd.pth")
    with pytest.raises(KeyError, match="unknown weights 'IMAGENET1K_V3'; did you mean"):
        address_of_weights("IMAGENET1K_V3", ResNetWeights, "RESNET50_")


def test_weights_tell_what_labels_mean():
    weights = MaskRCNN_ResNet50_FPN_Weights.DEFAULT
    names = weights.meta["categories"]
    image = torch.full((3, 2, 2), 255, dtype=torch.uint8)

    assert (len(names), names[0], names[1], names[12], names[90]) == (
        91,
        "__background__",
        "person",
        "N/A",
        "toothbrush",
    )
    assert weights.transforms()(image).unique().tolist() == [1.0]
    assert weights.transforms()(Image.new("L", (3, 2))).shape == (3, 2, 3)


def test_arguments_of_older_tutorials(monkeypatch):
    loaded = []
    monkeypatch.setattr(builders, "_load", lambda model, path: loaded.append(path))
    with torch.device("meta"):
        model = fasterrcnn_resnet50_fpn(pretrained=True, num_classes=91)
        fasterrcnn_resnet50_fpn(pretrained=False, pretrained_backbone=True, num_classes=2)

    assert [path.rpartition("/")[2] for path in loaded] == [
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "resnet50-11ad3fa6.pth",
    ]
    norm = model.backbone.fpn.bottom_up.res4[0].conv1.norm
    assert type(norm).__name__ == "FrozenBatchNorm2d"


def test_random_weights_are_said(caplog):
    with torch.device("meta"):
        fasterrcnn_resnet50_fpn(num_classes=2)

    assert "pass weights_backbone='DEFAULT'" in caplog.text


def test_torchvisions_names_are_taken():
    """A ResNet's and the proposal network's, with counters that frozen norms don't have."""
    backbone = resnet_fpn_backbone("resnet18", out_channels=8, freeze_norm=True)
    model = FasterRCNN(backbone, num_classes=2)
    state = {
        "backbone.body.conv1.weight": torch.full((64, 3, 7, 7), 2.0),
        "backbone.body.bn1.num_batches_tracked": torch.tensor(3),
        "backbone.fpn.inner_blocks.0.0.bias": torch.full((8,), 3.0),
        "backbone.fpn.inner_blocks.3.0.bias": torch.zeros(8),
        "rpn.head.cls_logits.weight": torch.full((3, 8, 1, 1), 4.0),
        "roi_heads.box_predictor.cls_score.bias": torch.tensor([5.0, 6.0]),
    }

    left = model.load_state_dict(state, strict=False)

    assert left.unexpected_keys == []
    assert backbone.fpn.bottom_up.stem.conv1.weight.unique().tolist() == [2]
    assert backbone.fpn.fpn_lateral2.bias.unique().tolist() == [3]
    assert model.rpn.head.objectness_logits.weight.unique().tolist() == [4]
    assert model.roi_heads.box_predictor.cls_score.bias.tolist() == [5, 6]
    copy.deepcopy(model)
    pickle.dumps(model)


def test_a_file_of_torchvisions_is_read(tmp_path):
    """RetinaNet's anchors are ordered as there, so its head's numbers stay in place."""
    with torch.device("meta"):
        model = retinanet_resnet50_fpn(num_classes=2)
    model = model.to_empty(device="cpu")
    numbers = torch.arange(18.0)
    state = {
        "head.classification_head.cls_logits.weight": torch.zeros(18, 256, 3, 3),
        "head.classification_head.cls_logits.bias": numbers,
    }
    torch.save(state, tmp_path / "retinanet.pth")

    DetectionCheckpointer(model).load(str(tmp_path / "retinanet.pth"))

    assert model.head.cls_score.bias.equal(numbers)


def test_parts_of_the_proposal_network_are_replaced():
    with torch.device("meta"):
        model = fasterrcnn_resnet50_fpn(num_classes=2)
        anchors = AnchorGenerator(sizes=((8, 16),) * 5, aspect_ratios=((0.5, 1.0),) * 5)
        model.rpn.anchor_generator = anchors
        model.rpn.head = RPNHead(256, anchors.num_anchors_per_location()[0], conv_depth=2)

    assert model.rpn.anchor_generator.strides == [4, 8, 16, 32, 64]
    assert model.rpn.head.objectness_logits.out_channels == 4
    with pytest.raises(ValueError, match=r"rpn.anchor_generator: has sizes for 1 feature maps"):
        model.rpn.anchor_generator = AnchorGenerator()


def test_what_a_builder_cannot_do_is_said():
    with pytest.raises(KeyError, match="did you mean 'resnet50'"):
        resnet_fpn_backbone("resnet_50")
    with pytest.raises(ValueError, match="from 0 to 5; got 6"):
        resnet_fpn_backbone("resnet18", trainable_layers=6)
    with torch.device("meta"), pytest.raises(ValueError, match="a checkpoint's file or address"):
        fasterrcnn_resnet50_fpn(weights=object())
