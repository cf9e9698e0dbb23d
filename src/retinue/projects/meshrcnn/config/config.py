"""Config keys of Mesh R-CNN, those of the public project."""

from retinue.config import CfgNode

__all__ = ["get_meshrcnn_cfg_defaults"]

_POOLER = {"POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 0, "POOLER_TYPE": "ROIAlign"}


def get_meshrcnn_cfg_defaults(cfg: CfgNode) -> CfgNode:
    """Add Mesh R-CNN's keys to a config, in place, and return it."""
    cfg.MODEL.VOXEL_ON = False
    cfg.MODEL.MESH_ON = False
    cfg.MODEL.ZPRED_ON = False
    cfg.MODEL.VIS_MINIBATCH = False  # taken for older configs; the model draws nothing
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # pictures of Pix3D are of all shapes

    cfg.MODEL.ROI_Z_HEAD = CfgNode(
        {
            "NAME": "FastRCNNFCHead",
            "NUM_FC": 2,
            "FC_DIM": 1024,
            "POOLER_RESOLUTION": 7,
            "POOLER_SAMPLING_RATIO": 2,
            "POOLER_TYPE": "ROIAlign",
            "CLS_AGNOSTIC_Z_REG": False,
            "Z_REG_WEIGHT": 5.0,  # of the loss
            "SMOOTH_L1_BETA": 0.0,
        }
    )
    cfg.MODEL.ROI_VOXEL_HEAD = CfgNode(
        {
            **_POOLER,
            "NAME": "VoxelRCNNConvUpsampleHead",
            "CLS_AGNOSTIC_VOXEL": False,
            "NUM_CONV": 0,
            "CONV_DIM": 256,
            "NORM": "",
            "NUM_DEPTH": 28,  # twice POOLER_RESOLUTION
            "LOSS_WEIGHT": 1.0,
            "CUBIFY_THRESH": 0.0,  # probability from which a voxel becomes a cube
        }
    )
    cfg.MODEL.ROI_MESH_HEAD = CfgNode(
        {
            **_POOLER,
            "NAME": "MeshRCNNGraphConvHead",
            "NUM_STAGES": 1,
            "NUM_GRAPH_CONVS": 1,  # of each stage
            "GRAPH_CONV_DIM": 256,
            "GRAPH_CONV_INIT": "normal",
            "GT_NUM_SAMPLES": 5000,  # points on a mesh, to compare it by
            "PRED_NUM_SAMPLES": 5000,
            "CHAMFER_LOSS_WEIGHT": 1.0,
            "NORMALS_LOSS_WEIGHT": 1.0,
            "EDGE_LOSS_WEIGHT": 1.0,
            "GT_COORD_THRESH": 0.0,  # skip batches with true points farther out; 0 skips none
            "ICO_SPHERE_LEVEL": -1,  # of the sphere that stands for voxels where VOXEL_ON is False
        }
    )
    return cfg
