"""What hooks do, and when."""

import json
import logging
import math

import pytest
import torch
from torch import nn

from retinue.checkpoint import Checkpointer
from retinue.engine import (
    AutogradProfiler,
    BestCheckpointer,
    CallbackHook,
    EarlyStopping,
    EvalHook,
    IterationTimer,
    LRScheduler,
    PeriodicCheckpointer,
    PeriodicWriter,
    PreciseBN,
    SimpleTrainer,
    TorchMemoryStats,
    TorchProfiler,
    TrainerBase,
)
from retinue.solver.param_scheduler import LinearParamScheduler
from retinue.utils.events import CommonMetricPrinter, EventWriter, JSONWriter


class Idle(TrainerBase):
    """A trainer that does nothing but call its hooks."""

    def __init__(self, *hooks):
        super().__init__()
        self.register_hooks(hooks)

    def run_step(self):
        pass


def metrics(values):
    values = iter(values)
    return lambda: {"box": {"AP": next(values)}}


def test_callbacks_get_the_trainer_and_are_let_go():
    calls = []
    hook = CallbackHook(
        before_train=lambda t: calls.append("begin"),
        before_step=lambda t: calls.append(t.iter),
        after_step=lambda t: calls.append(-t.iter),
        after_train=lambda t: calls.append("end"),
    )
    Idle(hook, CallbackHook()).train(1, 3)
    assert calls == ["begin", 1, -1, 2, -2, "end"]
    assert not hook._functions


def test_the_timer_leaves_out_the_first_iterations(caplog):
    caplog.set_level(logging.INFO)
    trainer = Idle(IterationTimer(warmup_iter=3))
    trainer.train(10, 20)
    assert [iteration for _, iteration in trainer.storage.history("time").values()] == [
        *range(12, 20)
    ]
    assert "Overall training speed: 8 iterations in 0:00:00 (0.0000 s / it)" in caplog.text
    assert "Total training time: 0:00:00 (0:00:00 on hooks)" in caplog.text


def test_writers_write_periodically_at_the_end_and_afterwards(tmp_path, caplog):
    """By hand: 50 iterations, every 20; the evaluation comes after the last one."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "metrics.json"
    writers = [CommonMetricPrinter(50), JSONWriter(str(path))]
    report = CallbackHook(after_step=lambda t: t.storage.put_scalar("total_loss", t.iter))
    Idle(report, EvalHook(0, metrics([7])), PeriodicWriter(writers)).train(0, 50)

    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [19, 39, 49, 50]
    assert rows[-1]["box/AP"] == 7
    lines = [r.getMessage() for r in caplog.records if r.name == "retinue.utils.events"]
    assert [f"iter: {i}" in line for i, line in zip((19, 39, 49), lines, strict=True)] == [True] * 3


def test_only_writers_write():
    with pytest.raises(AssertionError, match="expected EventWriter objects; got 'x'"):
        PeriodicWriter(["x"])


def test_checkpoints_go_on_where_they_stopped(tmp_path, line, batches, sgd):
    """The case of detectron2's own test: 12 iterations, saved every 10 and at the end."""

    def build(lr):
        optimizer = sgd(line, lr)
        trainer = SimpleTrainer(line, batches, optimizer)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 3)
        checkpointer = Checkpointer(line, str(tmp_path), trainer=trainer)
        hooks = [LRScheduler(scheduler=schedule), PeriodicCheckpointer(checkpointer, 10)]
        trainer.register_hooks(hooks)
        return trainer, schedule, checkpointer

    trainer, schedule, _ = build(0.1)
    trainer.train(0, 12)
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)
    assert sorted(p.name for p in tmp_path.glob("*.pth")) == [
        "model_0000009.pth",
        "model_final.pth",
    ]

    resumed, schedule, checkpointer = build(999)
    checkpointer.resume_or_load("unused.pth")
    assert (resumed.iter, schedule.last_epoch) == (11, 12)
    assert resumed.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)


