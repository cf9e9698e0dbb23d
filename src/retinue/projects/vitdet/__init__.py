"""ViTDet: detection with plain vision transformers, and Swin and MViTv2 trained by its recipe.

Li et al., "Exploring Plain Vision Transformer Backbones for Object Detection" (2022),
https://arxiv.org/abs/2203.16527.

The backbones are the library's; this project is configs (``configs``) and the changes that they
share (``recipes``).
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, {"presets": "", "recipes": ""})
