"""Run every benchmark and gather what they print.

    python benchmarks/run.py [NAME ...]

Each script in this folder is a benchmark of its own: it prints one line a measurement, ours
and, where the peer can be imported, the peer's and the ratio. This runs them one after the other,
each in a process of its own, and writes what they print to ``benchmarks/results/<name>.txt`` with
the machine, the versions and the date on top.
"""

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
NOT_A_BENCHMARK = {"run", "common", "beside_detectron2"}  # the last wants a detectron2


def machine() -> str:
    """Describe what the numbers were measured on."""
    import torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        models = [
            s.split(":")[1].strip() for s in info.read_text().splitlines() if "model name" in s
        ]
        cpu = models[0] if models else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return (
        f"{time.strftime('%Y-%m-%d')}; Python {platform.python_version()}; "
        f"torch {torch.__version__}; "
        f"{torch.get_num_threads()} threads of {cpu}; GPU: {gpu}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    known = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NOT_A_BENCHMARK)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(known)}; all by default")
    names = parser.parse_args().names or known
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")

    (HERE / "results").mkdir(exist_ok=True)
    failed = []
    for name in names:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, str(HERE / f"{name}.py")], capture_output=True, text=True, check=False
        )
        print(done.stdout, flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stderr[-2000:], file=sys.stderr, flush=True)
        else:
            (HERE / "results" / f"{name}.txt").write_text(f"# {machine()}\n{done.stdout}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
