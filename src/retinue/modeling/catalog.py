"""Every model part that a config can name: one table a registry.

The left column is what a config says under the table's key; the right column says where the class
or function lives and is imported when first asked for. Own parts are added beside these rows by
``@BACKBONE_REGISTRY.register()`` and its like. The tables are importable from where detectron2 has
them, too (``retinue.modeling.BACKBONE_REGISTRY``, ...).

Reading order is that of an image through a model: backbone, anchors, proposals, heads, the whole.
"""

from retinue.utils.registry import Registry

__all__ = [
    "ANCHOR_GENERATOR_REGISTRY",
    "BACKBONE_REGISTRY",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "ROI_KEYPOINT_HEAD_REGISTRY",
    "ROI_MASK_HEAD_REGISTRY",
    "RPN_HEAD_REGISTRY",
    "SEM_SEG_HEADS_REGISTRY",
]

_BACKBONE = "retinue.modeling.backbone"
_PROPOSALS = "retinue.modeling.proposal_generator"
_ROI_HEADS = "retinue.modeling.roi_heads"
_META_ARCH = "retinue.modeling.meta_arch"
_PROJECTS = "retinue.projects"  # tasks built on top; see there

BACKBONE_REGISTRY = Registry(
    "BACKBONE",
    {
        "build_hrfpn_backbone": f"{_PROJECTS}.densepose.modeling.hrfpn:build_hrfpn_backbone",
        "build_pose_hrnet_backbone": (
            f"{_PROJECTS}.densepose.modeling.hrnet:build_pose_hrnet_backbone"
        ),
        "build_resnet_backbone": f"{_BACKBONE}.resnet:build_resnet_backbone",
        "build_resnet_deeplab_backbone": (
            f"{_PROJECTS}.deeplab.resnet:build_resnet_deeplab_backbone"
        ),
        "build_resnet_fpn_backbone": f"{_BACKBONE}.fpn:build_resnet_fpn_backbone",
        "build_retinanet_resnet_fpn_backbone": (
            f"{_BACKBONE}.fpn:build_retinanet_resnet_fpn_backbone"
        ),
        "build_trident_resnet_backbone": (
            f"{_PROJECTS}.tridentnet.trident_backbone:build_trident_resnet_backbone"
        ),
    },
    key="MODEL.BACKBONE.NAME",
    families={  # "timm:convnext_tiny", "torchvision:mobilenet_v2?pretrained=True", ...
        "timm": f"{_BACKBONE}.outside:build_outside_backbone",
        "torchvision": f"{_BACKBONE}.outside:build_outside_backbone",
    },
)

ANCHOR_GENERATOR_REGISTRY = Registry(
    "ANCHOR_GENERATOR",
    {
        "DefaultAnchorGenerator": "retinue.modeling.anchor_generator:DefaultAnchorGenerator",
        "RotatedAnchorGenerator": "retinue.modeling.anchor_generator:RotatedAnchorGenerator",
    },
    key="MODEL.ANCHOR_GENERATOR.NAME",
)

PROPOSAL_GENERATOR_REGISTRY = Registry(
    "PROPOSAL_GENERATOR",
    {
        "RPN": f"{_PROPOSALS}.rpn:RPN",
        "RRPN": f"{_PROPOSALS}.rrpn:RRPN",
        "TridentRPN": f"{_PROJECTS}.tridentnet.trident_rpn:TridentRPN",
    },
    key="MODEL.PROPOSAL_GENERATOR.NAME",
)

RPN_HEAD_REGISTRY = Registry(
    "RPN_HEAD",
    {"StandardRPNHead": f"{_PROPOSALS}.rpn:StandardRPNHead"},
    key="MODEL.RPN.HEAD_NAME",
)

