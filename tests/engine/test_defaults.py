"""From a config to a trained model: layout, resuming, interruption, and what is refused."""

import json
import logging
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from retinue.checkpoint import DetectionCheckpointer
from retinue.checkpoint.checkpointer import CheckpointError
from retinue.checkpoint.reader import read_checkpoint
from retinue.cli.main import app
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.engine import (
    DefaultTrainer,
    HookBase,
    NonFiniteLossError,
    SimpleTrainer,
    create_ddp_model,
)
from retinue.engine.averaging import prefer_averages
from retinue.engine.run_checks import check_evaluators
from retinue.engine.run_plan import num_training_images, plan_epochs
from retinue.evaluation import CityscapesSemSegEvaluator, DatasetEvaluator, DatasetEvaluators


@pytest.fixture(autouse=True)
def _log_is_set_up():
    """A trainer sets logging up if nobody has, and pytest would see nothing of it."""
    logger = logging.getLogger("retinue")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


class Scores(DatasetEvaluator):
    def reset(self):
        self.total = 0.0

    def process(self, inputs, outputs):
        self.total += sum(output["score"].item() for output in outputs)

    def evaluate(self):
        return {"bbox": {"AP": self.total}}


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Scores()


def outcome(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


class StopAfter(HookBase):
    """Fails, as a crash would, after an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise RuntimeError("crash")


def test_the_layout_of_the_output(small_cfg):
    small_cfg.TEST.EVAL_PERIOD = 3
    trainer = Trainer(small_cfg)
    trainer.resume_or_load()
    results = trainer.train()
    folder = Path(small_cfg.OUTPUT_DIR)

    names = {path.name for path in folder.iterdir() if not path.name.startswith("events")}
    assert names == {
        "last_checkpoint",
        "metrics.json",
        "model_0000002.pth",
        "model_0000005.pth",
        "model_final.pth",
    }
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert list(results) == ["bbox"]
    rows = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    assert rows[-1]["bbox/AP"] == pytest.approx(results["bbox"]["AP"])

    saved = torch.load(folder / "model_final.pth", weights_only=True)
    assert list(saved) == ["model", "trainer", "run", "iteration", "metrics"]
    assert saved["metrics"] == {"bbox/AP": results["bbox"]["AP"]}
    assert saved["iteration"] == saved["trainer"]["iteration"] == 5
    assert list(saved["trainer"]["_trainer"]) == ["iteration", "optimizer"]
    assert saved["trainer"]["hooks"]["LRScheduler"]["last_epoch"] == 6
    assert saved["run"]["classes"] == ["cat", "dog"]
    assert "MAX_ITER: 6" in saved["run"]["config"]


@pytest.mark.parametrize("grouping", [True, False])
@pytest.mark.parametrize("seed", [3, -1])
def test_a_resumed_run_ends_as_an_undisturbed_one(small_cfg, grouping, seed, tmp_path):
    small_cfg.DATALOADER.ASPECT_RATIO_GROUPING = grouping
    small_cfg.SOLVER.MAX_ITER = 7
    first = Trainer(small_cfg)
    first._seed = 11  # what SEED -1 would have drawn
    first.reset = first._trainer.reset_data_loader(lambda: first._build_train_loader(small_cfg, 0))
    start = outcome(first)
    first.train()

    small_cfg.SEED = seed
    small_cfg.OUTPUT_DIR = str(tmp_path / "again")
    broken = Trainer(small_cfg)
    broken._seed = 11
    broken._trainer.reset_data_loader(lambda: broken._build_train_loader(small_cfg, 0))
    broken.model.load_state_dict(start)
    broken.register_hooks([StopAfter(4)])
    with pytest.raises(RuntimeError, match="crash"):
        broken.train()
    resumed = Trainer(small_cfg)
    resumed.resume_or_load(resume=True)
    assert (resumed.start_iter, resumed._seed) == (3, 11)
    resumed.train()

    assert equal(outcome(first), outcome(resumed))


def test_an_average_of_weights_goes_on_after_a_crash(small_cfg, tmp_path):
    small_cfg.SEED = 3
    extras = small_cfg.RETINUE
    extras.EMA_DECAY, extras.KEEP_CHECKPOINTS, extras.ASYNC_CHECKPOINTS = 0.5, 1, True
    first = Trainer(small_cfg)
    first.train()
    small_cfg.OUTPUT_DIR = str(tmp_path / "again")
    broken = Trainer(small_cfg)
    broken.register_hooks([StopAfter(4)])
    with pytest.raises(RuntimeError, match="crash"):
        broken.train()
    resumed = Trainer(small_cfg)
    resumed.resume_or_load()
    resumed.train()

    assert equal(outcome(first), outcome(resumed))
    averages = [trainer._average.model.state_dict() for trainer in (first, resumed)]
    assert equal(*averages)
    assert not equal(averages[0], outcome(first))
    folder = Path(small_cfg.OUTPUT_DIR)
    assert sorted(path.name for path in folder.glob("*.pth")) == [
        "model_0000005.pth",
        "model_final.pth",
    ]
    checkpoint = read_checkpoint(folder / "model_final.pth", weights="ema")
    assert equal(averages[0], checkpoint.weights)


def test_what_was_evaluated_is_what_is_loaded(small_cfg, caplog):
    """Averages by default, the trained weights if asked for; the scores tell them apart."""
    import retinue

    caplog.set_level(logging.INFO)
    small_cfg.SEED, small_cfg.RETINUE.EMA_DECAY = 3, 0.9
    trainer = Trainer(small_cfg)
    reported = trainer.train()
    folder = Path(small_cfg.OUTPUT_DIR)
    (folder / "config.yaml").write_text(small_cfg.dump())

    def score(model, **options):
        return Trainer.test(small_cfg, retinue.load(model, **options).model)

    raw = Trainer.test(small_cfg, trainer.model.eval())
    assert raw != reported
    caplog.clear()
    assert score(folder) == reported
    assert caplog.text.count("taking the averaged weights") == 1
    for same in (folder / "model_final.pth", f"{folder}?weights=ema"):
        assert score(same) == reported
    for other in (f"{folder}?weights=model", f"{folder}/model_final.pth?weights=model"):
        assert score(other) == raw
    assert score(folder, weights=folder / "model_0000005.pth") == reported
    assert score(folder, weights=f"{folder}/model_0000005.pth?weights=model") == raw

    (folder / "config.yaml").unlink()  # the record in the file has it, too
    assert score(folder / "model_final.pth") == reported
    resumed = Trainer(small_cfg)
    resumed.resume_or_load()
    assert equal(outcome(resumed), outcome(trainer))
    assert equal(resumed._average.model.state_dict(), trainer._average.model.state_dict())


def test_averages_of_others_are_not_taken_unasked(tmp_path):
    weights = {"w": torch.zeros(2)}
    torch.save({"model": weights, "model_ema": weights}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(b"PK")
    for name in ("a.pth", "b.pth", "absent.pth"):
        assert prefer_averages(str(tmp_path / name)) == str(tmp_path / name)
    assert prefer_averages("") == ""


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_run_killed_in_its_last_evaluation_goes_on(small_cfg, asynchronous):
    """The final checkpoint is there before the evaluation, and has the metrics after it."""
    small_cfg.RETINUE.ASYNC_CHECKPOINTS = asynchronous
    folder = Path(small_cfg.OUTPUT_DIR)

    class Killed(Trainer):
        @classmethod
        def test(cls, cfg, model, evaluators=None):
            raise SystemExit

        def build_writers(self):
            return []

    killed = Killed(small_cfg)
    with pytest.raises(SystemExit):
        killed.train()
    shown = CliRunner().invoke(app, ["checkpoint", "show", str(folder / "model_final.pth")])
    assert "metrics" not in shown.stdout
    before = torch.load(folder / "model_final.pth", weights_only=True)

    resumed = Trainer(small_cfg)
    resumed.resume_or_load()
    results = resumed.train()
    assert resumed.iter == 6
    after = torch.load(folder / "model_final.pth", weights_only=True)
    assert after.pop("metrics") == {"bbox/AP": results["bbox"]["AP"]}
    assert list(after) == list(before)
    assert equal(before["model"], after["model"])
    assert after["iteration"] == after["trainer"]["iteration"] == 5
    assert after["trainer"]["_trainer"]["iteration"] == 5
    assert (folder / "last_checkpoint").read_text() == "model_final.pth"
    assert not list(folder.glob(".*"))

    small_cfg.SOLVER.MAX_ITER = 8
    longer = Trainer(small_cfg)
    longer.resume_or_load()
    assert longer.start_iter == 6


def test_the_metrics_of_the_final_checkpoint_are_shown(small_cfg, tmp_path):
    small_cfg.TEST.EVAL_PERIOD = 3
    results = Trainer(small_cfg).train()
    final = str(tmp_path / "output" / "model_final.pth")
    show = ["checkpoint", "show"]

    assert (
        f"\nmetrics: bbox/AP {results['bbox']['AP']:g}\n"
        in CliRunner().invoke(app, [*show, final]).stdout
    )
    data = json.loads(CliRunner().invoke(app, [*show, "--json", final]).stdout)
    assert data["metrics"] == {"bbox/AP": results["bbox"]["AP"]}
    converted = str(tmp_path / "a.safetensors")
    said = CliRunner().invoke(app, ["convert", final, converted]).stdout
    assert "no place for iteration, trainer" in said, "the header has the metrics"
    assert "metrics: bbox/AP" in CliRunner().invoke(app, [*show, converted]).stdout
    numbered = CliRunner().invoke(app, [*show, final.replace("final", "0000005")]).stdout
    assert "metrics" not in numbered


def test_a_disk_that_is_full_at_the_end_costs_the_metrics_only(small_cfg, caplog, monkeypatch):
    trainer = Trainer(small_cfg)
    save = trainer.checkpointer.save

    def full(name, **kwargs):
        if "metrics" in kwargs:
            raise OSError("no space left")
        save(name, **kwargs)

    monkeypatch.setattr(trainer.checkpointer, "save", full)
    assert trainer.train()["bbox"]
    assert "checkpoint is whole, but has no metrics: no space left" in caplog.text
    saved = torch.load(Path(small_cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)
    assert "metrics" not in saved


def test_a_run_that_fails_at_its_end_has_no_metrics(small_cfg):
    trainer = Trainer(small_cfg)
    trainer.register_hooks([StopAfter(5)])
    with pytest.raises(RuntimeError, match="crash"):
        trainer.train()
    saved = torch.load(Path(small_cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)
    assert "metrics" not in saved


def test_weights_are_loaded_without_resuming(small_cfg, tmp_path):
    Trainer(small_cfg).train()
    small_cfg.MODEL.WEIGHTS = str(tmp_path / "output" / "model_final.pth")
    trainer = Trainer(small_cfg)
    trainer.resume_or_load(resume=False)
    assert trainer.start_iter == 0
    saved = torch.load(small_cfg.MODEL.WEIGHTS, weights_only=True)["model"]
    assert equal(outcome(trainer), saved)


def test_a_run_that_is_complete_evaluates_again(small_cfg):
    first = Trainer(small_cfg).train()
    trainer = Trainer(small_cfg)
    trainer.resume_or_load()
    assert trainer.train() == first
    assert trainer.iter == 6


def test_extras(small_cfg, caplog):
    caplog.set_level(logging.INFO)
    small_cfg.SOLVER.MAX_ITER = 8
    small_cfg.TEST.EVAL_PERIOD = 2
    small_cfg.VIS_PERIOD = 0
    extras = small_cfg.RETINUE
    extras.ACCUMULATE, extras.VAL_LOSS_PERIOD = 2, 2
    extras.BEST_METRIC, extras.EARLY_STOPPING_PATIENCE = "val_total_loss", 50
    trainer = Trainer(small_cfg)
    trainer.train()

    assert len(trainer._trainer.batches) == 2
    assert (Path(small_cfg.OUTPUT_DIR) / "model_best.pth").exists()
    history = trainer.storage.history("val_total_loss").values()
    assert [iteration for _, iteration in history] == [1, 3, 5, 7]
    assert {"val_loss_a", "val_loss_b"} <= set(trainer.storage.histories())


def test_patience_needs_a_metric(small_cfg):
    small_cfg.RETINUE.EARLY_STOPPING_PATIENCE = 1
    with pytest.raises(AssertionError, match=r"needs RETINUE\.BEST_METRIC"):
        Trainer(small_cfg)


def test_epochs_become_iterations(small_cfg):
    """By hand: 5 epochs of 6 images, 2 a batch, are 15 iterations; a step at 4 of 6 is at 10."""
    small_cfg.RETINUE.EPOCHS = 5
    small_cfg.SOLVER.WARMUP_ITERS = 1000
    trainer = Trainer(small_cfg)
    assert trainer.max_iter == 15
    assert trainer.cfg.SOLVER.STEPS == (10,)
    assert trainer.cfg.SOLVER.WARMUP_ITERS == 1
    assert num_training_images(trainer.data_loader) == 6
    assert num_training_images([1]) is None
    with pytest.raises(ValueError, match=r"RETINUE\.EPOCHS needs a training loader"):
        plan_epochs(small_cfg, None)


def test_ctrl_c_saves_and_says_how_to_go_on(small_cfg, caplog, capsys):
    caplog.set_level(logging.INFO)

    class Press(HookBase):
        def before_step(self):
            if self.trainer.iter == 3:
                os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(small_cfg)
    trainer.register_hooks([Press()])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()

    assert signal.getsignal(signal.SIGINT) is before
    assert "press it again" in capsys.readouterr().err
    assert "Stopped after iteration 3 and saved model_0000003.pth" in caplog.text
    assert "with --resume" in caplog.text
    resumed = Trainer(small_cfg)
    resumed.resume_or_load()
    assert resumed.start_iter == 4


@pytest.fixture
def listening():
    """Python's own handler of Ctrl-C, which what a shell starts in the background has not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_acts_at_once(small_cfg, listening):
    class Press(HookBase):
        def before_step(self):
            signal.raise_signal(signal.SIGINT)  # two that another process sends may become one
            signal.raise_signal(signal.SIGINT)

    trainer = Trainer(small_cfg)
    trainer.register_hooks([Press()])
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert not list(Path(small_cfg.OUTPUT_DIR).glob("*.pth"))


def test_a_loss_that_is_not_finite_leaves_the_weights_behind(small_cfg):
    trainer = Trainer(small_cfg)

    class Spoil(HookBase):
        def before_step(self):
            if self.trainer.iter == 4:
                handle = trainer.model.layer.register_forward_hook(lambda m, i, out: out * 1e38)
                self.handle = handle

    trainer.register_hooks([Spoil()])
    with pytest.raises(NonFiniteLossError, match=r"iteration 4: (.|\n)*loss_a = inf") as info:
        trainer.train()

    text = str(info.value)
    assert ".png" in text
    folder = Path(small_cfg.OUTPUT_DIR)
    assert (folder / "last_checkpoint").read_text() == "model_0000002.pth"
    saved = torch.load(folder / "model_nonfinite.pth", weights_only=True)
    assert saved["iteration"] == 3
    assert equal(outcome(trainer), saved["model"])


def test_a_bad_image_ends_training_where_it_goes_on(small_cfg, caplog):
    trainer = Trainer(small_cfg)

    class Spoil(HookBase):
        def before_step(self):
            if self.trainer.iter == 4:
                trainer.model.layer.register_forward_hook(fail)

    def fail(module, inputs, output):
        raise OSError("image 7.png can't be read")

    trainer.register_hooks([Spoil()])
    with pytest.raises(OSError, match=r"7\.png can't be read"):
        trainer.train()

    assert "Exception during training: in iteration 4: image 7.png can't be read" in caplog.text
    assert "Traceback" not in caplog.text
    assert (Path(small_cfg.OUTPUT_DIR) / "last_checkpoint").read_text() == "model_0000003.pth"
    resumed = Trainer(small_cfg)
    resumed.resume_or_load()
    assert resumed.start_iter == 4


def test_what_the_evaluation_needs_is_missed_before_training(small_cfg, monkeypatch):
    class Streets(Trainer):
        @classmethod
        def build_evaluator(cls, cfg, dataset_name):
            return DatasetEvaluators([CityscapesSemSegEvaluator(dataset_name)])

    check_evaluators(small_cfg, Streets)  # one's own evaluator, on one's own data
    metadata = MetadataCatalog.pop("squares_val")  # what is set stays
    MetadataCatalog.get("squares_val").set(
        **(metadata.as_dict() | {"evaluator_type": "cityscapes_panoptic_seg"})
    )
    check_evaluators(small_cfg, DefaultTrainer)  # has no evaluator
    check_evaluators(small_cfg, Trainer)  # has another
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)
    with pytest.raises(ImportError, match=r"pip install 'retinue\[cityscapes\]'"):
        Streets(small_cfg).train()
    assert not (Path(small_cfg.OUTPUT_DIR) / "metrics.json").exists()


