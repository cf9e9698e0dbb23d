"""Every name of detectron2 0.6, its projects, fvcore and iopath is served, with its signature."""

import pytest

from reference.api_comparison import rows

# What differs, and why. A name that starts to differ, or stops, fails the test.
ACCEPTED = {
    # pictures during training are drawn by the hook TrainingPictures, not by models
    "detectron2.modeling.meta_arch.dense_detector:DenseDetector.visualize_training",
    "detectron2.modeling.meta_arch.rcnn:GeneralizedRCNN.visualize_training",
    # anchors and boxes are computed by functions, for all levels at once
    "detectron2.modeling.anchor_generator:DefaultAnchorGenerator._calculate_anchors",
    "detectron2.modeling.anchor_generator:RotatedAnchorGenerator._calculate_anchors",
    "detectron2.modeling.proposal_generator.rpn:RPN._decode_proposals",
    "detectron2.modeling.meta_arch.dense_detector:DenseDetector._move_to_current_device",
    "detectron2.modeling.meta_arch.rcnn:GeneralizedRCNN._move_to_current_device",
    "detectron2.modeling.meta_arch.rcnn:ProposalNetwork._move_to_current_device",
    # hooks of PyTorch's loading, whose last arguments are passed on as they come
    "detectron2.layers.batch_norm:FrozenBatchNorm2d._load_from_state_dict",
    "detectron2.projects.point_rend.mask_head:ConvFCHead._load_from_state_dict",
    "detectron2.projects.point_rend.roi_heads:PointRendROIHeads._load_from_state_dict",
    # upstream calls a method that does not exist; ours needs the boxes
    "detectron2.structures.masks:BitMasks.from_roi_masks",
    # built from a config or from explicit arguments; these helpers were steps of the former
    "detectron2.projects.point_rend.mask_head:PointRendMaskHead._init_roi_head",
    "detectron2.projects.point_rend.mask_head:PointRendMaskHead._init_point_head",
    "detectron2.projects.point_rend.mask_head:ImplicitPointRendMaskHead._init_roi_head",
    "detectron2.projects.point_rend.mask_head:ImplicitPointRendMaskHead._init_point_head",
    "detectron2.projects.point_rend.mask_head:ImplicitPointRendMaskHead._get_point_logits",
    "detectron2.projects.point_rend.point_head:ImplicitPointHead._dynamic_mlp",
    "detectron2.projects.point_rend.point_head:ImplicitPointHead._parse_params",
    "detectron2.projects.point_rend.semantic_seg:PointRendSemSegHead._init_point_head",
    # a module leaked into __all__
    "detectron2.export:warnings",
    # asked for and ignored: YAML is always read safely
    "fvcore.common.config:CfgNode.merge_from_file",
    # steps of tracing a graph; operators are counted while the model runs
    "fvcore.nn.jit_analysis:JitModelAnalysis._get_all_ancestors",
    "fvcore.nn.jit_analysis:JitModelAnalysis._simplify_op_name",
    "fvcore.nn.jit_analysis:JitModelAnalysis._should_ignore_node",
}
# iopath's asynchronous, tabular and logging parts, and working directories: detectron2 code does
# not use them.
ACCEPTED_PREFIXES = ("iopath.common.file_io:", "iopath:Tabular")


def _is_accepted(row):
    return f"{row.module}:{row.name}" in ACCEPTED or f"{row.module}:{row.name}".startswith(
        ACCEPTED_PREFIXES
    )


@pytest.mark.slow
def test_detectron2(hook):
    _check("api")


def test_projects(hook):
    _check("api_projects")


def test_fvcore_and_iopath(hook):
    _check("fvcore_api")


def _check(name):
    found = list(rows(name))
    odd = [f"{r.module} {r.name}: {r.state}" for r in found if r.state and not _is_accepted(r)]

    assert odd == []
    assert len(found) > 50


def test_what_is_accepted_is_still_so(hook):
    found = {f"{r.module}:{r.name}" for r in rows("api", "fvcore_api") if r.state}

    assert sorted(ACCEPTED - found) == []
