import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from retinue.cli.main import app
from retinue.data.datasets.shapes import write_sample, write_shapes
from retinue.engine.detector import Detector
from retinue.engine.model_source import DEMO, find_model
from retinue.modeling import build_model

NAMES = {"thing_classes": ["disk", "rectangle", "triangle", "star", "ring", "cross"]}


WITH_OTHER_MODEL = (
    "TEST.AUG.ENABLED", True, "MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.MASK_ON", False,
    "MODEL.RETINANET.IN_FEATURES", "('p2', 'p3', 'p4', 'p5')",
)  # fmt: skip


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


def one_line(result):
    """The error that a command ended with: one line, on the standard error, status 2."""
    assert result.exit_code == 2, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    errors = result.stderr.strip().splitlines()
    assert len(errors) == 1, result.stderr
    assert errors[0].startswith("error: ")
    return errors[0]


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A folder with the demo's model, untrained, that reports whatever it sees."""
    cfg = find_model(DEMO / "mask_rcnn_shapes.yaml").cfg
    cfg.merge_from_list(["MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "TEST.DETECTIONS_PER_IMAGE", 3])
    cfg.MODEL.DEVICE = "cpu"
    return Detector(cfg, build_model(cfg), NAMES).save(tmp_path_factory.mktemp("model"))


def test_help_imports_no_torch():
    code = (
        "import sys, retinue.cli.main\n"
        "print(sorted({'torch', 'numpy', 'PIL', 'yaml', 'omegaconf'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["demo", "train", "eval", "predict", "doctor", "config", "zoo"])
def test_every_command_has_help(command):
    result = run(command, "--help")

    assert result.exit_code == 0
    assert "--help" in result.output
    assert command in run("--help").output


def test_the_version():
    import retinue

    assert run("--version").output.strip() == retinue.__version__


def test_config_show_diff_and_keys(tmp_path):
    shown = run("config", "show", "mask_rcnn_R_50_FPN_3x", "SOLVER.BASE_LR", "0.5", "SEED", "-1")
    assert "BASE_LR: 0.5" in shown.output
    differ = run("config", "diff", "retinanet_R_50_FPN_3x", "retinanet_R_50_FPN_1x")
    other = "retinanet_R_50_FPN_1x"
    assert differ.output.splitlines()[-2:] == [
        f"SOLVER.MAX_ITER  270000   ({other}: 90000)",
        f"SOLVER.STEPS     (210000, 250000)   ({other}: (60000, 80000))",
    ]
    assert run("config", "diff", "default").output == "no difference\n"
    assert "SOLVER.BASE_LR      0.001" in run("config", "keys", "base_lr").output


def test_config_names_what_is_near():
    assert "SOLVER.BASE_LR" in one_line(run("config", "keys", "BASE_RL"))
    assert "stands for several" in one_line(run("config", "show", "mask_rcnn_R_50_FPN_1x"))
    assert "did you mean 'mask_rcnn_R_50_FPN_3x'" in one_line(
        run("config", "show", "mask_rcnn_R50_FPN_3x")
    )
    assert "did you mean 'SOLVER.BASE_LR'" in one_line(
        run("config", "show", "default", "SOLVER.BASE_RL", "1")
    )


def test_predicting(untrained, tmp_path):
    picture = write_sample(tmp_path / "sample.jpg", size_hw=(96, 128))
    out, found = tmp_path / "out", tmp_path / "found.json"
    result = run(
        "predict", picture, picture, "--model", untrained, "--output", out, "--threshold", 0,
        "--json", found,
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert sorted(p.name for p in out.iterdir()) == ["sample.jpg", "sample_2.jpg"]
    rows = json.loads(found.read_text())
    assert len(rows) == 6
    assert rows[0]["image"] == str(picture)
    assert rows[0]["class"] in NAMES["thing_classes"]
    assert rows[0]["segmentation"]["size"] == [96, 128]
    assert f"6 objects -> {found}" in result.output


def test_predicting_what_is_not_there(untrained):
    assert "picture '/no/a.jpg' does not exist" in one_line(run("predict", "/no/a.jpg"))
    assert "no file matches" in one_line(run("predict", "/no/*.jpg", "--model", untrained))
    message = one_line(run("predict", __file__, "--model", untrained))
    assert "test_commands.py" in message


def test_training_is_refused_before_it_starts(tmp_path):
    data = write_shapes(tmp_path, num_train=1, num_val=1)
    train = ("--train", data.train_json, data.train_images)
    config = ("--config", "mask_rcnn_R_50_FPN_3x")

    assert "which model?" in one_line(run("train", *train))
    assert "unknown option '--epoch'; did you mean --epochs?" in one_line(
        run("train", *config, *train, "--epoch", 3)
    )
    assert "did you mean 'SOLVER.BASE_LR'" in one_line(
        run("train", *config, *train, "SOLVER.BASE_RL", 3)
    )
    assert "expected float" in one_line(run("train", *config, *train, "SOLVER.BASE_LR", "fast"))
    assert "annotation file '/no.json' does not exist" in one_line(
        run("train", *config, "--train", "/no.json", tmp_path)
    )
    assert "unexpected" in one_line(run("train", *config, *train, data.val_json))
    assert "use `retinue eval`" in one_line(run("train", *config, *train, "--eval-only"))


def test_wrong_annotations_are_listed(tmp_path):
    data = write_shapes(tmp_path, num_train=2, num_val=1)
    content = json.loads(data.train_json.read_text())
    content["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    content["annotations"][1]["segmentation"]["size"] = [3, 3]
    data.train_json.write_text(json.dumps(content))
    result = run(
        "train", "--config", DEMO / "mask_rcnn_shapes.yaml", "--output", tmp_path / "out",
        "--train", data.train_json, data.train_images,
    )  # fmt: skip

    assert result.exit_code == 2
    assert "RLE masks are not of their image's size" in result.stderr


def test_the_folder_of_another_run_is_kept(tmp_path):
    data = write_shapes(tmp_path, num_train=1, num_val=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last_checkpoint").write_text("model_0000001.pth")
    result = run(
        "train", "--config", DEMO / "mask_rcnn_shapes.yaml", "--output", tmp_path / "out",
        "--train", data.train_json, data.train_images,
    )  # fmt: skip

    assert "holds a run already: resume it (--resume)" in one_line(result)


def test_evaluating_wrong_things(untrained, tmp_path):
    assert "image folder '/no/images' does not exist" in one_line(
        run(
            "eval",
            "--model",
            untrained,
            "--data",
            write_shapes(tmp_path, num_train=1, num_val=1).val_json,
            "/no/images",
        )
    )
    assert "folder '/tmp' has no config.yaml" in one_line(run("eval", "--model", "/tmp"))


def test_doctor_without_the_model():
    result = run("doctor", "--no-model")

    assert result.exit_code == 0, result.output
    assert "PyTorch" in result.output
    assert "shared memory" in result.output or sys.platform != "linux"


def test_a_bug_is_a_traceback(monkeypatch):
    import retinue.engine.model_source as model_source

    def broken(*args, **kwargs):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(model_source, "find_model", broken)
    result = run("config", "show", "x")

    assert isinstance(result.exception, ZeroDivisionError)


def test_ctrl_c_ends_with_its_own_status(monkeypatch):
    import retinue.engine.model_source as model_source

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_source, "find_model", interrupted)
    result = run("config", "show", "x")

    assert result.exit_code == 130
    assert result.stderr == "error: stopped by Ctrl-C\n"


@pytest.mark.slow
def test_the_flags_of_train_net(tmp_path, monkeypatch):
    """As detectron2's tools/train_net.py: a config file, its datasets, pairs at the end."""
    from retinue.engine.data_source import find_data

    data = write_shapes(tmp_path, num_train=2, num_val=1)
    (train,) = find_data((data.train_json, data.train_images))
    (val,) = find_data((data.val_json, data.val_images))
    train.register()
    val.register()
    common = (
        "--config-file", DEMO / "mask_rcnn_shapes.yaml", "--num-gpus", 1,
        "MODEL.DEVICE", "cpu", "OUTPUT_DIR", tmp_path / "out", "SOLVER.MAX_ITER", 2,
        "SOLVER.IMS_PER_BATCH", 1, "SOLVER.STEPS", "(1,)", "SOLVER.WARMUP_ITERS", 0,
        "DATASETS.TRAIN", f"({train.name!r},)", "DATASETS.TEST", f"({val.name!r},)",
    )  # fmt: skip
    result = run("train", *common)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "model_final.pth").is_file()

    result = run("train", "--eval-only", "--resume", *common)
    assert result.exit_code == 0, result.output
    assert "copypaste: Task: bbox" in result.output
    assert "augmentation" not in result.output

    again = [*common, "TEST.AUG.ENABLED", True, "TEST.AUG.MIN_SIZES", "(96, 128)"]
    result = run("train", *again, "OUTPUT_DIR", tmp_path / "again")
    assert result.exit_code == 0, result.output
    last = (tmp_path / "again" / "metrics.json").read_text().splitlines()[-1]
    assert {"bbox/AP", "bbox_TTA/AP", "segm_TTA/AP"} <= json.loads(last).keys()

    for words in (("--eval-only",), ()):
        text = one_line(run("train", *words, *common, *WITH_OTHER_MODEL))
        assert "TEST.AUG.ENABLED to False, or MODEL.META_ARCHITECTURE (which is Ret" in text


def test_an_option_of_two_words_with_one(tmp_path):
    text = one_line(run("train", "--config", "x", "--train", "a.json", "--output", tmp_path))
    assert "--train takes two words" in text
    assert "got 'a.json' and '--output'" in text


def test_the_model_to_evaluate_as_an_option():
    assert "unknown model 'yolo'" in one_line(run("eval", "--model", "yolo"))
    assert "did you mean 'SEED'" in one_line(
        run("eval", "--model", "mask_rcnn_R_50_FPN_3x", "SEEDS", 3)
    )
    assert "which model?" in one_line(run("eval"))


def test_an_unreadable_picture_among_others(untrained, tmp_path):
    write_sample(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no picture")
    result = run("predict", tmp_path, "--model", untrained, "--output", tmp_path / "out")

    assert "b.png' can't be read" in one_line(result)
    assert (tmp_path / "out" / "a.jpg").is_file()


def test_a_folder_that_cannot_be_made(untrained, tmp_path):
    write_sample(tmp_path / "a.png")
    result = run("predict", tmp_path, "--model", untrained, "--output", tmp_path / "a.png")
    assert "a.png' can't be made: a file is in its place" in one_line(result)


def test_a_device_that_was_asked_for_is_not_replaced(untrained, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    write_sample(tmp_path / "a.png")
    result = run("predict", tmp_path / "a.png", "--model", untrained, "--device", "cuda")
    assert "device 'cuda': PyTorch finds none here" in result.stderr
    assert result.exit_code == 2


def test_errors_of_a_loaders_process_are_told_without_its_traceback():
    import torch.multiprocessing

    from retinue.cli.common import _is_fixable, _text_of
    from retinue.utils.errors import InputError

    text = (
        "Caught InputError in DataLoader worker process 0.\nOriginal Traceback (most recent call"
        ' last):\n  File "a.py", line 3\nretinue.utils.errors.InputError: image a: is bad; see b\n'
    )
    assert _text_of(InputError(text)) == "image a: is bad; see b"
    assert _text_of(InputError("plain")) == "plain"
    text = (
        "\n\n-- Process 1 terminated with the following error:\nTraceback (most recent call last):"
        '\n  File "a.py", line 3\nretinue.utils.errors.InputError: image a:\n  is bad\n'
    )
    error = torch.multiprocessing.ProcessRaisedException(text, 1, 2)
    assert _text_of(error) == "image a:\n  is bad"
    assert _is_fixable(error)
    assert not _is_fixable(RuntimeError("Caught ZeroDivisionError in DataLoader worker process 0."))


def test_data_has_to_be_named(tmp_path):
    result = run("train", "--config", DEMO / "mask_rcnn_shapes.yaml", "--output", tmp_path / "out")
    assert "which data?" in one_line(result)
    assert "(--train JSON IMAGES)" in result.stderr


def test_a_broken_dataset_leaves_another_run_alone(untrained, tmp_path):
    data = write_shapes(tmp_path, num_train=1, num_val=1)
    data.train_json.write_text(
        '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}'
    )
    for file in untrained.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir() if f.is_file()}
    (tmp_path / "last_checkpoint").write_text("model.safetensors")
    result = run(
        "train", "--config", DEMO / "mask_rcnn_shapes.yaml", "--output", tmp_path, "--overwrite",
        "--train", data.train_json, data.train_images,
    )  # fmt: skip

    assert "the dataset has no image" in result.stderr
    assert (tmp_path / "last_checkpoint").read_text() == "model.safetensors"
    assert (
        before.items()
        <= {f.name: f.read_bytes() for f in tmp_path.iterdir() if f.is_file()}.items()
    )


def test_a_demo_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert "a file is in its place" in one_line(run("demo", "--output", tmp_path / "file"))


def test_predicting_without_a_model_says_what_it_knows(tmp_path):
    picture = write_sample(tmp_path / "sample.jpg")
    result = run("predict", picture, "--output", tmp_path / "out", "--device", "cpu")

    assert result.exit_code == 0, result.output
    assert (
        "it knows disk, rectangle, triangle, star, ring, cross, and nothing else" in result.output
    )
    assert "--model COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x" in result.output
    assert "star" in result.output.splitlines()[-1]
    assert (tmp_path / "out" / "sample.jpg").is_file()