class TestImageFiles:
    """Files of both datasets are the same six; only names tell which check found them."""

    def test_what_is_missing_or_empty_is_told_before_training(self, small_cfg, tmp_path):
        (tmp_path / "squares" / "4.png").unlink()
        (tmp_path / "squares" / "5.png").write_bytes(b"")
        message = r"(?s)'squares_train' can't .*missing: \S*4\.png; .*empty: \S*5\.png; copy"
        with pytest.raises(ValueError, match=message):
            Trainer(small_cfg).train()

    def test_pictures_to_evaluate_on(self, small_cfg, tmp_path, monkeypatch):
        (tmp_path / "squares" / "3.png").unlink()
        monkeypatch.setattr("retinue.engine.defaults.training_records", lambda loader: None)
        trainer = Trainer(small_cfg)
        with pytest.raises(ValueError, match=r"(?s)'squares_val' can't .*missing: \S*3\.png"):
            trainer.train()
        assert not (Path(small_cfg.OUTPUT_DIR) / "metrics.json").exists()

    def test_who_may_read_something_else_is_not_asked(self, small_cfg, tmp_path):
        (tmp_path / "squares" / "3.png").unlink()

        class Own(Trainer):
            @classmethod
            def build_train_loader(cls, cfg):
                return [[{"image": torch.ones(3, 4, 4)}]] * 9

            @classmethod
            def build_test_loader(cls, cfg, name):
                return []

        Own(small_cfg)._check_image_files()
        has_no_evaluator = DefaultTrainer(small_cfg)
        has_no_evaluator.data_loader = []
        has_no_evaluator._check_image_files()

    def test_who_goes_on_without_images_is_warned(self, small_cfg, tmp_path, caplog):
        (tmp_path / "squares" / "3.png").unlink()
        small_cfg.RETINUE.SKIP_UNREADABLE = True
        Trainer(small_cfg)._check_image_files()
        for name in ("squares_train", "squares_val"):
            assert f"Dataset {name}: image files are missing: " in caplog.text

    def test_many_files_are_not_looked_for(self, small_cfg, tmp_path, caplog, monkeypatch):
        (tmp_path / "squares" / "3.png").unlink()
        monkeypatch.setattr("retinue.engine.run_checks.MAX_FILES", 5)
        Trainer(small_cfg)._check_image_files()
        assert "Dataset squares_val: its 6 files are not looked for" in caplog.text


