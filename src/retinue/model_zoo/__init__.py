"""Published models by name: their configs, where their weights are, their published numbers."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "get": "retinue.model_zoo.model_zoo",
        "get_checkpoint_url": "retinue.model_zoo.model_zoo",
        "get_config": "retinue.model_zoo.model_zoo",
        "get_config_file": "retinue.model_zoo.model_zoo",
    },
)
