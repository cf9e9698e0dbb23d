"""Each evaluator with half of the images on each of two processes, against all on one."""

import functools
import json

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from reference import made_up
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.evaluation import (
    CityscapesInstanceEvaluator,
    CityscapesSemSegEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    RotatedCOCOEvaluator,
    SemSegEvaluator,
)
from retinue.evaluation.panoptic_evaluation import ids_to_colors
from retinue.structures import Boxes, Instances, RotatedBoxes
from retinue.utils import comm

CLASSES = [f"c{i + 1}" for i in range(made_up.NUM_CLASSES)]
PREFIX = "retinue_test_two_ranks_"
CITY = "town_000000"  # Cityscapes' names: town, sequence, frame


# ---- files, written once


def write_files(folder):
    write_coco(folder)
    write_voc(folder)
    write_maps(folder)


def write_coco(folder):
    rows = made_up.annotations()
    content = {
        "images": made_up.images(),
        "annotations": rows,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    upright = [row | {"iscrowd": 0} for row in rows]
    rotated = content | {"annotations": list(made_up.rotate(upright))}
    (folder / "rotated.json").write_text(json.dumps(rotated))
    draw = made_up.Draw(9)
    for image in content["images"]:
        image["neg_category_ids"] = [draw.below(5) + 1]
        image["not_exhaustive_category_ids"] = [draw.below(5) + 1]
    for category, frequency in zip(content["categories"], "rccff", strict=True):
        category["frequency"] = frequency
    for row in rows:
        del row["iscrowd"], row["keypoints"]
    (folder / "lvis.json").write_text(json.dumps(content))


def write_voc(folder):
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    names = [str(image["id"]) for image in made_up.images()]
    (folder / "ImageSets" / "Main" / "val.txt").write_text("\n".join(names))
    objects = dict.fromkeys(names, "")
    for row in made_up.annotations():
        x, y, w, h = row["bbox"]
        objects[str(row["image_id"])] += (
            f"<object><name>c{row['category_id']}</name><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
        )
    for name, text in objects.items():
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")


def write_maps(folder):
    """Label maps, panoptic maps, and Cityscapes' two kinds."""
    (folder / "city").mkdir()
    for i, (truth, _) in enumerate(made_up.label_maps()):
        Image.fromarray(truth).save(folder / f"labels_{i}.png")
        ids = np.where(truth == 255, 0, truth % 4 + 23).astype(np.int32)  # sky, person, rider, car
        Image.fromarray(ids.astype(np.uint8)).save(
            folder / "city" / f"{CITY}_{i}_gtFine_labelIds.png"
        )
        ids = np.where(ids > 23, ids * 1000, ids).astype(np.uint16)
        Image.fromarray(ids).save(folder / "city" / f"{CITY}_{i}_gtFine_instanceIds.png")
    truths, _ = made_up.panoptic_annotations()
    for i, (ids, _) in enumerate(truths):
        Image.fromarray(ids_to_colors(ids)).save(folder / f"panoptic_{i}.png")
    content = {
        "images": [{"id": i, "file_name": f"panoptic_{i}.jpg"} for i in range(4)],
        "annotations": [
            {"image_id": i, "file_name": f"panoptic_{i}.png", "segments_info": segments}
            for i, (_, segments) in enumerate(truths)
        ],
        "categories": [
            {"id": i, "name": str(i), "isthing": int(i in made_up.THINGS)}
            for i in (*made_up.THINGS, *made_up.STUFF)
        ],
    }
    (folder / "panoptic.json").write_text(json.dumps(content))


# ---- datasets and predictions, in each process


def register(folder):
    for name in ("coco", "lvis", "rotated"):
        MetadataCatalog.get(PREFIX + name).set(
            json_file=f"{folder}/{name}.json",
            thing_classes=CLASSES,
            thing_dataset_id_to_contiguous_id={i + 1: i for i in range(len(CLASSES))},
        )
    MetadataCatalog.get(PREFIX + "voc").set(
        dirname=str(folder), split="val", year=2012, thing_classes=CLASSES
    )
    MetadataCatalog.get(PREFIX + "panoptic").set(
        panoptic_json=f"{folder}/panoptic.json",
        panoptic_root=str(folder),
        thing_dataset_id_to_contiguous_id=made_up.THINGS,
        stuff_dataset_id_to_contiguous_id=made_up.STUFF,
        label_divisor=made_up.LABEL_DIVISOR,
    )
    MetadataCatalog.get(PREFIX + "city").set(gt_dir=str(folder), thing_classes=["person", "rider"])
    MetadataCatalog.get(PREFIX + "sem_seg").set(
        stuff_classes=[str(i) for i in range(7)], ignore_label=255
    )
    rows = [
        {"file_name": f"{i}.jpg", "sem_seg_file_name": f"{folder}/labels_{i}.png"} for i in range(4)
    ]
    DatasetCatalog.register(PREFIX + "sem_seg", lambda: rows)


def forget():
    for name in ("coco", "lvis", "rotated", "voc", "panoptic", "city", "sem_seg"):
        MetadataCatalog.remove(PREFIX + name)
    DatasetCatalog.remove(PREFIX + "sem_seg")


@functools.cache
def predicted(rotated):
    rows = made_up.detections()
    return list(made_up.rotate(rows, seed=4)) if rotated else rows


def instances(image, *, rotated=False, keypoints=False):
    rows = [row for row in predicted(rotated) if row["image_id"] == image["id"]]
    boxes = torch.tensor([row["bbox"] for row in rows]).reshape(len(rows), -1).float()
    found = Instances((made_up.HEIGHT, made_up.WIDTH))
    if not rotated:
        boxes = boxes.reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = np.array([made_up.ellipse(row["bbox"]) for row in rows], dtype=bool)
        found.pred_masks = torch.from_numpy(masks.reshape(-1, made_up.HEIGHT, made_up.WIDTH))
    found.pred_boxes = RotatedBoxes(boxes.reshape(-1, 5)) if rotated else Boxes(boxes)
    found.scores = torch.tensor([row["score"] for row in rows])
    classes = [row["category_id"] - 1 for row in rows]
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    if keypoints:
        points = torch.tensor([row["keypoints"] for row in rows]).reshape(len(rows), -1, 3)
        found.pred_keypoints = points + torch.tensor([0.5, 0.5, 0.0])
    return found


def detections(**fields):
    """Pairs of an image and what a detector says of it."""
    for image in made_up.images():
        found = instances(image, **fields)
        yield {"image_id": image["id"]}, {"instances": found}


def proposals():
    for image, output in detections():
        found = Instances(output["instances"].image_size)
        found.proposal_boxes = output["instances"].pred_boxes
        found.objectness_logits = output["instances"].scores
        yield image, {"proposals": found}


def voc():
    for image, output in detections():
        yield {"image_id": str(image["image_id"])}, output


def label_maps():
    for i, (_, found) in enumerate(made_up.label_maps()):
        labels = torch.from_numpy(np.minimum(found, 6).astype(np.int64))
        scores = torch.nn.functional.one_hot(labels, 7).permute(2, 0, 1)
        yield {"file_name": f"{i}.jpg"}, {"sem_seg": scores}


def panoptic():
    for i, (ids, segments) in enumerate(list(made_up.panoptic_annotations())[1]):
        image = {"file_name": f"panoptic_{i}.jpg", "image_id": i}
        yield image, {"panoptic_seg": (torch.from_numpy(ids), segments)}


def city_labels():
    for i, (_, found) in enumerate(made_up.label_maps()):
        labels = torch.from_numpy((found % 4 + 10).astype(np.int64))
        scores = torch.nn.functional.one_hot(labels, 19).permute(2, 0, 1)
        yield {"file_name": f"{CITY}_{i}_leftImg8bit.png"}, {"sem_seg": scores}


def city_masks():
    for i, (_, found) in enumerate(made_up.label_maps()):
        shown = Instances((made_up.HEIGHT, made_up.WIDTH))
        shown.pred_masks = torch.from_numpy(np.stack([found % 4 == 1, found % 4 == 2]))
        shown.pred_classes = torch.tensor([0, 1])
        shown.scores = torch.tensor([0.9 - i / 10, 0.8 - i / 10])
        yield {"file_name": f"{CITY}_{i}_leftImg8bit.png"}, {"instances": shown}


def cases(folder):
    """Name, evaluator, and pairs of input and output of each case."""
    for keeps in (False, True):  # predictions: matched as they come, or kept for files

        def out(name, keeps=keeps):
            return f"{folder}/{name}" if keeps else None

        coco, lvis = PREFIX + "coco", PREFIX + "lvis"
        points = list(detections(keypoints=True))
        yield f"coco {keeps}", COCOEvaluator(coco, output_dir=out("a")), points
        yield f"recall {keeps}", COCOEvaluator(coco, output_dir=out("b")), list(proposals())
        yield f"lvis {keeps}", LVISEvaluator(lvis, output_dir=out("c")), list(detections())
        yield f"lvis recall {keeps}", LVISEvaluator(lvis, output_dir=out("d")), list(proposals())
        evaluator = RotatedCOCOEvaluator(PREFIX + "rotated", output_dir=out("e"))
        yield f"rotated {keeps}", evaluator, list(detections(rotated=True))
    yield "voc", PascalVOCDetectionEvaluator(PREFIX + "voc"), list(voc())
    yield "labels", SemSegEvaluator(PREFIX + "sem_seg"), list(label_maps())
    yield "panoptic", COCOPanopticEvaluator(PREFIX + "panoptic"), list(panoptic())


def city_cases(folder):
    name = PREFIX + "city"
    yield "city masks", CityscapesInstanceEvaluator(name), list(city_masks())
    yield "city labels", CityscapesSemSegEvaluator(name), list(city_labels())


# ---- one process and two


def results_of(folder, make_cases):
    """Feed every evaluator this rank's share, image by image, and return the results by case."""
    register(folder)
    results = {}
    for name, evaluator, pairs in make_cases(folder):
        evaluator.reset()
        for image, output in pairs[comm.get_rank() :: comm.get_world_size()]:
            evaluator.process([image], [output])
        results[name] = evaluator.evaluate()
    forget()
    return results


def on_rank(rank, folder, make_cases):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    comm.create_local_process_group(2)
    results = results_of(f"{folder}/two", make_cases)
    if rank == 0:
        with open(f"{folder}/results.json", "w") as file:
            json.dump(results, file, default=float)
    else:
        assert not any(results.values())  # the main process reports
    dist.destroy_process_group()


def compare(tmp_path, make_cases):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_files(tmp_path / name)
    expected = results_of(tmp_path / "one", make_cases)
    mp.spawn(on_rank, args=(str(tmp_path), make_cases), nprocs=2)
    got = json.loads((tmp_path / "results.json").read_text())
    assert list(got) == list(expected)
    for name, tasks in expected.items():
        assert tasks, name
        assert list(got[name]) == list(tasks)
        for task, scores in tasks.items():
            assert any(value > 0 for value in scores.values()), (name, task)
            assert got[name][task] == pytest.approx(scores, abs=1e-9, nan_ok=True), (name, task)
    return expected


@pytest.mark.slow
def test_two_ranks_report_what_one_does(tmp_path):
    results = compare(tmp_path, cases)
    assert set(results["coco False"]) == {"bbox", "segm", "keypoints"}
    assert set(results["lvis True"]) == {"bbox", "segm"}


@pytest.mark.interop
@pytest.mark.filterwarnings("ignore")  # of Cityscapes' scripts
def test_two_ranks_report_what_one_does_of_cityscapes(tmp_path):
    pytest.importorskip("cityscapesscripts")
    compare(tmp_path, city_cases)
