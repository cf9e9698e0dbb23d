"""The notebook that most people start from: own annotations, training, prediction, evaluation.

Polygons in the format of the VGG Image Annotator become dataset dicts; Mask R-CNN trains on them by
``DefaultTrainer``; the predictor's output is drawn and evaluated. Keypoints and panoptic segments
of other models are drawn the same way.
"""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from retinue import model_zoo
from retinue.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from retinue.data.detection_utils import read_image
from retinue.engine import DefaultPredictor, DefaultTrainer
from retinue.evaluation import COCOEvaluator, inference_on_dataset
from retinue.structures import BoxMode
from retinue.utils.visualizer import ColorMode, Visualizer

HEIGHT, WIDTH = 64, 96
CENTRES = [(24, 24), (30, 40), (60, 30)]  # x, y of the one disc in each picture
RADIUS = 16


def _disc(x, y):
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return x + RADIUS * np.cos(angles), y + RADIUS * np.sin(angles)


def _draw_pictures(folder):
    """Write grey pictures with a red disc each, and their outlines as the annotator saves them."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    regions = {}
    for number, (x, y) in enumerate(CENTRES):
        pixels = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
        pixels[(columns - x) ** 2 + (rows - y) ** 2 < RADIUS**2] = (220, 30, 30)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        xs, ys = _disc(x, y)
        shape = {"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)}
        regions[f"{number}.png"] = {
            "filename": f"{number}.png",
            "regions": {"0": {"shape_attributes": shape, "region_attributes": {}}},
        }
    (folder / "via_region_data.json").write_text(json.dumps(regions))


def _read_annotations(folder):
    """Turn the annotator's file into dataset dicts."""
    records = []
    saved = json.loads((folder / "via_region_data.json").read_text())
    for image_id, picture in enumerate(saved.values()):
        objects = []
        for region in picture["regions"].values():
            xs = region["shape_attributes"]["all_points_x"]
            ys = region["shape_attributes"]["all_points_y"]
            objects.append(
                {
                    "bbox": [min(xs), min(ys), max(xs), max(ys)],
                    "bbox_mode": BoxMode.XYXY_ABS,
                    "segmentation": [[v for point in zip(xs, ys, strict=True) for v in point]],
                    "category_id": 0,
                }
            )
        records.append(
            {
                "file_name": str(folder / picture["filename"]),
                "image_id": image_id,
                "height": HEIGHT,
                "width": WIDTH,
                "annotations": objects,
            }
        )
    return records


@pytest.fixture
def discs(tmp_path):
    """The name of a registered dataset of discs."""
    _draw_pictures(tmp_path)
    DatasetCatalog.register("disc_train", lambda: _read_annotations(tmp_path))
    MetadataCatalog.get("disc_train").set(thing_classes=["disc"])
    yield "disc_train"
    DatasetCatalog.remove("disc_train")
    MetadataCatalog.remove("disc_train")


def test_annotations_are_drawn_as_a_check(discs):
    record = DatasetCatalog.get(discs)[0]
    image = read_image(record["file_name"], "BGR")
    visualizer = Visualizer(image[:, :, ::-1], metadata=MetadataCatalog.get(discs), scale=0.5)
    drawn = visualizer.draw_dataset_dict(record).get_image()

    assert drawn.shape == (HEIGHT // 2, WIDTH // 2, 3)
    half_pixels = np.asarray(Image.fromarray(image[:, :, ::-1]).resize((WIDTH // 2, HEIGHT // 2)))
    assert np.abs(drawn.astype(int) - half_pixels).max() > 20  # something is drawn on it


@pytest.mark.slow
def test_training_prediction_and_evaluation(cfg, discs, tmp_path):
    cfg.MODEL.KEYPOINT_ON = False
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (discs,), ()
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (HEIGHT,), HEIGHT
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR = 2, 0.00025
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS = 3, []
    cfg.OUTPUT_DIR = str(tmp_path / "output")
    (tmp_path / "output").mkdir()
    trainer = DefaultTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    metrics = json.loads((tmp_path / "output/metrics.json").read_text().splitlines()[-1])
    assert metrics["iteration"] == 2
    assert {"total_loss", "loss_mask", "loss_box_reg"} <= metrics.keys()

    cfg.MODEL.WEIGHTS = str(tmp_path / "output/model_final.pth")
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    predictor = DefaultPredictor(cfg)
    image = read_image(DatasetCatalog.get(discs)[1]["file_name"], "BGR")
    found = predictor(image)["instances"].to("cpu")
    assert set(found.get_fields()) == {"pred_boxes", "scores", "pred_classes", "pred_masks"}
    visualizer = Visualizer(
        image[:, :, ::-1], metadata=MetadataCatalog.get(discs), instance_mode=ColorMode.IMAGE_BW
    )
    drawn = visualizer.draw_instance_predictions(found).get_image()
    assert drawn.shape == (HEIGHT, WIDTH, 3)
    # Without the objects' colours it is grey: with none of them, wholly.
    bare = Visualizer(image[:, :, ::-1], instance_mode=ColorMode.IMAGE_BW)
    grey = bare.draw_instance_predictions(found[:0]).get_image()
    assert np.ptp(grey, axis=-1).max() == 0

    evaluator = COCOEvaluator(discs, output_dir=cfg.OUTPUT_DIR)
    loader = build_detection_test_loader(cfg, discs)
    results = inference_on_dataset(predictor.model, loader, evaluator)
    assert {"AP", "AP50", "AP75"} <= results["bbox"].keys()
    assert {"AP", "AP50", "AP75"} <= results["segm"].keys()
    assert (tmp_path / "output/coco_instances_results.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml", {"pred_keypoints"}),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_101_3x.yaml", {"pred_masks"}),
    ],
)
def test_other_kinds_of_models_of_the_zoo(name, fields):
    torch.manual_seed(0)
    cfg = model_zoo.get_config(name)
    cfg.merge_from_list(["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    cfg.merge_from_list(["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64])
    cfg.merge_from_list(["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "INPUT.MIN_SIZE_TEST", 64])
    cfg.merge_from_list(["TEST.DETECTIONS_PER_IMAGE", 3, "MODEL.FPN.OUT_CHANNELS", 16])
    image = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    outputs = DefaultPredictor(cfg)(image)
    visualizer = Visualizer(image[:, :, ::-1], MetadataCatalog.get(cfg.DATASETS.TRAIN[0]), scale=2)

    assert fields <= outputs["instances"].get_fields().keys()
    if "panoptic_seg" in outputs:
        labels, segments = outputs["panoptic_seg"]
        assert labels.shape == (HEIGHT, WIDTH)
        drawn = visualizer.draw_panoptic_seg_predictions(labels.to("cpu"), segments)
    else:
        drawn = visualizer.draw_instance_predictions(outputs["instances"].to("cpu"))
    assert drawn.get_image().shape == (2 * HEIGHT, 2 * WIDTH, 3)