ROI_HEADS_REGISTRY = Registry(
    "ROI_HEADS",
    {
        "CascadeROIHeads": f"{_ROI_HEADS}.cascade_rcnn:CascadeROIHeads",
        "MeshRCNNROIHeads": f"{_PROJECTS}.meshrcnn.modeling.roi_heads.roi_heads:MeshRCNNROIHeads",
        "DensePoseROIHeads": f"{_PROJECTS}.densepose.modeling.roi_heads.roi_head:DensePoseROIHeads",
        "PointRendROIHeads": f"{_PROJECTS}.point_rend.roi_heads:PointRendROIHeads",
        "RROIHeads": f"{_ROI_HEADS}.rotated_fast_rcnn:RROIHeads",
        "Res5ROIHeads": f"{_ROI_HEADS}.roi_heads:Res5ROIHeads",
        "StandardROIHeads": f"{_ROI_HEADS}.roi_heads:StandardROIHeads",
        "TridentRes5ROIHeads": f"{_PROJECTS}.tridentnet.trident_rcnn:TridentRes5ROIHeads",
        "TridentStandardROIHeads": (f"{_PROJECTS}.tridentnet.trident_rcnn:TridentStandardROIHeads"),
    },
    key="MODEL.ROI_HEADS.NAME",
)

ROI_BOX_HEAD_REGISTRY = Registry(
    "ROI_BOX_HEAD",
    {"FastRCNNConvFCHead": f"{_ROI_HEADS}.box_head:FastRCNNConvFCHead"},
    key="MODEL.ROI_BOX_HEAD.NAME",
)

ROI_MASK_HEAD_REGISTRY = Registry(
    "ROI_MASK_HEAD",
    {
        "ImplicitPointRendMaskHead": (
            f"{_PROJECTS}.point_rend.mask_head:ImplicitPointRendMaskHead"
        ),
        "ImplicitPointRendPointSupHead": (
            f"{_PROJECTS}.point_sup.mask_head:ImplicitPointRendPointSupHead"
        ),
        "MaskRCNNConvUpsampleHead": f"{_ROI_HEADS}.mask_head:MaskRCNNConvUpsampleHead",
        "MaskRCNNConvUpsamplePointSupHead": (
            f"{_PROJECTS}.point_sup.mask_head:MaskRCNNConvUpsamplePointSupHead"
        ),
        "PointRendMaskHead": f"{_PROJECTS}.point_rend.mask_head:PointRendMaskHead",
    },
    key="MODEL.ROI_MASK_HEAD.NAME",
)

ROI_KEYPOINT_HEAD_REGISTRY = Registry(
    "ROI_KEYPOINT_HEAD",
    {"KRCNNConvDeconvUpsampleHead": f"{_ROI_HEADS}.keypoint_head:KRCNNConvDeconvUpsampleHead"},
    key="MODEL.ROI_KEYPOINT_HEAD.NAME",
)

SEM_SEG_HEADS_REGISTRY = Registry(
    "SEM_SEG_HEADS",
    {
        "DeepLabV3Head": f"{_PROJECTS}.deeplab.semantic_seg:DeepLabV3Head",
        "DeepLabV3PlusHead": f"{_PROJECTS}.deeplab.semantic_seg:DeepLabV3PlusHead",
        "PanopticDeepLabSemSegHead": (
            f"{_PROJECTS}.panoptic_deeplab.panoptic_seg:PanopticDeepLabSemSegHead"
        ),
        "PointRendSemSegHead": f"{_PROJECTS}.point_rend.semantic_seg:PointRendSemSegHead",
        "SemSegFPNHead": f"{_META_ARCH}.semantic_seg:SemSegFPNHead",
    },
    key="MODEL.SEM_SEG_HEAD.NAME",
)

META_ARCH_REGISTRY = Registry(
    "META_ARCH",
    {
        "GeneralizedRCNN": f"{_META_ARCH}.rcnn:GeneralizedRCNN",
        "PanopticDeepLab": f"{_PROJECTS}.panoptic_deeplab.panoptic_seg:PanopticDeepLab",
        "PanopticFPN": f"{_META_ARCH}.panoptic_fpn:PanopticFPN",
        "ProposalNetwork": f"{_META_ARCH}.rcnn:ProposalNetwork",
        "RetinaNet": f"{_META_ARCH}.retinanet:RetinaNet",
        "SemanticSegmentor": f"{_META_ARCH}.semantic_seg:SemanticSegmentor",
        "TensorMask": f"{_PROJECTS}.tensormask.arch:TensorMask",
    },
    key="MODEL.META_ARCHITECTURE",
)
