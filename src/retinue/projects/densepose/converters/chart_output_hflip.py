"""Mirrors predictions of charts: left and right change places, and so do coordinates in charts."""

import dataclasses

import torch

from retinue.projects.densepose.structures.chart import DensePoseChartPredictorOutput
from retinue.projects.densepose.structures.transform_data import DensePoseTransformData

__all__ = ["densepose_chart_predictor_output_hflip"]


def densepose_chart_predictor_output_hflip(
    densepose_predictor_output: DensePoseChartPredictorOutput,
    transform_data: DensePoseTransformData,
) -> DensePoseChartPredictorOutput:
    """Return what the prediction had been for the mirrored image.

    Args:
        densepose_predictor_output: of N instances; confidences are mirrored with it.
        transform_data: what parts, charts and coordinates become.
    """
    mirrored = {
        field.name: value.flip(3) if isinstance(value, torch.Tensor) else value
        for field in dataclasses.fields(densepose_predictor_output)
        for value in [getattr(densepose_predictor_output, field.name)]
    }
    u, v = mirrored["u"], mirrored["v"]
    charts = torch.arange(u.shape[1] - 1, device=u.device)[:, None, None]
    cells = tuple((t[:, 1:].clamp(0, 1) * 255).long() for t in (v, u))
    for name, table in (("u", "U_transforms"), ("v", "V_transforms")):
        tables = transform_data.uv_symmetries[table].to(u.device)
        moved = tables[(charts, *cells)].to(u.dtype)  # (N, C - 1, S, S)
        mirrored[name] = torch.cat([mirrored[name][:, :1], moved], dim=1)
    for name in ("fine_segm", "u", "v"):
        mirrored[name] = mirrored[name][:, transform_data.point_label_symmetries]
    if mirrored["coarse_segm"].shape[1] > 2:  # parts, not body alone
        mirrored["coarse_segm"] = mirrored["coarse_segm"][:, transform_data.mask_label_symmetries]
    return type(densepose_predictor_output)(**mirrored)
