"""Stands in for ``fvcore`` in processes that a program under ``retinue run`` starts."""

import sys

from retinue.compat import install

__retinue__ = "stand-in"
del sys.modules["fvcore"]  # so that the import below asks the hook
install()
import fvcore as _served  # noqa: E402

sys.modules["fvcore"] = _served  # the import of this file ends with what it finds here
