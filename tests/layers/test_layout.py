import pytest
import torch

from retinue.layers import ROIAlign, ROIAlignRotated
from retinue.layers.deform_conv import deform_conv
from retinue.layers.roi_pool import roi_pool

ROIS = torch.tensor([[0, 1.0, 2, 30, 40], [1, 8, 8, 20, 30]])
ROTATED = torch.tensor([[0, 20.0, 20, 16, 8, 30], [1, 24, 16, 8, 12, 0]])
OPERATORS = {
    "roi_align": lambda x: ROIAlign(3, 0.25, 2)(x, ROIS),
    "roi_align_rotated": lambda x: ROIAlignRotated(3, 0.25, 2)(x, ROTATED),
    "roi_pool": lambda x: roi_pool(x, ROIS, 3, 0.25),
    "deform_conv": lambda x: deform_conv(
        x, torch.zeros(2, 18, 12, 11), torch.ones(5, 4, 3, 3), padding=1
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_results_lie_in_memory_as_the_features_do(name):
    """As those of convolutions do; contiguous results can be viewed."""
    x = torch.rand(2, 4, 12, 11, generator=torch.Generator().manual_seed(0))
    contiguous = OPERATORS[name](x)
    reordered = OPERATORS[name](x.contiguous(memory_format=torch.channels_last))

    assert contiguous.view(2, -1).shape[1] == contiguous[0].numel()
    assert reordered.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(contiguous, reordered)
