import copy
import pickle

import pytest
import torch

from retinue.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks

TRIANGLE = [0.0, 0.0, 4.0, 0.0, 4.0, 4.0]


def full_instances(num=3):
    return Instances(
        (6, 8),
        gt_boxes=Boxes(torch.arange(num * 4.0).reshape(num, 4)),
        gt_classes=torch.arange(num),
        gt_masks=PolygonMasks([[TRIANGLE]] * num),
        bit_masks=BitMasks(torch.ones(num, 6, 8)),
        gt_keypoints=Keypoints(torch.zeros(num, 17, 3)),
        names=[f"object {i}" for i in range(num)],
    )


def test_fields_are_attributes():
    instances = full_instances()
    instances.scores = torch.rand(3)

    assert len(instances) == 3
    assert instances.image_size == (6, 8)
    assert instances.has("scores")
    assert "scores" in instances
    assert instances.get("scores") is instances.scores is instances.get_fields()["scores"]
    instances.remove("scores")
    assert not instances.has("scores")


@pytest.mark.parametrize(
    ("index", "kept"),
    [
        (1, [1]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        (slice(0, 0), []),
        (torch.tensor([2, 0]), [2, 0]),
        (torch.tensor([True, False, True]), [0, 2]),
        (torch.zeros(3, dtype=torch.bool), []),
    ],
)
def test_indexing_selects_rows_of_every_field(index, kept):
    got = full_instances()[index]

    assert got.gt_classes.tolist() == kept
    assert got.gt_boxes.tensor[:, 0].tolist() == [4.0 * i for i in kept]
    assert got.names == [f"object {i}" for i in kept]
    assert {len(value) for value in got.get_fields().values()} == {len(kept)}


@pytest.mark.parametrize("index", [3, -4])
def test_an_integer_out_of_range(index):
    with pytest.raises(IndexError, match=f"index {index} is out of range for 3"):
        full_instances()[index]


def test_cat_joins_every_field():
    joined = Instances.cat([full_instances(2), full_instances(0), full_instances(1)])

    assert joined.gt_classes.tolist() == [0, 1, 0]
    assert joined.names == ["object 0", "object 1", "object 0"]
    assert {len(value) for value in joined.get_fields().values()} == {3}
    assert Instances.cat([joined]) is joined


def test_to_moves_what_can_be_moved():
    moved = full_instances().to("cpu")

    assert moved.names == full_instances().names
    assert moved.gt_boxes.device.type == "cpu"


def test_instances_survive_pickle_and_copy():
    instances = full_instances()

    for other in (pickle.loads(pickle.dumps(instances)), copy.deepcopy(instances)):
        assert other.image_size == (6, 8)
        assert torch.equal(other.gt_boxes.tensor, instances.gt_boxes.tensor)


def test_text_shows_size_and_fields():
    text = str(Instances((6, 8), scores=torch.tensor([0.5])))

    assert text == repr(Instances((6, 8), scores=torch.tensor([0.5])))
    assert text == (
        "Instances(num_instances=1, image_height=6, image_width=8,"
        " fields=[scores: tensor([0.5000])])"
    )
    assert "num_instances=unknown" in str(Instances((6, 8)))


class TestWrongInput:
    def test_lengths_differ(self):
        with pytest.raises(
            AssertionError, match=r"'scores' must have 3 entries, as 'gt_boxes' has; got 2"
        ):
            full_instances().scores = torch.zeros(2)

    def test_a_value_without_length(self):
        with pytest.raises(ValueError, match="'scores' must have one entry an instance; got float"):
            Instances((6, 8), scores=0.5)

    def test_the_image_size_is_no_field(self):
        with pytest.raises(ValueError, match="image_size is no field"):
            Instances((6, 8)).image_size = (1, 2)

    def test_near_match_of_an_attribute(self):
        with pytest.raises(
            AttributeError, match=r"unknown field .*'gt_box'; did you mean 'gt_boxes'"
        ):
            _ = full_instances().gt_box
        assert not hasattr(full_instances(), "scores")

    def test_unknown_field(self):
        with pytest.raises(KeyError, match="'gt_mask'; did you mean 'gt_masks'"):
            full_instances().get("gt_mask")
        with pytest.raises(KeyError, match="unknown field of Instances 'x'"):
            full_instances().remove("x")

    def test_no_field_no_length(self):
        with pytest.raises(NotImplementedError, match="number of instances is open"):
            len(Instances((6, 8)))
        with pytest.raises(NotImplementedError, match="iterate over a field"):
            iter(full_instances())

    def test_cat(self):
        with pytest.raises(AssertionError, match="at least one Instances"):
            Instances.cat([])
        with pytest.raises(AssertionError, match="element 1 must be Instances; got list"):
            Instances.cat([full_instances(), []])
        with pytest.raises(
            AssertionError, match=r"element 0 has image size \(6, 8\), element 1 has \(8, 6\)"
        ):
            Instances.cat([full_instances(), Instances((8, 6), gt_classes=torch.zeros(1))])
        with pytest.raises(KeyError, match="unknown field of Instances 'b'"):
            Instances.cat([Instances((1, 1), b=[1]), Instances((1, 1), a=[1])])
        with pytest.raises(ValueError, match="field 'a' is a str; expected a tensor"):
            Instances.cat([Instances((1, 1), a="x"), Instances((1, 1), a="y")])
