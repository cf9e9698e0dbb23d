"""``retinue run visualize_data --source annotation | dataloader``: draw what a model trains on."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from retinue.compat.tools.common import config_file_of
from retinue.compat.tools.pictures import save_picture, show_picture
from retinue.config import CfgNode, get_cfg
from retinue.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from retinue.data.build import filter_images_with_few_keypoints
from retinue.data.detection_utils import convert_image_to_rgb, read_image
from retinue.projects.files import read_config
from retinue.utils.errors import InputError
from retinue.utils.logger import setup_logger
from retinue.visualization import Visualizer

__all__ = ["main"]


def _annotations(cfg: CfgNode, metadata: Any) -> Iterator[tuple[str, np.ndarray]]:
    dicts = list(itertools.chain.from_iterable(map(DatasetCatalog.get, cfg.DATASETS.TRAIN)))
    if cfg.MODEL.KEYPOINT_ON:
        dicts = filter_images_with_few_keypoints(dicts, 1)
    for row in dicts:
        drawn = Visualizer(read_image(row["file_name"], "RGB"), metadata).draw_dataset_dict(row)
        yield os.path.basename(row["file_name"]), drawn.get_image()


def _samples(cfg: CfgNode, metadata: Any) -> Iterator[tuple[str, np.ndarray]]:
    for sample in itertools.chain.from_iterable(build_detection_train_loader(cfg)):
        image = sample["image"].permute(1, 2, 0).numpy()
        fields = sample["instances"].get_fields()
        drawn = Visualizer(
            convert_image_to_rgb(image, cfg.INPUT.FORMAT), metadata
        ).overlay_instances(
            labels=[metadata.thing_classes[i] for i in fields["gt_classes"].tolist()],
            boxes=fields.get("gt_boxes"),
            masks=fields.get("gt_masks"),
            keypoints=fields.get("gt_keypoints"),
        )
        yield f"{sample['image_id']}.jpg", drawn.get_image()


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Draw annotations or training samples.")
    add = parser.add_argument
    add("--source", choices=["annotation", "dataloader"], required=True, help="what to draw")
    add("--config-file", metavar="FILE", help="whose DATASETS.TRAIN it is")
    add("--output-dir", default="./", help="folder for the pictures")
    add("--show", action="store_true", help="open them instead")
    add("--num", type=int, help="pictures to draw; all by default, for ever from the loader")
    add("opts", nargs=argparse.REMAINDER, help="config keys and values")
    args = parser.parse_args()
    setup_logger()
    cfg: Any = read_config(config_file_of(args.config_file)) if args.config_file else get_cfg()
    cfg.merge_from_list([*args.opts, "DATALOADER.NUM_WORKERS", 0])
    if not cfg.DATASETS.TRAIN:
        raise InputError("DATASETS.TRAIN names no dataset; give one: DATASETS.TRAIN \"('name',)\"")
    metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
    source = _annotations if args.source == "annotation" else _samples
    for name, picture in itertools.islice(source(cfg, metadata), args.num):
        if args.show:
            show_picture(name, picture)
        else:
            save_picture(os.path.join(args.output_dir, name), picture)
            print(f"-> {os.path.join(args.output_dir, name)}")
