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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cityscapes_layout import write_cityscapes
from coco_layout import write_datasets
from densepose_layout import MESHES, VERTICES, write_densepose
from outside_layout import write_pix3d, write_results, write_text
from third_party_case import SEVEN, Case
from third_party_open import OPEN
from third_party_outside import OUTSIDE
from third_party_papers import PAPERS
from video_layout import write_videos

HERE = Path(__file__).resolve()
SOURCE = HERE.parents[2] / "src"

D2 = "detectron2/projects"
DENSEPOSE = f"{D2}/DensePose"
EMBEDDERS = "MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS"
LOW_SCORES = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0 TEST.DETECTIONS_PER_IMAGE 4"
              " MODEL.RESNETS.NORM BN")  # fmt: skip
ANIMALS = "configs/cse/densepose_rcnn_R_50_FPN_soft_animals_I0_finetune_m2m_16k.yaml"
ANIMAL_OPTIONS = f"{LOW_SCORES} " + " ".join(
    f"{EMBEDDERS}.{mesh}.NUM_VERTICES {VERTICES}" for mesh in MESHES
)
BOOTSTRAP = "configs/evolution/densepose_R_50_FPN_DL_WC1M_3x_Atop10P_CA_B_uv.yaml"
# with seed 1 the untrained model finds nothing that could be learnt
BOOTSTRAP_OPTIONS = (f"{LOW_SCORES} SEED 2 BOOTSTRAP_MODEL.DEVICE cpu BOOTSTRAP_MODEL.WEIGHTS ''"
    " BOOTSTRAP_DATASETS [{'DATASET':'chimpnsee','RATIO':1.0,'IMAGE_LOADER':{'TYPE':"
    "'video_keyframe','SELECT':{'STRATEGY':'random_k','NUM_IMAGES':2},'TRANSFORM':{'TYPE':"
    "'resize','MIN_SIZE':96,'MAX_SIZE':160},'BATCH_SIZE':1,'NUM_WORKERS':0},'INFERENCE':{"
    "'INPUT_BATCH_SIZE':1,'OUTPUT_BATCH_SIZE':1},'DATA_SAMPLER':{'TYPE':"
    "'densepose_UV_confidence','COUNT_PER_CLASS':8},'FILTER':{'TYPE':'detection_score',"
    "'MIN_VALUE':0.0}}]")  # fmt: skip
# its evaluation of embeddings moves tensors to "cuda", whatever the model's device is
NO_GPU = ("import torch; to = torch.Tensor.to; torch.Tensor.to = lambda x, *a, **k:"
          " to(x, *a, **{n: 'cpu' if v == 'cuda' else v for n, v in k.items()})")  # fmt: skip
STREETS = "Cityscapes-SemanticSegmentation"
STREET_OPTIONS = ("INPUT.MAX_SIZE_TRAIN 256 INPUT.MAX_SIZE_TEST 256 INPUT.CROP.SIZE (96,96)"
                  " MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.NORM BN"
                  " MODEL.SEM_SEG_HEAD.NORM BN")  # fmt: skip
RETHINKING = "projects/Rethinking-BatchNorm/configs"
SMALL_LAZY = ("dataloader.train.mapper.augmentations.0.short_edge_length=[96]"
              " dataloader.test.mapper.augmentations.0.short_edge_length=96")  # fmt: skip
