"""Parameter groups and learning-rate schedules of solver.json."""

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from configs import build, load_config


def checks(parity: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    file = parity / "solver.json"
    if not file.is_file():
        return
    recorded = json.loads(file.read_text())
    for name, entry in recorded["optimizer"].items():
        yield f"solver/optimizer/{name}", partial(check_optimizer, entry)
    for name, entry in recorded["lr"].items():
        yield f"solver/lr/{name}", partial(check_schedule, entry)


def _close(got: float, want: float, what: str) -> None:
    assert math.isclose(got, want, rel_tol=1e-9, abs_tol=1e-15), f"{what}: {got}, expected {want}"


def check_optimizer(entry: dict[str, Any]) -> None:
    model, cfg = build(entry["config"], entry["overrides"])
    if entry["config"].endswith(".py"):
        from retinue.config import instantiate

        cfg.optimizer.params.model = model
        optimizer = instantiate(cfg.optimizer)
        for key, value in entry["defaults"].items():
            got = optimizer.defaults[key]
            assert (list(got) if isinstance(got, tuple) else got) == value, f"{key}: {got}"
    else:
        from retinue.solver import build_optimizer

        optimizer = build_optimizer(cfg, model)
        for key in ("momentum", "nesterov"):
            values = {group[key] for group in optimizer.param_groups}
            assert values == {entry[key]}, f"{key}: {values}, expected {entry[key]}"
    assert entry["class"] in {c.__name__ for c in type(optimizer).__mro__}, (
        f"the optimizer is a {type(optimizer).__name__}, expected {entry['class']}"
    )

    names = {id(p): n for n, p in model.named_parameters()}
    got = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    want = entry["params"]
    missing, extra = sorted(want.keys() - got.keys()), sorted(got.keys() - want.keys())
    assert not missing, f"not optimised: {missing[:3]}"
    assert not extra, f"optimised, not expected: {extra[:3]}"
    for name, (lr, weight_decay) in want.items():
        _close(got[name][0], lr, f"{name}: lr")
        _close(got[name][1], weight_decay, f"{name}: weight decay")


def check_schedule(entry: dict[str, Any]) -> None:
    import torch

    cfg = load_config(entry["config"], entry.get("overrides", {}))
    parameter = torch.nn.Parameter(torch.zeros(1))
    wanted = {int(k): v for k, v in entry["values"].items()}
    if entry["config"].endswith(".py"):
        from retinue.config import instantiate

        multiplier = instantiate(cfg.lr_multiplier)
        for iteration, value in wanted.items():
            _close(multiplier(iteration / entry["max_iter"]), value, f"iteration {iteration}")
        return
    if entry["config"].startswith("projects/"):
        from retinue.projects.deeplab import build_lr_scheduler
    else:
        from retinue.solver import build_lr_scheduler

    cfg.merge_from_list(["SOLVER.MAX_ITER", entry["max_iter"]])
    optimizer = torch.optim.SGD([parameter], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    for iteration in range(max(wanted) + 1):
        if iteration > 0:
            optimizer.step()
            scheduler.step()
        if iteration in wanted:
            _close(optimizer.param_groups[0]["lr"], wanted[iteration], f"iteration {iteration}")
