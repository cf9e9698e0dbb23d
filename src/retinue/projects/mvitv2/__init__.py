"""MViTv2: detection with multiscale vision transformers, by their authors' recipe.

Li et al., "MViTv2: Improved Multiscale Vision Transformers" (2022),
https://arxiv.org/abs/2112.01526.

The backbone is the library's; this project is configs (``configs``) and their table (``presets``).
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(__name__, {"presets": ""})
