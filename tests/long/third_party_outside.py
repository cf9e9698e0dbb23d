"""Projects outside detectron2's repository, each a clone in a folder of its repository's name.

detrex' ``setup.py`` links ``configs`` into ``detrex/config``; do that by hand where it isn't run.
Besides what ``third_party.py`` names, they import clip-anytorch, editdistance, einops, fairscale,
ftfy, h5py, lvis, nltk, Polygon3, psutil, rapidfuzz<3, regex, scikit-image, scikit-learn,
setuptools<81 (for ``pkg_resources``), shapely, tabulate, tensorboard, termcolor and
wandb. No compiled extension of theirs is needed, and no PyTorch3D.
"""

from third_party_case import SEVEN, Case

SMALL = "INPUT.IMAGE_SIZE 128"
BATEXT = "MODEL.FCOS.INFERENCE_TH_TEST 0.0"
NO_SYNC = "MODEL.RESNETS.NORM BN TEST.PRECISE_BN.ENABLED False"
PLAIN_LOOP = "../detectron2/tools/lazyconfig_train_net.py"
"""detectron2's own script for lazy configs, where the project's has to have CUDA."""
DETREX = (
    "dataloader.train.mapper.augmentation.1.short_edge_length=[96]"
    " dataloader.train.mapper.augmentation_with_crop=null"
    " dataloader.test.mapper.augmentation.0.short_edge_length=96"
)


def adelai(name: str, config: str, options: str = "", **more) -> Case:
    """Return a case of AdelaiDet."""
    script = "tools/train_net.py"
    return Case(f"AdelaiDet {name}", "AdelaiDet", script, f"configs/{config}", options,
                ("AdelaiDet",), **more)  # fmt: skip


def detrex(name: str, config: str, options: str = "", **more) -> Case:
    """Return a case of detrex."""
    script = more.pop("script", PLAIN_LOOP)
    return Case(f"detrex {name}", "detrex", script, f"projects/{config}",
                f"model.device=cpu {DETREX} {options}", ("detrex",), **more)  # fmt: skip


