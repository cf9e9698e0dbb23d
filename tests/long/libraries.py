"""Libraries that ask whether detectron2 is installed, and use it: LayoutParser and transformers.

``retinue run libraries.py`` in an environment that has them (layoutparser, transformers), or plain
``python libraries.py`` where ``packaging/detectron2`` is installed. What is not installed is said.
"""

import importlib.metadata
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch


def small_detector(folder: Path) -> tuple[Path, Path]:
    """Write config and weights of a small detector; return their paths."""
    from detectron2 import model_zoo
    from detectron2.modeling import build_model

    cfg = model_zoo.get_config("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml")
    cfg.merge_from_list([
        "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.ROI_HEADS.NUM_CLASSES", 5,
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
        "INPUT.MIN_SIZE_TEST", 96,
    ])  # fmt: skip
    config, weights = folder / "config.yml", folder / "model_final.pth?dl=1"
    torch.save({"model": build_model(cfg).state_dict()}, weights)
    config.write_text(cfg.dump())
    return config, weights


def layoutparser(folder: Path) -> None:
    """Find text in a picture; the weights have the name that LayoutParser's downloads have."""
    import layoutparser as lp

    assert lp.file_utils.is_detectron2_available()
    config, weights = small_detector(folder)
    model = lp.Detectron2LayoutModel(
        str(config), str(weights), label_map=dict(enumerate("abcde")),
        extra_config=["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 3],
    )  # fmt: skip
    layout = model.detect(np.zeros((96, 128, 3), np.uint8))
    assert 0 < len(layout) <= 3, layout


def transformers(folder: Path) -> None:
    """Train LayoutLMv2, whose visual part is a detectron2 backbone; save it and load it again."""
    from detectron2.modeling.backbone import FPN
    from detectron2.structures import ImageList
    from transformers import LayoutLMv2Config, LayoutLMv2ForTokenClassification
    from transformers.utils import is_detectron2_available

    assert is_detectron2_available()
    config = LayoutLMv2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=37,
        vocab_size=99, coordinate_size=4, shape_size=8,
    )  # fmt: skip
    config.detectron2_config_args["MODEL.RESNETS.DEPTH"] = 50
    model = LayoutLMv2ForTokenClassification(config)
    assert isinstance(model.layoutlmv2.visual.backbone, FPN)
    words = {"input_ids": torch.arange(14).view(2, 7),
             "bbox": torch.tensor([0, 0, 9, 9]).expand(2, 7, 4)}  # fmt: skip
    image = ImageList(torch.rand(2, 3, 224, 224) * 255, [(224, 224)] * 2)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    for _ in range(2):
        loss = model(**words, image=image, labels=torch.ones(2, 7, dtype=torch.long)).loss
        assert torch.isfinite(loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    again = LayoutLMv2ForTokenClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        first, second = (m(**words, image=image).logits for m in (model.eval(), again))
    torch.testing.assert_close(first, second)


def main() -> int:
    """Run what is installed; return how many libraries are missing."""
    assert importlib.util.find_spec("detectron2") is not None
    print("detectron2", importlib.metadata.version("detectron2"))
    missing = 0
    for part in (layoutparser, transformers):
        if importlib.util.find_spec(part.__name__) is None:
            missing += 1
            print(f"{part.__name__} is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            part(Path(folder))
        print(part.__name__, importlib.metadata.version(part.__name__), "ok")
    return missing


if __name__ == "__main__":
    sys.exit(main())
