"""A batch arrives from a worker as it left, with one shared piece of memory."""

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from retinue.data.build import trivial_batch_collator
from retinue.data.transport import WholeBatchLoader, sent_whole
from retinue.structures import Boxes, Instances


class Samples(Dataset):
    """Of every kind of value that a mapper may return."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        instances = Instances((5, 6), gt_boxes=Boxes(torch.full((index, 4), float(index))))
        shared = torch.arange(3) + index
        return {
            "image": torch.full((3, 5, 6), index, dtype=torch.uint8),
            "instances": instances,
            "scalar": torch.tensor(2.5, dtype=torch.float64),
            "flags": torch.tensor([True, False, True]),
            "half": torch.ones(3, dtype=torch.bfloat16),
            "complex": torch.tensor([1 + 2j]),
            "columns": torch.arange(6.0).view(2, 3).T,
            "channels_last": torch.ones(1, 2, 3, 4).to(memory_format=torch.channels_last),
            "learnt": torch.ones(2, requires_grad=True),
            "same": (shared, shared),
            "polygons": [[np.arange(6.0) + index]],
            "file_name": f"{index}.jpg",
        }


def load(**options):
    return list(
        WholeBatchLoader(Samples(), batch_size=2, collate_fn=trivial_batch_collator, **options)
    )


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, torch.Tensor):
        assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        assert a.requires_grad == b.requires_grad
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, Instances):
        assert a.image_size == b.image_size
        assert_same(a.gt_boxes.tensor, b.gt_boxes.tensor)
    else:
        assert a == b


@pytest.mark.parametrize("num_workers", [1, 2])
def test_batches_are_those_that_are_read_without_workers(num_workers):
    for arrived, read in zip(load(num_workers=num_workers), load(num_workers=0), strict=True):
        assert_same(arrived, read)


def test_tensors_of_a_batch_lie_in_one_piece_and_can_be_written():
    (first, second), *_ = load(num_workers=1)
    image, scalar = first["image"], second["scalar"]
    assert image.untyped_storage().data_ptr() == scalar.untyped_storage().data_ptr()
    assert image.is_shared()
    before = scalar.clone()
    image.fill_(9)
    assert torch.equal(scalar, before)
    assert first["same"][0].data_ptr() == first["same"][1].data_ptr()


def test_the_main_process_collates_as_ever():
    samples = [1, 2]
    assert sent_whole(trivial_batch_collator)(samples) is samples


def test_an_empty_batch_and_one_without_tensors():
    for samples in ([{"boxes": torch.zeros(0, 4)}], ["a", None]):
        loader = WholeBatchLoader(
            samples, batch_size=2, collate_fn=trivial_batch_collator, num_workers=1
        )
        (arrived,) = loader
        assert_same(arrived, samples)
