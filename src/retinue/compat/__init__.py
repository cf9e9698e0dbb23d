"""Programs written for detectron2 run unmodified: ``import detectron2`` is retinue.

``retinue run script.py`` and ``python -m retinue.compat script.py`` run a program that way;
``install()`` does it from within one, before its first ``import detectron2``. Reading order:

    hook      install: the finders that Python's import asks
    modules   what the finders answer with: retinue's own modules, or modules of forwarded names
    served    which name is served by what; ``names.tsv`` lists single names
    absent    names of detectron2 that retinue has not, with what to use instead
    patches   functions that a program replaces reach the code that calls them
    dropped   names that numpy, Pillow and others have dropped since, put back
    logs      messages appear under detectron2's logger names
    early     the hook at the first name of fvcore, for ``packaging/``
    metadata  ``importlib.metadata.version("detectron2")``
    runner    run a script or module under the hook

The other modules hold what only old code asks for: the native functions of ``detectron2._C``, and
names of fvcore, iopath and PyTorch3D that have no place in retinue.
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "install": "retinue.compat.hook",
        "is_installed": "retinue.compat.hook",
        "run_program": "retinue.compat.runner",
        "uninstall": "retinue.compat.hook",
    },
)
