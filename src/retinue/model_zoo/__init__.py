"""Published models by name: their configs, where their weights are, their published numbers."""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "build": "retinue.model_zoo.model_zoo",
        "download": "retinue.model_zoo.weights",
        "entries": "retinue.model_zoo.entries",
        "find_entry": "retinue.model_zoo.entries",
        "get": "retinue.model_zoo.model_zoo",
        "get_checkpoint_url": "retinue.model_zoo.model_zoo",
        "get_config": "retinue.model_zoo.model_zoo",
        "get_config_file": "retinue.model_zoo.model_zoo",
    },
)
