"""Training models for single objects.

Reading order: train (the loop), build_optimizer and learning_rate (what the config says).
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterable

import torch
from torch import nn

from retinue.config import CfgNode
from retinue.projects.meshrcnn.shapenet.data import Batch
from retinue.projects.meshrcnn.shapenet.mesh_loss import MeshLoss
from retinue.utils.errors import unknown_name

__all__ = ["build_loss", "build_optimizer", "learning_rate", "train"]

logger = logging.getLogger(__name__)


def build_loss(cfg: CfgNode) -> MeshLoss:
    """Build the loss with the weights that ``cfg.MODEL`` gives its parts."""
    mesh = cfg.MODEL.MESH_HEAD
    return MeshLoss(
        chamfer_weight=mesh.CHAMFER_LOSS_WEIGHT,
        normal_weight=mesh.NORMALS_LOSS_WEIGHT,
        edge_weight=mesh.EDGE_LOSS_WEIGHT,
        voxel_weight=cfg.MODEL.VOXEL_HEAD.LOSS_WEIGHT if cfg.MODEL.VOXEL_ON else 0.0,
        gt_num_samples=mesh.GT_NUM_SAMPLES,
        pred_num_samples=mesh.PRED_NUM_SAMPLES,
    )


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build what ``SOLVER.OPTIMIZER`` names: ``"adam"`` or ``"sgd"``.

    Raises:
        UnknownNameError: If it is neither.
    """
    solver = cfg.SOLVER
    if solver.OPTIMIZER == "adam":
        return torch.optim.Adam(model.parameters(), lr=solver.BASE_LR)
    if solver.OPTIMIZER == "sgd":
        return torch.optim.SGD(model.parameters(), lr=solver.BASE_LR, momentum=solver.MOMENTUM)
    raise unknown_name("SOLVER.OPTIMIZER", solver.OPTIMIZER, ["adam", "sgd"])


def learning_rate(cfg: CfgNode, iteration: int, num_iterations: int) -> float:
    """Return the factor of ``SOLVER.BASE_LR``: always 1, or along half waves up and down.

    Raises:
        UnknownNameError: If ``SOLVER.LR_SCHEDULER_NAME`` is neither ``"constant"`` nor
            ``"cosine"``.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "constant":
        return 1.0
    if solver.LR_SCHEDULER_NAME != "cosine":
        known = ["constant", "cosine"]
        raise unknown_name("SOLVER.LR_SCHEDULER_NAME", solver.LR_SCHEDULER_NAME, known)
    warmup = solver.WARMUP_ITERS
    if iteration < warmup:
        rise = (1 - math.cos(math.pi * iteration / warmup)) / 2
        return solver.WARMUP_FACTOR + (1 - solver.WARMUP_FACTOR) * rise
    return (1 + math.cos(math.pi * (iteration - warmup) / max(num_iterations - warmup, 1))) / 2


def train(cfg: CfgNode, model: nn.Module, loader: Iterable[Batch], num_iterations: int) -> float:
    """Train a model, in place, on its own device.

    A step whose loss is ``SOLVER.SKIP_LOSS_THRESH`` times the usual, or whose gradients are not
    finite, is left out: a mesh that turns inside out would throw the weights off.

    Args:
        cfg: weights of losses, optimizer, schedule.
        model: see ``mesh_arch``.
        loader: batches; begun anew when they end.
        num_iterations: steps.

    Returns:
        The loss, averaged over the last steps.
    """
    loss_of = build_loss(cfg)
    optimizer = build_optimizer(cfg, model.train())
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(cfg, step, num_iterations)
    )
    device = next(model.parameters()).device
    usual = math.inf
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    for iteration, batch in enumerate(itertools.islice(batches, num_iterations)):
        options = {}
        if cfg.MODEL.VOXEL_ON:
            options["voxel_only"] = iteration < cfg.MODEL.VOXEL_HEAD.VOXEL_ONLY_ITERS
        voxel_scores, meshes = model(batch.images.to(device), **options)
        truth = batch.points.to(device), batch.normals.to(device)
        voxels = None if batch.voxels is None else batch.voxels.to(device)
        stages = [] if options.get("voxel_only") else meshes
        loss, parts = loss_of(voxel_scores, stages, voxels, truth)
        if stages is not meshes:  # all parameters take part in each step
            loss = loss + 0 * sum(m.verts_packed().sum() for m in meshes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = float(loss.detach())
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        finite = bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
        if finite and value <= cfg.SOLVER.SKIP_LOSS_THRESH * usual:
            optimizer.step()
            gamma = cfg.SOLVER.LOSS_SKIP_GAMMA
            usual = value if math.isinf(usual) else gamma * usual + (1 - gamma) * value
        else:
            logger.warning("Step %d is left out: loss %g, usually %g", iteration, value, usual)
        schedule.step()
        if iteration % cfg.SOLVER.LOGGING_PERIOD == 0:
            found = " ".join(f"{name}: {float(part.detach()):.4g}" for name, part in parts.items())
            logger.info("iter: %d  loss: %.4g  %s", iteration, value, found)
    return usual
