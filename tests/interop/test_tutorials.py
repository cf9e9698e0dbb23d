"""torchvision's tutorial on fine-tuning a detector, on pedestrians drawn here.

Kept as it is written there, import lines apart: models and their parts come from this library,
classification models, transforms and image types from torchvision.
https://docs.pytorch.org/tutorials/intermediate/torchvision_tutorial.html
"""

import pytest
import torch

torchvision = pytest.importorskip(
    "torchvision", exc_type=ImportError, reason="run by `make interop`"
)

from torchvision import tv_tensors  # noqa: E402
from torchvision.ops import masks_to_boxes  # noqa: E402
from torchvision.transforms import v2 as T  # noqa: E402

import retinue.torchvision as detection  # noqa: E402
from retinue.torchvision import (  # noqa: E402
    AnchorGenerator,
    FasterRCNN,
    FastRCNNPredictor,
    MaskRCNNPredictor,
    MultiScaleRoIAlign,
    RPNHead,
)


class Pedestrians(torch.utils.data.Dataset):
    """Bright upright bars on dark ground, with masks that number them as in Penn-Fudan."""

    def __init__(self, transforms, number=4):
        self.transforms = transforms
        self.number = number

    def __len__(self):
        return self.number

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        img = torch.randint(0, 60, (3, 64, 96), dtype=torch.uint8, generator=generator)
        mask = torch.zeros(64, 96, dtype=torch.uint8)
        for person in range(1 + index % 2):
            left = 8 + 44 * person + int(torch.randint(0, 16, (1,), generator=generator))
            mask[12:56, left : left + 18] = person + 1
        img[:, mask > 0] = 230

        obj_ids = torch.unique(mask)[1:]
        num_objs = len(obj_ids)
        masks = (mask == obj_ids[:, None, None]).to(dtype=torch.uint8)
        boxes = masks_to_boxes(masks)
        img = tv_tensors.Image(img)
        target = {
            "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=img.shape[-2:]),
            "masks": tv_tensors.Mask(masks),
            "labels": torch.ones((num_objs,), dtype=torch.int64),
            "image_id": index,
            "area": (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 2] - boxes[:, 0]),
            "iscrowd": torch.zeros((num_objs,), dtype=torch.int64),
        }
        return self.transforms(img, target)


def get_transform(train):
    transforms = [T.RandomHorizontalFlip(0.5)] if train else []
    return T.Compose([*transforms, T.ToDtype(torch.float, scale=True), T.ToPureTensor()])


def train(model, steps, lr=0.005):
    torch.manual_seed(0)
    loader = torch.utils.data.DataLoader(
        Pedestrians(get_transform(train=True)),
        batch_size=2,
        shuffle=True,
        collate_fn=lambda batch: tuple(zip(*batch, strict=True)),
    )
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(params, lr=lr, momentum=0.9, weight_decay=0.0005)
    totals = []
    model.train()
    while len(totals) < steps:
        for images, targets in loader:
            losses = sum(model(list(images), list(targets)).values())
            optimizer.zero_grad()
            losses.backward()
            optimizer.step()
            totals.append(losses.item())
    return totals


def test_finetuning_from_a_pretrained_model():
    model = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    num_classes = 2  # 1 class (person) + background
    in_features = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_predictor = FastRCNNPredictor(in_features, num_classes)

    model.eval()
    x = [torch.rand(3, 60, 80)]
    model.transform.min_size, model.transform.max_size = (64,), 96
    assert sorted(model(x)[0]) == ["boxes", "labels", "scores"]


@pytest.mark.parametrize("names", [["0"], [0]])
def test_another_backbone(names):
    backbone = torchvision.models.mobilenet_v2(weights=None).features
    backbone.out_channels = 1280
    anchor_generator = AnchorGenerator(
        sizes=((32, 64, 128, 256, 512),), aspect_ratios=((0.5, 1.0, 2.0),)
    )
    roi_pooler = MultiScaleRoIAlign(featmap_names=names, output_size=7, sampling_ratio=2)
    model = FasterRCNN(
        backbone,
        num_classes=2,
        rpn_anchor_generator=anchor_generator,
        box_roi_pool=roi_pooler,
        min_size=64,
        max_size=96,
    )

    dataset = Pedestrians(get_transform(train=False))
    images, targets = zip(dataset[0], dataset[1], strict=True)
    output = model(list(images), list(targets))
    sum(output.values()).backward()
    assert sorted(output) == [
        "loss_box_reg",
        "loss_classifier",
        "loss_objectness",
        "loss_rpn_box_reg",
    ]
    assert set(model.eval()(list(images))[0]) == {"boxes", "labels", "scores"}


def test_flat_sizes_on_one_map_are_refused_with_the_nested_form():
    backbone = torchvision.models.mobilenet_v2(weights=None).features
    backbone.out_channels = 1280
    flat = AnchorGenerator(sizes=(32, 64, 128, 256, 512), aspect_ratios=(0.5, 1.0, 2.0))

    with pytest.raises(ValueError, match=r"sizes=\(\(32, 64, 128, 256, 512\),\)"):
        FasterRCNN(backbone, num_classes=2, rpn_anchor_generator=flat)


def get_model_instance_segmentation(num_classes):
    model = detection.maskrcnn_resnet50_fpn(weights=None, min_size=64, max_size=96)
    in_features = model.roi_heads.box_predictor.cls_score.in_features
    model.roi_heads.box_predictor = FastRCNNPredictor(in_features, num_classes)
    in_features_mask = model.roi_heads.mask_predictor.conv5_mask.in_channels
    hidden_layer = 256
    model.roi_heads.mask_predictor = MaskRCNNPredictor(in_features_mask, hidden_layer, num_classes)
    return model


@pytest.mark.slow
def test_instance_segmentation_trains_and_predicts():
    model = get_model_instance_segmentation(num_classes=2)

    totals = train(model, steps=8, lr=0.0005)  # lower than there, where weights are pretrained

    assert sum(totals[-2:]) < sum(totals[:2])
    img, _ = Pedestrians(get_transform(train=False))[0]
    model.eval()
    with torch.no_grad():
        pred = model([img])[0]
    pred_boxes = pred["boxes"].long()
    masks = (pred["masks"] > 0.7).squeeze(1)
    assert masks.shape == (len(pred_boxes), 64, 96)


def test_other_anchors_for_a_complete_model():
    """A recipe of many answers: replace the generator, and the head that it needs."""
    with torch.device("meta"):
        model = detection.fasterrcnn_resnet50_fpn(num_classes=2)
    anchor_generator = AnchorGenerator(
        sizes=tuple((8, 16, 32) for _ in range(5)),
        aspect_ratios=tuple((0.5, 1.0) for _ in range(5)),
    )
    model.rpn.anchor_generator = anchor_generator
    model.rpn.head = RPNHead(256, anchor_generator.num_anchors_per_location()[0])

    assert model.rpn.anchor_generator.strides == [4, 8, 16, 32, 64]
    assert model.rpn.head.objectness_logits.out_channels == 6
