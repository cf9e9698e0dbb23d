"""Every name of detectron2 0.6, its projects, fvcore and iopath is served, with its signature."""

import pytest

from reference.api_comparison import missing_imports, rows

# What differs, and why. A name that starts to differ, or stops, fails the test.
ACCEPTED = {
    # upstream calls a method that does not exist; ours needs the boxes
    "detectron2.structures.masks:BitMasks.from_roi_masks",
    # asked for and ignored: YAML is always read safely
    "fvcore.common.config:CfgNode.merge_from_file",
    # its options are passed on by name
    "iopath.common.file_io:NativePathHandler._open",
    # how iopath itself records operations, chooses by table, and pickles lazy paths
    "iopath.common.file_io:LazyPath.KEPT_ATTRIBUTES",
    "iopath.common.file_io:PathManager._PathManager__get_open_keys",
    "iopath.common.file_io:PathManager._PathManager__log_tmetry_keys",
    "iopath.common.file_io:PathManager._copy_across_handlers",
    "iopath:TabularPathHandler",
    "iopath:TabularUriParser",
    # steps inside DensePose's methods, which work otherwise: counting by regions read once, layers
    # from lists of sizes, a text parsed in one go, contour lines by marching squares
    "densepose.evaluation.densepose_coco_evaluation:DensePoseCocoEval._generate_rlemask_on_image",
    "densepose.evaluation.densepose_coco_evaluation:DensePoseCocoEval._loadGEval",
    "densepose.modeling.hrnet:HighResolutionModule._check_branches",
    "densepose.modeling.hrnet:HighResolutionModule._make_branches",
    "densepose.modeling.hrnet:HighResolutionModule._make_one_branch",
    "densepose.modeling.hrnet:PoseHigherResolutionNet._get_deconv_cfg",
    "densepose.structures.mesh:Mesh._compute_geodists",  # which detectron2 has not written
    "densepose.utils.dbhelper:FieldEntrySelector._get_range_spec",
    "densepose.utils.dbhelper:FieldEntrySelector._is_range_spec",
    "densepose.utils.dbhelper:FieldEntrySelector._parse_error",
    "densepose.utils.dbhelper:FieldEntrySelector._parse_field_name_type",
    "densepose.utils.dbhelper:FieldEntrySelector._parse_specifier_into_predicates",
    "densepose.vis.densepose_results:DensePoseResultsCustomContourVisualizer._bin_code_2_lines",
    "densepose.vis.densepose_results:DensePoseResultsCustomContourVisualizer._contours",
    "densepose.vis.densepose_results:DensePoseResultsCustomContourVisualizer._draw_line",
}


def _is_accepted(row):
    return f"{row.module}:{row.name}" in ACCEPTED


@pytest.mark.slow
def test_detectron2(hook):
    _check("api")


@pytest.mark.slow
def test_names_that_modules_import(hook):
    """``from detectron2.engine.defaults import PathManager`` is wrong, and common."""
    assert missing_imports("api") == []


def test_projects(hook):
    _check("api_projects")


def test_fvcore_and_iopath(hook):
    _check("fvcore_api")


def test_densepose(hook):
    _check("api_densepose")


def _check(name):
    found = list(rows(name))
    odd = [f"{r.module} {r.name}: {r.state}" for r in found if r.state and not _is_accepted(r)]

    assert odd == []
    assert len(found) > 50


def test_what_is_accepted_is_still_so(hook):
    found = {f"{r.module}:{r.name}" for r in rows() if r.state}

    assert sorted(ACCEPTED - found) == []
