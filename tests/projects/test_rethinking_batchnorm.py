"""The batch norms of Rethinking-BatchNorm against plain formulas, on one device."""

import torch

from retinue.layers import ShapeSpec
from retinue.modeling.meta_arch.retinanet import RetinaNetHead
from retinue.projects.rethinking_batchnorm import (
    BatchNormBatchStat,
    RetinaNetHead_SharedTrainingBN,
    ShuffledBoxHead,
    ShuffledMaskHead,
)
from retinue.projects.rethinking_batchnorm.layers import batch_shuffle, batch_unshuffle


def test_statistics_of_the_batch_in_inference():
    norm = BatchNormBatchStat(3).eval()
    x = 5 + 2 * torch.randn(4, 3, 6, 6)
    out = norm(x)

    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=(0, 2, 3), correction=0), torch.ones(3))
    assert norm(x[:0]).shape == (0, 3, 6, 6)


def test_what_is_dealt_comes_back():
    x = torch.arange(7.0)[:, None]
    dealt, went_to = batch_shuffle(x)

    assert sorted(dealt[:, 0].tolist()) == x[:, 0].tolist()
    torch.testing.assert_close(batch_unshuffle(dealt, went_to), x)


def test_heads_keep_the_order_of_regions():
    """On one device, shuffling changes no statistics, so it must change nothing."""
    torch.manual_seed(0)
    shape, x = ShapeSpec(channels=4, height=4, width=4), torch.randn(5, 4, 4, 4)
    box = ShuffledBoxHead(shape, conv_dims=[4], fc_dims=[6], conv_norm="BN")
    mask = ShuffledMaskHead(shape, num_classes=2, conv_dims=[4, 4], conv_norm="BN")
    for head, plain in (
        (box, super(ShuffledBoxHead, box).forward),
        (mask.layers, super(ShuffledMaskHead, mask).layers),
    ):
        torch.testing.assert_close(head(x), plain(x))
    assert box.eval()(x).shape == (5, 6)
    assert mask.eval().layers(x).shape == (5, 2, 8, 8)


def make_head(kind, num_levels):
    return kind(
        input_shape=[ShapeSpec(channels=3)] * num_levels,
        num_classes=2,
        num_anchors=1,
        conv_dims=[3],
        norm=torch.nn.BatchNorm2d,
    )


def test_levels_are_normalised_together():
    """Equal to one level that holds the cells of both, where windows see one cell."""
    head = make_head(RetinaNetHead_SharedTrainingBN, 2)
    for conv in (m for m in head.modules() if isinstance(m, torch.nn.Conv2d)):
        conv.weight.data[..., [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    plain = make_head(RetinaNetHead, 1)
    plain.load_state_dict(head.state_dict())
    levels = [torch.randn(2, 3, 4, 1), torch.randn(2, 3, 2, 1)]
    logits, deltas = head(levels)
    want_logits, want_deltas = plain([torch.cat(levels, dim=2)])

    torch.testing.assert_close(torch.cat(logits, dim=2), want_logits[0])
    torch.testing.assert_close(torch.cat(deltas, dim=2), want_deltas[0])
