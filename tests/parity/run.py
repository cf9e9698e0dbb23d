"""Check this library against golden numbers recorded from detectron2.

    python tests/parity/run.py PARITY_DIR [--data-dir DIR] [--only PATTERN] [--require FILE]

One line an entry: ``passed``, or the first array that differs and by how much. The last line is
``N of M``. The exit status is 0 if N is M; with ``--require FILE``, if every entry that the file
lists passed. ``--write FILE`` adds the entries that passed to such a list.
"""

import argparse
import contextlib
import fnmatch
import io
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import checks_checkpoint
import checks_data
import checks_models
import checks_ops
import checks_solver

Check = tuple[str, Callable[[], None]]


def all_checks(parity: Path, data: Path) -> Iterator[Check]:
    """Every check that the folder holds: its name, and a function that raises if it fails."""
    yield from checks_ops.checks(parity)
    yield from checks_solver.checks(parity)
    yield from checks_data.checks(parity, data)
    yield from checks_checkpoint.checks(parity)
    yield from checks_models.state_checks(parity)
    yield from checks_models.checks(parity)


def run(check: Callable[[], None], *, debug: bool) -> str:
    """Return "" if the check passes, else one line that says why not."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check()
    except (Exception, NotImplementedError) as error:
        if debug:
            traceback.print_exc()
        kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return (kind + " | ".join(lines[:3]))[:300] or type(error).__name__
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parity_dir", type=Path)
    parser.add_argument("--data-dir", type=Path, help="the folder that holds coco-tiny")
    parser.add_argument("--only", default="*", help="run only entries that match this pattern")
    parser.add_argument("--require", type=Path, help="a list of entries that must pass")
    parser.add_argument("--write", type=Path, help="add the entries that passed to this list")
    parser.add_argument("--debug", action="store_true", help="print the traceback of each failure")
    args = parser.parse_args()
    if not (args.parity_dir / "models" / "index.json").is_file():
        parser.error(f"{args.parity_dir}: no models/index.json there; is it a parity folder?")
    data = args.data_dir or args.parity_dir.parent / "data"

    logging.disable(logging.WARNING)  # one line an entry, nothing else
    passed, failed = set(), {}
    for name, check in all_checks(args.parity_dir, data):
        if not fnmatch.fnmatch(name, args.only):
            continue
        start = time.perf_counter()
        reason = run(check, debug=args.debug)
        seconds = f" ({time.perf_counter() - start:.1f} s)"
        print(f"{name}: {reason or 'passed'}{seconds}", flush=True)
        if reason:
            failed[name] = reason
        else:
            passed.add(name)

    if args.write:
        before = set(args.write.read_text().split("\n")) if args.write.is_file() else set()
        args.write.write_text("\n".join(sorted((before | passed) - {""})) + "\n")
    lost = []
    if args.require:
        required = [n for n in args.require.read_text().split("\n") if n]
        lost = [n for n in required if n not in passed and fnmatch.fnmatch(n, args.only)]
        for name in lost:
            print(f"lost: {name}: {failed.get(name, 'no such entry in the folder')}")
    print(f"{len(passed)} of {len(passed) + len(failed)}")
    return int(bool(lost) if args.require else bool(failed))


if __name__ == "__main__":
    sys.exit(main())
