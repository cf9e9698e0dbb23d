"""``retinue doctor``: what this machine has, what is wrong with it, and what to do."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Annotated, NamedTuple

import typer

GOOD, ODD, BAD = "ok", "warning", "error"
_MARKS = {GOOD: "[green]ok[/]", ODD: "[yellow]warning[/]", BAD: "[bold red]error[/]"}

_EXTRAS = {
    "matplotlib": ("plot", "VisImage.fig"),
    "tensorboard": ("tensorboard", "TensorBoard logs"),
    "requests": ("http", "datasets and weights by http"),
}


class Finding(NamedTuple):
    """One line of the report."""

    state: str
    what: str
    fix: str = ""


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    digits = version.split("+")[0].split(".")[:2]
    return tuple(int("".join(c for c in d if c.isdigit()) or 0) for d in digits)


def check_python() -> Iterator[Finding]:
    yield Finding(GOOD, f"Python {platform.python_version()} at {sys.executable}")
    yield Finding(GOOD, f"{platform.platform()}, {os.cpu_count()} CPU cores")


def check_torch() -> Iterator[Finding]:
    try:
        import torch
    except ImportError as error:
        yield Finding(BAD, f"PyTorch cannot be imported: {error}", "pip install 'torch>=2.6'")
        return
    text = f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads"
    is_old = _numbers(torch.__version__) < (2, 6)
    yield Finding(BAD if is_old else GOOD, text, "pip install 'torch>=2.6'" if is_old else "")


def check_devices() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            free, total = (v / 2**30 for v in torch.cuda.mem_get_info(i))
            name = torch.cuda.get_device_name(i)
            text = f"GPU {i}: {name}, {free:.1f} of {total:.1f} GiB free"
            fix = "another program holds its memory; see nvidia-smi" if free < total / 4 else ""
            yield Finding(ODD if fix else GOOD, text, fix)
        return
    if torch.backends.mps.is_available():
        yield Finding(GOOD, "Apple GPU (MPS)")
        return
    if shutil.which("nvidia-smi") and torch.version.cuda is None and torch.version.hip is None:
        fix = "install the CUDA build of PyTorch: https://pytorch.org/get-started/locally"
        yield Finding(ODD, "there is an NVIDIA driver, but this PyTorch is for the CPU", fix)
    elif torch.version.cuda is not None:
        fix = "is there a GPU, and is its driver new enough for this PyTorch? see nvidia-smi"
        text = f"PyTorch is built for CUDA {torch.version.cuda}, but finds no GPU"
        yield Finding(ODD, text, fix)
    else:
        yield Finding(GOOD, "no GPU: everything runs on the CPU, only more slowly")


def check_packages() -> Iterator[Finding]:
    required = metadata.requires("retinue") or []
    for line in required:
        if "extra ==" in line or line.startswith("torch>"):
            continue
        name = line.split(">")[0].split("=")[0].split(";")[0].strip()
        version = _version(name)
        if version is None:
            yield Finding(BAD, f"{name} is missing", f"pip install '{line}'")
        else:
            yield Finding(GOOD, f"{name} {version}")
    for name, (extra, use) in _EXTRAS.items():
        version = _version(name)
        text = f"{name} {version}" if version else f"{name} is not installed ({use})"
        yield Finding(GOOD, text, "" if version else f"if needed: pip install 'retinue[{extra}]'")


def check_torchvision() -> Iterator[Finding]:
    """torchvision is not needed; one that doesn't fit PyTorch breaks other programs, though."""
    version = _version("torchvision")
    if version is None:
        return
    try:
        import torchvision

        torchvision.extension._assert_has_ops()
        yield Finding(GOOD, f"torchvision {version}")
    except Exception as error:
        fix = "not needed here; for other programs, reinstall the one made for this PyTorch"
        yield Finding(ODD, f"torchvision {version} does not work: {error}", fix)


def check_folders() -> Iterator[Finding]:
    from retinue.utils.file_io import get_cache_dir

    cache = os.fspath(get_cache_dir())
    existing = cache
    while not os.path.exists(existing):
        existing = os.path.dirname(existing)
    if not os.access(existing, os.W_OK):
        fix = "set RETINUE_CACHE to a folder that you may write to"
        yield Finding(BAD, f"downloads go to {cache}, which can't be written to", fix)
    else:
        free = shutil.disk_usage(existing).free / 2**30
        fix = "set RETINUE_CACHE to a folder on a larger disk" if free < 1 else ""
        text = f"downloads go to {cache}, {free:.1f} GiB free"
        yield Finding(ODD if fix else GOOD, text, fix)
    if os.path.isdir("/dev/shm"):
        size = shutil.disk_usage("/dev/shm").total / 2**30
        fix = ""
        if size < 0.5:
            fix = "data workers may crash; docker run --shm-size=8g, or DATALOADER.NUM_WORKERS 0"
        yield Finding(ODD if fix else GOOD, f"shared memory {size:.2f} GiB", fix)


def check_other_names() -> Iterator[Finding]:
    for name in ("detectron2", "fvcore"):
        if version := _version(name):
            yield Finding(GOOD, f"{name} {version} is installed beside retinue")


def check_model() -> Iterator[Finding]:
    """Run the demo's model once."""
    import time

    from retinue.data.datasets.shapes import draw_scene
    from retinue.engine.api import load

    start = time.perf_counter()
    scene = draw_scene(10, 0)
    try:
        found = load().predict(scene.image, threshold=0.5)
    except Exception as error:
        yield Finding(BAD, f"the demo's model does not run: {type(error).__name__}: {error}")
        return
    seconds = time.perf_counter() - start
    text = (
        f"the demo's model found {len(found)} shapes in a picture of {len(scene.labels)},"
        f" in {seconds:.1f} s"
    )
    yield Finding(GOOD, text)


CHECKS: dict[str, tuple[Callable[[], Iterator[Finding]], ...]] = {
    "System": (check_python,),
    "PyTorch": (check_torch, check_devices, check_torchvision),
    "Packages": (check_packages, check_other_names),
    "Folders": (check_folders,),
    "Model": (check_model,),
}


def doctor(
    model: Annotated[bool, typer.Option(help="Also run the demo's model once.")] = True,
) -> None:
    """Check this machine: versions, devices, folders, common problems and their fixes.

    Paste the output into bug reports. The status is 1 if something is broken.
    """
    from rich.console import Console

    from retinue import __version__

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]retinue {__version__}[/]")
    states = []
    for title, checks in CHECKS.items():
        if title == "Model" and (not model or BAD in states):
            continue
        console.print(f"\n[bold]{title}[/]")
        for check in checks:
            if check is not check_python and "torch" not in sys.modules and BAD in states:
                continue
            for finding in check():
                states.append(finding.state)
                mark = _MARKS[finding.state] if finding.state != GOOD else "[green]✓[/]"
                console.print(f"  {mark} ", end="")
                console.print(finding.what, markup=False)
                if finding.fix:
                    console.print(f"      {finding.fix}", markup=False, style="dim")
    num_bad, num_odd = states.count(BAD), states.count(ODD)
    parts = [f"{num_bad} errors" if num_bad else "", f"{num_odd} warnings" if num_odd else ""]
    console.print("\n" + (", ".join(filter(None, parts)) or "everything is fine"))
    if num_bad:
        raise typer.Exit(1)
