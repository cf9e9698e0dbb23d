"""Embedders of mesh vertices."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.modeling.cse"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Embedder": f"{_HERE}.embedder",
        "VertexDirectEmbedder": f"{_HERE}.vertex_direct_embedder",
        "VertexFeatureEmbedder": f"{_HERE}.vertex_feature_embedder",
        "embedder": "",
        "utils": "",
        "vertex_direct_embedder": "",
        "vertex_feature_embedder": "",
    },
)
