"""Printing results so that they can be pasted into a table, and checking them."""

from __future__ import annotations

import logging
import math
import pprint
import sys
from collections.abc import Mapping
from typing import Any

from retinue.utils.errors import InputError

__all__ = ["flatten_results_dict", "print_csv_format", "verify_results"]


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log the main metrics of each task in lines that start with ``copypaste:``.

    Args:
        results: task -> metric -> value. Metrics with a hyphen (``AP-person``) are left out.

    Raises:
        InputError: If ``results`` is no mapping.
    """
    if not isinstance(results, Mapping):
        raise InputError(f"print_csv_format: expected a mapping of results; got {results!r}")
    logger = logging.getLogger(__name__)
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info(f"copypaste: {task}={metrics}")
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info(f"copypaste: Task: {task}")
        logger.info("copypaste: " + ",".join(main))
        logger.info("copypaste: " + ",".join(f"{value:.4f}" for value in main.values()))


def verify_results(cfg: Any, results: Mapping[str, Any]) -> bool:
    """Compare results with ``cfg.TEST.EXPECTED_RESULTS``; leave the program where they differ.

    Each expectation is a row of task, metric, value and tolerance.
    """
    expectations = cfg.TEST.EXPECTED_RESULTS
    if not expectations:
        return True
    logger = logging.getLogger(__name__)
    failed = []
    for task, metric, expected, tolerance in expectations:
        actual = results.get(task, {}).get(metric)
        is_number = actual is not None and math.isfinite(actual)
        if not is_number or abs(actual - expected) > tolerance:
            failed.append(f"{task}/{metric}: expected {expected} +- {tolerance}; got {actual}")
    if failed:
        logger.error("Result verification failed!")
        logger.error("Expected Results: " + "; ".join(failed))
        logger.error("Actual Results: " + pprint.pformat(results))
        sys.exit(1)
    logger.info("Results verification passed.")
    return True


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """Turn nested results into one level, with the keys joined by slashes.

    >>> flatten_results_dict({"bbox": {"AP": 40.2}, "x": 1})
    {'bbox/AP': 40.2, 'x': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}/{k}": v for k, v in flatten_results_dict(value).items()})
        else:
            flat[key] = value
    return flat
