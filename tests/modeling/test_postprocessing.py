import pytest
import torch
from torch.nn import functional as F

from retinue.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from retinue.structures import Boxes, Instances, ROIMasks, RotatedBoxes


def test_everything_follows_the_image_size():
    """From 10 x 20 to 20 x 60 pixels: x three times, y twice; the second box has no area."""
    results = Instances(
        (10, 20),
        pred_boxes=Boxes([[2.0, 2.0, 30.0, 6.0], [5.0, 5.0, 5.0, 9.0]]),
        scores=torch.tensor([0.9, 0.8]),
        pred_keypoints=torch.ones(2, 1, 3),
    )
    got = detector_postprocess(results, 20, 60)

    assert got.image_size == (20, 60)
    assert got.pred_boxes.tensor.tolist() == [[6.0, 4.0, 60.0, 12.0]]
    assert got.pred_keypoints.tolist() == [[[3.0, 2.0, 1.0]]]
    assert got.scores.tolist() == pytest.approx([0.9])


def test_results_stay_as_they_are():
    results = Instances((10, 10), pred_boxes=Boxes([[1.0, 1.0, 4.0, 4.0]]))
    detector_postprocess(results, 20, 20)

    assert results.pred_boxes.tensor.tolist() == [[1.0, 1.0, 4.0, 4.0]]


@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: ROIMasks(m[:, 0])])
@pytest.mark.parametrize("num", [0, 2])
def test_masks_are_pasted(wrap, num):
    results = Instances(
        (10, 10),
        pred_boxes=Boxes(torch.tensor([[1.0, 2.0, 5.0, 6.0]]).repeat(num, 1)),
        pred_masks=wrap(torch.ones(num, 1, 4, 4)),
    )
    got = detector_postprocess(results, 20, 20)

    assert got.pred_masks.shape == (num, 20, 20)
    assert got.pred_masks.dtype == torch.bool
    assert all(mask.sum() == mask[4:12, 2:10].sum() == 64 for mask in got.pred_masks)


def test_proposals_and_rotated_boxes():
    results = Instances((10, 10), proposal_boxes=RotatedBoxes([[5.0, 5.0, 4.0, 2.0, 90.0]]))
    got = detector_postprocess(results, 20, 10)

    torch.testing.assert_close(
        got.proposal_boxes.tensor, torch.tensor([[5.0, 10.0, 8.0, 2.0, 90.0]])
    )


def test_no_boxes_among_the_fields():
    with pytest.raises(AssertionError, match=r"pred_boxes or proposal_boxes; .* \['scores'\]"):
        detector_postprocess(Instances((2, 2), scores=torch.zeros(1)), 4, 4)


def test_padding_is_cut_off():
    logits = torch.zeros(2, 8, 8)
    logits[:, :4, :6] = 1.0

    assert (sem_seg_postprocess(logits, (4, 6), 8, 12) == 1).all()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("size", [(5, 7), (8, 12), (3, 4)])
def test_semantic_logits_keep_their_numbers_in_either_memory_order(size, channels_last):
    """At the same size nothing changes; else as of the plain interpolation."""
    torch.manual_seed(0)
    batch = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    if channels_last:
        batch = batch.to(memory_format=torch.channels_last)
    expected = F.interpolate(batch[:, :, :5, :7].contiguous(), size=size, mode="bilinear")[0]
    found = sem_seg_postprocess(batch[0], (5, 7), *size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    if size == (5, 7):
        assert torch.equal(found, batch[0, :, :5, :7])
    assert (found.stride(0) == 1) == channels_last
