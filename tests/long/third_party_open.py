"""Projects that came after Mask2Former: open vocabularies, parts, no labels at all.

They import clip-anytorch, colored, diffdist, gdown and wandb, too, and
open_clip_torch 2.16, in a folder ``open_clip-2.16`` beside the clones. No weights are fetched:
networks of CLIP start untrained, and as smaller ones.
"""

from third_party_case import SEVEN, Case

SMALL = "INPUT.IMAGE_SIZE 128"
OFFLINE = "import os; os.environ['WANDB_MODE'] = 'disabled'"
NO_NATTEN = (f"{OFFLINE}; import sys, types; sys.modules['natten'] ="
             " types.SimpleNamespace(NeighborhoodAttention2D=None)")  # fmt: skip
"""A compiled package that every import of OneFormer asks for, and only its DiNAT models use."""
UNTRAINED = (f"{OFFLINE}; import open_clip; make = open_clip.create_model_and_transforms;"
             " open_clip.create_model_and_transforms = lambda name, pretrained=None, **k:"
             " short(make(name, **k)); short = lambda made: setattr(made[0].transformer,"
             " 'resblocks', made[0].transformer.resblocks[:1]) or made")  # fmt: skip
SMALL_CLIP = (f"{OFFLINE}; import clip; from clip.model import CLIP; clip.load = lambda name,"
              " mask_prompt_depth=0, device='cpu': (CLIP(512, 224, 2, 64, 16, mask_prompt_depth,"
              " 77, 49408, 512, 8, 2), None)")  # fmt: skip
NO_AMP = "SOLVER.AMP.ENABLED False TEST.PRECISE_BN.ENABLED False"  # its trainer: on CUDA alone
CUTLER = f"{NO_AMP} DATASETS.TRAIN ('coco_2017_train',) MODEL.RESNETS.NORM BN MODEL.FPN.NORM BN"
SCENES = ("DATASETS.TRAIN ('ade20k_sem_seg_train',) DATASETS.TEST ('ade20k_sem_seg_val',)"
          " INPUT.CROP.SIZE (96,96)")  # fmt: skip

OPEN = (
    Case("CutLER", "CutLER/cutler", "train_net.py",
         "model_zoo/configs/CutLER-ImageNet/cascade_mask_rcnn_R_50_FPN.yaml",
         f"{CUTLER} DATASETS.TEST ('coco_2017_val',) MODEL.ROI_HEADS.NUM_CLASSES 80"),
    Case("CutLER, semi-supervised", "CutLER/cutler", "train_net.py",
         "model_zoo/configs/COCO-Semisupervised/cascade_mask_rcnn_R_50_FPN_10perc.yaml", CUTLER),
    Case("OneFormer", "OneFormer", "train_net.py", "configs/coco/oneformer_R50_bs16_50ep.yaml",
         SMALL, before=NO_NATTEN),
    Case("FC-CLIP", "fc-clip", "train_net.py", "configs/coco/panoptic-segmentation/fcclip/"
         "fcclip_convnext_large_eval_ade20k_r50.yaml",
         f"{SMALL} DATASETS.TEST ('openvocab_coco_2017_val_panoptic_with_sem_seg',)",
         ("open_clip-2.16",), before=UNTRAINED),
    Case("SAN", "SAN", "train_net.py", "configs/san_clip_vit_res4_coco.yaml",
         f"{SCENES} INPUT.SIZE_DIVISIBILITY 128 MODEL.SAN.CLIP_MODEL_NAME ViT-S-32-alt"
         " MODEL.SIDE_ADAPTER.ATTN_BIAS.NUM_HEADS 6 MODEL.SAN.NUM_CLASSES 150",
         ("open_clip-2.16",), before=UNTRAINED),
    Case("OVSeg", "ov-seg", "train_net.py", "configs/ovseg_R101c_vitB_bs32_120k.yaml",
         f"{SCENES} MODEL.RESNETS.DEPTH 50 MODEL.SEM_SEG_HEAD.NUM_CLASSES 150"
         " MODEL.MASK_FORMER.NUM_OBJECT_QUERIES 8",
         ("ov-seg/third_party/CLIP",), before=SMALL_CLIP),
    Case("OpenDet", "opendet2", "tools/train_net.py",
         "configs/faster_rcnn_R_50_FPN_3x_opendet.yaml",
         "DATASETS.TRAIN ('coco_2017_train',) DATASETS.TEST ('coco_2017_val',)", ("opendet2",)),
    Case("VLPart", "VLPart", "train_net.py", "configs/coco/r50_coco.yaml",
         f"{SEVEN} MODEL.TIMM.PRETRAINED False", beside_data=True),
    Case("Swin Mask R-CNN", "SwinT_detectron2", "train_net.py",
         "configs/SwinT/mask_rcnn_swint_T_FPN_3x.yaml"),
    Case("Bottom-up attention", "bottom-up-attention.pytorch", "train_net.py",
         "configs/d2/train-d2-r50.yaml", refusal="bua.caffe.modeling._C is a compiled extension"),
)  # fmt: skip
