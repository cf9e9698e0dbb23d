"""A generated dataset in the form of Pix3D: solids under coloured lights.

Each picture shows one solid, turned by a random angle, on a grey ground. A red light shines from
the right, a green one from above, a blue one from the camera, so that a colour tells how a surface
is tilted. Small, quickly made, and learnable: for tests, and to try a model out.

Units
    Camera space as in ``utils.shape``; the largest radius of a solid is about 1/2.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from retinue.projects.meshrcnn.ops import (
    Meshes,
    cubify,
    ico_sphere,
    sample_points_from_meshes,
    save_obj,
)
from retinue.projects.meshrcnn.utils.shape import transform_verts
from retinue.utils.file_io import atomic_write

__all__ = ["SOLID_CLASSES", "write_solids"]

_BLOCKS = {  # rows from top to bottom of each layer, front to back; # is solid
    "block": [["#"]],
    "step": [["# ", "##"]],
    "arch": [["###", "# #", "# #"]],
}
SOLID_CLASSES: list[dict[str, Any]] = [
    {"name": name, "color": color, "id": number}
    for number, (name, color) in enumerate(
        {
            "ball": [230, 25, 75],
            "block": [60, 180, 75],
            "step": [0, 130, 200],
            "arch": [245, 130, 48],
        }.items(),
        start=1,
    )
]
VOXELS_PER_UNIT = 30  # of a solid's space; a picture's grid is coarser
NUM_POINTS = 30_000  # that a picture is drawn from
RELATIVE_FOCAL_LENGTH = 1.2  # of the picture's side; nothing sticks out of it
DISTANCE = 2.0


@dataclass(frozen=True)
class _Solid:
    mesh: Meshes
    filled: np.ndarray  # (x, y, z) bool


def write_solids(
    folder: str | Path, num_images: int, *, seed: int = 0, side: int = 64
) -> tuple[str, str]:
    """Write pictures, masks, models, voxels and annotations.

    Args:
        folder: where to; made if missing.
        num_images: how many pictures, each of a solid of its own.
        seed: names the series.
        side: of a picture, in pixels.

    Returns:
        Names of the annotations' file and of the folder for ``register_pix3d``, below ``folder``.
    """
    folder = Path(folder)
    for name in ("img", "mask", "model"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    random = np.random.default_rng(seed)
    for number in range(num_images):
        kind = SOLID_CLASSES[number % len(SOLID_CLASSES)]
        solid = _make(kind["name"], random)
        stem = f"{number:05d}"
        verts, faces = solid.mesh.get_mesh_verts_faces(0)
        save_obj(folder / "model" / f"{stem}.obj", verts, faces)
        with atomic_write(str(folder / "model" / f"{stem}.npy"), "wb") as file:
            np.save(file, np.rot90(solid.filled, k=1, axes=(1, 2)).copy())  # Pix3D's axes
        camera = _camera(random, side)
        image, mask = _draw(solid.mesh, camera, side, seed * 1_000_003 + number)
        Image.fromarray(image).save(folder / "img" / f"{stem}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask" / f"{stem}.png")
        file_name = f"img/{stem}.png"
        images.append({"id": number, "file_name": file_name, "width": side, "height": side})
        annotations.append(
            camera
            | {
                "id": number,
                "image_id": number,
                "category_id": kind["id"],
                "iscrowd": 0,
                "bbox": _box_xywh(mask),
                "area": int(mask.sum()),
                "segmentation": f"mask/{stem}.png",
                "model": f"model/{stem}.obj",
                "voxel": f"model/{stem}.npy",
            }
        )
    categories = [{"id": c["id"], "name": c["name"]} for c in SOLID_CLASSES]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with atomic_write(str(folder / "solids.json"), "w") as file:
        json.dump(content, file)
    return "solids.json", ""


def _make(kind: str, random: np.random.Generator) -> _Solid:
    """Make a solid of random width, height and depth, scaled as Pix3D's voxels are."""
    size_xyz = random.uniform(0.5, 1.0, 3)
    cells = np.maximum(np.round(size_xyz * VOXELS_PER_UNIT).astype(int), 2)
    at = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in cells), indexing="ij"))  # [0, 1]
    if kind == "ball":
        filled = ((at * 2 - 1) ** 2).sum(axis=0) <= 1
        mesh = ico_sphere(3)
    else:
        layers = np.array([[[c == "#" for c in row] for row in layer] for layer in _BLOCKS[kind]])
        blocks = layers.transpose(2, 1, 0)[:, ::-1]  # x, y up, z
        counts = np.array(blocks.shape).reshape(3, 1, 1, 1)
        filled = blocks[tuple(np.minimum((at * counts).astype(int), counts - 1))]
        voxels = torch.from_numpy(blocks.transpose(2, 1, 0).copy()).float()  # z, y, x
        mesh = cubify(voxels[None], 0.5, align="corner")
    centres = np.argwhere(filled) - (cells - 1) / 2
    reach = np.sqrt((centres**2).sum(axis=1).max()) * 2  # what read_voxel divides by
    factors = torch.from_numpy(cells / 2 / reach).float()
    return _Solid(mesh.with_verts(mesh.verts_packed() * factors), filled)


def _camera(random: np.random.Generator, side: int) -> dict[str, Any]:
    """Turn the solid about the vertical, tip it towards the camera, move it a little."""
    yaw, pitch = random.uniform(-math.pi / 4, math.pi / 4), random.uniform(-0.6, -0.2)
    about_y = [[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]]
    about_x = [
        [1, 0, 0],
        [0, math.cos(pitch), -math.sin(pitch)],
        [0, math.sin(pitch), math.cos(pitch)],
    ]
    return {
        "K": [RELATIVE_FOCAL_LENGTH * side, side / 2, side / 2],
        "rot_mat": (np.array(about_x) @ np.array(about_y)).tolist(),
        "trans_mat": [*random.uniform(-0.08, 0.08, 2).tolist(), DISTANCE],
    }


def _draw(
    mesh: Meshes, camera: dict[str, Any], side: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the picture ``(H, W, 3)`` uint8, RGB, and which pixels show the solid."""
    rotation, shift = (torch.tensor(camera[k]).float() for k in ("rot_mat", "trans_mat"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        points, normals = sample_points_from_meshes(mesh, NUM_POINTS, True)
    points = transform_verts(points[0], rotation, shift)
    normals = transform_verts(normals[0], rotation, None)
    focal, *center = camera["K"]
    # Axes point to the left and up; see box2D_to_cuboid3D.
    column, row = (
        side - 1 - c - focal * points[:, axis] / points[:, 2] for axis, c in enumerate(center)
    )
    pixel = (row.round().long() * side + column.round().long())[
        (order := points[:, 2].argsort(descending=True))
    ].numpy()  # the farthest first, to be painted over
    to_light = normals * normals.new_tensor([-1, 1, -1])  # to the right, up, to the camera
    color = (60 + 190 * to_light.clamp(min=0))[order].numpy()

    image = np.full((side * side, 3), 40, dtype=np.uint8)
    mask = np.zeros(side * side, dtype=bool)
    image[pixel] = color.astype(np.uint8)
    mask[pixel] = True
    return image.reshape(side, side, 3), mask.reshape(side, side)


def _box_xywh(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    x0, y0 = int(columns[0]), int(rows[0])
    return [x0, y0, int(columns[-1]) + 1 - x0, int(rows[-1]) + 1 - y0]
