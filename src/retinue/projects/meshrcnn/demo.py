"""Predict the meshes in a picture.

    python -m retinue.projects.meshrcnn.demo photo.jpg --output output/photo

writes, for each object that was found, a picture of where it is and its mesh as ``.obj``.
"""

from __future__ import annotations

import argparse
from typing import Any

from retinue.data import MetadataCatalog
from retinue.data.detection_utils import read_image
from retinue.engine import DefaultPredictor
from retinue.projects import zoo
from retinue.projects.meshrcnn.data.datasets import register_all_pix3d
from retinue.projects.meshrcnn.utils.vis import visualize_predictions

__all__ = ["main"]

CONFIG = "projects/MeshRCNN/configs/pix3d/meshrcnn_R50_FPN.yaml"


def main(argv: list[str] | None = None) -> None:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("input", help="a picture")
    parser.add_argument("--config-file", default=CONFIG, help="see retinue.projects.zoo")
    parser.add_argument("--output", default="output/meshes", help="a folder")
    parser.add_argument("--focal-length", type=float, default=20.0, help="in mm, of a 32 mm sensor")
    parser.add_argument("--onlyhighest", action="store_true", help="the best detection alone")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE pairs of the config")
    args = parser.parse_args(argv)
    register_all_pix3d()
    own_weights = "MODEL.WEIGHTS" in args.opts
    cfg: Any = zoo.get_config(args.config_file, trained=not own_weights)
    cfg.merge_from_list(args.opts)
    image = read_image(args.input, format="BGR")
    found = DefaultPredictor(cfg)(image)["instances"]
    if args.onlyhighest:
        found = found[:1]  # they come by score
    height, width = image.shape[:2]
    camera = (args.focal_length * width / 32, width / 2, height / 2)
    meta = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    stem = args.input.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    for path in visualize_predictions(stem, args.input, found, camera, meta, args.output):
        print(path)


if __name__ == "__main__":
    main()
