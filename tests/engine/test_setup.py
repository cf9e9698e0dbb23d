"""The beginning of a job."""

import argparse
import os

import pytest
import torch
import yaml

from retinue.config import LazyConfig, get_cfg
from retinue.engine import default_argument_parser, default_setup, default_writers
from retinue.engine.setup import OutputFolderError, _highlight, _try_get_key, check_output_folder


@pytest.fixture(autouse=True)
def _hash_seed_as_before():
    seed = os.environ.get("PYTHONHASHSEED")
    yield
    os.environ.pop("PYTHONHASHSEED", None)
    if seed is not None:
        os.environ["PYTHONHASHSEED"] = seed


def test_the_flags_are_detectron2s():
    parser = default_argument_parser(epilog="see also")
    assert parser.epilog == "see also"
    default = parser.parse_args([])
    assert 49152 <= int(default.dist_url.removeprefix("tcp://127.0.0.1:")) < 65536
    del default.dist_url
    assert vars(default) == {
        "config_file": "",
        "resume": False,
        "eval_only": False,
        "num_gpus": 1,
        "num_machines": 1,
        "machine_rank": 0,
        "opts": [],
    }
    line = "--config-file a.yaml --resume --num-gpus 2 --dist-url tcp://h:1 SEED 3 --x"
    given = parser.parse_args(line.split())
    assert (given.config_file, given.resume, given.num_gpus) == ("a.yaml", True, 2)
    assert given.opts == ["SEED", "3", "--x"]
    assert "two machines" in default_argument_parser().format_help()


def test_a_job_has_its_folder_log_config_and_seed(tmp_path, capsys):
    cfg = get_cfg()
    cfg.OUTPUT_DIR, cfg.SEED = str(tmp_path / "a" / "output"), 5
    config_file = tmp_path / "mine.yaml"
    config_file.write_text("SEED: 5\n")
    default_setup(cfg, argparse.Namespace(config_file=str(config_file), eval_only=True))
    first = torch.rand(2)

    saved = yaml.safe_load((tmp_path / "a" / "output" / "config.yaml").read_text())
    assert (saved["SEED"], saved["OUTPUT_DIR"]) == (5, cfg.OUTPUT_DIR)
    log = (tmp_path / "a" / "output" / "log.txt").read_text()
    for text in (
        "process: 0. World size: 1",
        "Environment info:",
        "arguments: ",
        "mine.yaml:\nSEED",
    ):
        assert text in log
    assert "Full config saved to" in capsys.readouterr().out
    assert torch.equal(first, torch.rand(2, generator=torch.Generator().manual_seed(5)))


def test_lazy_configs_too(tmp_path):
    (tmp_path / "c.py").write_text("train = dict(output_dir='', seed=-1)\n")
    cfg = LazyConfig.load(str(tmp_path / "c.py"))
    cfg.train.output_dir = str(tmp_path / "lazy")
    default_setup(cfg, {})
    assert LazyConfig.load(str(tmp_path / "lazy" / "config.yaml")).train.seed == -1


def test_a_folder_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    for error in (OSError, ValueError):
        with pytest.raises(error, match=r"OUTPUT_DIR .*file': a file is in its place"):
            check_output_folder(str(tmp_path / "file"))
    check_output_folder(str(tmp_path / "new"))
    assert not list((tmp_path / "new").iterdir())
    assert issubclass(OutputFolderError, OSError)


def test_keys_of_either_kind_of_config():
    cfg = get_cfg()
    assert _try_get_key(cfg, "no", "SOLVER.no", "SOLVER.MAX_ITER") == cfg.SOLVER.MAX_ITER
    assert _try_get_key(cfg, "SEED.no", default=3) == 3


def test_highlighting_keeps_the_text():
    assert "SEED" in _highlight("SEED: 1\n", "a.yaml")
    assert "def" in _highlight("def f(): ...\n", "a.py")


def test_writers_without_tensorboard(tmp_path, monkeypatch):
    folder = tmp_path / "new"
    kinds = [type(writer).__name__ for writer in default_writers(str(folder), 10)]
    assert kinds == ["CommonMetricPrinter", "JSONWriter", "TensorboardXWriter"]
    monkeypatch.setattr("retinue.engine.writers._has_tensorboard", lambda: False)
    assert len(default_writers(str(folder), 10)) == 2
