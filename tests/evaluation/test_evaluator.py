import logging
import re

import pytest
import torch
from torch import nn

from retinue.config import get_cfg
from retinue.evaluation.evaluator import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_context,
    inference_on_dataset,
)
from retinue.evaluation.testing import flatten_results_dict, print_csv_format, verify_results


class Sum(DatasetEvaluator):
    def __init__(self, key="sum"):
        self.key = key

    def reset(self):
        self.total = 0

    def process(self, inputs, outputs):
        self.total += sum(o["y"] for o in outputs)

    def evaluate(self):
        return {self.key: {"total": self.total}}


class Double(nn.Module):
    def forward(self, batch):
        assert not self.training
        assert not torch.is_grad_enabled()
        return [{"y": 2 * x} for x in batch]


def test_the_loop_feeds_the_evaluator_and_restores_the_mode(caplog):
    caplog.set_level(logging.INFO)
    model, calls = Double(), []
    names = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {name: (lambda name=name: calls.append(name)) for name in names}
    got = inference_on_dataset(model, [[1, 2], [3]], Sum(), callbacks)

    assert got == {"sum": {"total": 12}}
    assert model.training
    assert calls == ["on_start", *["before_inference", "after_inference"] * 2, "on_end"]
    assert caplog.messages[0] == "Start inference on 2 batches"
    number, time = r"\d+\.\d+", r"\d+:\d\d:\d\d(\.\d+)?"
    tail = rf"\({number} s / iter per device, on 1 devices\)"
    assert re.fullmatch(rf"Total inference time: {time} {tail}", caplog.messages[-2])
    assert re.fullmatch(rf"Total inference pure compute time: {time} {tail}", caplog.messages[-1])


def test_progress_is_logged_after_the_warm_up(caplog):
    caplog.set_level(logging.INFO)
    inference_on_dataset(lambda batch: [], [[]] * 12, None)
    lines = [m for m in caplog.messages if m.startswith("Inference done")]
    part = r"\d+\.\d{4} s/iter\."
    assert re.fullmatch(
        rf"Inference done 11/12\. Dataloading: {part} Inference: {part} Eval: {part}"
        rf" Total: {part} ETA=0:00:00",
        lines[0],
    )


def test_several_evaluators_none_and_an_empty_loader():
    got = inference_on_dataset(Double(), [[1]], [Sum("a"), Sum("b")])
    assert got == {"a": {"total": 2}, "b": {"total": 2}}
    assert inference_on_dataset(Double(), [[1]], None) == {}
    assert inference_on_dataset(Double(), [], Sum()) == {"sum": {"total": 0}}


def test_an_evaluator_may_return_nothing():
    assert inference_on_dataset(Double(), [[1]], DatasetEvaluator()) == {}
    assert DatasetEvaluators([DatasetEvaluator()]).evaluate() == {}


def test_two_evaluators_with_one_key():
    with pytest.raises(AssertionError, match=r"expected different keys; Sum and another.*sum"):
        inference_on_dataset(Double(), [[1]], [Sum(), Sum()])


def test_the_mode_is_restored_after_an_error():
    model = nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="x"), inference_context(model):  # noqa: PT012
        assert not model.training
        raise RuntimeError("x")
    assert model.training
    model.eval()
    with inference_context(model):
        pass
    assert not model.training


def test_copypaste_lines(caplog):
    caplog.set_level(logging.INFO)
    print_csv_format({"bbox": {"AP": 40.21234, "AP50": float("nan"), "AP-person": 3.0}, "x": 5})
    assert caplog.messages == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 40.2123,nan",
        "copypaste: x=5",
    ]
    with pytest.raises(AssertionError, match=r"expected a mapping of results; got \[1\]"):
        print_csv_format([1])


def test_expected_results(caplog):
    caplog.set_level(logging.INFO)
    cfg = get_cfg()
    assert verify_results(cfg, {})
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 40.0, 0.5]]
    assert verify_results(cfg, {"bbox": {"AP": 40.4}})
    for wrong in ({"bbox": {"AP": 41}}, {"bbox": {"AP": float("nan")}}, {"bbox": {}}, {}):
        with pytest.raises(SystemExit):
            verify_results(cfg, wrong)
    assert "bbox/AP: expected 40.0 +- 0.5; got 41" in caplog.text


def test_flattening():
    assert flatten_results_dict({"a": {"b": {"c": 1}}, "d": 2}) == {"a/b/c": 1, "d": 2}
