"""Distances on the surface of a body, between points given by charts.

The surface is that of SMPL, subdivided: V vertices, each in one of 24 charts, so that vertices at
seams occur several times; W of them are different points.

Source: the evaluation of https://github.com/facebookresearch/DensePose.
"""

from dataclasses import dataclass

import numpy as np

from retinue.projects.densepose.utils.files import read_pickle
from retinue.utils.file_io import PathManager

__all__ = ["BodySurface", "part_scale"]

DATA = "https://dl.fbaipublicfiles.com/densepose/data"
NUM_CHARTS = 24
# Coarse part of each chart, 0 being background; and the distance, in metres, of one standard
# deviation on a part: torso, hands, feet, upper and lower legs, upper and lower arms, head.
COARSE_PARTS = np.array([0, 1, 1, 2, 2, 3, 3, *[4] * 4, *[5] * 4, *[6] * 4, *[7] * 4, 8, 8])
MEAN_DISTANCES = np.array([0, 0.351, 0.107, 0.126, 0.237, 0.173, 0.142, 0.128, 0.150])


def part_scale(charts: np.ndarray) -> np.ndarray:
    """Return the standard deviation, in metres, of points in these charts."""
    scales: np.ndarray = MEAN_DISTANCES[COARSE_PARTS[charts]]
    return scales


@dataclass
class BodySurface:
    """The subdivided surface.

    Attributes:
        charts: ``(V,)``, chart of each vertex, 1 to 24.
        uv: ``(2, V)`` in [0, 1], its place in the chart.
        points: ``(V,)``, which of the W points it is, from 1.
        distances: geodesic distances in metres between points, W (W - 1) / 2 of them: of point 2
            to 1; of point 3 to 1, 2; of point 4 to 1, 2, 3; ...
    """

    charts: np.ndarray
    uv: np.ndarray
    points: np.ndarray
    distances: np.ndarray

    @classmethod
    def load(cls) -> "BodySurface":
        """Read the published files, 1.5 GB; needs scipy."""
        try:
            from scipy.io import loadmat
        except ImportError as error:
            raise ImportError(
                "the surface's .mat files need scipy: pip install retinue[densepose]"
            ) from error
        subdivided = loadmat(PathManager.get_local_path(f"{DATA}/SMPL_subdiv.mat"))
        points = loadmat(PathManager.get_local_path(f"{DATA}/SMPL_SUBDIV_TRANSFORM.mat"))
        distances = read_pickle(f"{DATA}/Pdist_matrix.pkl")["Pdist_matrix"]
        return cls(
            charts=subdivided["Part_ID_subdiv"].squeeze(),
            uv=np.stack([subdivided[name].squeeze() for name in ("U_subdiv", "V_subdiv")]),
            points=points["index"].squeeze(),
            distances=distances.squeeze(),
        )

    def nearest_vertices(self, charts: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Find the vertex, in its chart, nearest to each of K points: ``(K,)``, -1 without chart.

        Args:
            charts: ``(K,)``, 1 to 24, 0 in the background.
            u: ``(K,)`` in [0, 1].
            v: likewise.
        """
        found = np.full(len(charts), -1)
        for chart in np.intersect1d(charts, np.arange(1, NUM_CHARTS + 1)):
            here = charts == chart
            vertices = np.flatnonzero(self.charts == chart)
            offset = self.uv[:, vertices, None] - np.stack([u[here], v[here]])[:, None]
            found[here] = vertices[np.square(offset).sum(axis=0).argmin(axis=0)]
        return found

    def points_of(self, vertices: np.ndarray) -> np.ndarray:
        """Say which points vertices are, from 1; 0 for -1."""
        points: np.ndarray = np.where(vertices < 0, 0, self.points[vertices])
        return points

    def geodesics(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the distances, in metres, between points ``(K,)`` from 1; infinite to 0."""
        low, high = np.minimum(a, b) - 1, np.maximum(a, b) - 1
        different = (low >= 0) & (low != high)
        found = np.where(low < 0, np.inf, 0.0)
        found[different] = self.distances[(high * (high - 1) // 2 + low)[different]]
        return found
