"""Projects written for detectron2, unmodified: train two steps and evaluate, on retinue.

``python third_party.py FOLDER`` looks for clones of the projects of ``CASES`` in ``FOLDER``, runs
each one's own training script under the import hook, in an environment without detectron2, and
prints a table. ``--python`` names the interpreter, which needs what they import (torchvision,
timm, scipy, einops, opencv-python-headless, ...). ``--only NAME`` runs the cases whose name holds
that word, ``--work`` keeps data and logs.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cityscapes_layout import write_cityscapes
from coco_layout import write_datasets
from densepose_layout import MESHES, VERTICES, write_densepose

HERE = Path(__file__).resolve()
SOURCE = HERE.parents[2] / "src"

YAML = """MODEL.DEVICE cpu MODEL.WEIGHTS '' SOLVER.IMS_PER_BATCH 2 SOLVER.MAX_ITER 2 SOLVER.STEPS ()
SOLVER.BASE_LR 0.0001 DATALOADER.NUM_WORKERS 0 TEST.EVAL_PERIOD 0 INPUT.MIN_SIZE_TRAIN (96,)
INPUT.MIN_SIZE_TEST 96 INPUT.MAX_SIZE_TRAIN 160 INPUT.MAX_SIZE_TEST 160 SEED 1"""
LAZY = """train.device=cpu train.max_iter=2 train.init_checkpoint='' train.eval_period=2
train.log_period=1 train.amp.enabled=False dataloader.train.total_batch_size=2
dataloader.train.num_workers=0 dataloader.test.num_workers=0 train.seed=1"""


@dataclass(frozen=True)
class Case:
    """One config of one project.

    Attributes:
        name: of the result's row.
        project: path of the project's clone, below the folder of all.
        script: its training script; below the project.
        config: below the project.
        options: overrides, words separated by spaces.
        path: more folders of the clones to import from.
        evaluates: whether results of an evaluation are expected.
        beside_data: run where the folder ``datasets`` is, for projects that look for it there.
        served: run a copy of the script, away from the project, whose package retinue serves then.
    """

    name: str
    project: str
    script: str
    config: str
    options: str = ""
    path: tuple[str, ...] = ()
    evaluates: bool = True
    beside_data: bool = False
    served: bool = False

    def words(self, project: Path, output: Path) -> list[str]:
        """Return the command line after the interpreter."""
        lazy = self.config.endswith(".py")
        output_key = "train.output_dir=" if lazy else "OUTPUT_DIR "
        text = " ".join((LAZY if lazy else YAML).split())
        words = f"{text} {self.options} {output_key}{output}".split()
        words = [w.replace("''", "") for w in words]
        script = str((output if self.served else project) / self.script)
        config = str(project / self.config)
        return ["-m", "retinue.compat", script, "--config-file", config, *words]


D2 = "detectron2/projects"
DENSEPOSE = f"{D2}/DensePose"
EMBEDDERS = "MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS"
LOW_SCORES = "MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0 TEST.DETECTIONS_PER_IMAGE 4"
ANIMALS = "configs/cse/densepose_rcnn_R_50_FPN_soft_animals_I0_finetune_m2m_16k.yaml"
ANIMAL_OPTIONS = f"{LOW_SCORES} " + " ".join(
    f"{EMBEDDERS}.{mesh}.NUM_VERTICES {VERTICES}" for mesh in MESHES
)
STREETS = "Cityscapes-SemanticSegmentation"
STREET_OPTIONS = ("INPUT.CROP.SIZE (96,96) MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.NORM BN"
                  " MODEL.SEM_SEG_HEAD.NORM BN")  # fmt: skip
SEVEN = "SOLVER.MAX_ITER 7"  # plain loops write no metrics before
SMALL_IMAGES = "INPUT.IMAGE_SIZE 128"
CASES = (
    Case("PointRend", f"{D2}/PointRend", "train_net.py",
         "configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"),
    Case("Implicit PointRend", f"{D2}/PointRend", "train_net.py",
         "configs/InstanceSegmentation/implicit_pointrend_R_50_FPN_1x_coco.yaml",
         "MODEL.RESNETS.NORM BN"),
    Case("TridentNet", f"{D2}/TridentNet", "train_net.py",
         "configs/tridentnet_fast_R_50_C4_1x.yaml"),
    Case("TensorMask", f"{D2}/TensorMask", "train_net.py", "configs/tensormask_R_50_FPN_1x.yaml"),
    # its own package passes keyword-only arguments by position and fails on detectron2, too
    Case("PointSup, served", f"{D2}/PointSup", "train_net.py",
         "configs/mask_rcnn_R_50_FPN_3x_point_sup_point_aug_coco.yaml", served=True),
    Case("PointSup implicit, served", f"{D2}/PointSup", "train_net.py",
         "configs/implicit_pointrend_R_50_FPN_3x_point_sup_point_aug_coco.yaml", served=True),
    Case("Panoptic-DeepLab", f"{D2}/Panoptic-DeepLab", "train_net.py",
         "configs/COCO-PanopticSegmentation/"
         "panoptic_deeplab_R_52_os16_mg124_poly_200k_bs64_crop_640_640_coco_dsconv.yaml",
         "INPUT.CROP.SIZE (128,128) MODEL.PANOPTIC_DEEPLAB.SIZE_DIVISIBILITY 128"
         " MODEL.SEM_SEG_HEAD.NORM BN MODEL.INS_EMBED_HEAD.NORM BN"
         " MODEL.RESNETS.NORM BN"),
    Case("ViTDet", "detectron2", "tools/lazyconfig_train_net.py",
         "projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py",
         "model.backbone.net.img_size=128 model.backbone.square_pad=128"
         " model.backbone.net.embed_dim=48 model.backbone.net.num_heads=4"
         " dataloader.train.mapper.augmentations.1.target_height=128"
         " dataloader.train.mapper.augmentations.1.target_width=128"
         " dataloader.train.mapper.augmentations.2.crop_size=[128,128]"
         " dataloader.test.mapper.augmentations.0.short_edge_length=128"
         " dataloader.test.mapper.augmentations.0.max_size=128"),
    Case("MViTv2", "detectron2", "tools/lazyconfig_train_net.py",
         "projects/MViTv2/configs/mask_rcnn_mvitv2_t_3x.py",
         "dataloader.train.mapper.augmentations.0.prob=0"
         " dataloader.train.mapper.augmentations.1.short_edge_length=[96]"
         " dataloader.test.mapper.augmentations.0.short_edge_length=96"),
    Case("Rethinking BatchNorm", "detectron2", "tools/lazyconfig_train_net.py",
         "projects/Rethinking-BatchNorm/configs/mask_rcnn_BNhead.py",
         "dataloader.train.mapper.augmentations.0.short_edge_length=[96]"
         " dataloader.test.mapper.augmentations.0.short_edge_length=96"),
    Case("DensePose charts", DENSEPOSE, "train_net.py", "configs/densepose_rcnn_R_50_FPN_s1x.yaml",
         LOW_SCORES, beside_data=True),
    Case("DensePose surface embeddings", DENSEPOSE, "train_net.py",
         "configs/cse/densepose_rcnn_R_50_FPN_soft_s1x.yaml",
         f"{LOW_SCORES} {EMBEDDERS}.smpl_27554.NUM_VERTICES {VERTICES}", beside_data=True),
    Case("DensePose charts, served", DENSEPOSE, "train_net.py",
         "configs/densepose_rcnn_R_50_FPN_DL_WC2M_s1x.yaml", LOW_SCORES, served=True),
    Case("DensePose animals, served", DENSEPOSE, "train_net.py", ANIMALS, ANIMAL_OPTIONS,
         served=True),
    Case("DensePose animals", DENSEPOSE, "train_net.py", ANIMALS, ANIMAL_OPTIONS,
         beside_data=True),
    Case("DensePose HRNet", DENSEPOSE, "train_net.py",
         "configs/HRNet/densepose_rcnn_HRFPN_HRNet_w32_s1x.yaml", LOW_SCORES, beside_data=True),
    Case("DeepLab v3", f"{D2}/DeepLab", "train_net.py",
         f"configs/{STREETS}/deeplab_v3_R_103_os16_mg124_poly_90k_bs16.yaml", STREET_OPTIONS),
    Case("DeepLab v3+", f"{D2}/DeepLab", "train_net.py",
         f"configs/{STREETS}/deeplab_v3_plus_R_103_os16_mg124_poly_90k_bs16.yaml",
         STREET_OPTIONS),
    Case("Panoptic-DeepLab, Cityscapes", f"{D2}/Panoptic-DeepLab", "train_net.py",
         "configs/Cityscapes-PanopticSegmentation/"
         "panoptic_deeplab_R_52_os16_mg124_poly_90k_bs32_crop_512_1024.yaml",
         f"{STREET_OPTIONS} MODEL.INS_EMBED_HEAD.NORM BN"),
    Case("PointRend, Cityscapes instances", f"{D2}/PointRend", "train_net.py",
         "configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_cityscapes.yaml", LOW_SCORES),
    Case("PointRend, Cityscapes semantic", f"{D2}/PointRend", "train_net.py",
         "configs/SemanticSegmentation/pointrend_semantic_R_101_FPN_1x_cityscapes.yaml",
         "INPUT.CROP.SIZE (96,96)"),
    Case("train_net.py", "detectron2", "tools/train_net.py",
         "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"),
    Case("plain_train_net.py", "detectron2", "tools/plain_train_net.py",
         "configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", SEVEN),
    Case("Sparse R-CNN", "SparseR-CNN/projects/SparseRCNN", "train_net.py",
         "configs/sparsercnn.res50.100pro.3x.yaml"),
    Case("DiffusionDet", "DiffusionDet", "train_net.py", "configs/diffdet.coco.res50.yaml",
         "MODEL.DiffusionDet.NUM_PROPOSALS 20"),
    Case("CenterNet2", "CenterNet2", "train_net.py", "configs/CenterNet2_R50_1x.yaml", SEVEN),
    Case("CenterNet", "CenterNet2", "train_net.py", "configs/CenterNet-FPN_R50_1x.yaml", SEVEN),
    Case("Detic, supervised", "Detic", "train_net.py",
         "configs/Base-C2_L_R5021k_640b64_4x.yaml",
         f"{SEVEN} INPUT.TRAIN_SIZE 96 INPUT.TEST_SIZE 96 FP16 False MODEL.BACKBONE.NAME"
         " build_p67_resnet_fpn_backbone MODEL.RESNETS.DEPTH 50", ("CenterNet2",)),
    Case("Mask2Former, instances", "Mask2Former", "train_net.py",
         "configs/coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml", SMALL_IMAGES),
    Case("Mask2Former, panoptic", "Mask2Former", "train_net.py",
         "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml", SMALL_IMAGES),
    Case("Mask2Former, semantic", "Mask2Former", "train_net.py",
         "configs/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml",
         "INPUT.CROP.SIZE (96,96) MODEL.SEM_SEG_HEAD.NUM_CLASSES 150"),
    Case("AdelaiDet FCOS", "AdelaiDet", "tools/train_net.py",
         "configs/FCOS-Detection/R_50_1x.yaml", path=("AdelaiDet",)),
    Case("AdelaiDet BlendMask", "AdelaiDet", "tools/train_net.py",
         "configs/BlendMask/R_50_1x.yaml", "MODEL.BASIS_MODULE.LOSS_ON False", ("AdelaiDet",)),
    Case("AdelaiDet CondInst", "AdelaiDet", "tools/train_net.py",
         "configs/CondInst/MS_R_50_1x.yaml", path=("AdelaiDet",)),
    Case("AdelaiDet BoxInst", "AdelaiDet", "tools/train_net.py",
         "configs/BoxInst/MS_R_50_1x.yaml", path=("AdelaiDet",)),
    Case("AdelaiDet SOLOv2", "AdelaiDet", "tools/train_net.py", "configs/SOLOv2/R50_3x.yaml",
         path=("AdelaiDet",)),
    Case("detrex DETR", "detrex", "tools/train_net.py", "projects/detr/configs/detr_r50_300ep.py",
         "model.device=cpu", ("detrex",)),
    Case("detrex DINO", "detrex", "tools/train_net.py",
         "projects/dino/configs/dino-resnet/dino_r50_4scale_12ep.py",
         "model.device=cpu", ("detrex",)),
)  # fmt: skip


@dataclass(frozen=True)
class Result:
    """What became of a case: its last loss, its metrics, or why there are none."""

    case: Case
    seconds: float
    loss: float | None
    metrics: int
    error: str

    @property
    def passed(self) -> bool:
        """Whether it trained to a finite loss and evaluated."""
        trained = self.loss is not None and math.isfinite(self.loss)
        return trained and not self.error and (self.metrics > 0 or not self.case.evaluates)

    def __str__(self) -> str:
        state = "ok" if self.passed else "FAILED"
        loss = "" if self.loss is None else f"loss {self.loss:.3f}, {self.metrics} metrics"
        return f"{state:<7}{self.case.name:<28}{self.seconds:5.0f}s  {loss} {self.error}"


def run(case: Case, folder: Path, work: Path, python: str, limit: float) -> Result:
    """Run one project's script in a process of its own."""
    project = folder / case.project
    output = work / case.name.replace(" ", "_").replace(",", "")
    output.mkdir(parents=True, exist_ok=True)
    if not project.is_dir():
        return Result(case, 0, None, 0, f"not there: {case.project}")
    paths = [str(SOURCE), *(str(folder / p) for p in case.path)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "DETECTRON2_DATASETS": str(work / "datasets"),
        "FVCORE_CACHE": str(work / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    start = time.time()
    (output / "metrics.json").unlink(missing_ok=True)
    with open(output / "stdout.txt", "w") as log:
        command = [python, *case.words(project, output)]
        if case.served:
            shutil.copy(project / case.script, output / case.script)
        folder = work if case.beside_data or case.served else project
        try:
            code = subprocess.run(
                command, cwd=folder, env=environment, stdout=log, stderr=log, timeout=limit
            ).returncode
        except subprocess.TimeoutExpired:
            code = f"no end after {limit:.0f}s"
    seconds = time.time() - start
    rows: list[dict[str, float]] = []
    if (output / "metrics.json").exists():
        lines = (output / "metrics.json").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
    losses = [r["total_loss"] for r in rows if "total_loss" in r]
    text = (output / "stdout.txt").read_text(errors="replace")
    metrics = len({k for r in rows for k in r if "/" in k and not k.startswith("loss")})
    metrics = max(metrics, text.count("copypaste: "), text.count("are in csv format"))
    error = ""
    if code:
        last = [line for line in text.strip().splitlines() if line.strip()]
        error = f"exit {code}: {last[-1][:150] if last else ''}"
    return Result(case, seconds, losses[-1] if losses else None, metrics, error)


def main() -> int:
    """Run the cases; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the projects' clones are")
    parser.add_argument("--python", default=sys.executable, help="interpreter without detectron2")
    parser.add_argument("--only", action="append", default=[], help="part of a case's name")
    parser.add_argument("--work", type=Path, help="folder for data, logs and outputs")
    parser.add_argument("--limit", type=float, default=1200, help="seconds a case may take")
    args = parser.parse_args()
    work = (args.work or Path(tempfile.mkdtemp())).resolve()
    write_datasets(work / "datasets")
    write_cityscapes(work / "datasets")
    write_densepose(work / "datasets", work / "cache")
    chosen = [
        c for c in CASES if not args.only or any(o.lower() in c.name.lower() for o in args.only)
    ]
    failed = 0
    for case in chosen:
        result = run(case, args.folder.resolve(), work, args.python, args.limit)
        failed += not result.passed
        print(result, flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} pass; logs in {work}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
