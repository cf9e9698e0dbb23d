"""Training DensePose: annotated points, bootstrapped data, evaluation by GPS."""

from retinue.projects.densepose.engine.trainer import Trainer

__all__ = ["Trainer"]