def test_a_run_that_cannot_be_resumed_keeps_its_config(small_cfg):
    from retinue.engine.runs import run_training

    small_cfg.DATASETS.TEST = ()
    run_training(small_cfg, [], False)
    folder = Path(small_cfg.OUTPUT_DIR)
    before = [(folder / name).read_text() for name in ("config.yaml", "classes.json")]
    small_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 3
    with pytest.raises(CheckpointError, match=r"layer.weight: \(2, 3\) in the checkpoint"):
        run_training(small_cfg, [], True)

    assert before == [(folder / name).read_text() for name in ("config.yaml", "classes.json")]


class TestRefusals:
    @pytest.mark.parametrize("key", ["TRAIN", "TEST"])
    def test_a_string_of_datasets(self, small_cfg, key):
        dict.__setitem__(small_cfg.DATASETS, key, "squares_val")
        with pytest.raises(AssertionError, match=rf"DATASETS\.{key} must be .*\('squares_val',\)"):
            Trainer(small_cfg)

    @pytest.mark.parametrize("key", ["TRAIN", "TEST"])
    def test_a_misspelt_dataset(self, small_cfg, key):
        small_cfg.DATASETS[key] = ("square_val",)
        with pytest.raises(KeyError, match=rf"DATASETS\.{key} 'square_val'; did you mean"):
            Trainer(small_cfg)

    def test_loaders_of_ones_own_may_use_any_name(self, small_cfg):
        class Own(Trainer):
            @classmethod
            def build_train_loader(cls, cfg):
                return [[{"image": torch.ones(3, 4, 4)}]]

            @classmethod
            def build_test_loader(cls, cfg, name):
                return []

        small_cfg.DATASETS.TRAIN, small_cfg.DATASETS.TEST = ("anything",), ("else",)
        small_cfg.MODEL.META_ARCHITECTURE = "BrightnessModel"
        trainer = Own(small_cfg)
        trainer.data_loader = loader = [[{"image": torch.zeros(3, 4, 4)}]]
        trainer.train()
        assert trainer.data_loader is loader

    def test_an_output_folder_that_cannot_be(self, small_cfg, tmp_path):
        (tmp_path / "file").write_text("")
        small_cfg.OUTPUT_DIR = str(tmp_path / "file" / "output")
        with pytest.raises(OSError, match=r"OUTPUT_DIR .* a file is in its place"):
            Trainer(small_cfg)

    def test_more_classes_than_the_model_has(self, small_cfg):
        small_cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
        small_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
        with pytest.raises(
            AssertionError,
            match=r"1\.png, annotation number 0: its class is 1 \('dog'\), but "
            r"MODEL\.ROI_HEADS\.NUM_CLASSES is 1, which allows 0 to 0; the dataset has 2 classes",
        ):
            Trainer(small_cfg)

    def test_classes_without_annotations_are_fine(self, small_cfg, caplog):
        from retinue.engine.run_checks import check_class_count

        DatasetCatalog.register("no_dogs", lambda: [{"annotations": [{"category_id": 0}]}])
        MetadataCatalog.get("no_dogs").thing_classes = ["cat", "dog"]
        small_cfg.DATASETS.TRAIN, small_cfg.DATASETS.TEST = ("no_dogs",), ()
        small_cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
        try:
            for num_classes in (1, 3):
                small_cfg.MODEL.RETINANET.NUM_CLASSES = num_classes
                check_class_count(small_cfg, Trainer)
        finally:
            DatasetCatalog.remove("no_dogs")
            MetadataCatalog.remove("no_dogs")
        assert "MODEL.RETINANET.NUM_CLASSES is 3, but no_dogs has 2 classes" in caplog.text

    def test_another_model_when_resuming(self, small_cfg):
        Trainer(small_cfg).train()
        small_cfg.MODEL.ROI_HEADS.NUM_CLASSES = 5
        trainer = Trainer(small_cfg)
        with pytest.raises(CheckpointError, match=r"layer\.weight: \(2, 3\) in the .*, \(5, 3\)"):
            trainer.resume_or_load(resume=True)

    @pytest.mark.parametrize("resume", [True, False])
    def test_other_classes_than_the_checkpoint(self, small_cfg, resume, caplog):
        Trainer(small_cfg).train()
        small_cfg.MODEL.WEIGHTS = os.path.join(small_cfg.OUTPUT_DIR, "model_final.pth")
        trainer = Trainer(small_cfg)
        metadata = MetadataCatalog.get("squares_train")
        del metadata.thing_classes
        metadata.thing_classes = ["cow", "dog"]
        if resume:
            with pytest.raises(CheckpointError, match=r"cannot resume: .*\(cat, dog\).*\(cow, dog"):
                trainer.resume_or_load(resume=True)
        else:
            trainer.resume_or_load(resume=False)
            assert "(cow, dog); outputs that the lines above don't say were mapped" in caplog.text


