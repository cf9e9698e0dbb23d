"""Schedules against values derived by hand from their formulas."""

import math

import pytest

from retinue.solver.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    ExponentialParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    PolynomialDecayParamScheduler,
    StepParamScheduler,
    StepWithFixedGammaParamScheduler,
)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ConstantParamScheduler(0.3), {0: 0.3, 0.99: 0.3}),
        (CosineParamScheduler(1.0, 0.0), {0: 1.0, 0.5: 0.5, 1.0: 0.0}),
        (CosineParamScheduler(1.0, 0.2), {0: 1.0, 0.5: 0.6, 1.0: 0.2}),
        (ExponentialParamScheduler(2.0, 0.25), {0: 2.0, 0.5: 1.0, 1.0: 0.5}),
        (LinearParamScheduler(1.0, 3.0), {0: 1.0, 0.25: 1.5, 1.0: 3.0}),
        (PolynomialDecayParamScheduler(2.0, 2.0), {0: 2.0, 0.5: 0.5, 1.0: 0.0}),
        (
            StepParamScheduler(100, [3.0, 2.0, 1.0, 0.5]),
            {0: 3, 0.24: 3, 0.25: 2, 0.99: 0.5},
        ),
        (StepWithFixedGammaParamScheduler(1.0, 1, 0.5, 10), {0.49: 1.0, 0.5: 0.5, 0.99: 0.5}),
    ],
)
def test_values_by_hand(schedule, expected):
    for where, value in expected.items():
        assert schedule(where) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_updates": 90, "milestones": [30, 60]},
        {"num_updates": 90},
        {"milestones": [30, 60, 90]},
        {"milestones": [3, 6, 9]},
    ],
)
def test_four_ways_to_say_the_same_steps(arguments):
    schedule = MultiStepParamScheduler([1, 0.1, 0.01], **arguments)

    assert [schedule(i / 90) for i in (0, 29, 30, 59, 60, 89)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert schedule(1.0) == 0.01


def test_composite_plays_parts_in_their_share():
    parts = [ConstantParamScheduler(0.5), CosineParamScheduler(1.0, 0.0)]
    fixed = CompositeParamScheduler(parts, [0.5, 0.5], ["rescaled", "fixed"])
    rescaled = CompositeParamScheduler(parts, [0.5, 0.5], ["rescaled", "rescaled"])

    assert (fixed(0.25), rescaled(0.25)) == (0.5, 0.5)
    assert fixed(0.75) == pytest.approx(0.5 * (1 + math.cos(0.75 * math.pi)))
    assert rescaled(0.75) == pytest.approx(0.5)


def test_a_part_without_length_is_passed_at_the_end():
    schedule = CompositeParamScheduler(
        [LinearParamScheduler(0, 1), ConstantParamScheduler(2)], [1.0, 0.0], ["rescaled"] * 2
    )
    assert schedule(0.999) == pytest.approx(0.999)


def test_arguments_of_the_caller_stay_untouched():
    lengths = [0.3, 0.7001]
    CompositeParamScheduler([ConstantParamScheduler(1)] * 2, lengths, ["fixed"] * 2)

    assert lengths == [0.3, 0.7001]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MultiStepParamScheduler([1, 2]), "num_updates, milestones or both"),
        (lambda: MultiStepParamScheduler([1, 2], 10, [3, 4]), r"2 values need 1 milestones"),
        (lambda: MultiStepParamScheduler([1, 2], 10, {"a": 1}), r"need 1 milestones; got \{"),
        (lambda: MultiStepParamScheduler([1, 2, 3], 2, [1, 1]), "2 updates are too few"),
        (lambda: MultiStepParamScheduler([1, 2], 10, [10]), r"below the 10 updates; got \[10\]"),
        (lambda: MultiStepParamScheduler([1, 2, 3], 10, [5, 5]), "must increase"),
        (lambda: StepParamScheduler(0, [1]), "num_updates must be above 0; got 0"),
        (lambda: StepParamScheduler(5, []), r"values must list numbers; got \[\]"),
        (lambda: StepWithFixedGammaParamScheduler(0, 1, 1, 1), "base_value must be above 0"),
        (lambda: StepWithFixedGammaParamScheduler(1, 1.5, 1, 1), "num_decays must be a positive"),
        (lambda: CompositeParamScheduler([], [], []), "at least one schedule"),
        (
            lambda: CompositeParamScheduler([ConstantParamScheduler(1)], [0.5], ["fixed"]),
            r"sum to 1; got \[0.5\]",
        ),
        (
            lambda: CompositeParamScheduler([ConstantParamScheduler(1)], [1.0], ["stretched"]),
            "'rescaled' or 'fixed'; got 'stretched'",
        ),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_progress_beyond_the_end_is_an_error():
    with pytest.raises(IndexError, match="StepParamScheduler: progress must be below 1; got 1"):
        StepWithFixedGammaParamScheduler(1.0, 1, 0.5, 10)(1)
    with pytest.raises(RuntimeError, match=r"\[0, 1\); got 1"):
        ConstantParamScheduler(1)(1)
    with pytest.raises(RuntimeError, match=r"\[0, 1\]; got 1.5"):
        MultiStepParamScheduler([1, 2], 10)(1.5)
    with pytest.raises(NotImplementedError, match="ParamScheduler must define"):
        ParamScheduler()(0)
