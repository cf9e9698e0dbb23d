"""Draws predicted embeddings: the nearest vertex of each pixel, by colour or with a texture."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from retinue.config import CfgNode
from retinue.modeling.meta_arch.build import usable_device
from retinue.projects.densepose.data.utils import get_class_to_mesh_name_mapping
from retinue.projects.densepose.modeling.build import build_densepose_embedder
from retinue.projects.densepose.modeling.cse.utils import get_closest_vertices_mask_from_ES
from retinue.projects.densepose.structures.cse import DensePoseEmbeddingPredictorOutput
from retinue.projects.densepose.structures.mesh import create_mesh
from retinue.projects.densepose.utils.files import read_object_array
from retinue.projects.densepose.vis.base import Boxes, Image, MatrixVisualizer
from retinue.projects.densepose.vis.densepose_results_textures import get_texture_atlas
from retinue.projects.densepose.vis.drawing import JET, paste
from retinue.utils.errors import InputError

__all__ = [
    "DensePoseOutputsTextureVisualizer",
    "DensePoseOutputsVertexVisualizer",
    "get_texture_atlases",
    "get_xyz_vertex_embedding",
]

PEOPLE_COLORS = "https://dl.fbaipublicfiles.com/densepose/data/cse/mds_d=256.npy"
Predicted = tuple[DensePoseEmbeddingPredictorOutput | None, Boxes | None, Sequence[int] | None]


@lru_cache
def get_xyz_vertex_embedding(mesh_name: str, device: torch.device) -> torch.Tensor:
    """Return a value in [0, 1] for each vertex of a mesh ``(V,)``, by which it is coloured.

    For people it is read from a published file, else made of the vertices' positions.
    """
    if mesh_name == "smpl_27554":
        values = torch.as_tensor(read_object_array(PEOPLE_COLORS)[0])[:, 0].float()
        return ((values - values.min()) / (values.max() - values.min())).to(device)
    values = create_mesh(mesh_name, device).vertices.sum(dim=1)
    return ((values - values.min()) / (values.max() - values.min())).square()


class DensePoseOutputsVertexVisualizer:
    """Colours each pixel of a body by its vertex.

    Args:
        cfg: the model's; ``MODEL.WEIGHTS`` has the embedder.
        inplace: draw on the picture given; else on a black one.
        cmap: number of a colour map.
        alpha: how much of the colours shows.
        device: where vertices are searched; another where there is no CUDA.
        default_class: of instances without class.
        **kwargs: ignored.

    Raises:
        InputError: If the config has no meshes.
    """

    def __init__(
        self,
        cfg: CfgNode,
        inplace: bool = True,
        cmap: int = JET,
        alpha: float = 0.7,
        device: str = "cuda",
        default_class: int = 0,
        **kwargs: Any,
    ) -> None:
        self.mask_visualizer = MatrixVisualizer(inplace, cmap, 1.0, alpha)
        self.class_to_mesh_name = get_class_to_mesh_name_mapping(cfg)
        self.device = usable_device(device)
        self.default_class = default_class
        self.embedder = build_densepose_embedder(cfg)
        if self.embedder is None:
            raise InputError("drawing vertices needs MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS")
        with torch.no_grad():
            self.mesh_vertex_embeddings = {
                name: self.embedder(name).to(self.device)
                for name in self.class_to_mesh_name.values()
                if self.embedder.has_embeddings(name)
            }

    def visualize(self, image_bgr: Image, outputs_boxes_xywh_classes: Predicted) -> Image:
        """Draw predictions for boxes (x, y, width, height), and classes; None draws nothing."""
        if outputs_boxes_xywh_classes[0] is None:
            return image_bgr
        for box, mesh_name, vertices, mask in self._nearest(outputs_boxes_xywh_classes):
            values = get_xyz_vertex_embedding(mesh_name, self.device)[vertices].clamp(0, 1) * 255
            image_bgr = self.mask_visualizer.visualize(
                image_bgr, mask.cpu().numpy().astype(np.uint8), values.cpu().numpy(), box
            )
        return image_bgr

    def _nearest(self, predicted: Predicted) -> Any:
        """Yield box, mesh, the vertex of each pixel ``(h, w)``, and where the body is."""
        segm, embedding, count, boxes, classes = self.extract_and_check_outputs_and_boxes(predicted)
        for n in range(count):
            box = boxes[n].int().tolist()
            if box[2] <= 0 or box[3] <= 0:
                continue
            mesh_name = self.class_to_mesh_name[classes[n]]
            vertices, mask = get_closest_vertices_mask_from_ES(
                embedding[n : n + 1],
                segm[n : n + 1],
                box[3],
                box[2],
                self.mesh_vertex_embeddings[mesh_name],
                self.device,
            )
            yield box, mesh_name, vertices, mask

    def extract_and_check_outputs_and_boxes(
        self, outputs_boxes_xywh_classes: Predicted
    ) -> tuple[torch.Tensor, torch.Tensor, int, Any, Sequence[int]]:
        """Return logits, embeddings, their number N, boxes and classes.

        Raises:
            InputError: If there are no embeddings, or not N of each.
        """
        output, boxes, classes = outputs_boxes_xywh_classes
        if not isinstance(output, DensePoseEmbeddingPredictorOutput) or boxes is None:
            raise InputError(
                "expected a DensePoseEmbeddingPredictorOutput and boxes; got"
                f" {type(output).__name__} and {type(boxes).__name__}"
            )
        if classes is None:
            classes = [self.default_class] * len(boxes)
        count = len(output)
        if not len(boxes) == len(classes) == len(output.embedding) == count:
            raise InputError(
                f"expected embeddings, boxes and classes of {count} instances; got"
                f" {len(output.embedding)}, {len(boxes)} and {len(classes)}"
            )
        return output.coarse_segm, output.embedding, count, boxes, classes


def get_texture_atlases(json_str: str | None) -> dict[str, np.ndarray | None] | None:
    """Read the textures that a JSON text names, mesh to path; None for None."""
    if json_str is None:
        return None
    return {mesh: get_texture_atlas(path) for mesh, path in json.loads(json_str).items()}


class DensePoseOutputsTextureVisualizer(DensePoseOutputsVertexVisualizer):
    """Dresses bodies: each pixel gets the texture's colour at its vertex.

    Args:
        cfg: the model's; ``MODEL.WEIGHTS`` has the embedder.
        texture_atlases_dict: mesh to texture ``(h, w, 3)`` or, with transparency, ``(h, w, 4)``.
        device: where vertices are searched; another where there is no CUDA.
        default_class: of instances without class.
        **kwargs: ignored.
    """

    def __init__(
        self,
        cfg: CfgNode,
        texture_atlases_dict: Mapping[str, np.ndarray],
        device: str = "cuda",
        default_class: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(cfg, device=device, default_class=default_class)
        self.texture_image_dict = {m: t[..., :3] for m, t in texture_atlases_dict.items()}
        self.alpha_dict = {
            mesh: texture[..., 3] / 255.0 if texture.shape[-1] == 4 else texture.sum(axis=-1) > 0
            for mesh, texture in texture_atlases_dict.items()
        }

    def visualize(self, image_bgr: Image, outputs_boxes_xywh_classes: Predicted) -> Image:
        """Draw on a copy of the picture; arguments are those of the base."""
        picture = image_bgr.copy()
        if outputs_boxes_xywh_classes[0] is None:
            return picture
        for box, mesh_name, vertices, mask in self._nearest(outputs_boxes_xywh_classes):
            texcoords = create_mesh(mesh_name, self.device).texcoords
            uv = texcoords[vertices].permute(2, 0, 1).clamp(0, 1).cpu().numpy()
            on_body = mask.cpu().numpy()

            def dress(
                before: np.ndarray,
                part: Any,
                uv: np.ndarray = uv,
                on_body: np.ndarray = on_body,
                mesh_name: str = mesh_name,
            ) -> np.ndarray:
                cut = uv[(slice(None), *part)]
                dressed = self.generate_image_with_texture(before, cut, on_body[part], mesh_name)
                return before if dressed is None else dressed

            paste(picture, box, dress)
        return picture

    def generate_image_with_texture(
        self, bbox_image_bgr: np.ndarray, uv_array: np.ndarray, mask: np.ndarray, mesh_name: str
    ) -> np.ndarray | None:
        """Return what a box shows, dressed; None if there is no texture for its mesh.

        Args:
            bbox_image_bgr: ``(h, w, 3)`` uint8.
            uv_array: ``(2, h, w)`` in [0, 1], where in the texture each pixel lies.
            mask: ``(h, w)`` bool, where the body is.
            mesh_name: of the body.
        """
        texture = self.texture_image_dict.get(mesh_name)
        if texture is None:
            return None
        height, width = texture.shape[:2]
        x = np.minimum((uv_array[0][mask] * width).astype(int), width - 1)
        y = np.minimum((uv_array[1][mask] * height).astype(int), height - 1)
        shown = self.alpha_dict[mesh_name][y, x][:, None]
        dressed = bbox_image_bgr.astype(float)
        dressed[mask] = dressed[mask] * (1 - shown) + texture[y, x] * shown
        return dressed.astype(np.uint8)