class TestTest:
    def test_one_evaluator_a_dataset(self, small_cfg, squares):
        model = Trainer(small_cfg).model
        small_cfg.DATASETS.TEST = squares
        results = Trainer.test(small_cfg, model)
        assert list(results) == list(squares)
        assert Trainer.test(small_cfg, model, [Scores(), Scores()]) == results
        with pytest.raises(AssertionError, match="1 evaluators for the 2 datasets"):
            Trainer.test(small_cfg, model, Scores())

    def test_training_sets_need_not_be_there(self, small_cfg):
        model = Trainer(small_cfg).model
        small_cfg.DATASETS.TRAIN = ("of_long_ago",)
        assert Trainer.test(small_cfg, model)
        small_cfg.DATASETS.TEST = ("of_long_ago",)
        with pytest.raises(KeyError, match=r"unknown dataset in DATASETS.TEST 'of_long_ago'"):
            Trainer.test(small_cfg, model)

    def test_keypoints_are_scored_as_the_config_says(self, small_cfg, squares):
        from retinue.engine.runs import Trainer as Runner

        small_cfg.TEST.KEYPOINT_OKS_SIGMAS = [0.05, 0.1]
        evaluator = Runner.build_evaluator(small_cfg, squares[1])
        assert evaluator._kpt_oks_sigmas == [0.05, 0.1]

    def test_without_an_evaluator_it_is_said(self, small_cfg, caplog):
        model = Trainer(small_cfg).model
        assert DefaultTrainer.test(small_cfg, model) == {}
        assert "squares_val is not evaluated: DefaultTrainer.build_evaluator" in caplog.text

    def test_expected_results_are_compared(self, small_cfg):
        small_cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", -1000.0, 0.1]]
        with pytest.raises(SystemExit):
            Trainer(small_cfg).train()


