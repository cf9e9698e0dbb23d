"""Mesh R-CNN from pictures to meshes, on generated solids, in about a minute on one CPU core.

    python -m retinue.projects.meshrcnn.example --output output/solids

writes a dataset, trains a small model, prints how well it does on pictures it hasn't seen, and
leaves predicted meshes as ``.obj`` files beside the pictures they belong to.

Reading order: main; train, voxel_iou, report; tiny_config.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from retinue.config import CfgNode, get_cfg
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.projects.meshrcnn.config import get_meshrcnn_cfg_defaults
from retinue.projects.meshrcnn.data import MeshRCNNMapper
from retinue.projects.meshrcnn.data.datasets import register_pix3d
from retinue.projects.meshrcnn.data.datasets.solids import (
    RELATIVE_FOCAL_LENGTH,
    SOLID_CLASSES,
    write_solids,
)
from retinue.projects.meshrcnn.evaluation import Pix3DEvaluator
from retinue.projects.meshrcnn.structures.voxel import batch_crop_voxels_within_box
from retinue.projects.meshrcnn.training import Trainer
from retinue.projects.meshrcnn.utils.vis import visualize_predictions
from retinue.structures import Instances

__all__ = ["main", "prepare", "report", "tiny_config", "train", "voxel_iou"]

TRAIN, VAL = "solids_train", "solids_val"


def prepare(folder: str | Path, num_train: int = 240, num_val: int = 40) -> None:
    """Write both splits below a folder and register them, in place of any of these names."""
    for seed, (name, count) in enumerate(((TRAIN, num_train), (VAL, num_val))):
        json_file, images = write_solids(Path(folder) / name, count, seed=seed)
        if name in DatasetCatalog:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        root = str(Path(folder) / name)
        register_pix3d(name, json_file, images, root, classes=SOLID_CLASSES)


def tiny_config(output: str | Path, num_iterations: int = 300) -> CfgNode:
    """Return a config of all of Mesh R-CNN's heads, each as small as will do for 64 x 64 pixels.

    Args:
        output: folder for checkpoints and logs.
        num_iterations: of training.
    """
    cfg = get_meshrcnn_cfg_defaults(get_cfg())
    model = cfg.MODEL
    model.DEVICE = "cpu"
    model.MASK_ON = model.ZPRED_ON = model.VOXEL_ON = model.MESH_ON = True
    model.BACKBONE.NAME = "build_resnet_fpn_backbone"
    model.BACKBONE.FREEZE_AT = 0
    model.RESNETS.DEPTH = 18
    model.RESNETS.RES2_OUT_CHANNELS = 16
    model.RESNETS.STEM_OUT_CHANNELS = 16
    model.RESNETS.NORM = "BN"
    model.RESNETS.OUT_FEATURES = model.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    model.FPN.OUT_CHANNELS = 32
    model.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [48], [64]]
    model.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    model.RPN.PRE_NMS_TOPK_TRAIN = model.RPN.PRE_NMS_TOPK_TEST = 50
    model.RPN.POST_NMS_TOPK_TRAIN = model.RPN.POST_NMS_TOPK_TEST = 20
    heads = model.ROI_HEADS
    heads.NAME = "MeshRCNNROIHeads"
    heads.NUM_CLASSES = len(SOLID_CLASSES)
    heads.IN_FEATURES = ["p2", "p3"]
    heads.BATCH_SIZE_PER_IMAGE = 8
    heads.POSITIVE_FRACTION = 0.25
    model.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    model.ROI_BOX_HEAD.NUM_FC = 1
    model.ROI_BOX_HEAD.FC_DIM = 64
    model.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    model.ROI_Z_HEAD.NUM_FC = 1
    model.ROI_Z_HEAD.FC_DIM = 64
    model.ROI_Z_HEAD.Z_REG_WEIGHT = 1.0
    model.ROI_MASK_HEAD.NUM_CONV = 1
    model.ROI_MASK_HEAD.CONV_DIM = 32
    model.ROI_VOXEL_HEAD.POOLER_RESOLUTION = 8
    model.ROI_VOXEL_HEAD.NUM_DEPTH = 16
    model.ROI_VOXEL_HEAD.NUM_CONV = 2
    model.ROI_VOXEL_HEAD.CONV_DIM = 48
    model.ROI_VOXEL_HEAD.CLS_AGNOSTIC_VOXEL = True
    model.ROI_VOXEL_HEAD.LOSS_WEIGHT = 12.0  # so short a training needs a stronger signal
    model.ROI_VOXEL_HEAD.CUBIFY_THRESH = 0.5
    mesh = model.ROI_MESH_HEAD
    mesh.POOLER_RESOLUTION = 8
    mesh.GRAPH_CONV_DIM = 32
    mesh.NUM_GRAPH_CONVS = 2
    mesh.GT_NUM_SAMPLES = mesh.PRED_NUM_SAMPLES = 300
    mesh.NORMALS_LOSS_WEIGHT = 0.1
    mesh.GT_COORD_THRESH = 5.0

    cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.INPUT.RANDOM_FLIP = "none"  # the red light shines from the right
    cfg.DATASETS.TRAIN = (TRAIN,)
    cfg.DATASETS.TEST = (VAL,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 8
    cfg.SOLVER.BASE_LR = 0.02
    cfg.SOLVER.MAX_ITER = num_iterations
    cfg.SOLVER.STEPS = (num_iterations * 3 // 4,)
    cfg.SOLVER.WARMUP_ITERS = 50
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.TEST.EVAL_PERIOD = 0
    cfg.SEED = 1
    cfg.OUTPUT_DIR = str(output)
    return cfg


@torch.no_grad()
def voxel_iou(cfg: CfgNode, model: Any, samples: Iterable[dict[str, Any]]) -> float:
    """Return the mean intersection over union of predicted and true voxels, in true boxes.

    Args:
        cfg: what the model was built from.
        model: in evaluation mode.
        samples: of a mapper for training.
    """
    head = cfg.MODEL.ROI_VOXEL_HEAD
    overlaps = []
    for sample in samples:
        truth = sample["instances"].to(model.device)
        found = Instances(truth.image_size, pred_boxes=truth.gt_boxes)
        found.pred_classes = truth.gt_classes
        found = model.inference([sample], [found], do_postprocess=False)[0]
        pred = found.pred_voxels[:, 0] >= head.CUBIFY_THRESH
        gt = batch_crop_voxels_within_box(
            truth.gt_voxels, truth.gt_boxes.tensor, truth.gt_K, head.NUM_DEPTH
        ).bool()
        both, either = (x.sum(dim=(1, 2, 3)) for x in (pred & gt, pred | gt))
        overlaps.append(both / either.clamp(min=1))
    return float(torch.cat(overlaps).mean())


def train(output: str | Path, num_iterations: int = 300) -> tuple[CfgNode, Any, float]:
    """Write the dataset, train, and measure on pictures that were not trained on.

    Returns:
        The config, the model in evaluation mode, and its voxels' mean intersection over union.
    """
    prepare(output)
    cfg = tiny_config(output, num_iterations)
    cfg.DATASETS.TEST = ()  # measured below
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    torch.manual_seed(cfg.SEED)
    trainer = Trainer(cfg)
    trainer.train()
    cfg.DATASETS.TEST = (VAL,)
    mapper: Any = MeshRCNNMapper
    to_example = mapper(cfg, True, dataset_names=(VAL,))
    model: Any = trainer.model.eval()
    return cfg, model, voxel_iou(cfg, model, map(to_example, DatasetCatalog.get(VAL)))


@torch.no_grad()
def report(cfg: CfgNode, model: Any, output: str | Path, num_drawn: int = 4) -> dict[str, float]:
    """Detect on the pictures of the validation split; draw and judge what was found.

    Args:
        cfg: what the model was built from.
        model: in evaluation mode.
        output: pictures and meshes go to ``results`` below it.
        num_drawn: of how many pictures the best detection is drawn.

    Returns:
        AP of boxes, masks and meshes, and more, see :class:`Pix3DEvaluator`.
    """
    meta = MetadataCatalog.get(VAL)
    evaluator = Pix3DEvaluator(VAL, cfg, num_samples=1000)
    for batch in Trainer.build_test_loader(cfg, VAL):
        found = model(batch)
        evaluator.process(batch, found)
        for sample, one in zip(batch, found, strict=True):
            if sample["image_id"] < num_drawn:
                best = one["instances"][:1]  # they come by score
                width, height = sample["width"], sample["height"]
                camera = (RELATIVE_FOCAL_LENGTH * width, width / 2, height / 2)
                visualize_predictions(
                    sample["image_id"], sample["file_name"], best, camera, meta, output
                )
    results: dict[str, float] = (evaluator.evaluate() or {})["shape"]
    return results


def main(argv: list[str] | None = None) -> None:
    """Run the example from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", default="output/solids")
    parser.add_argument("--iterations", type=int, default=300)
    args = parser.parse_args(argv)
    cfg, model, iou = train(args.output, args.iterations)
    print(f"voxels: mean IoU {iou:.3f}")
    for name, value in report(cfg, model, args.output).items():
        print(f"{name}: {value:.3f}")
    print(f"pictures and meshes are in {Path(args.output) / 'results'}")


if __name__ == "__main__":
    main()