class TestBest:
    @pytest.mark.parametrize(
        ("mode", "values", "saved_at"),
        [
            ("max", [0.3, 0.4, 0.35, 0.5], [9, 19, 39]),
            ("min", [1.0, 0.8, 0.9, 0.9], [9, 19]),
            ("min", [math.nan, 0.8, 0.9, math.inf], [19]),
        ],
    )
    def test_better_ones_are_saved(self, tmp_path, mode, values, saved_at):
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        saved = []
        checkpointer.save = lambda name, **kwargs: saved.append((name, kwargs["iteration"]))
        best = BestCheckpointer(10, checkpointer, "box/AP", mode=mode)
        Idle(EvalHook(10, metrics(values)), best).train(0, 40)
        assert saved == [("model_best", iteration) for iteration in saved_at]

    def test_the_last_checkpoint_stays_the_newest(self, tmp_path):
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        best = BestCheckpointer(2, checkpointer, "box/AP")
        values = metrics([1, 2])
        Idle(PeriodicCheckpointer(checkpointer, 2), EvalHook(2, values), best).train(0, 4)
        assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
        assert torch.load(tmp_path / "model_best.pth", weights_only=True)["iteration"] == 3

    def test_what_was_best_is_remembered(self, tmp_path, caplog):
        caplog.set_level(logging.INFO)
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        first, second = (BestCheckpointer(1, checkpointer, "box/AP") for _ in range(2))
        Idle(EvalHook(1, metrics([5, 4, 6])), first).train(0, 3)
        assert [m for m in caplog.messages if "aved" in m or "aving" in m] == [
            f"Saving checkpoint to {tmp_path}/model_best.pth",
            "Saved first model at 5.00000 @ 0 steps",
            "Not saving as latest eval score for box/AP is 4.00000, not better than best score"
            " 5.00000 @ iteration 0.",
            f"Saving checkpoint to {tmp_path}/model_best.pth",
            "Saved best model as latest eval score for box/AP is 6.00000, better than last best"
            " score 5.00000 @ iteration 0.",
        ]
        second.load_state_dict(first.state_dict())
        assert (second.best_metric, second.best_iter) == (6, 3)
        Idle(EvalHook(1, metrics([4])), second).train(3, 4)
        assert "4.00000, not better than best score 6.00000 @ iteration 3." in caplog.text

    def test_the_best_one_outlives_a_resume_from_an_older_one(self, tmp_path):
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        Idle(EvalHook(1, metrics([5])), BestCheckpointer(1, checkpointer, "box/AP")).train(3, 4)
        resumed = BestCheckpointer(1, checkpointer, "box/AP")
        resumed.load_state_dict({"best_metric": 2, "best_iter": 1})  # saved before it evaluated
        Idle(EvalHook(1, metrics([4])), resumed).train(3, 4)
        assert (resumed.best_metric, resumed.best_iter) == (5, 3)
        (tmp_path / "model_best.pth").write_bytes(b"PK")
        anew = BestCheckpointer(1, checkpointer, "box/AP")
        Idle(EvalHook(1, metrics([4])), anew).train(3, 4)
        assert anew.best_metric == 4

    def test_a_metric_that_is_not_there_is_said(self, tmp_path, caplog):
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        Idle(EvalHook(1, metrics([1])), BestCheckpointer(1, checkpointer, "bax/AP")).train(0, 1)
        text = "Given val metric bax/AP does not seem to be computed/stored."
        assert f"{text} Nothing to choose the best checkpoint by; there are: box" in caplog.text

    def test_the_mode_is_checked(self):
        with pytest.raises(AssertionError, match=r"'max' .* or 'min'; got 'most'"):
            BestCheckpointer(1, None, "a", mode="most")


class TestEarlyStopping:
    def test_it_waits_and_ends(self, tmp_path, caplog):
        """By hand: the best comes at the 2nd of 3, 5, 4, 4, so 2 later ones end iteration 7."""
        caplog.set_level(logging.INFO)
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        stopping = EarlyStopping(2, "box/AP", patience=2, checkpointer=checkpointer)
        trainer = Idle(EvalHook(2, metrics([3, 5, 4, 4])), stopping)
        trainer.train(0, 100)
        assert trainer.iter == 8
        saved = torch.load(tmp_path / "model_final.pth", weights_only=True)
        assert (saved["iteration"], saved["metrics"]) == (7, {"box/AP": 4.0})
        assert "the last 2 evaluations have not been better than box/AP = 5.0" in caplog.text

    def test_it_goes_on_waiting_after_a_resume(self):
        first, second = (EarlyStopping(1, "box/AP", patience=3, mode="min") for _ in range(2))
        Idle(EvalHook(1, metrics([1, 2, 2])), first).train(0, 3)
        second.load_state_dict(first.state_dict())
        trainer = Idle(EvalHook(1, metrics([2, 2, 2, 2])), second)
        trainer.train(3, 10)
        assert trainer.iter == 5

    def test_without_the_metric_it_does_nothing(self, caplog):
        trainer = Idle(EarlyStopping(1, "box/AP", patience=1))
        trainer.train(0, 3)
        assert trainer.iter == 3
        assert "no metric 'box/AP' to stop early by" in caplog.text

    def test_patience_is_checked(self):
        with pytest.raises(AssertionError, match="patience must be at least 1; got 0"):
            EarlyStopping(1, "a", patience=0)


