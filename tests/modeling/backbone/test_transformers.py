"""ViT, Swin and MViT: what they share, and each on a few pixels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from retinue.modeling.backbone import MViT, SimpleFeaturePyramid, SwinTransformer, ViT, swin, utils
from retinue.modeling.backbone.fpn import LastLevelMaxPool
from retinue.modeling.backbone.mvit import MultiScaleAttention
from retinue.modeling.backbone.vit import Attention, Block, ResBottleneckBlock
from retinue.utils.errors import InputError, UnknownNameError

SMALL_VIT = {"img_size": 32, "patch_size": 4, "embed_dim": 8, "num_heads": 2, "depth": 2}


def randomize(module):
    """Give every parameter its own wave, so that none is 0 or 1."""
    with torch.no_grad():
        for i, p in enumerate(module.parameters()):
            p.copy_(torch.sin(torch.arange(p.numel(), dtype=p.dtype) * 0.7 + i).view_as(p) * 0.3)
    return module


def waves(*shape):
    numel = torch.Size(shape).numel()
    return torch.sin(torch.arange(numel, dtype=torch.float64) * 0.37).view(shape)


# ------------------------------------------------------------------------------------------ parts


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5))
def test_windows_come_apart_and_together(num, height, width, size):
    x = torch.arange(num * height * width * 2, dtype=torch.float32).view(num, height, width, 2)
    windows, padded_hw = utils.window_partition(x, size)

    assert windows.shape[1:] == (size, size, 2)
    assert len(windows) == num * padded_hw[0] * padded_hw[1] // size**2
    torch.testing.assert_close(windows.sum(), x.sum())  # the padding is zero
    assert utils.window_unpartition(windows, size, padded_hw, (height, width)).equal(x)


def test_windows_are_in_reading_order():
    windows, _ = utils.window_partition(torch.arange(8.0).view(1, 2, 4, 1), 2)

    assert windows.flatten(1).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]


def test_relative_positions_by_hand():
    """Rows of the table stand for distances -2 to 2; the query's place minus the key's."""
    table = torch.arange(-2.0, 3.0)[:, None]

    assert utils.get_rel_pos(3, 3, table)[..., 0].tolist() == [[0, -1, -2], [1, 0, -1], [2, 1, 0]]
    # Two keys for four queries: keys lie at 0 and 2 of the queries' scale.
    of_four = torch.arange(-3.0, 4.0)[:, None]
    assert utils.get_rel_pos(4, 2, of_four)[..., 0].tolist() == [
        [-1, -3], [0, -2], [1, -1], [2, 0],
    ]  # fmt: skip


def test_a_table_for_another_size_is_interpolated():
    assert utils.get_rel_pos(5, 5, torch.zeros(3, 2)).shape == (5, 5, 2)


def test_attention_is_the_softmax_of_logits_and_positions():
    """Against the formula, written out."""
    q, k, v = waves(2, 6, 4), waves(2, 4, 4).cos(), waves(2, 4, 4)
    tables = (waves(5, 4), waves(5, 4).cos())
    logits = (q * 4**-0.5) @ k.transpose(1, 2)
    logits = utils.add_decomposed_rel_pos(logits, q, *tables, (2, 3), (2, 2))
    got = utils.attention(q, k, v, tables, (2, 3), (2, 2))

    torch.testing.assert_close(got, logits.softmax(dim=2) @ v)
    table_h = utils.get_rel_pos(2, 2, tables[0])
    table_w = utils.get_rel_pos(3, 2, tables[1])
    bias = q[1, 4] @ table_h[1, 0] + q[1, 4] @ table_w[1, 1]  # query (1, 1), key (0, 1)
    plain = (q[1, 4] * 0.5) @ k[1, 1]
    torch.testing.assert_close(logits[1, 4, 1], plain + bias)


def test_embeddings_of_places_are_resized_without_the_class_token():
    places = torch.arange(5.0).view(1, 5, 1)

    assert utils.get_abs_pos(places, True, (2, 2)).flatten().tolist() == [1, 2, 3, 4]
    assert utils.get_abs_pos(places, True, (3, 5)).shape == (1, 3, 5, 1)
    with pytest.raises(InputError, match="those of a square; got 5 places"):
        utils.get_abs_pos(places, False, (2, 2))


def test_a_dropped_path_drops_whole_images_and_keeps_the_mean():
    torch.manual_seed(0)
    drop = utils.DropPath(0.25)
    out = drop(torch.ones(4000, 2, 3))

    assert out.flatten(1).std(dim=1).eq(0).all()
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert abs(out.mean().item() - 1) < 0.05  # five standard errors
    assert drop.eval()(torch.ones(2)).tolist() == [1, 1]
    assert "0.25" in repr(drop)


def test_drop_rates_grow_evenly():
    assert utils.stochastic_depth_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert utils.stochastic_depth_rates(0.3, 1) == [0]


# -------------------------------------------------------------------------------------------- ViT


def test_attention_within_one_window_is_attention():
    """A window as large as the image changes nothing."""
    windowed = randomize(Block(8, 2, window_size=3, use_rel_pos=True)).double()
    whole = Block(8, 2, use_rel_pos=True, input_size=(3, 3)).double()
    whole.load_state_dict(windowed.state_dict())

    torch.testing.assert_close(windowed(waves(2, 3, 3, 8)), whole(waves(2, 3, 3, 8)))


def test_a_residual_block_is_silent_at_first():
    x = waves(1, 4, 3, 3).float()

    assert ResBottleneckBlock(4, 4, 2)(x).equal(x)


@pytest.mark.parametrize("use_act_checkpoint", [False, True])
def test_vit_makes_a_pyramid(use_act_checkpoint):
    net = ViT(
        **SMALL_VIT,
        window_size=3,
        window_block_indexes=[0],
        residual_block_indexes=[1],
        use_rel_pos=True,
        drop_path_rate=0.1,
        pretrain_img_size=16,
        use_act_checkpoint=use_act_checkpoint,
    )
    model = SimpleFeaturePyramid(
        net, "last_feat", 6, [4.0, 2.0, 1.0, 0.5], top_block=_top_of("p3"), square_pad=48
    )
    features = model(torch.rand(2, 3, 32, 24))

    assert list(features) == ["p0", "p1", "p2", "p3", "p4"]
    for name, shape in model.output_shape().items():
        size = (2, shape.channels, -(-32 // shape.stride), -(-24 // shape.stride))
        assert tuple(features[name].shape) == size
    assert model.padding_constraints == {"square_size": 48}
    sum(x.sum() for x in features.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def _top_of(name):
    top = LastLevelMaxPool()
    top.in_feature = name
    return top


def test_recomputing_blocks_changes_no_number():
    kept = randomize(ViT(**SMALL_VIT, use_abs_pos=False))
    again = ViT(**SMALL_VIT, use_abs_pos=False, use_act_checkpoint=True)
    again.load_state_dict(kept.state_dict())
    grads = []
    for model in (kept, again):
        model(waves(1, 3, 8, 8).float())["last_feat"].square().sum().backward()
        grads.append([p.grad for p in model.parameters()])

    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_vits_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="must be a multiple of num_heads=3"):
        Attention(8, num_heads=3)
    with pytest.raises(InputError, match="use_rel_pos needs input_size; got None"):
        Attention(8, use_rel_pos=True)
    net = ViT(**SMALL_VIT)
    with pytest.raises(UnknownNameError, match="input feature 'res5'"):
        SimpleFeaturePyramid(net, "res5", 4, [1.0])
    with pytest.raises(InputError, match="net must be a Backbone; got Identity"):
        SimpleFeaturePyramid(nn.Identity(), "last_feat", 4, [1.0])
    with pytest.raises(InputError, match="each stride must be twice"):
        SimpleFeaturePyramid(net, "last_feat", 4, [4.0, 1.0])
    with pytest.raises(NotImplementedError, match="a scale must be 4, 2, 1 or"):
        SimpleFeaturePyramid(net, "last_feat", 4, [0.25])


# ------------------------------------------------------------------------------------------- Swin


def test_merging_takes_patches_by_columns():
    merging = swin.PatchMerging(1)
    merging.norm = nn.Identity()
    merging.reduction = nn.Identity()
    x = torch.arange(6.0).view(1, 6, 1)  # rows 0 1 2 and 3 4 5, padded to 4 columns

    assert merging(x, 2, 3)[0].tolist() == [[0, 3, 1, 4], [2, 5, 0, 0]]
    with pytest.raises(InputError, match=r"got 6 tokens, but H \* W is 2 \* 2"):
        merging(x, 2, 2)


def test_shifted_windows_keep_apart_what_was_not_adjacent():
    """By hand: one row of four tokens, windows of two, shifted by one: the last window holds the
    last and the first token, which may not see one another."""
    stage = swin.BasicLayer(4, 1, 1, window_size=2)
    mask = stage._mask(2, 4, torch.device("cpu"))

    assert mask.shape == (2, 4, 4)
    first = mask[0].tolist()  # tokens of a window: two of the first row, two of the second
    assert first[0] == [0, 0, -100, -100]  # rows wrap as well
    assert mask[1, 0].tolist() == [0, -100, -100, -100]


def test_the_bias_table_is_read_by_distance():
    """Against the definition: the row counts distances down, then right, from the most negative."""
    index = swin._relative_positions(2, 3)
    for a in range(6):
        for b in range(6):
            down, right = a // 3 - b // 3, a % 3 - b % 3
            assert index[a, b] == (down + 1) * 5 + right + 2


def test_window_attention_with_a_mask_against_the_formula():
    attn = randomize(swin.WindowAttention(4, (2, 2), num_heads=2)).double()
    x, mask = waves(6, 4, 4), waves(3, 4, 4)
    q, k, v = attn.qkv(x).view(6, 4, 3, 2, 2).permute(2, 0, 3, 1, 4)
    bias = attn.relative_position_bias_table[attn.relative_position_index].permute(2, 0, 1)
    logits = q @ k.transpose(2, 3) * 2**-0.5 + bias + torch.cat([mask, mask])[:, None]
    want = attn.proj((logits.softmax(dim=3) @ v).transpose(1, 2).flatten(2))

    torch.testing.assert_close(attn(x, mask), want)


@pytest.mark.parametrize("use_checkpoint", [False, True])
def test_swin_makes_its_feature_maps(use_checkpoint):
    model = SwinTransformer(
        pretrain_img_size=32,
        embed_dim=4,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=3,
        ape=True,
        out_indices=(0, 1),
        use_checkpoint=use_checkpoint,
    )
    features = model(torch.rand(2, 3, 30, 41))

    assert {k: tuple(x.shape) for k, x in features.items()} == {
        "p0": (2, 4, 8, 11),
        "p1": (2, 8, 4, 6),
    }
    assert {k: (s.channels, s.stride) for k, s in model.output_shape().items()} == {
        "p0": (4, 4),
        "p1": (8, 8),
    }
    assert model.size_divisibility == 32
    sum(x.square().sum() for x in features.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_swin_freezes_what_it_is_told():
    model = SwinTransformer(
        embed_dim=4,
        depths=(1, 1),
        num_heads=(1, 1),
        frozen_stages=2,
        ape=True,
        out_indices=(1,),
    )
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    expected = ("patch_embed", "layers.0.", "absolute_pos_embed")

    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(expected)}


def test_swins_wrong_arguments_are_refused():
    with pytest.raises(InputError, match=r"out_indices below 2; got \[3\] and \[0, 1, 2, 3\]"):
        SwinTransformer(depths=(1, 1), num_heads=(3,))
    with pytest.raises(InputError, match=r"shift_size must be in \[0, 3\); got 3"):
        swin.SwinTransformerBlock(4, 1, window_size=3, shift_size=3)
    with pytest.raises(InputError, match="got 4 tokens, but H and W are None and None"):
        swin.SwinTransformerBlock(4, 1)(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))


def test_windows_of_whole_maps_are_undone():
    x = torch.arange(24.0).view(1, 4, 6, 1)

    assert swin.window_reverse(swin.window_partition(x, 2), 2, 4, 6).equal(x)


# ------------------------------------------------------------------------------------------- MViT


@pytest.mark.parametrize("use_act_checkpoint", [False, True])
def test_mvit_makes_its_feature_maps(use_act_checkpoint):
    model = MViT(
        img_size=64,
        embed_dim=4,
        depth=5,
        last_block_indexes=(0, 1, 2, 4),
        adaptive_window_size=8,
        use_abs_pos=True,
        pretrain_img_size=32,
        use_act_checkpoint=use_act_checkpoint,
        out_features=("scale2", "scale4", "scale5"),
    )
    features = model(torch.rand(1, 3, 64, 64))

    assert {k: tuple(x.shape) for k, x in features.items()} == {
        "scale2": (1, 4, 16, 16),
        "scale4": (1, 16, 4, 4),
        "scale5": (1, 32, 2, 2),
    }
    for name, shape in model.output_shape().items():
        assert (shape.channels, 64 // shape.stride) == tuple(features[name].shape[1:3])
    sum(x.square().sum() for x in features.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_pooled_attention_in_one_window_is_pooled_attention():
    windowed = MultiScaleAttention(4, 4, 2, stride_kv=2, window_size=4, use_rel_pos=True,
                                   input_size=(4, 4))  # fmt: skip
    randomize(windowed).double()
    whole = MultiScaleAttention(4, 4, 2, stride_kv=2, use_rel_pos=True, input_size=(4, 4)).double()
    whole.load_state_dict(windowed.state_dict())

    torch.testing.assert_close(windowed(waves(2, 4, 4, 4)), whole(waves(2, 4, 4, 4)))


def test_mvits_positions_need_a_square():
    with pytest.raises(InputError, match=r"use_rel_pos needs input_size, a square; got \(4, 6\)"):
        MultiScaleAttention(4, 4, 1, use_rel_pos=True, input_size=(4, 6))
