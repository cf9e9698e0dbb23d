"""Build the model of every config in detectron2's ``projects/``, under the import hook.

``python -m retinue.compat project_configs.py DETECTRON2`` reads a clone of detectron2, with each
project's own package, and prints what can't be built. Models have shapes only (the meta device).
"""

import contextlib
import importlib
import io
import sys
from pathlib import Path

import torch
from detectron2.config import LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_model

KEYS = {  # project -> what adds its keys to the defaults
    "DeepLab": ("detectron2.projects.deeplab:add_deeplab_config",),
    "DensePose": ("densepose:add_densepose_config",),
    "Panoptic-DeepLab": ("detectron2.projects.panoptic_deeplab:add_panoptic_deeplab_config",),
    "PointRend": ("detectron2.projects.point_rend:add_pointrend_config",),
    "PointSup": (
        "detectron2.projects.point_rend:add_pointrend_config",
        "point_sup:add_point_sup_config",
    ),
    "TensorMask": ("tensormask:add_tensormask_config",),
    "TridentNet": ("tridentnet:add_tridentnet_config",),
}
BROKEN = {  # on detectron2, too
    "retinanet_SyncBNhead.py": "torch.nn.SyncBatchNorm2d does not exist",
    "retinanet_SyncBNhead_SharedTraining.py": "torch.nn.SyncBatchNorm2d does not exist",
}


def _build_yaml(project: str, path: Path) -> torch.nn.Module:
    cfg = get_cfg()
    for row in KEYS[project]:
        module, _, name = row.partition(":")
        getattr(importlib.import_module(module), name)(cfg)
    cfg.merge_from_file(str(path))
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.DEVICE = "meta"
    if project == "DensePose":
        for embedder in cfg.MODEL.ROI_DENSEPOSE_HEAD.CSE.EMBEDDERS.values():
            embedder.INIT_FILE = ""
    return build_model(cfg)


def _build(projects: Path, path: Path) -> str:
    """Build one config; return why it failed, or nothing."""
    project = path.relative_to(projects).parts[0]
    folder = str(projects / project)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        with torch.device("meta"), contextlib.redirect_stdout(io.StringIO()):
            if path.suffix == ".py":
                model = instantiate(LazyConfig.load(str(path)).model)
            else:
                model = _build_yaml(project, path)
        assert sum(p.numel() for p in model.parameters()) > 1_000_000
    except Exception as error:  # one line for each config that fails
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return ""


def main() -> int:
    """Build all; return how many failed that should not."""
    projects = Path(sys.argv[1]).resolve() / "projects"
    found = [*projects.glob("*/configs/**/*.yaml"), *projects.glob("*/configs/**/*.py")]
    models = [p for p in sorted(found) if "Base-" not in p.name and p.parent.name != "common"]
    failures = {path: why for path in models if (why := _build(projects, path))}
    for path, why in failures.items():
        state = "expected" if path.name in BROKEN else "FAILED"
        print(f"{state:<9}{path.relative_to(projects)}  {why}")
    unexpected = [p for p in failures if p.name not in BROKEN]
    print(f"{len(models) - len(failures)} of {len(models)} built")
    return len(unexpected)


if __name__ == "__main__":
    sys.exit(main())
