"""``retinue run train_net``: train, or with ``--eval-only`` evaluate, what a config file says."""

from __future__ import annotations

from retinue.compat.tools.common import config_file_of
from retinue.engine import default_argument_parser
from retinue.engine.runs import run_train_net
from retinue.projects.files import expect_no_project

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    args = default_argument_parser().parse_args()
    if args.config_file:
        expect_no_project(args.config_file)
        args.config_file = config_file_of(args.config_file)
    run_train_net(args)
