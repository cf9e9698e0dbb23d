"""What a run's report says of data, training and machine, in pairs of a word and a text."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from retinue import __version__
from retinue.config import CfgNode
from retinue.data.health import DataReport
from retinue.engine.data_source import DataSource

__all__ = ["data_facts", "duration", "environment_facts", "short_name", "training_facts"]

Facts = list[tuple[str, str]]


def duration(seconds: float) -> str:
    """Write seconds for people.

    >>> duration(59.6), duration(4000)
    ('1 min 0 s', '1 h 6 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def short_name(name: str) -> str:
    """Name a dataset for people: registered ones as they are, files by their folder and stem."""
    if not name.endswith(".json"):
        return name
    path = Path(name)
    return f"{path.parent.name}/{path.stem}"


def data_facts(reports: Sequence[DataReport], sources: Sequence[DataSource]) -> Facts:
    """Say how much each dataset holds, and on which the model is judged."""
    facts = []
    for report in reports:
        text = f"{report.num_images:,} pictures, {report.num_instances:,} objects"
        facts.append((short_name(report.name), text))
    facts += [("evaluated on", short_name(s.name)) for s in sources]
    return facts


def training_facts(cfg: CfgNode, seconds: float) -> Facts:
    """Say how long training was, and how fast."""
    num = cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH
    return [
        ("iterations", f"{cfg.SOLVER.MAX_ITER:,} of {cfg.SOLVER.IMS_PER_BATCH} pictures"),
        ("learning rate", f"{cfg.SOLVER.BASE_LR:.4g}"),
        ("time", f"{duration(seconds)}, evaluation included"),
        ("speed", f"{num / seconds:.3g} pictures a second, evaluation included"),
    ]


def environment_facts() -> Facts:
    """Say which versions and which device a run was made with."""
    device = "CPU"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device = "MPS"
    return [
        ("retinue", __version__),
        ("PyTorch", torch.__version__),
        ("Python", platform.python_version()),
        ("device", f"{device}, {torch.get_num_threads()} threads"),
        ("date", datetime.datetime.now().strftime("%Y-%m-%d %H:%M")),
    ]