class TestScaling:
    def test_to_more_processes(self, small_cfg):
        """The example of detectron2's documentation: from 8 to 16 processes."""
        solver = small_cfg.SOLVER
        solver.IMS_PER_BATCH, solver.BASE_LR, solver.REFERENCE_WORLD_SIZE = 16, 0.1, 8
        solver.MAX_ITER, solver.STEPS, solver.CHECKPOINT_PERIOD = 5000, (4000,), 1000
        small_cfg.freeze()
        scaled = DefaultTrainer.auto_scale_workers(small_cfg, 16)
        new = scaled.SOLVER
        assert (new.IMS_PER_BATCH, new.BASE_LR, new.REFERENCE_WORLD_SIZE) == (32, 0.2, 16)
        assert (new.MAX_ITER, new.STEPS, new.CHECKPOINT_PERIOD) == (2500, (2000,), 500)
        assert scaled.is_frozen()
        assert solver.IMS_PER_BATCH == 16

    def test_nothing_to_scale(self, small_cfg):
        assert DefaultTrainer.auto_scale_workers(small_cfg, 4) is small_cfg
        small_cfg.SOLVER.REFERENCE_WORLD_SIZE = 4
        with pytest.raises(AssertionError, match=r"4 must divide SOLVER\.IMS_PER_BATCH 2"):
            DefaultTrainer.auto_scale_workers(small_cfg, 8)


