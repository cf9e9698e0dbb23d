"""What programs lean on beside names: files, environment variables, parsers, order of hooks."""

import json
import pickle
import subprocess
import sys

import pytest
import torch


@pytest.fixture(autouse=True)
def _served(hook):
    return hook


def test_argument_parser():
    from detectron2.engine import default_argument_parser

    args = default_argument_parser().parse_args(
        ["--config-file", "a.yaml", "--num-gpus", "2", "--eval-only", "SOLVER.BASE_LR", "0.1"]
    )
    assert (args.config_file, args.num_gpus, args.eval_only) == ("a.yaml", 2, True)
    assert (args.num_machines, args.machine_rank, args.resume) == (1, 0, False)
    assert args.opts == ["SOLVER.BASE_LR", "0.1"]
    assert args.dist_url.startswith("tcp://127.0.0.1:")


def test_event_storage():
    from detectron2.utils.events import EventStorage, get_event_storage

    with pytest.raises(AssertionError):
        get_event_storage()
    with EventStorage(start_iter=5) as storage:
        assert get_event_storage() is storage
        with storage.name_scope("rpn"):
            storage.put_scalar("loss", 2.0)
        storage.put_scalars(a=1.0, b=3.0)
        storage.step()
        assert storage.iter == 6
        assert storage.latest()["rpn/loss"] == (2.0, 5)
        assert storage.history("a").latest() == 1.0
        assert set(storage.latest_with_smoothing_hint(20)) == {"rpn/loss", "a", "b"}
        storage.put_image("picture", torch.zeros(3, 2, 2))
        storage.clear_images()
        with pytest.raises(KeyError):
            storage.history("nothing")


def test_metadata_and_datasets():
    from detectron2.data import DatasetCatalog, MetadataCatalog

    metadata = MetadataCatalog.get("compat_test").set(thing_classes=["a"])
    with pytest.raises(AttributeError):
        _ = metadata.stuff_classes
    with pytest.raises(AssertionError):
        metadata.thing_classes = ["b"]
    with pytest.raises(KeyError):
        DatasetCatalog.get("compat_test_absent")
    DatasetCatalog.register("compat_test", lambda: [1])
    with pytest.raises(AssertionError):
        DatasetCatalog.register("compat_test", lambda: [1])
    assert DatasetCatalog.get("compat_test") == [1]
    assert {"coco_2017_train", "voc_2007_test", "lvis_v1_val"} <= set(DatasetCatalog.list())
    DatasetCatalog.remove("compat_test")
    MetadataCatalog.remove("compat_test")


@pytest.mark.slow
def test_the_datasets_variable():
    code = (
        "import retinue.compat; retinue.compat.install();"
        "from detectron2.data import MetadataCatalog as m;"
        "import detectron2.data.datasets; print(m.get('coco_2017_val').image_root)"
    )
    out = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env={"DETECTRON2_DATASETS": "/data/sets"}
    )
    assert out == "/data/sets/coco/val2017\n"


def test_comm_of_one_process():
    from detectron2.utils import comm

    assert (comm.get_world_size(), comm.get_rank(), comm.get_local_rank()) == (1, 0, 0)
    assert (comm.get_local_size(), comm.is_main_process()) == (1, True)
    assert comm.gather({"a": 1}) == comm.all_gather({"a": 1}) == [{"a": 1}]
    assert comm.reduce_dict({"a": torch.ones(1)})["a"].item() == 1
    comm.synchronize()
    assert isinstance(comm.shared_random_seed(), int)


def test_path_handlers(tmp_path):
    from detectron2.utils.file_io import PathManager
    from iopath.common.file_io import PathHandler

    class Handler(PathHandler):
        def _get_supported_prefixes(self):
            return ["compat://"]

        def _get_local_path(self, path, **kwargs):
            return str(tmp_path / path.removeprefix("compat://"))

    PathManager.register_handler(Handler())
    (tmp_path / "a").write_text("")
    assert PathManager.get_local_path("compat://a") == str(tmp_path / "a")
    with pytest.raises(KeyError):
        PathManager.register_handler(Handler(), allow_override=False)


def test_a_config_with_python_tags(tmp_path):
    """detectron2 before 0.2 wrote tuples so; other tags are refused or read as plain data."""
    from detectron2.config import get_cfg

    file = tmp_path / "cfg.yaml"
    file.write_text("SOLVER:\n  STEPS: !!python/tuple [30, 60]\n  BASE_LR: 0.5\nVERSION: 2\n")
    cfg = get_cfg()
    cfg.merge_from_file(str(file))

    assert cfg.SOLVER.STEPS == (30, 60)
    again = get_cfg()
    (tmp_path / "dumped.yaml").write_text(cfg.dump())
    again.merge_from_file(str(tmp_path / "dumped.yaml"))
    assert again.SOLVER == cfg.SOLVER


def test_a_pickled_config_of_detectron2():
    from detectron2.config import CfgNode, get_cfg

    data = pickle.dumps(get_cfg(), protocol=0).replace(
        b"retinue.config.config", b"detectron2.config.config"
    )
    loaded = pickle.loads(data)

    assert type(loaded) is CfgNode
    assert loaded == get_cfg()


class _Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    @property
    def device(self):
        return self.weight.device

    def forward(self, batch):
        return {"loss_a": self.weight.sum(), "loss_b": self.weight.sum() * 2}


def test_hooks_files_and_numbers_of_a_run(tmp_path):
    from detectron2.config import get_cfg
    from detectron2.engine import DefaultTrainer, hooks

    class Trainer(DefaultTrainer):
        @classmethod
        def build_model(cls, cfg):
            return _Model()

        @classmethod
        def build_train_loader(cls, cfg):
            return [[{}]] * 100

        @classmethod
        def test(cls, cfg, model, evaluators=None):
            return {"bbox": {"AP": 1.0}}

    cfg = get_cfg()
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.MODEL.DEVICE = "cpu"
    cfg.SOLVER.MAX_ITER = 20
    cfg.TEST.EVAL_PERIOD = 20
    trainer = Trainer(cfg)
    kinds = [type(h) for h in trainer._hooks]
    order = [
        hooks.IterationTimer,
        hooks.LRScheduler,
        hooks.PeriodicCheckpointer,
        hooks.EvalHook,
        hooks.PeriodicWriter,
    ]
    assert [k for k in kinds if k in order] == order
    trainer.train()

    files = {p.name for p in tmp_path.iterdir()}
    assert {"metrics.json", "last_checkpoint", "model_final.pth"} <= files
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    lines = [json.loads(line) for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert {
        "iteration",
        "total_loss",
        "loss_a",
        "loss_b",
        "lr",
        "time",
        "data_time",
        "bbox/AP",
    } <= set().union(*lines)
    assert lines[-1]["iteration"] == 20  # written after the training, with the evaluation