SMALL_POINT_HEAD = "MODEL.POINT_HEAD.FC_DIM 16"  # its weights are predicted: 200,000 an object
CASES = (
    Case("PointRend", f"{D2}/PointRend", "train_net.py",
         "configs/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco.yaml"),
    Case("Implicit PointRend", f"{D2}/PointRend", "train_net.py",
         "configs/InstanceSegmentation/implicit_pointrend_R_50_FPN_1x_coco.yaml",
         f"MODEL.RESNETS.NORM BN {SMALL_POINT_HEAD}"),
    Case("TridentNet", f"{D2}/TridentNet", "train_net.py",
         "configs/tridentnet_fast_R_50_C4_1x.yaml"),
    Case("TensorMask", f"{D2}/TensorMask", "train_net.py", "configs/tensormask_R_50_FPN_1x.yaml"),
    Case("PointSup", f"{D2}/PointSup", "train_net.py",
         "configs/mask_rcnn_R_50_FPN_3x_point_sup_coco.yaml",
         refusal="takes 3 positional arguments but 4"),  # they are keywords on detectron2, too
    Case("PointSup, served", f"{D2}/PointSup", "train_net.py",
         "configs/mask_rcnn_R_50_FPN_3x_point_sup_point_aug_coco.yaml", served=True),
    Case("PointSup implicit, served", f"{D2}/PointSup", "train_net.py",
         "configs/implicit_pointrend_R_50_FPN_3x_point_sup_point_aug_coco.yaml",
         f"MODEL.RESNETS.NORM BN {SMALL_POINT_HEAD}", served=True),
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
         f"{RETHINKING}/mask_rcnn_BNhead.py", SMALL_LAZY),
    Case("Rethinking BatchNorm, of the batch", "detectron2", "tools/lazyconfig_train_net.py",
         f"{RETHINKING}/mask_rcnn_BNhead_batch_stats.py", SMALL_LAZY),
    Case("Rethinking BatchNorm, shared", "detectron2", "tools/lazyconfig_train_net.py",
         f"{RETHINKING}/retinanet_SyncBNhead.py", SMALL_LAZY,
         refusal="module 'torch.nn' has no attribute 'SyncBatchNorm2d'"),  # nor has any PyTorch
    Case("Rethinking BatchNorm, SyncBN", "detectron2", "tools/lazyconfig_train_net.py",
         f"{RETHINKING}/mask_rcnn_SyncBNhead.py", SMALL_LAZY),
    Case("Rethinking BatchNorm, shuffled", "detectron2", "tools/lazyconfig_train_net.py",
         f"{RETHINKING}/mask_rcnn_BNhead_shuffle.py", SMALL_LAZY, flags="--num-gpus 2"),
    Case("DensePose charts", DENSEPOSE, "train_net.py", "configs/densepose_rcnn_R_50_FPN_s1x.yaml",
         LOW_SCORES, beside_data=True),
    Case("DensePose surface embeddings", DENSEPOSE, "train_net.py",
         "configs/cse/densepose_rcnn_R_50_FPN_soft_s1x.yaml",
         f"{LOW_SCORES} {EMBEDDERS}.smpl_27554.NUM_VERTICES {VERTICES}", beside_data=True,
         before=NO_GPU),
    Case("DensePose charts, served", DENSEPOSE, "train_net.py",
         "configs/densepose_rcnn_R_50_FPN_DL_WC2M_s1x.yaml", LOW_SCORES, served=True),
    Case("DensePose animals, served", DENSEPOSE, "train_net.py", ANIMALS, ANIMAL_OPTIONS,
         served=True),
    Case("DensePose animals", DENSEPOSE, "train_net.py", ANIMALS, ANIMAL_OPTIONS,
         beside_data=True, before=NO_GPU),
    Case("DensePose bootstrapped", DENSEPOSE, "train_net.py", BOOTSTRAP, BOOTSTRAP_OPTIONS,
         beside_data=True,  # its own loader wants embedders, which charts have not
         refusal="'NoneType' object has no attribute 'to'"),
    Case("DensePose bootstrapped, served", DENSEPOSE, "train_net.py", BOOTSTRAP,
         BOOTSTRAP_OPTIONS, served=True),
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
    *OUTSIDE,
    *PAPERS,
    *OPEN,
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
        """Whether it trained to a finite loss and evaluated, or refused as it ought to."""
        if self.case.refusal:
            return self.case.refusal in self.error
        trained = "--eval-only" in self.case.flags
        trained = trained or (self.loss is not None and math.isfinite(self.loss))
        return trained and not self.error and (self.metrics > 0 or not self.case.evaluates)

    def __str__(self) -> str:
        state = "ok" if self.passed else "FAILED"
        loss = "" if self.loss is None else f"loss {self.loss:.3f}, {self.metrics} metrics"
        return f"{state:<7}{self.case.name:<28}{self.seconds:5.0f}s  {loss} {self.error}"


def prepare(work: Path) -> None:
    """Write all data that the projects look for."""
    write_datasets(work / "datasets")
    write_cityscapes(work / "datasets")
    write_densepose(work / "datasets", work / "cache")
    write_pix3d(work / "datasets")
    write_text(work / "datasets")
    write_results(work / "datasets")
    write_videos(work / "datasets")


def environment(work: Path, paths: Sequence[Path]) -> dict[str, str]:
    """Return the variables that a project runs with; it imports from retinue and ``paths``."""
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (SOURCE, *paths))),
        "DETECTRON2_DATASETS": str(work / "datasets"),
        "FVCORE_CACHE": str(work / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def run(case: Case, folder: Path, work: Path, python: str, limit: float) -> Result:
    """Run one project's script in a process of its own."""
    project = folder / case.project
    output = work / case.name.replace(" ", "_").replace(",", "")
    output.mkdir(parents=True, exist_ok=True)
    if not project.is_dir():
        return Result(case, 0, None, 0, f"not there: {case.project}")
    start = time.time()
    (output / "metrics.json").unlink(missing_ok=True)
    with open(output / "stdout.txt", "w") as log:
        command = [python, *case.words(project, output)]
        if case.served:
            shutil.copy(project / case.script, output / case.script)
        cwd = work if case.beside_data or case.served else project
        paths = [folder / p for p in case.path]
        try:
            code = subprocess.run(
                command, cwd=cwd, env=environment(work, paths), stdout=log, stderr=log,
                timeout=limit,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = f"no end after {limit:.0f}s"
    seconds = time.time() - start
    for checkpoint in output.glob("*.pth"):
        checkpoint.unlink()  # up to a gigabyte each
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
    prepare(work)
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
