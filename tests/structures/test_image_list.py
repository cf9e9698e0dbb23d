import pytest
import torch

from retinue.structures import ImageList


def images(*sizes):
    return [torch.full((3, *size), float(i + 1)) for i, size in enumerate(sizes)]


@pytest.mark.parametrize(
    ("sizes", "arguments", "padded"),
    [
        ([(5, 7), (6, 4)], {}, (6, 7)),
        ([(5, 7), (6, 4)], {"size_divisibility": 4}, (8, 8)),
        ([(5, 7)], {"size_divisibility": 32}, (32, 32)),
        ([(8, 8)], {"size_divisibility": 4}, (8, 8)),
        (
            [(5, 7)],
            {"size_divisibility": 4, "padding_constraints": {"size_divisibility": 5}},
            (5, 10),
        ),
        (
            [(5, 7)],
            {"size_divisibility": 4, "padding_constraints": {"size_divisibility": 0}},
            (5, 7),
        ),
        ([(5, 7), (6, 4)], {"padding_constraints": {"square_size": 9}}, (9, 9)),
        ([(5, 7)], {"size_divisibility": 4, "padding_constraints": {"square_size": 9}}, (12, 12)),
        ([(5, 7)], {"padding_constraints": {"square_size": 0}}, (5, 7)),
    ],
)
def test_padding(sizes, arguments, padded):
    batch = ImageList.from_tensors(images(*sizes), pad_value=-1.0, **arguments)

    assert batch.tensor.shape == (len(sizes), 3, *padded)
    assert batch.image_sizes == sizes
    assert batch.tensor.is_contiguous()
    for i, image in enumerate(images(*sizes)):
        assert torch.equal(batch[i], image)
        assert (batch.tensor[i] == -1).sum() == batch.tensor[i].numel() - image.numel()


def test_dtype_and_further_dimensions_stay():
    batch = ImageList.from_tensors([torch.ones(2, 4, dtype=torch.uint8), torch.ones(3, 3).byte()])

    assert batch.tensor.shape == (2, 3, 4)
    assert batch.tensor.dtype == torch.uint8
    assert len(batch) == 2
    assert batch.to(torch.float64).tensor.dtype == torch.float64
    assert batch.device.type == "cpu"


def test_gradients_reach_the_images():
    inputs = [image.requires_grad_() for image in images((2, 3), (3, 2))]
    ImageList.from_tensors(inputs, 4).tensor.sum().backward()

    assert all((image.grad == 1).all() for image in inputs)


@pytest.mark.parametrize(
    ("tensors", "constraints", "message"),
    [
        ([], None, r"at least one image; got \[\]"),
        (torch.zeros(1, 3, 4, 4), None, "expected a list"),
        ([torch.zeros(3, 4, 4), "x"], None, "image 1 must be a tensor; got str"),
        ([torch.zeros(3, 4, 4), torch.zeros(1, 4, 4)], None, r"image 1 has \(1, 4, 4\)"),
        ([torch.zeros(3, 4, 9)], {"square_size": 8}, "fit into 8 x 8 pixels .*; got 4 x 9"),
    ],
)
def test_wrong_input_is_named(tensors, constraints, message):
    with pytest.raises(AssertionError, match=message):
        ImageList.from_tensors(tensors, padding_constraints=constraints)
