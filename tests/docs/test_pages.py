"""Every page of the documentation runs, top to bottom, on tiny models and pictures."""

import json
import logging
import time

import numpy as np
import pytest
import torch

from docs import pages
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.data.datasets.shapes import write_sample, write_shapes
from retinue.engine.model_source import DEMO, find_model
from retinue.modeling import catalog
from retinue.utils.registry import Registry

PAGES = pages.all_pages()
MAX_SECONDS = 20  # of the processor's time, for a page

# Published models need weights from the web and take minutes an image here: a tiny one of the same
# kind stands in for those that a page loads, trains or predicts with. Their configs are the real.
STAND_INS = (
    (r"(retinue\.load\(|\bmodel=)\"[\w/-]*R_50_FPN\w*\"", r'\1"tiny.yaml"'),
    (r"(--config |--model )[\w/-]*R_50_FPN\w*", r"\1tiny.yaml"),
    (r"(\bepochs=|--epochs )\d+", r"\g<1>1"),
)
TINY = [
    "MODEL.FPN.OUT_CHANNELS", 16, "MODEL.ROI_BOX_HEAD.FC_DIM", 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM", 16, "MODEL.RESNETS.STEM_OUT_CHANNELS", 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 8, "TEST.DETECTIONS_PER_IMAGE", 5,
]  # fmt: skip


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """What pages take for granted: pictures, annotations, a config."""
    root = tmp_path_factory.mktemp("files")
    drawn = tmp_path_factory.mktemp("drawn")
    write_shapes(drawn, num_train=4, num_val=2)
    (root / "images").mkdir()
    for split in ("train", "val"):
        content = json.loads((drawn / f"{split}.json").read_text())
        for image in content["images"]:
            name = f"{split}_{image['file_name']}"
            (root / "images" / name).write_bytes((drawn / split / image["file_name"]).read_bytes())
            image["file_name"] = name
        (root / f"{split}.json").write_text(json.dumps(content))
    (root / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "picture.png", "street.jpg", "photos/1.jpg"):
        write_sample(root / name, size_hw=(96, 128))
    cfg = find_model(DEMO / "mask_rcnn_shapes.yaml").cfg
    cfg.merge_from_list(TINY)
    (root / "tiny.yaml").write_text(cfg.dump())
    (root / "mine.yaml").write_text("SOLVER:\n  BASE_LR: 0.01\n")
    return root


@pytest.fixture
def workplace(files, tmp_path, monkeypatch):
    """A folder with these files to work in; what a page registers or sets is taken back."""
    for path in files.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETINUE_OFFLINE", "1")
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path / "cache"))
    registries = [r for r in vars(catalog).values() if isinstance(r, Registry)]
    tables = [r._obj_map for r in registries] + [DatasetCatalog.data, MetadataCatalog.data]
    before = [dict(table) for table in tables]
    logger = logging.getLogger("retinue")
    handlers, level, propagates = list(logger.handlers), logger.level, logger.propagate
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - augmentations draw from it
    yield tmp_path
    torch.set_grad_enabled(True)
    torch.set_num_threads(threads)
    for handler in set(logger.handlers) - set(handlers):
        handler.close()
    logger.handlers[:], logger.propagate = handlers, propagates
    logger.setLevel(level)
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_page_runs(name, workplace):
    namespace = {"__name__": "__main__"}
    start = time.process_time()
    for block in pages.blocks_of(PAGES[name]):
        if block.language == "python":
            pages.run_python(block, name, namespace, STAND_INS)
        elif block.language == "console":
            pages.run_session(block, name, STAND_INS)
        else:
            pages.check_commands(block, name)
    assert time.process_time() - start < MAX_SECONDS


def test_few_blocks_do_not_run():
    blocks = [b for page in PAGES.values() for b in pages.blocks_of(page)]
    code = [b for b in blocks if b.language in ("python", "console")]

    assert len([b for b in code if b.not_run]) < len(code) / 10


@pytest.mark.parametrize(
    "command",
    ["retinue trian --config x", "retinue train --epoch 3", "make demos", "pip install 'a[tim]'"],
)
def test_a_wrong_command_is_found(command):
    with pytest.raises(AssertionError):
        pages.check_commands(pages.Block("sh", command, 1), "page")


def test_other_output_is_found():
    block = pages.Block("python", "print(1 + 1)", 1, expected="3\n")
    with pytest.raises(AssertionError, match="prints\n2"):
        pages.run_python(block, "page", {}, ())
