"""A table of what is installed and on which machine, for bug reports.

``python -m retinue.utils.collect_env`` prints it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys

import torch

from retinue.utils import env

__all__ = ["collect_env_info"]

PACKAGES = (
    "retinue",
    "torch",
    "torchvision",
    "numpy",
    "pillow",
    "yacs",
    "omegaconf",
    "hotcoco",
    "fsspec",
    "safetensors",
    "detectron2",
    "fvcore",
    "iopath",
    "pycocotools",
    "opencv-python",
)


def collect_torch_env() -> str:
    """Return PyTorch's own description of how it was built."""
    return torch.__config__.show()


def get_env_module() -> tuple[str, str]:
    """Return the name and the value of the variable that names the user's setup module."""
    set_ones = [name for name in env.SETUP_VARIABLES if env.read(name)]
    name = (set_ones or env.SETUP_VARIABLES)[0]
    return name, env.read(name, "<not set>")


def detect_compute_compatibility(CUDA_HOME: str, so_file: str) -> str:
    """Return the CUDA architectures that a compiled library was built for.

    Args:
        CUDA_HOME: where the CUDA toolkit is; its ``cuobjdump`` reads the library.
        so_file: the library.
    """
    tool = os.path.join(CUDA_HOME, "bin", "cuobjdump")
    if not os.path.isfile(tool):
        return f"{so_file}; cannot find cuobjdump"
    listed = subprocess.run([tool, "--list-elf", so_file], capture_output=True, text=True)
    if listed.returncode:
        return f"{so_file}; cuobjdump failed: {listed.stderr.strip()}"
    names = {line.split(".")[-2].removeprefix("sm_") for line in listed.stdout.split("\n") if line}
    return ", ".join(f"{int(name) / 10:.1f}" for name in sorted(names) if name.isdigit())


def _versions() -> list[tuple[str, str]]:
    rows = []
    for name in PACKAGES:
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return rows


def _devices() -> list[tuple[str, str]]:
    if torch.cuda.is_available():
        driver = shutil.which("nvidia-smi")
        rows = [("CUDA of PyTorch", str(torch.version.cuda or torch.version.hip))]
        rows += [("nvidia-smi", driver)] if driver else []
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            arch = f"{properties.major}.{properties.minor}"
            memory = f"{properties.total_memory / 2**30:.0f} GiB"
            rows.append((f"GPU {index}", f"{properties.name} (arch {arch}, {memory})"))
        return rows
    if torch.backends.mps.is_available():
        return [("GPU", "Apple MPS")]
    return [("GPU available", "no")]


def collect_env_info() -> str:
    """Return the table, and how PyTorch was built below it."""
    rows = [
        ("platform", platform.platform()),
        ("Python", sys.version.replace("\n", "")),
        *_versions(),
        ("PyTorch debug build", str(torch.version.debug)),
        *_devices(),
        ("CPU threads", str(torch.get_num_threads())),
        ("cache folder", env.cache_root()),
        get_env_module(),
    ]
    width = max(len(name) for name, _ in rows)
    rule = "-" * (width + 2) + "-" * max(len(value) for _, value in rows)
    table = "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
    return f"{rule}\n{table}\n{rule}\n{collect_torch_env()}"


def test_nccl_ops() -> None:
    """Add numbers across all GPUs of this machine by NCCL, to see whether it hangs."""
    count = torch.cuda.device_count()
    if count < 2 or not torch.distributed.is_nccl_available():
        return
    from torch.multiprocessing.spawn import spawn

    print(f"Adding across {count} GPUs by NCCL ...")
    spawn(_test_nccl_worker, args=(count,), nprocs=count)
    print("NCCL works.")


test_nccl_ops.__test__ = False  # type: ignore[attr-defined] # the name is no test's


def _test_nccl_worker(rank: int, count: int) -> None:
    import torch.distributed as dist

    dist.init_process_group(
        "nccl", init_method="tcp://127.0.0.1:17465", rank=rank, world_size=count
    )
    dist.all_reduce(torch.ones(1, device=f"cuda:{rank}"))
    dist.destroy_process_group()


def main() -> None:
    """Print the table; with several GPUs, try NCCL too."""
    print(collect_env_info())
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            try:
                torch.ones(1, device=f"cuda:{index}")
            except RuntimeError as error:
                print(f"GPU {index}: making a tensor there fails: {error}")
        test_nccl_ops()


if __name__ == "__main__":
    main()