def test_mixed_precision_and_properties(small_cfg):
    small_cfg.SOLVER.AMP.ENABLED = True
    trainer = Trainer(small_cfg)
    assert trainer._trainer.precision == torch.bfloat16
    trainer.train()
    optimizer = trainer.optimizer
    trainer.optimizer = optimizer
    trainer.model = model = torch.nn.Linear(1, 1)
    assert trainer._trainer.model is model
    assert trainer._trainer.optimizer is optimizer
    assert create_ddp_model(model) is model


def test_hooks_see_gradients(small_cfg):
    seen = []

    class Look(HookBase):
        def after_backward(self):
            seen.append(self.trainer.model.layer.weight.grad is not None)

    trainer = Trainer(small_cfg)
    trainer.register_hooks([Look()])
    trainer.train()
    assert seen == [True] * 6


def test_a_trainer_that_builds_everything_itself(small_cfg):
    """As in projects for detectron2 that call the constructor above ``DefaultTrainer``'s."""

    class Own(DefaultTrainer):
        def __init__(self, cfg):
            super(DefaultTrainer, self).__init__()
            model = self.build_model(cfg)
            optimizer = self.build_optimizer(cfg, model)
            self._trainer = SimpleTrainer(model, self.build_train_loader(cfg), optimizer)
            self.scheduler = self.build_lr_scheduler(cfg, optimizer)
            self.checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR, trainer=self)
            self.start_iter, self.max_iter, self.cfg = 0, cfg.SOLVER.MAX_ITER, cfg
            self.register_hooks(self.build_hooks())

    small_cfg.DATASETS.TEST = ()
    Own(small_cfg).train()
    again = Own(small_cfg)
    again.resume_or_load(resume=True)

    assert again.start_iter == small_cfg.SOLVER.MAX_ITER
