"""What a project uses of detectron2, what is covered, and its imports changed to retinue.

The project's files are read, never imported or run. Reading order:

    files     which files of a project are read; notebook reads a notebook's cells as one of them
    source    the names that one file uses, with their places
    verdict   whether retinue has a name, and where
    dated     what old projects use that today's Python, numpy, Pillow and PyTorch have dropped
    requirements    where detectron2 is asked for to be installed
    project   all files of a project; the report
    rewrite   imports changed to retinue
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Finding": "retinue.compat.migration.project",
        "ProjectReport": "retinue.compat.migration.project",
        "read_project": "retinue.compat.migration.project",
        "rewrite_project": "retinue.compat.migration.rewrite",
    },
)
