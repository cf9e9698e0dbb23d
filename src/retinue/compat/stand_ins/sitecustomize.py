"""Installs the hook in programs that a program under ``retinue run`` starts.

Python imports the first ``sitecustomize`` on its path when it starts. The next one, which it would
have imported, is run after this.
"""

import importlib.util
import os
import sys
import warnings
from importlib.machinery import PathFinder

try:
    from retinue.compat.hook import install
except ImportError:  # another Python, which has no retinue
    pass
else:
    with warnings.catch_warnings():  # of a real detectron2 beside, told when the first one began
        warnings.simplefilter("ignore")
        install()

_HERE = os.path.dirname(os.path.abspath(__file__))
_next = PathFinder.find_spec(
    "sitecustomize", [place for place in sys.path if os.path.abspath(place) != _HERE]
)
if _next is not None and _next.loader is not None:
    _module = importlib.util.module_from_spec(_next)
    sys.modules["sitecustomize"] = _module
    _next.loader.exec_module(_module)
