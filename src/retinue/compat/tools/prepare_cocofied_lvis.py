"""``retinue run prepare_cocofied_lvis``: LVIS v0.5 reduced to the 80 categories of COCO.

For evaluating models trained on COCO with LVIS's annotations. Category ids become those of COCO.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retinue.compat.tools.prepare_ade20k_sem_seg import datasets_folder
from retinue.data.datasets.builtin_meta import COCO_CATEGORIES
from retinue.utils.file_io import atomic_write

__all__ = ["cocofy_lvis", "main", "reduced"]

# WordNet's sets of synonyms that COCO's categories are in LVIS, in the order of COCO's ids:
# https://github.com/lvis-dataset/lvis-api, data/coco_to_synset.json
_SYNSETS = (
    "person.n.01 bicycle.n.01 car.n.01 motorcycle.n.01 airplane.n.01 bus.n.01 train.n.01 "
    "truck.n.01 boat.n.01 traffic_light.n.01 fireplug.n.01 stop_sign.n.01 parking_meter.n.01 "
    "bench.n.01 bird.n.01 cat.n.01 dog.n.01 horse.n.01 sheep.n.01 beef.n.01 elephant.n.01 "
    "bear.n.01 zebra.n.01 giraffe.n.01 backpack.n.01 umbrella.n.01 bag.n.04 necktie.n.01 "
    "bag.n.06 frisbee.n.01 ski.n.01 snowboard.n.01 ball.n.06 kite.n.03 baseball_bat.n.01 "
    "baseball_glove.n.01 skateboard.n.01 surfboard.n.01 tennis_racket.n.01 bottle.n.01 "
    "wineglass.n.01 cup.n.01 fork.n.01 knife.n.01 spoon.n.01 bowl.n.03 banana.n.02 apple.n.01 "
    "sandwich.n.01 orange.n.01 broccoli.n.01 carrot.n.01 frank.n.02 pizza.n.01 doughnut.n.02 "
    "cake.n.03 chair.n.01 sofa.n.01 pot.n.04 bed.n.01 dining_table.n.01 toilet.n.02 "
    "television_receiver.n.01 laptop.n.01 mouse.n.04 remote_control.n.01 "
    "computer_keyboard.n.01 cellular_telephone.n.01 microwave.n.02 oven.n.01 toaster.n.02 "
    "sink.n.01 electric_refrigerator.n.01 book.n.01 clock.n.01 vase.n.01 scissors.n.01 "
    "teddy.n.01 hand_blower.n.01 toothbrush.n.01 "
)


def reduced(lvis: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of an LVIS file with COCO's categories only, under COCO's ids.

    Args:
        lvis: the content of the file, which is left as it is.
    """
    things = [row["id"] for row in COCO_CATEGORIES if row["isthing"]]
    by_synset = dict(zip(_SYNSETS.split(), things, strict=True))
    numbers = {
        c["id"]: by_synset[c["synset"]] for c in lvis["categories"] if c["synset"] in by_synset
    }
    kept = [a for a in lvis["annotations"] if a["category_id"] in numbers]
    annotations = [
        {**a, "id": number, "category_id": numbers[a["category_id"]]}
        for number, a in enumerate(kept, start=1)
    ]
    lists = ("not_exhaustive_category_ids", "neg_category_ids")
    images = [
        {**image, **{key: [numbers[c] for c in image[key] if c in numbers] for key in lists}}
        for image in lvis["images"]
    ]
    used = {a["category_id"] for a in annotations}
    used |= {c for image in images for key in lists for c in image[key]}
    categories = [
        {**c, "id": numbers[c["id"]]} for c in lvis["categories"] if numbers.get(c["id"]) in used
    ]
    return {**lvis, "annotations": annotations, "images": images, "categories": categories}


def cocofy_lvis(input_filename: str | Path, output_filename: str | Path) -> None:
    """Read an LVIS file and write the reduced one."""
    content = json.loads(Path(input_filename).read_text(encoding="utf-8"))
    with atomic_write(output_filename, "w") as file:
        json.dump(reduced(content), file)
    print(f"{input_filename} -> {output_filename}")


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(
        description="Reduce LVIS v0.5 to COCO's categories, in $DETECTRON2_DATASETS/lvis."
    ).parse_args()
    root = datasets_folder("lvis")
    for split in ("lvis_v0.5_train", "lvis_v0.5_val"):
        cocofy_lvis(root / f"{split}.json", root / f"{split}_cocofied.json")
