"""``retinue run analyze_model --tasks flop activation parameter structure``: what a model costs.

Operations and activations depend on the images and on what is found in them, so that they are
counted on the test set.
"""

from __future__ import annotations

import argparse
import itertools
import logging
from collections import Counter
from typing import Any

import numpy as np

from retinue.compat.tools.common import (
    build,
    load_weights,
    parser_with_example,
    read_config,
    test_loader,
)
from retinue.export.analysis import (
    FlopCountAnalysis,
    activation_count_operators,
    parameter_count_table,
)
from retinue.export.model_tables import flop_count_table
from retinue.utils.errors import InputError
from retinue.utils.logger import setup_logger

__all__ = ["main"]

logger = logging.getLogger("retinue")  # as scripts for detectron2 log


def _average(counts: Counter[str], num: int) -> str:
    return ", ".join(f"{name} {total / num:.3g}" for name, total in counts.most_common())


def _flop(cfg: Any, num_inputs: int) -> None:
    model = build(cfg).eval()
    load_weights(cfg, model)
    counts: Counter[str] = Counter()
    totals = []
    for batch in itertools.islice(test_loader(cfg), num_inputs):
        flops = FlopCountAnalysis(model, batch)
        by_operator = flops.by_operator()
        counts.update({name: count / 1e9 for name, count in by_operator.items()})
        totals.append(flops.total() / 1e9)
        if len(totals) == 1:
            logger.info("Operations on the first input:\n%s", flop_count_table(flops))
    logger.info("Average GFlops by type of operator: %s", _average(counts, len(totals)))
    logger.info("Total GFlops: %.1f±%.1f", np.mean(totals), np.std(totals))


def _activation(cfg: Any, num_inputs: int) -> None:
    model = build(cfg).eval()
    load_weights(cfg, model)
    counts: Counter[str] = Counter()
    totals = []
    for batch in itertools.islice(test_loader(cfg), num_inputs):
        found = activation_count_operators(model, batch)
        counts.update(found)
        totals.append(sum(found.values()))
    logger.info("Average millions of activations by operator: %s", _average(counts, len(totals)))
    logger.info("Total million activations: %.3f±%.3f", np.mean(totals), np.std(totals))


def _parameter(cfg: Any, num_inputs: int) -> None:
    logger.info("Parameter count:\n%s", parameter_count_table(build(cfg), max_depth=5))


def _structure(cfg: Any, num_inputs: int) -> None:
    logger.info("Model structure:\n%s", build(cfg))


_TASKS = {
    "flop": _flop,
    "activation": _activation,
    "parameter": _parameter,
    "structure": _structure,
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_with_example("--tasks flop parameter --config-file cfg.yaml MODEL.WEIGHTS ''")
    parser.add_argument(
        "--tasks", choices=list(_TASKS), required=True, nargs="+", help="what to count or print"
    )
    parser.add_argument("-n", "--num-inputs", type=int, default=100, help="images to count on")
    return parser.parse_args(arguments)


def main() -> None:
    """Run the command line."""
    args = parse()
    if args.eval_only or args.num_gpus != 1:
        raise InputError("analyze_model: --eval-only and --num-gpus have no meaning here")
    setup_logger(name="fvcore")  # checkpoints and counts of operators are its lines
    setup_logger()
    cfg = read_config(args, "DATALOADER.NUM_WORKERS", 0)
    for task in args.tasks:
        _TASKS[task](cfg, args.num_inputs)
