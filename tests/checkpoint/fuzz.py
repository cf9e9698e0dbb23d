"""Feed the checkpoint reader with damaged files for a while.

    python tests/checkpoint/fuzz.py SECONDS [SEED]

Good and hostile files are flipped, cut, joined and given other numbers. The reader may return, or
refuse with its own error; any other error, a file that takes more than 20 s or the process more
than 2 GiB, or a crash, ends the run with the file kept in ``output/fuzz`` and exit status 1.
"""

import random
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from types import FrameType

import hostile_files
import numpy as np
import safetensors.torch
import torch
import yaml

from retinue.checkpoint.errors import CheckpointError
from retinue.checkpoint.reader import Checkpoint, list_checkpoint, read_checkpoint
from retinue.checkpoint.writer import write_checkpoint
from retinue.config import get_cfg
from retinue.config.safe_yaml import load_yaml
from retinue.structures import Boxes, Instances

ENDINGS = (".pkl", ".pth", ".safetensors", ".index.json", ".yaml")
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
SECONDS_A_FILE = 20
ROOM = 2 << 30


def seeds(folder: Path) -> list[tuple[bytes, str]]:
    """Contents to start from, and the endings of their files."""
    weights = {"a.weight": torch.randn(3, 4), "b.bias": torch.randn(2).half()}
    instances = Instances((4, 5), pred_boxes=Boxes(torch.rand(2, 4)), scores=torch.rand(2))
    rest = {"iteration": 3, "optimizer": {"state": {0: {"m": torch.zeros(2)}}}, "found": instances}
    whole = Checkpoint(weights, record={"classes": ["a", "b"]}, rest=rest)
    plain = Checkpoint({"a.weight": torch.randn(3, 4)}, author="x")
    paths = [folder / name for name in ("seed.pth", "seed.safetensors", "seed.pkl")]
    for path in paths:
        write_checkpoint(path, plain if path.suffix == ".pkl" else whole)
    torch.save({**rest, "model": weights, "cfg": get_cfg()}, folder / "rich.pth")
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": {"w": np.zeros((2, 3)), "s": np.float32(1)}}, folder / "arrays.pth")
    safetensors.torch.save_file(weights, folder / "bare.safetensors")
    (folder / "cfg.yaml").write_text(get_cfg().dump())
    names = hostile_files.make_all(folder)
    files = [*paths, *(folder / n for n in ("rich.pth", "old.pth", "arrays.pth", "cfg.yaml"))]
    files += [folder / "bare.safetensors", *(folder / name for name in names)]
    endings = {file: next((e for e in ENDINGS if file.name.endswith(e)), ".pth") for file in files}
    small = [file for file in files if file.is_file() and file.stat().st_size < 1 << 20]
    return [(file.read_bytes(), endings[file]) for file in small]


def mutate(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Damage a file in one to four ways."""
    result = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(result) + 1)
        kind = rng.randrange(7)
        if kind == 0 and result:
            result[at % len(result)] ^= 1 << rng.randrange(8)
        elif kind == 1 and result:
            result[at % len(result)] = rng.randrange(256)
        elif kind == 2:
            del result[at:]
        elif kind == 3:
            del result[at : at + rng.randint(1, 40)]
        elif kind == 4:
            number = rng.choice(NUMBERS)
            layout = rng.choice(("<B", "<H", "<I", "<Q"))
            packed = struct.pack("<Q", number)[: struct.calcsize(layout)]
            result[at : at + len(packed)] = packed
        elif kind == 5:
            result[at:at] = result[rng.randrange(len(result) + 1) :][: rng.randint(1, 200)]
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            result[at:at] = other[start : start + rng.randint(1, 200)]
    return bytes(result)


class TooSlowError(BaseException):
    """One file took too long."""


def too_slow(number: int, frame: FrameType | None) -> None:
    raise TooSlowError(f"more than {SECONDS_A_FILE} s")


def limit_memory() -> None:
    import resource

    with open("/proc/self/statm") as file:
        limit = int(file.read().split()[0]) * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(2**32)
    rng = random.Random(seed)
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, too_slow)
    num_runs = num_read = 0
    kept = Path("output/fuzz")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = seeds(folder)
        contents = [content for content, _ in start]
        mark = folder / hostile_files.MARK
        end = time.monotonic() + seconds
        limit_memory()
        while time.monotonic() < end:
            data, ending = rng.choice(start)
            data = mutate(data, contents, rng)
            if rng.random() < 0.1:
                ending = rng.choice(ENDINGS)
            path = folder / f"fuzzed{ending}"
            path.write_bytes(data)
            kept.mkdir(parents=True, exist_ok=True)
            (kept / "last.bin").write_bytes(data)  # what a crash leaves
            read = (
                rng.choice((read_checkpoint, list_checkpoint)) if ending != ".yaml" else load_text
            )
            signal.alarm(SECONDS_A_FILE)
            try:
                read(str(path))
                num_read += 1
            except (CheckpointError, OSError, yaml.YAMLError):
                pass
            except BaseException:
                signal.alarm(0)
                (kept / f"failed{ending}").write_bytes(data)
                traceback.print_exc()
                print(f"{kept / f'failed{ending}'}: {read.__name__} failed; seed {seed}")
                return 1
            signal.alarm(0)
            num_runs += 1
            if mark.exists():
                (kept / f"executed{ending}").write_bytes(data)
                print(f"{kept / f'executed{ending}'} ran its code; seed {seed}")
                return 1
    print(f"{num_runs} files in {seconds:.0f} s, {num_read} of them readable; seed {seed}")
    return 0


def load_text(path: str) -> None:
    with open(path, encoding="utf-8", errors="replace") as file:
        load_yaml(file)


if __name__ == "__main__":
    sys.exit(main())
