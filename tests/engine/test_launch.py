"""Starting processes; what they do together is in ``tests/long/two_processes.py``."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from retinue.engine import DEFAULT_TIMEOUT, launch

SCRIPT = Path(__file__).parents[1] / "long" / "two_processes.py"
CHECKS = ["gradients", "accumulation", "unused", "not_finite", "checkpoint"]
CHECKS += ["sharded", "fsdp", "hooks", "interrupt"]


def run(command, **environment):
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
    )


def test_one_process_is_this_one():
    assert launch(lambda a, b: a + b, 1, args=(1, 2)) == 3
    assert DEFAULT_TIMEOUT.total_seconds() == 1800


def test_several_machines_need_an_address():
    with pytest.raises(ValueError, match="2 machines need a dist_url that all of them reach"):
        launch(print, 1, num_machines=2, dist_url="auto")


@pytest.fixture
def started(monkeypatch):
    """How many processes would have been started."""
    numbers = []
    monkeypatch.setattr(mp, "spawn", lambda *args, nprocs, **more: numbers.append(nprocs))
    return numbers


def test_processes_without_gpus_are_told(started, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    launch(print, 4)
    assert started == [4]
    assert [r.getMessage() for r in caplog.records] == [
        "4 GPUs were asked for, but PyTorch finds none here: 4 processes start and share the CPU;"
        " --num-gpus 1 (or num_gpus=1) starts one"
    ]


def test_more_gpus_than_there_are(started, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ValueError, match=r"4 GPUs a machine were asked for, .* has 2: --num-gpus 2"
    ):
        launch(print, 4)
    launch(print, 2)
    assert started == [2]
    assert not caplog.records


@pytest.mark.slow
def test_two_processes(tmp_path):
    result = run([str(SCRIPT), str(tmp_path), *CHECKS])
    assert result.returncode == 0, result.stderr
    done = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert done == [{"check": name, "ranks": [0, 1]} for name in CHECKS]


@pytest.mark.slow
def test_a_failing_process_ends_the_job(tmp_path):
    result = run([str(SCRIPT), str(tmp_path), "failure"])
    assert result.returncode != 0
    assert "rank 1 gives up" in result.stderr


@pytest.mark.long
def test_torchrun(tmp_path):
    options = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    result = run([*options, str(SCRIPT), str(tmp_path), "accumulation"])
    assert result.returncode == 0, result.stderr
    assert '{"check": "accumulation", "ranks": [0, 1]}' in result.stdout
