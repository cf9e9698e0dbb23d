"""How long it takes to import the library and to print the help, in fresh processes.

python benchmarks/startup.py
"""

import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path


def seconds(command: list[str], rounds: int = 7) -> float:
    """Return the median wall time of a command, after one round that warms the disk cache."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    python = sys.executable
    program = shutil.which("retinue", path=str(Path(python).parent)) or "retinue"
    empty = seconds([python, "-c", "pass"])
    torch = seconds([python, "-c", "import torch"], rounds=3)
    for label, command in {
        "import retinue": [python, "-c", "import retinue"],
        "retinue --help": [program, "--help"],
        "retinue train --help": [program, "train", "--help"],
    }.items():
        ours = seconds(command)
        print(
            f"{label}: {1000 * ours:.0f} ms (Python alone {1000 * empty:.0f} ms, "
            f"import torch {1000 * torch:.0f} ms, ratio to it {ours / torch:.2f})"
        )


if __name__ == "__main__":
    main()
