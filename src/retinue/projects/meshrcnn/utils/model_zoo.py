"""Addresses of published weights: ``meshrcnn://meshrcnn_R50.pth``.

``PathManager`` knows them as it is; this class is for path managers of one's own.
"""

from retinue.utils.file_io import ShortAddressHandler

__all__ = ["MeshRCNNHandler"]


class MeshRCNNHandler(ShortAddressHandler):
    """``meshrcnn://``: weights trained on Pix3D."""

    PREFIX = "meshrcnn://"
    MESHRCNN_PREFIX = "https://dl.fbaipublicfiles.com/meshrcnn/pix3d/"

    def __init__(self) -> None:
        super().__init__(self.PREFIX, self.MESHRCNN_PREFIX)
