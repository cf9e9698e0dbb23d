"""Reading a checkpoint of 1 GB: time and memory against PyTorch and safetensors.

    python benchmarks/checkpoint.py [--megabytes 1000] [--repeats 5] [--json FILE]

Each measurement is a process of its own that reads the file once before, so that it lies in the
system's cache; then the best of ``repeats``. Memory is what the process takes beyond the imports,
at its highest: ``anonymous`` leaves out pages that are only mapped from the file and can be dropped
at any time. Reading must take at most 1.1 times PyTorch's time, and no second copy of the tensors.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAYS = {
    "torch.load": "a.pth",
    "read_checkpoint(.pth)": "a.pth",
    "read_checkpoint(.pth, mmap=True)": "a.pth",
    "safetensors.load_file": "a.safetensors",
    "read_checkpoint(.safetensors)": "a.safetensors",
    "torch.load, load_state_dict": "a.pth",
    "Checkpointer.load(.pth)": "a.pth",
    "Checkpointer.load(.safetensors)": "a.safetensors",
}
LAYER = 4_000_000  # bytes of one tensor


def make_model(megabytes: int) -> Any:
    import torch
    from torch import nn

    side = int((LAYER / 4) ** 0.5)
    with torch.device("meta"):
        layers = [nn.Linear(side, side, bias=False) for _ in range(megabytes * 10**6 // LAYER)]
        model = nn.Sequential(*layers)
    return model.to_empty(device="cpu")


def way(name: str, path: str, megabytes: int) -> Callable[[], Any]:
    """Return the function to measure."""
    import torch

    from retinue.checkpoint import DetectionCheckpointer
    from retinue.checkpoint.reader import read_checkpoint

    if name == "torch.load":
        return lambda: torch.load(path, map_location="cpu", weights_only=True)
    if name == "safetensors.load_file":
        import safetensors.torch

        return lambda: safetensors.torch.load_file(path)
    if name.startswith("read_checkpoint"):
        return lambda: read_checkpoint(path, mmap="mmap" in name)
    model = make_model(megabytes)
    if name.startswith("Checkpointer"):
        return lambda: DetectionCheckpointer(model).load(path)
    load = way("torch.load", path, megabytes)
    return lambda: model.load_state_dict(load()["model"])


def memory(field: str) -> int:
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) * 1024


class Peak:
    """The most memory that the process takes while the block runs, sampled."""

    def __enter__(self) -> "Peak":
        self.total = self.anonymous = 0
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._is_done.wait(0.002):
            self.total = max(self.total, memory("VmRSS"))
            self.anonymous = max(self.anonymous, memory("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._is_done.set()
        self._thread.join()


def measure(name: str, path: str, megabytes: int, repeats: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    Path(path).read_bytes()  # into the system's cache
    function = way(name, path, megabytes)
    function()  # imports; the model's memory
    before = {field: memory(field) for field in ("VmRSS", "RssAnon")}
    seconds = []
    with Peak() as peak:
        for _ in range(repeats):
            start = time.perf_counter()
            result = function()
            seconds.append(time.perf_counter() - start)
            del result
    return {
        "seconds": min(seconds),
        "megabytes": (peak.total - before["VmRSS"]) / 1e6,
        "anonymous": (peak.anonymous - before["RssAnon"]) / 1e6,
    }


def write_files(folder: Path, megabytes: int) -> None:
    import safetensors.torch
    import torch

    state = {
        name: torch.randn_like(value) for name, value in make_model(megabytes).state_dict().items()
    }
    torch.save({"model": state, "iteration": 1}, folder / "a.pth")
    safetensors.torch.save_file(state, folder / "a.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the numbers there")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(*args.one, args.megabytes, args.repeats)))
        return
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        write_files(Path(name), args.megabytes)
        for label, file in WAYS.items():
            command = [sys.executable, __file__, "--one", label, str(Path(name) / file)]
            command += ["--megabytes", str(args.megabytes), "--repeats", str(args.repeats)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[label] = json.loads(output.splitlines()[-1])
            row = found[label]
            print(
                f"{label:34} {row['seconds']:7.3f} s   {row['megabytes']:6.0f} MB more"
                f"   {row['anonymous']:6.0f} MB of it anonymous",
                flush=True,
            )
    ratio = found["read_checkpoint(.pth)"]["seconds"] / found["torch.load"]["seconds"]
    print(f"read_checkpoint takes {ratio:.2f} times torch.load's time")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
