"""Stands in for ``iopath`` in processes that a program under ``retinue run`` starts."""

import sys

from retinue.compat import install

__retinue__ = "stand-in"
del sys.modules["iopath"]  # so that the import below asks the hook
install()
import iopath as _served  # noqa: E402

sys.modules["iopath"] = _served  # the import of this file ends with what it finds here
