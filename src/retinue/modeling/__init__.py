"""Models and their parts; each name is imported when first asked for."""

from retinue.utils.lazy import lazy_exports

_HERE = __name__

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ANCHOR_GENERATOR_REGISTRY": f"{_HERE}.catalog",
        "BACKBONE_REGISTRY": f"{_HERE}.catalog",
        "META_ARCH_REGISTRY": f"{_HERE}.catalog",
        "PROPOSAL_GENERATOR_REGISTRY": f"{_HERE}.catalog",
        "ROI_BOX_HEAD_REGISTRY": f"{_HERE}.catalog",
        "ROI_HEADS_REGISTRY": f"{_HERE}.catalog",
        "ROI_KEYPOINT_HEAD_REGISTRY": f"{_HERE}.catalog",
        "ROI_MASK_HEAD_REGISTRY": f"{_HERE}.catalog",
        "RPN_HEAD_REGISTRY": f"{_HERE}.catalog",
        "SEM_SEG_HEADS_REGISTRY": f"{_HERE}.catalog",
        "ShapeSpec": "retinue.layers",
        "build_anchor_generator": f"{_HERE}.anchor_generator",
        "detector_postprocess": f"{_HERE}.postprocessing",
        **dict.fromkeys(
            [
                "Backbone",
                "FPN",
                "MViT",
                "ResNet",
                "ResNetBlockBase",
                "SimpleFeaturePyramid",
                "SwinTransformer",
                "ViT",
                "build_backbone",
                "build_resnet_backbone",
                "get_vit_lr_decay_rate",
                "make_stage",
            ],
            f"{_HERE}.backbone",
        ),
        **dict.fromkeys(
            ["build_proposal_generator", "build_rpn_head"], f"{_HERE}.proposal_generator"
        ),
        **dict.fromkeys(
            [
                "BaseKeypointRCNNHead",
                "BaseMaskRCNNHead",
                "FastRCNNOutputLayers",
                "ROIHeads",
                "StandardROIHeads",
                "build_box_head",
                "build_keypoint_head",
                "build_mask_head",
                "build_roi_heads",
            ],
            f"{_HERE}.roi_heads",
        ),
        **dict.fromkeys(
            [
                "FCOS",
                "GeneralizedRCNN",
                "PanopticFPN",
                "ProposalNetwork",
                "RetinaNet",
                "SemanticSegmentor",
                "build_model",
                "build_sem_seg_head",
            ],
            f"{_HERE}.meta_arch",
        ),
        **dict.fromkeys(
            ["DatasetMapperTTA", "GeneralizedRCNNWithTTA"], f"{_HERE}.test_time_augmentation"
        ),
        **dict.fromkeys(["MMDetBackbone", "MMDetDetector"], f"{_HERE}.mmdet_wrapper"),
        # Submodules, so that `retinue.modeling.matcher` works after `import retinue.modeling`.
        "anchor_generator": "",
        "backbone": "",
        "box_regression": "",
        "matcher": "",
        "meta_arch": "",
        "mmdet_wrapper": "",
        "poolers": "",
        "postprocessing": "",
        "proposal_generator": "",
        "roi_heads": "",
        "sampling": "",
        "test_time_augmentation": "",
    },
)