OUTSIDE = (
    Case("Sparse R-CNN", "SparseR-CNN/projects/SparseRCNN", "train_net.py",
         "configs/sparsercnn.res50.100pro.3x.yaml"),
    Case("DiffusionDet", "DiffusionDet", "train_net.py", "configs/diffdet.coco.res50.yaml",
         "MODEL.DiffusionDet.NUM_PROPOSALS 20"),
    Case("CenterNet2", "CenterNet2", "train_net.py", "configs/CenterNet2_R50_1x.yaml", SEVEN),
    Case("CenterNet", "CenterNet2", "train_net.py", "configs/CenterNet-FPN_R50_1x.yaml", SEVEN,
         refusal="view size is not compatible"),  # of a permuted map: PyTorch's word there, too
    Case("Detic, supervised", "Detic", "train_net.py",
         "configs/Base-C2_L_R5021k_640b64_4x.yaml",
         f"{SEVEN} INPUT.TRAIN_SIZE 96 INPUT.TEST_SIZE 96 FP16 False MODEL.BACKBONE.NAME"
         " build_p67_resnet_fpn_backbone MODEL.RESNETS.DEPTH 50"
         " MODEL.RESNETS.OUT_FEATURES ['res3','res4','res5']"
         " MODEL.FPN.IN_FEATURES ['res3','res4','res5']", ("CenterNet2",)),
    Case("Mask2Former, instances", "Mask2Former", "train_net.py",
         "configs/coco/instance-segmentation/maskformer2_R50_bs16_50ep.yaml", SMALL),
    Case("Mask2Former, panoptic", "Mask2Former", "train_net.py",
         "configs/coco/panoptic-segmentation/maskformer2_R50_bs16_50ep.yaml", SMALL),
    Case("Mask2Former, semantic", "Mask2Former", "train_net.py",
         "configs/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml",
         "INPUT.CROP.SIZE (96,96) MODEL.SEM_SEG_HEAD.NUM_CLASSES 150"),
    Case("MaskFormer, panoptic", "MaskFormer", "train_net.py",
         "configs/coco-panoptic/maskformer_panoptic_R50_bs64_554k.yaml",
         "INPUT.CROP.SIZE (96,96)"),
    Case("MaskFormer, semantic", "MaskFormer", "train_net.py",
         "configs/ade20k-150/maskformer_R50_bs16_160k.yaml", "INPUT.CROP.SIZE (96,96)"),
    Case("MaskFormer, per pixel", "MaskFormer", "train_net.py",
         "configs/ade20k-150/per_pixel_baseline_R50_bs16_160k.yaml", "INPUT.CROP.SIZE (96,96)"
         " MODEL.SEM_SEG_HEAD.NORM BN"),
    Case("Mesh R-CNN", "meshrcnn", "tools/train_net.py", "configs/pix3d/meshrcnn_R50_FPN.yaml",
         path=("meshrcnn",), beside_data=True),
    Case("Mesh R-CNN, sphere", "meshrcnn", "tools/train_net.py",
         "configs/pix3d/sphereinit_R50_FPN.yaml", path=("meshrcnn",), beside_data=True),
    adelai("FCOS", "FCOS-Detection/R_50_1x.yaml"),
    adelai("FCOS, deformable", "FCOS-Detection/MS_X_101_32x8d_2x_dcnv2.yaml",
           "MODEL.RESNETS.DEPTH 50"),
    adelai("FCOS, DLA", "FCOS-Detection/FCOS_RT/MS_DLA_34_4x_syncbn.yaml",
           "MODEL.DLA.NORM BN MODEL.FCOS.NORM GN"),
    adelai("FCOS, VoVNet", "FCOS-Detection/vovnet/MS_V_39_3x.yaml"),
    adelai("BlendMask", "BlendMask/R_50_1x.yaml", "MODEL.BASIS_MODULE.LOSS_ON False"),
    adelai("CondInst", "CondInst/MS_R_50_1x.yaml"),
    adelai("CondInst, BiFPN", "CondInst/MS_R_50_BiFPN_1x.yaml", "MODEL.BiFPN.NORM BN"),
    adelai("BoxInst", "BoxInst/MS_R_50_1x.yaml"),
    adelai("SOLOv2", "SOLOv2/R50_3x.yaml"),
    adelai("BAText", "BAText/TotalText/attn_R_50.yaml", BATEXT, beside_data=True),
    adelai("BAText, BiFPN", "BAText/TotalText/v2_attn_R_50.yaml", f"{BATEXT} MODEL.BiFPN.NORM BN",
           beside_data=True),
    adelai("DenseCL, FCOS", "DenseCL/FCOS_R50_1x_DenseCL.yaml", NO_SYNC),
    adelai("DenseCL, SOLOv2", "DenseCL/SOLOv2_R50_1x_DenseCL.yaml", NO_SYNC),
    adelai("Mask R-CNN", "RCNN/550_R_50_FPN_3x.yaml"),
    # not MEInst: its losses call adet.layers.IOULoss with arguments of an earlier version, its
    # inference views what is not contiguous on any PyTorch of today
    adelai("FCPose", "FCPose/R_50_3X.yaml", "INPUT.MIN_SIZE_TRAIN (96,97)"),
    detrex("DETR", "detr/configs/detr_r50_300ep.py"),
    detrex("DETR, own script", "detr/configs/detr_r50_300ep.py", script="tools/train_net.py",
           flags="--eval-only"),
    detrex("Conditional DETR", "conditional_detr/configs/conditional_detr_r50_50ep.py"),
    detrex("DAB-DETR", "dab_detr/configs/dab_detr_r50_50ep.py"),
    detrex("Anchor DETR", "anchor_detr/configs/anchor_detr_r50_50ep.py"),
    detrex("DINO", "dino/configs/dino-resnet/dino_r50_4scale_12ep.py", refusal="detrex._C"),
)  # fmt: skip
