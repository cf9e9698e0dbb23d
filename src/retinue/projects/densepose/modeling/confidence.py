"""How sure the model says it is: which confidences are predicted, and by which statistics.

Neverova, Novotny and Vedaldi, "Correlated Uncertainty for Learning Dense Correspondences from
Noisy Labels" (NeurIPS 2019); Sanakoyeu et al., "Transferring Dense Pose to Proximal Animal
Classes" (2020), https://arxiv.org/abs/2003.00080.
"""

from dataclasses import dataclass
from enum import Enum

from retinue.config import CfgNode

__all__ = [
    "DensePoseConfidenceModelConfig",
    "DensePoseSegmConfidenceConfig",
    "DensePoseUVConfidenceConfig",
    "DensePoseUVConfidenceType",
]


class DensePoseUVConfidenceType(Enum):
    """The covariance of the error (u - u', v - v') at a pixel; errors of pixels are independent."""

    IID_ISO = "iid_iso"  # sigma * identity
    INDEP_ANISO = "indep_aniso"  # sigma * identity + r r^T with r = (kappa_u, kappa_v)


@dataclass
class DensePoseUVConfidenceConfig:
    """Confidence of chart coordinates; ``epsilon`` is the least variance."""

    enabled: bool = False
    epsilon: float = 0.01
    type: DensePoseUVConfidenceType = DensePoseUVConfidenceType.IID_ISO

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of what is predicted for it."""
        if not self.enabled:
            return ()
        if self.type is DensePoseUVConfidenceType.IID_ISO:
            return ("sigma_2",)
        return ("sigma_2", "kappa_u", "kappa_v")


@dataclass
class DensePoseSegmConfidenceConfig:
    """Confidence of segmentation, which multiplies its scores; ``epsilon`` is the least one."""

    enabled: bool = False
    epsilon: float = 0.01


@dataclass
class DensePoseConfidenceModelConfig:
    """Which confidences there are."""

    uv_confidence: DensePoseUVConfidenceConfig
    segm_confidence: DensePoseSegmConfidenceConfig

    @staticmethod
    def from_cfg(cfg: CfgNode) -> "DensePoseConfidenceModelConfig":
        """Read ``cfg.MODEL.ROI_DENSEPOSE_HEAD``.

        Raises:
            ValueError: If ``UV_CONFIDENCE.TYPE`` is none of :class:`DensePoseUVConfidenceType`.
        """
        uv = cfg.MODEL.ROI_DENSEPOSE_HEAD.UV_CONFIDENCE
        segm = cfg.MODEL.ROI_DENSEPOSE_HEAD.SEGM_CONFIDENCE
        return DensePoseConfidenceModelConfig(
            uv_confidence=DensePoseUVConfidenceConfig(
                uv.ENABLED, uv.EPSILON, DensePoseUVConfidenceType(uv.TYPE)
            ),
            segm_confidence=DensePoseSegmConfidenceConfig(segm.ENABLED, segm.EPSILON),
        )
