import pytest
import torch
from torch import nn

from retinue.modeling.meta_arch.inputs import (
    collect,
    image_batch,
    label_maps,
    output_size,
    register_pixel_statistics,
)
from retinue.utils.errors import InputError

MEAN, STD = torch.tensor([10.0, 20, 30]).view(3, 1, 1), torch.tensor([1.0, 2, 4]).view(3, 1, 1)


def batch(inputs, backbone):
    return image_batch(inputs, backbone, MEAN, STD)


def test_images_are_normalised_before_they_are_padded(backbone):
    """By hand: (30 - 10) / 1, (30 - 20) / 2, (30 - 30) / 4; the padding stays 0."""
    grey = torch.full((3, 4, 5), 30, dtype=torch.uint8)
    images = batch([{"image": grey}, {"image": grey[:, :3, :2]}], backbone)

    assert images.tensor.shape == (2, 3, 16, 16)
    assert images.image_sizes == [(4, 5), (3, 2)]
    assert images.tensor[1, :, 0, 0].tolist() == [20, 5, 0]
    assert images.tensor[1, :, 3:].eq(0).all()
    assert images.tensor[1, :, :, 2:].eq(0).all()


def test_one_channel_is_spread_over_three(backbone):
    images = batch([{"image": torch.full((1, 2, 2), 30.0)}], backbone)

    assert images.tensor[0, :, 1, 1].tolist() == [20, 5, 0]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": torch.zeros(3, 4, 4)}, "expected a list with a dict for each image; got dict"),
        (torch.zeros(1, 3, 4, 4), "got Tensor"),
        ([], "got list"),
        ([torch.zeros(3, 4, 4)], r"got list \['Tensor'\]"),
        ([{"image": torch.zeros(4, 4)}], r"must have shape \(3, H, W\), .*; got \(4, 4\)"),
        ([{"image": torch.zeros(4, 4, 3)}], r"model input 0: .*; got \(4, 4, 3\)"),
        ([{"image": torch.zeros(3, 0, 4)}], r"got \(3, 0, 4\)"),
        ([{"image": [[1]]}], "expected a tensor .* got list"),
    ],
)
def test_what_is_no_list_of_images_is_refused(inputs, message, backbone):
    with pytest.raises(InputError, match=message):
        batch(inputs, backbone)


def test_a_missing_image_is_a_missing_key(backbone):
    with pytest.raises(
        KeyError, match=r"model input 1: .* got NoneType; the dict has \['file_name'"
    ):
        batch([{"image": torch.zeros(3, 4, 4)}, {"file_name": "a.png"}], backbone)


def test_collect_must_be_there_for_every_image():
    device = torch.device("cpu")
    assert collect([{"a": torch.ones(1)}], "a", device) == [1]
    with pytest.raises(AssertionError, match=r"model input 1: 'a' is missing \(1 of 2 images"):
        collect([{"a": torch.ones(1)}, {"image": 0}], "a", device)


def test_label_maps_are_padded_with_what_is_ignored(backbone):
    inputs = [{"image": torch.zeros(3, 2, 3), "sem_seg": torch.ones(2, 3, dtype=torch.uint8)}]
    labels = label_maps(inputs, backbone, 255, torch.device("cpu"))

    assert (labels.shape, labels.dtype) == ((1, 16, 16), torch.int64)
    assert labels[0, :2, :3].eq(1).all()
    assert labels.eq(255).sum() == 16 * 16 - 6
    inputs[0]["sem_seg"] = torch.ones(3, 2)
    with pytest.raises(InputError, match=r"as large as the image, \(2, 3\); got \(3, 2\)"):
        label_maps(inputs, backbone, 255, torch.device("cpu"))


def test_the_output_is_as_large_as_asked_for():
    assert output_size({"height": 7, "width": 9}, (4, 5)) == (7, 9)
    assert output_size({}, (4, 5)) == (4, 5)


def test_statistics_are_not_saved_with_the_model():
    model = nn.Module()
    register_pixel_statistics(model, [1, 2], (3.0, 4.0))

    assert model.pixel_mean.shape == model.pixel_std.shape == (2, 1, 1)
    assert model.state_dict() == {}
    with pytest.raises(AssertionError, match="one number for each channel; got 1 and 2"):
        register_pixel_statistics(model, [1.0], [1.0, 2.0])
