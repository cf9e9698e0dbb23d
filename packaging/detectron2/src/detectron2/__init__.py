"""``import detectron2`` is retinue; see ``retinue.compat``."""

import sys

__retinue__ = "stand-in"

from retinue.compat.hook import install, real_detectron2

_real = real_detectron2()
if _real is not None:
    raise ImportError(
        f"two packages are called detectron2: {__file__} (retinue) and {_real}. Uninstall one of"
        " them, or run the program by `retinue run SCRIPT`"
    )
del sys.modules["detectron2"]  # so that the import below asks the hook
install()
import detectron2 as _served  # noqa: E402

sys.modules["detectron2"] = _served  # the import of this file ends with what it finds here
