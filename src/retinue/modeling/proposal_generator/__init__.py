"""Proposal generators: from feature maps to boxes that may hold an object."""

from retinue.utils.lazy import lazy_exports

_HERE = __name__

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "build": "",
        "proposal_utils": "",
        "rpn": "",
        "rrpn": "",
        "PROPOSAL_GENERATOR_REGISTRY": "retinue.modeling.catalog",
        "RPN_HEAD_REGISTRY": "retinue.modeling.catalog",
        "RPN": f"{_HERE}.rpn",
        "StandardRPNHead": f"{_HERE}.rpn",
        "build_proposal_generator": f"{_HERE}.build",
        "build_rpn_head": f"{_HERE}.rpn",
    },
)
