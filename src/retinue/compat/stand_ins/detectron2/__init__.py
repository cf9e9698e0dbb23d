"""Stands in for ``detectron2`` in processes that a program under ``retinue run`` starts."""

import sys

from retinue.compat import install

__retinue__ = "stand-in"
del sys.modules["detectron2"]  # so that the import below asks the hook
install()
import detectron2 as _served  # noqa: E402

sys.modules["detectron2"] = _served  # the import of this file ends with what it finds here
