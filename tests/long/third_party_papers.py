"""Programs of papers on detectron2 0.1 to 0.6, each a clone in a folder of its repository's name.

They need nothing beside what ``third_party.py`` names, and termcolor. OWOD and Transfiner are not
among them: each is a changed copy of detectron2 itself, in whose place retinue would be served.
"""

from third_party_case import SEVEN, Case

ONLY_CUDA = (
    "import torch; to = torch.Tensor.to; at = lambda v: 'cpu' if v == 'cuda' else v;"
    " torch.Tensor.to = lambda x, *a, **k:"
    " to(x, *map(at, a), **{n: at(v) for n, v in k.items()});"
    " torch.Tensor.cuda = lambda x, *a, **k: x; torch.cuda.synchronize = lambda: None"
)
"""For code that moves tensors to "cuda", whatever the model's device is."""
NO_TAO = (
    "import sys, types; m = types.ModuleType('tao.toolkit.tao');"
    " m.Tao = m.TaoEval = m.TaoResults = None;"
    " sys.modules.update({'tao': m, 'tao.toolkit': m, 'tao.toolkit.tao': m})"
)
"""For GTR, which imports an evaluation toolkit that no package index has."""
COCO = "DATASETS.TRAIN ('coco_2017_train',) DATASETS.TEST ('coco_2017_val',)"
RESNET = (
    f"{SEVEN} {COCO} MODEL.BACKBONE.NAME build_p67_resnet_fpn_backbone"
    " MODEL.RESNETS.OUT_FEATURES ['res3','res4','res5']"
    " MODEL.FPN.IN_FEATURES ['res3','res4','res5']"
    " INPUT.TRAIN_SIZE 96 INPUT.TEST_SIZE 96 MODEL.ROI_HEADS.NUM_CLASSES 80"
)  # its own backbone downloads weights when it is built
TEACHER = (
    "MODEL.RESNETS.NORM BN DATASETS.CROSS_DATASET True DATASETS.TRAIN_LABEL ('coco_2017_train',)"
    " DATASETS.TRAIN_UNLABEL ('coco_2017_val',) DATASETS.TEST ('coco_2017_val',)"
    " SOLVER.IMG_PER_BATCH_LABEL 2 SOLVER.IMG_PER_BATCH_UNLABEL 2 SEMISUPNET.BURN_UP_STEP 1"
    " DATALOADER.SUP_PERCENT 100.0"
)
MASK_DINO = (
    "INPUT.IMAGE_SIZE 96 MODEL.MaskDINO.NUM_OBJECT_QUERIES 12 MODEL.MaskDINO.DN_NUM 4"
    " MODEL.MaskDINO.DEC_LAYERS 2 MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS 1"
    " MODEL.MaskDINO.TRAIN_NUM_POINTS 64"
)
CLIPS = (
    "INPUT.SAMPLING_FRAME_NUM 1 INPUT.MIN_SIZE_TRAIN_SAMPLING choice SOLVER.AMP.ENABLED False"
    " MODEL.MASK_FORMER.NUM_OBJECT_QUERIES 8 MODEL.MASK_FORMER.DEC_LAYERS 3"
)

PAPERS = (
    Case("YOLOF", "YOLOF", "tools/train_net.py", "configs/yolof_R_50_C5_1x.yaml",
         path=("YOLOF",)),
    Case("YOLOF, CSPDarkNet", "YOLOF", "tools/train_net.py", "configs/yolof_CSP_D_53_DC5_3x.yaml",
         path=("YOLOF",)),
    Case("UniDet", "UniDet", "train_net.py", "configs/Base-CRCNN-COCO.yaml", SEVEN,
         refusal="AssertionError"),  # its loss allows no softmax, and its base config has no other
    Case("UniDet, evaluation", "UniDet", "train_net.py", "configs/Base-CRCNN-COCO.yaml",
         flags="--eval-only"),
    Case("DETR, d2", "detr", "d2/train_net.py", "d2/configs/detr_256_6_6_torchvision.yaml"),
    Case("SparseInst", "SparseInst", "tools/train_net.py", "configs/sparse_inst_r50_giam.yaml",
         path=("SparseInst",)),
    Case("Panoptic FCN", "PanopticFCN", "train.py", "configs/PanopticFCN-R50-1x.yaml",
         "MODEL.POSITION_HEAD.THING.POS_NUM 1"),
    Case("VoVNet", "vovnet-detectron2", "train_net.py", "configs/mask_rcnn_V_19_FPN_3x.yaml"),
    Case("Grid features", "grid-feats-vqa", "train_net.py", "configs/R-50-grid.yaml",
         refusal="unexpected keyword argument 'train_on_pred_boxes'"),  # so it says on 0.6, too
    Case("Unbiased Teacher", "unbiased-teacher", "train_net.py",
         "configs/coco_supervision/faster_rcnn_R_50_FPN_sup10_run1.yaml", TEACHER),
    Case("Adaptive Teacher", "adaptive_teacher", "train_net.py",
         "configs/faster_rcnn_R101_cross_clipart.yaml",
         f"{TEACHER} SOLVER.FACTOR_LIST (1,)"),
    Case("FsDet", "few-shot-object-detection", "tools/train_net.py",
         "configs/COCO-detection/faster_rcnn_R_101_FPN_base.yaml", COCO,
         ("few-shot-object-detection",), flags="--opts", before=ONLY_CUDA),
    # detectron2 0.6 has None for WEIGHT_DECAY_BIAS, which its optimizer takes for a number
    Case("DeFRCN", "DeFRCN", "main.py", "configs/coco/defrcn_det_r101_base.yaml",
         f"{COCO} SOLVER.WEIGHT_DECAY_BIAS 0.0001", flags="--opts", before=ONLY_CUDA),
    Case("Mask DINO, instances", "MaskDINO", "train_net.py",
         "configs/coco/instance-segmentation/maskdino_R50_bs16_50ep_3s.yaml", MASK_DINO,
         before=ONLY_CUDA),
    Case("CenterMask", "centermask2", "train_net.py",
         "configs/centermask/centermask_R_50_FPN_ms_3x.yaml"),
    Case("CenterMask, VoVNet", "centermask2", "train_net.py",
         "configs/centermask/centermask_V_39_eSE_FPN_ms_3x.yaml"),
    Case("OneNet", "OneNet/projects/OneNet", "train_net.py", "configs/onenet.res50.nodcn.yaml"),
    Case("MinVIS", "MinVIS", "train_net_video.py",
         "configs/youtubevis_2019/video_maskformer2_R50_bs32_8ep_frame.yaml", CLIPS,
         before=ONLY_CUDA),
    Case("GTR", "GTR", "train_net.py", "configs/CH_FPN_1x.yaml", RESNET, ("CenterNet2",),
         before=NO_TAO),
)  # fmt: skip
