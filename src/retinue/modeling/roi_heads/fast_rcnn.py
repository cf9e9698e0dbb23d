"""The last layers of Fast R-CNN, their losses, and detections from their predictions.

Shapes
    N images; R regions, all images together, R_i those of image i; K object classes, the label K
    is background; B box dimensions, 4 (or 5 where boxes are rotated).

Units
    Boxes are x0, y0, x1, y1 in pixels of the network input. Deltas are what
    ``box2box_transform`` makes of a pair of boxes. Logits are raw, scores lie in [0, 1].

Reading order: FastRCNNOutputLayers.forward predicts; losses in training, inference otherwise;
fast_rcnn_inference picks the detections.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retinue.config import CfgNode, configurable
from retinue.layers import ShapeSpec, batched_nms, cross_entropy
from retinue.modeling.box_regression import Box2BoxTransform, _dense_box_regression_loss
from retinue.structures import Boxes, Instances
from retinue.utils.errors import InputError
from retinue.utils.events import log_scalars

__all__ = ["FastRCNNOutputLayers", "fast_rcnn_inference"]

Predictions = tuple[torch.Tensor, torch.Tensor]  # class logits (R, K + 1), box deltas (R, K * B)


def fast_rcnn_inference(
    boxes: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Turn scored boxes into detections: threshold, suppression within a class, best of an image.

    Args:
        boxes: per image ``(R_i, K * 4)``, or ``(R_i, 4)`` where classes share a box.
        scores: per image ``(R_i, K + 1)``; the last column, background, is not detected.
        image_shapes: ``(height, width)`` of each image; boxes are clipped to it.
        score_thresh: a detection's score must exceed this.
        nms_thresh: of two boxes of a class with a greater IoU, the better scored stays.
        topk_per_image: most detections in an image, best first; negative for all.

    Returns:
        Per image ``Instances`` with ``pred_boxes``, ``scores``, ``pred_classes``; and per image the
        row in ``[0, R_i)`` that each detection came from. Rows with a number that is not finite
        are left out.
    """
    if not boxes:
        return [], []
    corner = boxes[0].new_tensor([(width, height) * 2 for height, width in image_shapes])  # (N, 4)
    return pick_detections(
        boxes,
        scores,
        image_shapes,
        score_thresh,
        nms_thresh,
        topk_per_image,
        clip=lambda box, image: box.clamp(min=0).minimum(corner[image]),
        nms=batched_nms,
        box_type=Boxes,
    )


_of_all_images = fast_rcnn_inference  # a program may put one in its place that calls the next


def fast_rcnn_inference_single_image(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    image_shape: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
) -> tuple[Instances, torch.Tensor]:
    """Do what :func:`fast_rcnn_inference` does, for one image."""
    found, rows = _of_all_images(
        [boxes], [scores], [image_shape], score_thresh, nms_thresh, topk_per_image
    )
    return found[0], rows[0]


