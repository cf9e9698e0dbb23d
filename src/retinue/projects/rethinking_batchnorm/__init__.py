"""Rethinking "Batch" in BatchNorm: where batch norm in a detector's heads goes wrong, and remedies.

Wu and Johnson (2021), https://arxiv.org/abs/2105.07576.

Reading order: ``layers`` holds the remedies; each file of ``configs`` puts one into a model.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.rethinking_batchnorm"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BatchNormBatchStat": f"{_HERE}.layers",
        "RetinaNetHead_SharedTrainingBN": f"{_HERE}.layers",
        "ShuffledBoxHead": f"{_HERE}.layers",
        "ShuffledMaskHead": f"{_HERE}.layers",
        "layers": "",
        "presets": "",
    },
)
