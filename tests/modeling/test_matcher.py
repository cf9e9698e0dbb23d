import pytest
import torch

from retinue.modeling.matcher import Matcher
from retinue.modeling.sampling import subsample_labels

QUALITY = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])


def test_low_quality_matches_by_hand():
    """Object 2 fits element 1 and 3 best, with 0.4; both are foreground anyway."""
    matches, labels = Matcher([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)(QUALITY)

    assert matches.tolist() == [1, 1, 2, 0]
    assert labels.tolist() == [-1, 1, 0, 1]


def test_a_quality_equal_to_a_limit_belongs_above():
    _, labels = Matcher([0.3, 0.7], [0, -1, 1])(torch.tensor([[0.2999, 0.3, 0.6999, 0.7]]))

    assert labels.tolist() == [0, -1, -1, 1]


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_match(shape):
    matches, labels = Matcher([0.5], [0, 1], True)(torch.zeros(shape))

    assert matches.tolist() == [0] * shape[1]
    assert labels.tolist() == [0] * shape[1]


def test_arguments_stay_as_they_are():
    thresholds = [0.3, 0.7]
    matcher = Matcher(thresholds, [0, -1, 1])

    assert thresholds == [0.3, 0.7]
    assert matcher.thresholds == [-float("inf"), 0.3, 0.7, float("inf")]


@pytest.mark.parametrize(
    ("thresholds", "labels", "message"),
    [
        ([0.7, 0.3], [0, -1, 1], r"ascending; got \[0\.7, 0\.3\]"),
        ([0.0], [0, 1], "positive and ascending"),
        ([], [0], "positive and ascending"),
        ([0.5], [0, -1, 1], "1 thresholds make 2 stretches; got 3 labels"),
        ([0.5], [0, 2], "labels must be -1, 0 or 1"),
    ],
)
def test_wrong_limits_are_named(thresholds, labels, message):
    with pytest.raises(AssertionError, match=message):
        Matcher(thresholds, labels)


def test_wrong_qualities_are_named():
    matcher = Matcher([0.5], [0, 1])
    with pytest.raises(AssertionError, match=r"shape \(M, N\); got \(3,\)"):
        matcher(torch.zeros(3))
    with pytest.raises(AssertionError, match="the lowest is -1"):
        matcher(torch.tensor([[0.5, -1.0]]))
    with pytest.raises(AssertionError, match="the lowest is nan"):
        matcher(torch.tensor([[0.5, float("nan")]]))


@pytest.mark.parametrize(
    ("num_samples", "fraction", "num_positive", "num_negative"),
    [(8, 0.5, 3, 5), (4, 0.5, 2, 2), (100, 0.25, 3, 6), (4, 0.0, 0, 4), (0, 0.5, 0, 0)],
)
def test_samples(num_samples, fraction, num_positive, num_negative):
    """Three elements are foreground, six background, one is ignored."""
    labels = torch.tensor([0, 5, 80, 80, -1, 2, 80, 80, 80, 80])
    positive, negative = subsample_labels(labels, num_samples, fraction, 80)

    assert (len(positive), len(negative)) == (num_positive, num_negative)
    assert set(positive.tolist()) <= {0, 1, 5}
    assert (labels[negative] == 80).all()
    assert len(set(negative.tolist())) == num_negative


def test_samples_are_random_and_follow_the_seed():
    labels = torch.zeros(1000, dtype=torch.int8)
    torch.manual_seed(1)
    _, first = subsample_labels(labels, 10, 0.5, 0)
    _, second = subsample_labels(labels, 10, 0.5, 0)
    torch.manual_seed(1)
    _, again = subsample_labels(labels, 10, 0.5, 0)

    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_samples_of_nothing():
    positive, negative = subsample_labels(torch.zeros(0, dtype=torch.int8), 10, 0.5, 0)

    assert len(positive) == len(negative) == 0
