"""Projects: tasks added to the library through its public API alone.

Each project is a small package to read and to copy from: ``config`` adds its keys to the defaults,
further modules hold model parts and data, ``presets`` the published configs, ``README.md`` tells
how it works and how to use it. The names that its configs use (``PointRendROIHeads``, ...) are rows
of ``retinue.modeling.catalog`` like all others, so nothing has to be imported first.
"""

from retinue.utils.lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "deeplab": "",
        "densepose": "",
        "get_checkpoint_url": "retinue.projects.zoo",
        "get_config": "retinue.projects.zoo",
        "meshrcnn": "",
        "mvitv2": "",
        "panoptic_deeplab": "",
        "point_rend": "",
        "point_sup": "",
        "rethinking_batchnorm": "",
        "tensormask": "",
        "tridentnet": "",
        "vitdet": "",
        "zoo": "",
    },
)
