"""Embeds the vertices of several meshes in the space that pixels are embedded in."""

import logging
from enum import Enum

import torch
from torch import nn

from retinue.checkpoint.checkpointer import CheckpointError, read_torch_file
from retinue.config import CfgNode
from retinue.projects.densepose.modeling.cse.vertex_direct_embedder import VertexDirectEmbedder
from retinue.projects.densepose.modeling.cse.vertex_feature_embedder import VertexFeatureEmbedder
from retinue.projects.densepose.utils.files import read_pickle
from retinue.utils.errors import unknown_name

__all__ = ["Embedder", "EmbedderType", "create_embedder"]

logger = logging.getLogger(__name__)


class EmbedderType(Enum):
    """How vertices are embedded."""

    VERTEX_DIRECT = "vertex_direct"  # by parameters of their own
    VERTEX_FEATURE = "vertex_feature"  # by a linear map of their features


def create_embedder(embedder_spec: CfgNode, embedder_dim: int) -> nn.Module:
    """Build the embedder of one mesh.

    A file that the spec names but that can't be had leaves the embedder random, with a warning.

    Args:
        embedder_spec: a node of ``MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS``: TYPE, NUM_VERTICES,
            FEATURE_DIM, FEATURES_TRAINABLE, IS_TRAINABLE, INIT_FILE.
        embedder_dim: dimensions of the embedding space.

    Raises:
        ValueError: If TYPE is none of :class:`EmbedderType`.
    """
    embedder: VertexDirectEmbedder | VertexFeatureEmbedder
    if EmbedderType(embedder_spec.TYPE) is EmbedderType.VERTEX_DIRECT:
        embedder = VertexDirectEmbedder(embedder_spec.NUM_VERTICES, embedder_dim)
    else:
        embedder = VertexFeatureEmbedder(
            embedder_spec.NUM_VERTICES,
            embedder_spec.FEATURE_DIM,
            embedder_dim,
            embedder_spec.FEATURES_TRAINABLE,
        )
    if embedder_spec.INIT_FILE and not embedder.embeddings.is_meta:
        try:
            embedder.load(embedder_spec.INIT_FILE)
        except OSError as error:
            logger.warning("The embedder starts at random: %s", error)
    if not embedder_spec.IS_TRAINABLE:
        embedder.requires_grad_(False)
    return embedder


class Embedder(nn.Module):
    """One embedder for each mesh, the submodule ``embedder_<mesh>``.

    Args:
        cfg: with ``MODEL.ROI_DENSEPOSE_HEAD.CSE``. If ``MODEL.WEIGHTS`` names a checkpoint that can
            be read, what it has for these meshes is loaded.
    """

    DEFAULT_MODEL_CHECKPOINT_PREFIX = "roi_heads.embedder."

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        cse = cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE
        self.mesh_names = set(cse.EMBEDDERS)
        for name, spec in cse.EMBEDDERS.items():
            self.add_module(f"embedder_{name}", create_embedder(spec, cse.EMBED_SIZE))
        if cfg.MODEL.WEIGHTS and not any(p.is_meta for p in self.parameters()):
            try:
                self.load_from_model_checkpoint(cfg.MODEL.WEIGHTS)
            except (OSError, CheckpointError) as error:
                logger.warning("No embedder is read from MODEL.WEIGHTS: %s", error)

    def load_from_model_checkpoint(self, fpath: str, prefix: str | None = None) -> None:
        """Read what a model's checkpoint has for these meshes.

        Args:
            fpath: path or address, ``.pkl`` or what ``torch.save`` writes.
            prefix: where a model keeps its embedder.
        """
        prefix = prefix or self.DEFAULT_MODEL_CHECKPOINT_PREFIX
        content = read_pickle(fpath) if fpath.endswith(".pkl") else read_torch_file(fpath)
        state = {
            name.removeprefix(prefix): torch.as_tensor(value)
            for name, value in content.get("model", {}).items()
            if name.startswith(prefix)
        }
        self.load_state_dict(state, strict=False)

    def forward(self, mesh_name: str) -> torch.Tensor:
        """Return ``(V, D)``: V vertices of a mesh in D dimensions, rows of length 1.

        Raises:
            UnknownNameError: If there is no such mesh.
        """
        if not self.has_embeddings(mesh_name):
            key = "MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS"
            raise unknown_name("mesh", mesh_name, self.mesh_names, f"meshes are rows of {key}")
        return getattr(self, f"embedder_{mesh_name}")()

    def has_embeddings(self, mesh_name: str) -> bool:
        """Tell whether there is an embedder for a mesh."""
        return hasattr(self, f"embedder_{mesh_name}")
