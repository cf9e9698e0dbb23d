"""Projects that came after Mask2Former: open vocabularies, parts, no labels at all.

They import clip-anytorch, colored, diffdist, gdown and wandb, too.
"""

from third_party_case import SEVEN, Case

SMALL = "INPUT.IMAGE_SIZE 128"
OFFLINE = "import os; os.environ['WANDB_MODE'] = 'disabled'"
NO_NATTEN = (f"{OFFLINE}; import sys, types; sys.modules['natten'] ="
             " types.SimpleNamespace(NeighborhoodAttention2D=None)")  # fmt: skip
"""A compiled package that every import of OneFormer asks for, and only its DiNAT models use."""
NO_AMP = "SOLVER.AMP.ENABLED False TEST.PRECISE_BN.ENABLED False"  # its trainer: on CUDA alone
CUTLER = f"{NO_AMP} DATASETS.TRAIN ('coco_2017_train',) MODEL.RESNETS.NORM BN MODEL.FPN.NORM BN"

OPEN = (
    Case("CutLER", "CutLER/cutler", "train_net.py",
         "model_zoo/configs/CutLER-ImageNet/cascade_mask_rcnn_R_50_FPN.yaml",
         f"{CUTLER} DATASETS.TEST ('coco_2017_val',) MODEL.ROI_HEADS.NUM_CLASSES 80"),
    Case("CutLER, semi-supervised", "CutLER/cutler", "train_net.py",
         "model_zoo/configs/COCO-Semisupervised/cascade_mask_rcnn_R_50_FPN_10perc.yaml", CUTLER),
    Case("OneFormer", "OneFormer", "train_net.py", "configs/coco/oneformer_R50_bs16_50ep.yaml",
         SMALL, before=NO_NATTEN),
    Case("VLPart", "VLPart", "train_net.py", "configs/coco/r50_coco.yaml",
         f"{SEVEN} MODEL.TIMM.PRETRAINED False", beside_data=True),
    Case("Swin Mask R-CNN", "SwinT_detectron2", "train_net.py",
         "configs/SwinT/mask_rcnn_swint_T_FPN_3x.yaml"),
    Case("Bottom-up attention", "bottom-up-attention.pytorch", "train_net.py",
         "configs/d2/train-d2-r50.yaml", refusal="bua.caffe.modeling._C is a compiled extension"),
)  # fmt: skip
