"""Average precision of dense correspondences."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.evaluation"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "DensePoseCOCOEvaluator": f"{_HERE}.evaluator",
        "d2_evaluator_adapter": "",
        "densepose_coco_evaluation": "",
        "evaluator": "",
        "mesh_alignment_evaluator": "",
        "tensor_storage": "",
    },
)