class TestSchedule:
    def test_the_rate_in_force_is_reported(self, line, batches, sgd):
        """By hand: a factor from 1 to 0 over 4 iterations, on a rate of 0.1."""
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.register_hooks([LRScheduler(scheduler=LinearParamScheduler(1, 0))])
        trainer.train(0, 4)
        rates = [value for value, _ in trainer.storage.history("lr").values()]
        assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])

    @pytest.mark.parametrize(
        ("groups", "chosen"),
        [
            ([(1, 0.1), (3, 0.2), (3, 0.3)], 1),
            ([(1, 0.1), (1, 0.2), (1, 0.2)], 1),
        ],
    )
    def test_whose_rate_is_shown(self, groups, chosen):
        params = [
            {"params": [nn.Parameter(torch.zeros(1)) for _ in range(num)], "lr": lr}
            for num, lr in groups
        ]
        assert LRScheduler.get_best_param_group_id(torch.optim.SGD(params)) == chosen


class TestEvaluation:
    @pytest.mark.parametrize(("total", "period", "count"), [(30, 15, 2), (31, 15, 3), (20, 0, 1)])
    def test_how_often(self, total, period, count):
        calls = []
        Idle(EvalHook(period, lambda: calls.append(1))).train(0, total)
        assert len(calls) == count

    def test_not_after_a_failure_nor_if_unwanted(self):
        calls = []

        class Fails(Idle):
            def run_step(self):
                raise RuntimeError("no")

        with pytest.raises(RuntimeError, match="no"):
            Fails(EvalHook(1, lambda: calls.append(1))).train(0, 3)
        Idle(EvalHook(0, lambda: calls.append(1), eval_after_train=False)).train(0, 3)
        assert not calls

    def test_results_are_flattened(self):
        trainer = Idle(EvalHook(1, lambda: {"box": {"AP": 1, "per": {"cat": "2"}}, "n": 3}))
        trainer.train(0, 1)
        latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
        assert latest == {"box/AP": 1.0, "box/per/cat": 2.0, "n": 3.0}

    @pytest.mark.parametrize(
        ("results", "message"),
        [({"a": {"b": "x"}}, "metric 'a/b' must be a number; got 'x'"), ([1], "a dict of metrics")],
    )
    def test_wrong_results_are_named(self, results, message):
        with pytest.raises(ValueError, match=message):
            Idle(EvalHook(1, lambda: results)).train(0, 1)


class TestPreciseBN:
    def test_statistics_become_exact(self, line, batches, sgd, caplog):
        caplog.set_level(logging.INFO)
        trainer = SimpleTrainer(line, [batches[0]], sgd(line, lr=0.0))
        trainer.register_hooks([PreciseBN(0, line, batches[:1] * 200, 150)])
        trainer.train(0, 2)
        expected = line.layer(batches[0])
        torch.testing.assert_close(line.norm.running_mean, expected.mean(0).detach())
        assert "Running precise-BN ... 100/150 iterations." in caplog.text

    def test_without_norms_it_does_nothing(self, caplog):
        caplog.set_level(logging.INFO)
        hook = PreciseBN(1, nn.Linear(1, 1), [], 5)
        hook.update_stats()
        assert "PreciseBN is disabled because" in caplog.text


def test_profiles_are_written(tmp_path, line, batches, sgd):
    trainer = SimpleTrainer(line, batches, sgd(line))
    wanted = [torch.profiler.ProfilerActivity.CPU]
    hook = TorchProfiler(
        lambda t: t.iter == 1, str(tmp_path), activities=wanted, save_tensorboard=False
    )
    trainer.register_hooks([hook])
    trainer.train(0, 3)
    assert [path.name for path in tmp_path.iterdir()] == ["profiler-trace-iter1.json"]
    assert "traceEvents" in json.loads((tmp_path / "profiler-trace-iter1.json").read_text())


def test_the_older_profiler(tmp_path, line, batches, sgd):
    with pytest.warns(UserWarning, match="TorchProfiler shows more"):
        hook = AutogradProfiler(lambda t: t.iter == 0, str(tmp_path), use_cuda=False)
    trainer = SimpleTrainer(line, batches, sgd(line))
    trainer.register_hooks([hook])
    trainer.train(0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["profiler-trace-iter0.json"]


def test_memory_is_logged_where_there_is_cuda(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    Idle(TorchMemoryStats(1)).train(0, 2)
    assert "reserved_mem" not in caplog.text

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("max_memory_reserved", "memory_reserved", "memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda: 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_summary", lambda: "summary")
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    Idle(TorchMemoryStats(2, max_runs=2)).train(0, 9)
    lines = [r.getMessage() for r in caplog.records if r.name == "retinue.engine.hooks"]
    assert [line.split("  ")[0] for line in lines] == [" iter: 1", " iter: 3", "summary"]
    assert "max_allocated_mem: 3MB" in lines[0]


def test_writers_of_ones_own():
    class Mine(EventWriter):
        count = 0

        def write(self):
            self.count += 1

    writer = Mine()
    Idle(PeriodicWriter([writer], period=2)).train(0, 5)
    assert writer.count == 4
