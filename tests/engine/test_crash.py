"""A run that is killed and resumed ends as one that was not: same weights, same metrics."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "long" / "kill_loop.py"


def kill_loop(folder, *options):
    command = [sys.executable, str(SCRIPT), "loop", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=3000)


@pytest.mark.slow
def test_three_kills(tmp_path):
    result = kill_loop(tmp_path, "--kills", "3", "--iterations", "36")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 kills" in result.stdout


@pytest.mark.long
@pytest.mark.parametrize("kind", [[], ["--detector"]], ids=["toy", "detector"])
def test_twenty_kills(tmp_path, kind):
    result = kill_loop(tmp_path, "--kills", "20", "--iterations", "250", "--seed", "1", *kind)
    assert result.returncode == 0, result.stdout + result.stderr
