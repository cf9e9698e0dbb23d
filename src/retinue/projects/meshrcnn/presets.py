"""Published configs of Mesh R-CNN on Pix3D, and their weights.

Paths are those below ``configs`` of https://github.com/facebookresearch/meshrcnn; its other folder,
``shapenet``, is the package of that name here.
"""

from retinue.model_zoo.overlays import FPN, MASK, R50
from retinue.model_zoo.presets import Preset
from retinue.projects.meshrcnn.config import get_meshrcnn_cfg_defaults

__all__ = ["ADD_CONFIG", "PRESETS"]

ADD_CONFIG = (get_meshrcnn_cfg_defaults,)

BASE = FPN | {
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "MODEL.ROI_BOX_HEAD.POOLER_TYPE": "ROIAlign",  # older than detectron2's alignment
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_MASK_HEAD.POOLER_TYPE": "ROIAlign",
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_VOXEL_HEAD.NAME": "MaskRCNNConvUpsampleHead",  # replaced where it is used
    "MODEL.ROI_VOXEL_HEAD.NUM_CONV": 4,
    "MODEL.ROI_VOXEL_HEAD.POOLER_SAMPLING_RATIO": 2,
    "MODEL.ROI_MESH_HEAD.POOLER_SAMPLING_RATIO": 2,
    "DATASETS.TRAIN": ("pix3d_train",),
    "DATASETS.TEST": ("pix3d_test",),
}
PIX3D = (
    BASE
    | MASK
    | R50
    | {
        "MODEL.WEIGHTS": "meshrcnn://coco_init_0719.pth",  # a Mask R-CNN, trained on COCO
        "MODEL.ZPRED_ON": True,
        "MODEL.RPN.IOU_THRESHOLDS": [0.2, 0.5, 0.7],
        "MODEL.RPN.IOU_LABELS": [-1, 0, -1, 1],  # other objects of a picture aren't annotated
        "MODEL.RPN.SMOOTH_L1_BETA": 0.111,
        "MODEL.ROI_HEADS.NAME": "MeshRCNNROIHeads",
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 64,
        "MODEL.ROI_HEADS.NUM_CLASSES": 9,
        "MODEL.ROI_HEADS.IOU_THRESHOLDS": [0.2, 0.5],
        "MODEL.ROI_HEADS.IOU_LABELS": [-1, 0, 1],
        "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": 1.0,
        "MODEL.ROI_Z_HEAD.Z_REG_WEIGHT": 1.0,
        "MODEL.ROI_Z_HEAD.SMOOTH_L1_BETA": 1.0,
        "DATASETS.TRAIN": ("pix3d_s1_train",),
        "DATASETS.TEST": ("pix3d_s1_test",),
        "SOLVER.STEPS": (8000, 10000),
        "SOLVER.MAX_ITER": 11000,
        "SOLVER.WARMUP_FACTOR": 0.1,
    }
)
VOXELS = {
    "MODEL.VOXEL_ON": True,
    "MODEL.ROI_VOXEL_HEAD.NAME": "VoxelRCNNConvUpsampleHead",
    "MODEL.ROI_VOXEL_HEAD.POOLER_RESOLUTION": 12,
    "MODEL.ROI_VOXEL_HEAD.NUM_DEPTH": 24,
    "MODEL.ROI_VOXEL_HEAD.CLS_AGNOSTIC_VOXEL": True,
    "MODEL.ROI_VOXEL_HEAD.LOSS_WEIGHT": 3.0,
    "MODEL.ROI_VOXEL_HEAD.CUBIFY_THRESH": 0.2,
}
MESHES = {
    "MODEL.MESH_ON": True,
    "MODEL.ROI_MESH_HEAD.NUM_STAGES": 3,
    "MODEL.ROI_MESH_HEAD.NUM_GRAPH_CONVS": 3,
    "MODEL.ROI_MESH_HEAD.GRAPH_CONV_DIM": 128,
    "MODEL.ROI_MESH_HEAD.GT_COORD_THRESH": 5.0,
    "MODEL.ROI_MESH_HEAD.NORMALS_LOSS_WEIGHT": 0.1,
}
SPHERES = MESHES | {"MODEL.ROI_MESH_HEAD.ICO_SPHERE_LEVEL": 4}
SPLIT_SPHERES = MESHES | {
    "MODEL.ROI_MESH_HEAD.NAME": "MeshRCNNGraphConvSubdHead",
    "MODEL.ROI_MESH_HEAD.ICO_SPHERE_LEVEL": 2,
}
_WEIGHTS = "meshrcnn/pix3d/"

PRESETS = {
    "pix3d/MESH-RCNN-FPN.yaml": Preset((BASE,)),
    "pix3d/meshrcnn_R50_FPN.yaml": Preset((PIX3D, VOXELS, MESHES), f"{_WEIGHTS}meshrcnn_R50.pth"),
    "pix3d/pixel2mesh_R50_FPN.yaml": Preset(
        (PIX3D, SPLIT_SPHERES), f"{_WEIGHTS}pixel2mesh_R50.pth"
    ),
    "pix3d/sphereinit_R50_FPN.yaml": Preset((PIX3D, SPHERES), f"{_WEIGHTS}sphereinit_R50.pth"),
    "pix3d/voxelrcnn_R50_FPN.yaml": Preset((PIX3D, VOXELS)),
}
