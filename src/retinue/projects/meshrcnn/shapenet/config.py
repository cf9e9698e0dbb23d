"""Config keys of the models for single objects, and the published configs."""

from __future__ import annotations

from typing import Any

from retinue.config import CfgNode
from retinue.utils.errors import unknown_name

__all__ = ["PRESETS", "get_published_cfg", "get_shapenet_cfg"]


def get_shapenet_cfg() -> CfgNode:
    """Return the defaults."""
    return CfgNode(
        {
            "MODEL": {
                "BACKBONE": "resnet50",
                "VOXEL_ON": False,
                "MESH_ON": False,
                "CHECKPOINT": "",
                "VOXEL_HEAD": {
                    "NUM_CONV": 0,
                    "CONV_DIM": 256,
                    "NORM": "",
                    "VOXEL_SIZE": 28,
                    "LOSS_WEIGHT": 1.0,
                    "CUBIFY_THRESH": 0.0,
                    "VOXEL_ONLY_ITERS": 100,  # before meshes are learnt, too
                },
                "MESH_HEAD": {
                    "NAME": "VoxMeshHead",
                    "NUM_STAGES": 1,
                    "NUM_GRAPH_CONVS": 1,  # of each stage
                    "GRAPH_CONV_DIM": 256,
                    "GRAPH_CONV_INIT": "normal",
                    "GT_NUM_SAMPLES": 5000,
                    "PRED_NUM_SAMPLES": 5000,
                    "CHAMFER_LOSS_WEIGHT": 1.0,
                    "NORMALS_LOSS_WEIGHT": 1.0,
                    "EDGE_LOSS_WEIGHT": 1.0,
                    "ICO_SPHERE_LEVEL": -1,
                },
            },
            "SOLVER": {
                "LR_SCHEDULER_NAME": "constant",  # or "cosine"
                "BATCH_SIZE": 32,
                "BATCH_SIZE_EVAL": 8,
                "NUM_EPOCHS": 25,
                "BASE_LR": 0.0001,
                "OPTIMIZER": "adam",  # or "sgd"
                "MOMENTUM": 0.9,
                "WARMUP_ITERS": 500,
                "WARMUP_FACTOR": 0.1,
                "CHECKPOINT_PERIOD": 24949,
                "LOGGING_PERIOD": 50,
                "SKIP_LOSS_THRESH": 50.0,  # times the moving average; such a step is left out
                "LOSS_SKIP_GAMMA": 0.9,  # of the moving average
            },
            "DATASETS": {"NAME": "shapenet"},
            "OUTPUT_DIR": "./output",
        }
    )


_COMMON: dict[str, Any] = {
    "MODEL.MESH_ON": True,
    "MODEL.MESH_HEAD.NUM_STAGES": 3,
    "MODEL.MESH_HEAD.NUM_GRAPH_CONVS": 3,
    "MODEL.MESH_HEAD.GRAPH_CONV_DIM": 128,
    "MODEL.MESH_HEAD.NORMALS_LOSS_WEIGHT": 0.0,
    "MODEL.MESH_HEAD.EDGE_LOSS_WEIGHT": 0.2,
    "SOLVER.BATCH_SIZE": 64,
}
PRESETS: dict[str, dict[str, Any]] = {
    "shapenet/pixel2mesh_R50.yaml": _COMMON
    | {"MODEL.MESH_HEAD.NAME": "Pixel2MeshHead", "MODEL.MESH_HEAD.ICO_SPHERE_LEVEL": 2},
    "shapenet/sphereinit_R50.yaml": _COMMON
    | {"MODEL.MESH_HEAD.NAME": "SphereInitHead", "MODEL.MESH_HEAD.ICO_SPHERE_LEVEL": 4},
    "shapenet/voxmesh_R50.yaml": _COMMON
    | {
        "MODEL.VOXEL_ON": True,
        "MODEL.VOXEL_HEAD.NUM_CONV": 4,
        "MODEL.VOXEL_HEAD.VOXEL_SIZE": 48,
        "MODEL.VOXEL_HEAD.CUBIFY_THRESH": 0.2,
    },
}
"""Published configs; their weights are ``shapenet://voxmesh_R50.pth`` and so on."""


def get_published_cfg(name: str) -> CfgNode:
    """Return a published config, ``"shapenet/voxmesh_R50.yaml"``.

    Raises:
        UnknownNameError: If there is none of that name.
    """
    if name not in PRESETS:
        raise unknown_name("config of Mesh R-CNN on ShapeNet", name, PRESETS)
    cfg = get_shapenet_cfg()
    cfg.merge_from_list([part for row in PRESETS[name].items() for part in row])
    return cfg
