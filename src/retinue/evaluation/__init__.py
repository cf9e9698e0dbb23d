"""Measuring how good predictions are.

Reading order: ``evaluator`` (the interface, and running a model over a dataset),
``coco_evaluation`` (boxes, masks, keypoints, proposals), ``testing`` (printing and checking
results), then the evaluators of other benchmarks.
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "COCOEvaluator": "retinue.evaluation.coco_evaluation",
        "COCOPanopticEvaluator": "retinue.evaluation.panoptic_evaluation",
        "CityscapesInstanceEvaluator": "retinue.evaluation.cityscapes_evaluation",
        "CityscapesSemSegEvaluator": "retinue.evaluation.cityscapes_evaluation",
        "DatasetEvaluator": "retinue.evaluation.evaluator",
        "DatasetEvaluators": "retinue.evaluation.evaluator",
        "LVISEvaluator": "retinue.evaluation.lvis_evaluation",
        "PascalVOCDetectionEvaluator": "retinue.evaluation.pascal_voc_evaluation",
        "RotatedCOCOEvaluator": "retinue.evaluation.rotated_coco_evaluation",
        "SemSegEvaluator": "retinue.evaluation.sem_seg_evaluation",
        "inference_context": "retinue.evaluation.evaluator",
        "inference_on_dataset": "retinue.evaluation.evaluator",
        "print_csv_format": "retinue.evaluation.testing",
        "verify_results": "retinue.evaluation.testing",
        "cityscapes_evaluation": "",
        "coco_evaluation": "",
        "evaluator": "",
        "fast_eval_api": "",
        "lvis_evaluation": "",
        "panoptic_evaluation": "",
        "pascal_voc_evaluation": "",
        "rotated_coco_evaluation": "",
        "sem_seg_evaluation": "",
        "testing": "",
    },
)
