"""Train Mask R-CNN R50-FPN from scratch on 16 images until it knows them by heart.

    python examples/overfit_coco_tiny.py COCO_FOLDER --output output/overfit [KEY VALUE ...]

COCO_FOLDER holds ``train2017/``, ``val2017/`` and ``annotations/`` as COCO does. A model that
can't learn 16 images by heart has a fault somewhere between its loader and its loss; this is the
quickest whole test of that: a quarter of an hour on two CPU cores with bfloat16, the double
without. The images are small (short side 256), the normalisation is GroupNorm, no weights are
loaded, nothing is augmented. Afterwards the model is evaluated on those 16 images and on the
validation images (where it can only be poor), and its predictions are drawn beside the truth.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from retinue import model_zoo
from retinue.config import CfgNode
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets import register_coco_instances
from retinue.data.detection_utils import read_image
from retinue.engine import DefaultPredictor, DefaultTrainer, default_setup
from retinue.evaluation import COCOEvaluator
from retinue.visualization import Visualizer

NUM_IMAGES = 16


def write_subset(folder: Path, output: Path) -> Path:
    """Write the annotations of the first images that hold any object."""
    annotations = json.loads((folder / "annotations" / "instances_train2017.json").read_text())
    with_objects = {a["image_id"] for a in annotations["annotations"] if not a["iscrowd"]}
    ids = sorted(i["id"] for i in annotations["images"] if i["id"] in with_objects)[:NUM_IMAGES]
    annotations["images"] = [i for i in annotations["images"] if i["id"] in ids]
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] in ids]
    path = output / "subset.json"
    path.write_text(json.dumps(annotations))
    return path


def make_config(output: Path, overrides: list[str]) -> CfgNode:
    cfg = model_zoo.get_config("Misc/scratch_mask_rcnn_R_50_FPN_3x_gn")
    cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    cfg.DATASETS.TRAIN = ("tiny_subset",)
    cfg.DATASETS.TEST = ("tiny_subset", "tiny_val")
    cfg.INPUT.MIN_SIZE_TRAIN = (256,)
    cfg.INPUT.MAX_SIZE_TRAIN = cfg.INPUT.MAX_SIZE_TEST = 342
    cfg.INPUT.MIN_SIZE_TEST = 256
    cfg.INPUT.RANDOM_FLIP = "none"
    # Objects are a third of their usual size in these small pictures: so are the anchors.
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[12], [24], [48], [96], [192]]
    cfg.MODEL.ROI_BOX_HEAD.NUM_CONV = 0
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    cfg.MODEL.ROI_BOX_HEAD.NORM = ""
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 128
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 500
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 300
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.SOLVER.BASE_LR = 2e-4
    cfg.SOLVER.MAX_ITER = 800
    cfg.SOLVER.STEPS = (600, 750)
    cfg.SOLVER.WARMUP_ITERS = 50
    cfg.SOLVER.AMP.ENABLED = True  # bfloat16 on a CPU, which halves the time where it has it
    cfg.SOLVER.CHECKPOINT_PERIOD = 200
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SEED = 1
    cfg.OUTPUT_DIR = str(output)
    cfg.merge_from_list(overrides)
    cfg.freeze()
    return cfg


class Trainer(DefaultTrainer):
    """The default trainer with AdamW, which learns from scratch faster than SGD."""

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            model.parameters(), lr=cfg.SOLVER.BASE_LR, weight_decay=1e-4, fused=True
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
        folder = Path(cfg.OUTPUT_DIR) / "inference" / dataset_name
        return COCOEvaluator(dataset_name, output_dir=str(folder))


def draw(cfg: CfgNode, dataset: str, output: Path, limit: int = NUM_IMAGES) -> None:
    """Draw the truth (left) beside the predictions (right), one picture an image."""
    from PIL import Image

    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(Path(cfg.OUTPUT_DIR) / "model_final.pth")
    predictor = DefaultPredictor(cfg)
    metadata = MetadataCatalog.get(dataset)
    output.mkdir(parents=True, exist_ok=True)
    for record in DatasetCatalog.get(dataset)[:limit]:
        image = read_image(record["file_name"], format="BGR")
        found = predictor(image)["instances"].to("cpu")
        rgb = image[:, :, ::-1]
        truth = Visualizer(rgb, metadata).draw_dataset_dict(record).get_image()
        seen = Visualizer(rgb, metadata)
        seen = seen.draw_instance_predictions(found[found.scores > 0.5]).get_image()
        both = Image.new("RGB", (truth.shape[1] + seen.shape[1], truth.shape[0]))
        both.paste(Image.fromarray(truth), (0, 0))
        both.paste(Image.fromarray(seen), (truth.shape[1], 0))
        both.save(output / Path(record["file_name"]).name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder laid out like COCO 2017")
    parser.add_argument("--output", type=Path, default=Path("output/overfit"))
    parser.add_argument("--resume", action="store_true", help="go on where a run stopped")
    parser.add_argument("overrides", nargs="*", help="config KEY VALUE pairs")
    args = parser.parse_intermixed_args()
    args.output.mkdir(parents=True, exist_ok=True)

    subset = write_subset(args.folder, args.output)
    register_coco_instances("tiny_subset", {}, str(subset), str(args.folder / "train2017"))
    validation = args.folder / "annotations" / "instances_val2017.json"
    register_coco_instances("tiny_val", {}, str(validation), str(args.folder / "val2017"))
    cfg = make_config(args.output, args.overrides)
    default_setup(cfg, None)

    start = time.perf_counter()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    results = trainer.train()
    minutes = (time.perf_counter() - start) / 60
    draw(cfg, "tiny_subset", args.output / "drawn_subset")
    draw(cfg, "tiny_val", args.output / "drawn_val")
    for dataset, metrics in results.items():
        print(f"{dataset}: box AP {metrics['bbox']['AP']:.1f}, mask AP {metrics['segm']['AP']:.1f}")
    print(f"{minutes:.1f} minutes; pictures: {args.output}/drawn_subset, {args.output}/drawn_val")


if __name__ == "__main__":
    main()
