"""Run the Python blocks of detectron2's tutorials on retinue.

``python docs_blocks.py FOLDER`` takes the folder of the Markdown pages. The blocks of a page run
one after another in one namespace, which starts with what a reader of the page has by then:
imports, a config of a small model, an image and its boxes. Blocks that are not Python, or have
``...`` where something is to be filled in, are listed as sketches if they don't run.
"""

import argparse
import copy
import logging
import os
import re
import sys
import tempfile
import textwrap
import traceback
import types
from pathlib import Path

import numpy as np
import torch
from coco_layout import write_datasets

from retinue import compat

_BLOCK = re.compile(r"^( *)```python\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_PACKAGES = (
    "checkpoint",
    "config",
    "data",
    "data.transforms",
    "engine",
    "evaluation",
    "layers",
    "modeling",
    "modeling.anchor_generator",
    "modeling.backbone.fpn",
    "modeling.backbone.resnet",
    "modeling.box_regression",
    "modeling.matcher",
    "modeling.meta_arch",
    "modeling.poolers",
    "modeling.proposal_generator.rpn",
    "modeling.roi_heads",
    "modeling.roi_heads.box_head",
    "modeling.roi_heads.fast_rcnn",
    "modeling.roi_heads.mask_head",
    "structures",
)
# To be filled in, or not right: a list "&" an array, an input_shape left out.
_SKETCH = re.compile(
    r"\.\.\.|= #|following format|path/to|flipped_rotated|\[0, 0\] &|_per_image=666"
)


def _small_config():
    from detectron2 import model_zoo

    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.WEIGHTS, cfg.MODEL.DEVICE = "", "cpu"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 1
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (96,), 96
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 20
    return cfg


class _Optimizer:
    def __init__(self, lr, algo):
        self.lr, self.algo = lr, algo


class _Trainer:
    def __init__(self, optimizer):
        self.optimizer = optimizer


def _start_of(page: str) -> dict:
    """Return what the blocks of a page find defined."""
    import importlib

    names: dict = {"__name__": "tutorial", "np": np, "torch": torch, "nn": torch.nn, "copy": copy}
    for package in _PACKAGES:
        module = importlib.import_module(f"detectron2.{package}")
        for name in getattr(module, "__all__", dir(module)):
            if not name.startswith("_"):
                names.setdefault(name, getattr(module, name, None))
    from typing import Any

    names |= {"Any": Any, "cfg": _small_config(), "yyy": 1}
    image = np.random.default_rng(0).integers(0, 255, (700, 720, 3), dtype=np.uint8)
    names |= {
        "image": image,
        "image2": image.copy(),
        "sem_seg": image[:, :, 0].copy(),
        "boxes": np.array([[10.0, 20.0, 300.0, 400.0]]),
        "polygons": [np.array([[10.0, 20.0], [300.0, 20.0], [300.0, 400.0]])],
        "keypoints_xy": np.array([[30.0, 40.0], [50.0, 60.0]]),
        "flip_indices_mapping": [1, 0],
        "visibility": np.ones(2, dtype=bool),
        "W": 720,
        "H": 700,
        "make_prediction": lambda image: image[:, :, 0],
        "file_path_or_url": "",
    }
    if page in ("models", "evaluation"):
        names["model"] = names["build_model"](names["cfg"]).eval()
        loader = names["build_detection_test_loader"](names["cfg"], "coco_2017_val")
        names |= {"data_loader": loader, "inputs": next(iter(loader))}
        names["evaluator"] = names["COCOEvaluator"]("coco_2017_val", output_dir=".")
    if page == "models":
        names["inputs"] = next(iter(names["build_detection_train_loader"](names["cfg"])))
        names["model"].train()
    return names


def run_page(path: Path) -> list[tuple[int, str, str]]:
    """Run the blocks of a page; return number, state and error of each."""
    text = path.read_text(encoding="utf-8")
    names = _start_of(path.stem)
    results = []
    for number, match in enumerate(_BLOCK.finditer(text), start=1):
        block = textwrap.dedent(match[2])
        before = dict(names)
        try:
            exec(compile(block, f"{path.name}, block {number}", "exec"), names)
            results.append((number, "ok", ""))
        except Exception as error:
            state = "sketch" if _SKETCH.search(block) else "FAILED"
            names = before
            where = traceback.extract_tb(error.__traceback__)[-1]
            message = (
                f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            )
            results.append((number, state, message.replace("\n", " ")[:160]))
    return results


def main() -> int:
    """Run all pages; return how many blocks failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of the tutorials' .md files")
    parser.add_argument("--only", help="part of a page's name")
    args = parser.parse_args()
    pages = sorted(args.folder.resolve().glob("*.md"))
    counts = {"ok": 0, "sketch": 0, "FAILED": 0}
    with tempfile.TemporaryDirectory() as folder:
        write_datasets(Path(folder))
        os.environ["DETECTRON2_DATASETS"] = folder
        os.chdir(folder)
        Path("my_cfg.yaml").write_text("SOLVER: {MAX_ITER: 3}\n")
        app = types.ModuleType("my_app")
        app.Trainer, app.Optimizer = _Trainer, _Optimizer
        sys.modules["my_app"] = app
        compat.install()
        logging.disable(logging.WARNING)
        for page in pages:
            if (args.only or "") not in page.stem or not _BLOCK.search(page.read_text()):
                continue
            for number, state, error in run_page(page):
                counts[state] += 1
                print(f"{state:<7}{page.stem} {number}  {error}", flush=True)
    print(", ".join(f"{count} {state}" for state, count in counts.items()))
    return counts["FAILED"]


if __name__ == "__main__":
    sys.exit(main())