def pick_detections(
    boxes: Sequence[torch.Tensor],
    scores: Sequence[torch.Tensor],
    image_shapes: Sequence[tuple[int, int]],
    score_thresh: float,
    nms_thresh: float,
    topk_per_image: int,
    *,
    clip: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    nms: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor],
    box_type: type[Boxes],
) -> tuple[list[Instances], list[torch.Tensor]]:
    """Do what :func:`fast_rcnn_inference` says for any kind of box, all images in one pass.

    Only the best candidates enter the suppression. Whether a box stays depends on better scored
    ones alone, so once an image has enough survivors, further candidates can't change them; the
    work then follows ``topk_per_image``, not the number of classes.

    Args:
        clip: maps ``(M, B)`` boxes and the ``(M,)`` index of their images to boxes inside these.
        nms: boxes, scores, groups, threshold to the indices that stay, best first.
        box_type: the structure to hand boxes out in.
    """
    num_rows = [len(s) for s in scores]
    device = scores[0].device
    image_of_row = torch.cat([torch.full((n,), i, device=device) for i, n in enumerate(num_rows)])
    all_boxes, all_scores = torch.cat(list(boxes)), torch.cat(list(scores))
    finite = all_boxes.isfinite().all(dim=1) & all_scores.isfinite().all(dim=1)
    all_scores = all_scores[:, :-1].masked_fill(~finite[:, None], -math.inf)  # (R, K)
    num_classes = all_scores.shape[1]
    box_dim = box_type([]).tensor.shape[1]
    all_boxes = all_boxes.unflatten(1, (-1, box_dim))  # (R, K or 1, B)

    budget = max(1000, 8 * topk_per_image) if topk_per_image >= 0 else all_scores.numel()
    while True:
        floors = torch.stack([_kth_largest(s, budget) for s in all_scores.split(num_rows)])  # (N,)
        candidate = (all_scores > score_thresh) & (all_scores >= floors[image_of_row, None])
        row, label = candidate.nonzero(as_tuple=True)  # (M,) each
        score, image = all_scores[row, label], image_of_row[row]
        box = clip(all_boxes[row, label if all_boxes.shape[1] > 1 else 0], image)
        keep = nms(box, score, image * num_classes + label, nms_thresh)
        num_kept = image[keep].bincount(minlength=len(num_rows))
        enough = (num_kept >= topk_per_image) | (floors <= score_thresh)
        if enough.all():  # waits for the device, as the sizes of the result do anyway
            break
        budget *= 8

    keep = keep[image[keep].argsort(stable=True)]  # by image, best first within each
    results, kept_rows, first_row = [], [], 0
    for kept, size, rows in zip(keep.split(num_kept.tolist()), image_shapes, num_rows, strict=True):
        kept = kept[:topk_per_image] if topk_per_image >= 0 else kept
        fields = {"scores": score[kept], "pred_classes": label[kept]}
        results.append(Instances(size, pred_boxes=box_type(box[kept]), **fields))
        kept_rows.append(row[kept] - first_row)
        first_row += rows
    return results, kept_rows


