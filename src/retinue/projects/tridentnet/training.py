"""Training TridentNet: as any detector."""

from retinue.engine.runs import Trainer

__all__ = ["Trainer"]