def _kth_largest(x: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th largest number of ``x``, minus infinity if there are no more than k."""
    return x.flatten().topk(k).values[-1] if x.numel() > k else x.new_tensor(-math.inf)


def _log_classification_stats(
    pred_logits: torch.Tensor, gt_classes: torch.Tensor, prefix: str = "fast_rcnn"
) -> None:
    """Report how many regions, and how many that hold an object, get their label right."""
    if not gt_classes.numel():
        return
    background = pred_logits.shape[1] - 1
    predicted = pred_logits.argmax(dim=1)
    right = predicted == gt_classes
    is_object = (gt_classes >= 0) & (gt_classes < background)
    num_objects = is_object.sum().clamp(min=1)  # a batch without objects reports zeros
    log_scalars(
        {
            f"{prefix}/cls_accuracy": right.float().mean(),
            f"{prefix}/fg_cls_accuracy": (right & is_object).sum() / num_objects,
            f"{prefix}/false_negative": ((predicted == background) & is_object).sum() / num_objects,
        }
    )


class FastRCNNOutputLayers(nn.Module):
    """Two linear layers over region features: one scores classes, the other moves the box.

    Girshick, "Fast R-CNN" (2015), sections 2.1 to 2.3, https://arxiv.org/abs/1504.08083.

    Args:
        input_shape: shape of one region's features; an int is a number of channels.
        box2box_transform: how deltas and boxes relate; its weights say how many numbers a box has.
        num_classes: K, background not counted.
        test_score_thresh: a detection's score must exceed this.
        test_nms_thresh: IoU above which the weaker of two detections of a class goes.
        test_topk_per_image: most detections in an image; negative for all.
        cls_agnostic_bbox_reg: predict one box a region instead of one a class.
        smooth_l1_beta: error, in delta units, from which smooth L1 is linear; 0 is plain L1.
        box_reg_loss_type: ``smooth_l1``, ``giou``, ``diou`` or ``ciou``.
        loss_weight: factor of both losses, or by name, ``loss_cls`` and ``loss_box_reg``.
        use_fed_loss: score only classes that are present and some sampled others: the federated
            loss of Zhou et al., "Probabilistic two-stage detection" (2021), section 5.2,
            https://arxiv.org/abs/2103.07461. Needs ``use_sigmoid_ce``.
        use_sigmoid_ce: score each class by itself, instead of a softmax over all.
        get_fed_loss_cls_weights: gives ``(K,)`` weights that classes are sampled with.
        fed_loss_num_classes: how many classes the federated loss looks at.

    Raises:
        InputError: If the federated loss lacks what it needs.
    """

    fed_loss_cls_weights: torch.Tensor

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        box2box_transform: Any,
        num_classes: int,
        test_score_thresh: float = 0.0,
        test_nms_thresh: float = 0.5,
        test_topk_per_image: int = 100,
        cls_agnostic_bbox_reg: bool = False,
        smooth_l1_beta: float = 0.0,
        box_reg_loss_type: str = "smooth_l1",
        loss_weight: float | Mapping[str, float] = 1.0,
        use_fed_loss: bool = False,
        use_sigmoid_ce: bool = False,
        get_fed_loss_cls_weights: Callable[[], torch.Tensor] | None = None,
        fed_loss_num_classes: int = 50,
    ) -> None:
        super().__init__()
        if isinstance(input_shape, int):
            input_shape = ShapeSpec(channels=input_shape)
        size = math.prod(
            x or 1 for x in (input_shape.channels, input_shape.height, input_shape.width)
        )
        num_boxes = 1 if cls_agnostic_bbox_reg else num_classes
        self.num_classes = num_classes
        self.cls_score = nn.Linear(size, num_classes + 1)
        self.bbox_pred = nn.Linear(size, num_boxes * len(box2box_transform.weights))
        for layer, std in ((self.cls_score, 0.01), (self.bbox_pred, 0.001)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

        self.box2box_transform = box2box_transform
        self.box_reg_loss_type = box_reg_loss_type
        self.smooth_l1_beta = smooth_l1_beta
        if not isinstance(loss_weight, Mapping):
            loss_weight = {"loss_cls": loss_weight, "loss_box_reg": loss_weight}
        self.loss_weight = loss_weight
        self.test_score_thresh = test_score_thresh
        self.test_nms_thresh = test_nms_thresh
        self.test_topk_per_image = test_topk_per_image

        self.use_sigmoid_ce = use_sigmoid_ce
        self.use_fed_loss = use_fed_loss
        self.fed_loss_num_classes = fed_loss_num_classes
        if use_fed_loss:
            weights = self._checked_fed_loss_weights(get_fed_loss_cls_weights)
            self.register_buffer("fed_loss_cls_weights", weights)

    def _checked_fed_loss_weights(
        self, get_weights: Callable[[], torch.Tensor] | None
    ) -> torch.Tensor:
        where = "FastRCNNOutputLayers: use_fed_loss"
        if not self.use_sigmoid_ce:
            raise InputError(
                f"{where} scores classes one by one; set use_sigmoid_ce"
                " (MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE), too"
            )
        if get_weights is None:
            raise InputError(f"{where} needs get_fed_loss_cls_weights; got None")
        weights = get_weights()
        if len(weights) != self.num_classes:
            raise InputError(
                f"{where}: get_fed_loss_cls_weights must give one weight for each of the"
                f" {self.num_classes} classes; got {len(weights)}"
            )
        return weights

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        def class_weights() -> torch.Tensor:  # called for the federated loss only
            from retinue.data.detection_utils import get_fed_loss_cls_weights

            return get_fed_loss_cls_weights(
                dataset_names=cfg.DATASETS.TRAIN,
                freq_weight_power=cfg.MODEL.ROI_BOX_HEAD.FED_LOSS_FREQ_WEIGHT_POWER,
            )

        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "box2box_transform": Box2BoxTransform(weights=head.BBOX_REG_WEIGHTS),
            "num_classes": cfg.MODEL.ROI_HEADS.NUM_CLASSES,
            "test_score_thresh": cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
            "test_nms_thresh": cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST,
            "test_topk_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "cls_agnostic_bbox_reg": head.CLS_AGNOSTIC_BBOX_REG,
            "smooth_l1_beta": head.SMOOTH_L1_BETA,
            "box_reg_loss_type": head.BBOX_REG_LOSS_TYPE,
            "loss_weight": {"loss_box_reg": head.BBOX_REG_LOSS_WEIGHT},
            "use_fed_loss": head.USE_FED_LOSS,
            "use_sigmoid_ce": head.USE_SIGMOID_CE,
            "get_fed_loss_cls_weights": class_weights,
            "fed_loss_num_classes": head.FED_LOSS_NUM_CLASSES,
        }

    def forward(self, x: torch.Tensor) -> Predictions:
        """Predict from ``(R, D)`` or ``(R, C, S, S)`` region features.

        Returns:
            ``(R, K + 1)`` class logits, background last; ``(R, K * B)`` box deltas, or ``(R, B)``.
        """
        x = x.flatten(start_dim=1)
        return self.cls_score(x), self.bbox_pred(x)

    def losses(
        self, predictions: Predictions, proposals: Sequence[Instances]
    ) -> dict[str, torch.Tensor]:
        """Compare predictions with the truth that the proposals carry.

        Args:
            predictions: what ``forward`` returned.
            proposals: per image, in the same order, with ``proposal_boxes``, ``gt_classes`` and,
                unless all are background, ``gt_boxes``.

        Returns:
            ``loss_cls`` and ``loss_box_reg``, scalars, weighted.
        """
        logits, deltas = predictions
        labels = logits.new_zeros(0, dtype=torch.int64)
        boxes = gt_boxes = deltas.new_zeros(0, len(self.box2box_transform.weights))
        if len(proposals):
            labels = torch.cat([p.gt_classes for p in proposals]).long()  # (R,)
            boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])  # (R, B)
            gt_boxes = torch.cat([_gt_boxes(p).tensor for p in proposals])  # (R, B)
        if boxes.requires_grad:
            raise InputError("FastRCNNOutputLayers.losses: proposal_boxes must not need gradients")
        _log_classification_stats(logits, labels)

        classify = self.sigmoid_cross_entropy_loss if self.use_sigmoid_ce else cross_entropy
        losses = {
            "loss_cls": classify(logits, labels),
            "loss_box_reg": self.box_reg_loss(boxes, gt_boxes, deltas, labels),
        }
        return {name: loss * self.loss_weight.get(name, 1.0) for name, loss in losses.items()}

    def sigmoid_cross_entropy_loss(
        self, pred_class_logits: torch.Tensor, gt_classes: torch.Tensor
    ) -> torch.Tensor:
        """Score every class by itself; the sum over classes is averaged over regions.

        Args:
            pred_class_logits: ``(R, K + 1)``; the last column takes no part.
            gt_classes: ``(R,)`` int64 in [0, K].
        """
        num_regions, num_classes = pred_class_logits.shape[0], pred_class_logits.shape[1] - 1
        if not num_regions:
            return pred_class_logits.sum()
        logits = pred_class_logits[:, :-1]
        target = F.one_hot(gt_classes, num_classes + 1)[:, :-1].to(logits.dtype)
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")  # (R, K)
        if self.use_fed_loss:
            weight = loss.new_zeros(num_classes + 1)
            weight[
                self.get_fed_loss_classes(
                    gt_classes, self.fed_loss_num_classes, num_classes, self.fed_loss_cls_weights
                )
            ] = 1
            loss = loss * weight[:-1]
        return loss.sum() / num_regions

    def get_fed_loss_classes(
        self,
        gt_classes: torch.Tensor,
        num_fed_loss_classes: int,
        num_classes: int,
        weight: torch.Tensor,
    ) -> torch.Tensor:
        """Choose the classes that the federated loss looks at.

        Args:
            gt_classes: ``(R,)`` int64 in [0, K].
            num_fed_loss_classes: how many to choose; more if more are present.
            num_classes: K.
            weight: ``(K,)``, relative chance of a class that is not present.

        Returns:
            int64 indices without repetition: first those present (background as K), then sampled.
        """
        present = gt_classes.unique()
        num_sampled = min(num_fed_loss_classes, num_classes) - len(present)
        if num_sampled <= 0:
            return present
        chance = F.pad(weight.float(), (0, 1))  # background is never sampled
        chance[present] = 0
        return torch.cat((present, torch.multinomial(chance, num_sampled)))

    def box_reg_loss(
        self,
        proposal_boxes: torch.Tensor,
        gt_boxes: torch.Tensor,
        pred_deltas: torch.Tensor,
        gt_classes: torch.Tensor,
    ) -> torch.Tensor:
        """Compare the boxes of regions that hold an object with the truth.

        The sum is divided by the number of all regions, not of those with an object: an object
        then weighs the same in a batch with many others and in one where it is alone.

        Args:
            proposal_boxes: ``(R, B)``.
            gt_boxes: ``(R, B)``; rows of background don't matter.
            pred_deltas: ``(R, K * B)`` or ``(R, B)``.
            gt_classes: ``(R,)`` int64 in [0, K].
        """
        is_object = (gt_classes >= 0) & (gt_classes < self.num_classes)
        deltas = boxes_of_class(pred_deltas, gt_classes, proposal_boxes.shape[1])  # (R, B)
        loss = _dense_box_regression_loss(
            [proposal_boxes],
            self.box2box_transform,
            [deltas[None]],
            [gt_boxes],
            is_object[None],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return loss / max(len(gt_classes), 1)

    def inference(
        self, predictions: Predictions, proposals: Sequence[Instances]
    ) -> tuple[list[Instances], list[torch.Tensor]]:
        """Turn predictions for proposals into detections, as :func:`fast_rcnn_inference` does."""
        return fast_rcnn_inference(
            self.predict_boxes(predictions, proposals),
            self.predict_probs(predictions, proposals),
            [p.image_size for p in proposals],
            self.test_score_thresh,
            self.test_nms_thresh,
            self.test_topk_per_image,
        )

    def predict_boxes_for_gt_classes(
        self, predictions: Predictions, proposals: Sequence[Instances]
    ) -> Sequence[torch.Tensor]:
        """Return per image the ``(R_i, B)`` boxes predicted for each region's true class.

        A region of background gets the box of the last class.
        """
        dim = len(self.box2box_transform.weights)
        boxes = self.predict_boxes(predictions, proposals)
        return [boxes_of_class(b, p.gt_classes, dim) for b, p in zip(boxes, proposals, strict=True)]

    def predict_boxes(
        self, predictions: Predictions, proposals: Sequence[Instances]
    ) -> Sequence[torch.Tensor]:
        """Return per image the ``(R_i, K * B)`` boxes of all classes, or ``(R_i, B)``."""
        if not len(proposals):
            return []
        boxes = torch.cat([p.proposal_boxes.tensor for p in proposals])
        boxes = self.box2box_transform.apply_deltas(predictions[1], boxes)
        return boxes.split([len(p) for p in proposals])

    def predict_probs(
        self, predictions: Predictions, proposals: Sequence[Instances]
    ) -> Sequence[torch.Tensor]:
        """Return per image the ``(R_i, K + 1)`` scores of all classes, background last.

        They are at least float32: half precision would tie the best of them.
        """
        logits = predictions[0].to(torch.promote_types(predictions[0].dtype, torch.float32))
        scores = logits.sigmoid() if self.use_sigmoid_ce else logits.softmax(dim=1)
        return scores.split([len(p) for p in proposals])


def _gt_boxes(proposals: Instances) -> Boxes:
    """Return the true boxes; where there is no object, any box will do."""
    return proposals.gt_boxes if proposals.has("gt_boxes") else proposals.proposal_boxes


def boxes_of_class(boxes: torch.Tensor, labels: torch.Tensor, box_dim: int) -> torch.Tensor:
    """Select ``(R, B)`` of ``(R, K * B)``; of the last class where the label is background."""
    boxes = boxes.unflatten(1, (-1, box_dim))
    row = torch.arange(len(boxes), device=boxes.device)
    return boxes[row, labels.clamp(0, boxes.shape[1] - 1)]
