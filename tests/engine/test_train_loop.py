"""The loop, its hooks' order, steps, accumulation, and losses that are not finite."""

import copy
import itertools
import logging

import pytest
import torch
from torch import nn

from retinue.engine import AMPTrainer, HookBase, NonFiniteLossError, SimpleTrainer, TrainerBase
from retinue.engine.non_finite import first_non_finite
from retinue.engine.validation_loss import validation_losses
from retinue.utils.events import EventStorage


class Recorder(HookBase):
    def __init__(self, name, calls):
        self.name, self.calls = name, calls

    def __getattribute__(self, name):
        if name in ("before_train", "after_train", "before_step", "after_backward", "after_step"):
            trainer = self.trainer
            return lambda: self.calls.append((self.name, name, trainer.iter, trainer.storage.iter))
        return super().__getattribute__(name)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class TestLoop:
    class Counting(TrainerBase):
        num_steps = 0

        def run_step(self):
            self.num_steps += 1

    def test_hooks_are_called_in_order(self, line, batches, sgd):
        calls = []
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.register_hooks([Recorder("a", calls), None, Recorder("b", calls)])
        trainer.train(5, 7)
        a = [call[1:] for call in calls if call[0] == "a"]

        assert a == [
            ("before_train", 5, 5),
            ("before_step", 5, 5),
            ("after_backward", 5, 5),
            ("after_step", 5, 5),
            ("before_step", 6, 6),
            ("after_backward", 6, 6),
            ("after_step", 6, 6),
            ("after_train", 7, 7),
        ]
        assert [call[0] for call in calls] == ["a", "b"] * len(a)
        assert (trainer.start_iter, trainer.max_iter) == (5, 7)

    def test_nothing_to_do_is_the_end_already(self):
        trainer = self.Counting()
        trainer.train(7, 7)
        assert (trainer.iter, trainer.num_steps) == (7, 0)

    def test_a_stop_ends_after_the_iteration(self):
        trainer = self.Counting()
        hook = HookBase()
        hook.after_step = lambda: trainer.request_stop() if trainer.iter == 2 else None
        trainer.register_hooks([hook])
        trainer.train(0, 10)
        assert (trainer.iter, trainer.num_steps) == (3, 3)
        trainer.train(0, 2)
        assert trainer.iter == 2

    def test_a_failure_is_logged_and_hooks_end(self, caplog):
        calls = []
        trainer = TrainerBase()
        trainer.register_hooks([Recorder("a", calls)])
        with pytest.raises(NotImplementedError, match=r"TrainerBase must define run_step"):
            trainer.train(0, 3)
        assert calls[-1] == ("a", "after_train", 0, 0)
        assert "Exception during training: in iteration 0" in caplog.text

    def test_only_hooks_are_registered(self):
        with pytest.raises(AssertionError, match="expected HookBase objects; got 3"):
            TrainerBase().register_hooks([3])

    def test_states_of_hooks(self, caplog):
        class Stateful(HookBase):
            value = 0

            def state_dict(self):
                return {"value": self.value}

            def load_state_dict(self, state):
                self.value = state["value"]

        first, second = self.Counting(), self.Counting()
        hooks = [Stateful(), Stateful()]
        hooks[0].value = 3
        first.register_hooks(hooks)
        first.iter = 9
        state = first.state_dict()
        assert state["iteration"] == 9
        assert list(state["hooks"].values()) == [{"value": 3}]
        target = Stateful()
        second.register_hooks([target])
        second.load_state_dict({**state, "hooks": {**state["hooks"], "Gone": {}}})
        assert (second.iter, target.value) == (9, 3)
        assert "Cannot find the hook 'Gone': its state" in caplog.text


class TestSimpleTrainer:
    def test_steps_equal_a_loop_by_hand(self, line, batches, sgd):
        by_hand = copy.deepcopy(line)
        optimizer = sgd(by_hand)
        for batch in batches[:5]:
            optimizer.zero_grad()
            sum(by_hand(batch).values()).backward()
            optimizer.step()
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.train(0, 5)

        assert torch.equal(weights(line), weights(by_hand))

    @pytest.mark.parametrize("zero_first", [False, True])
    def test_accumulation_averages_gradients(self, batches, sgd, zero_first):
        model, by_hand = nn.Linear(3, 1), nn.Linear(3, 1)
        by_hand.load_state_dict(model.state_dict())
        wrapped, whole = Mean(model), Mean(by_hand)
        SimpleTrainer(
            wrapped, batches, sgd(model), zero_grad_before_forward=zero_first, accumulate=2
        ).train(0, 3)
        pairs = [torch.cat(batches[i : i + 2]) for i in (0, 2, 4)]
        SimpleTrainer(whole, pairs, sgd(by_hand)).train(0, 3)

        torch.testing.assert_close(weights(model), weights(by_hand))

    def test_what_is_reported(self, line, batches, sgd):
        trainer = SimpleTrainer(line, batches, sgd(line), gather_metric_period=2)
        expected = {name: loss.item() for name, loss in copy.deepcopy(line)(batches[0]).items()}
        trainer.train(0, 5)
        history = {name: h.values() for name, h in trainer.storage.histories().items()}

        assert history.keys() == {"rank_data_time", "data_time", "total_loss", "loss_a", "loss_b"}
        assert [iteration for _, iteration in history["total_loss"]] == [1, 3]
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.train(0, 1)
        assert len(expected) == 2

    def test_total_is_the_sum(self, line, batches, sgd):
        expected = [loss.item() for loss in copy.deepcopy(line)(batches[0]).values()]
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.train(0, 1)
        latest = trainer.storage.latest()

        assert [latest["loss_a"][0], latest["loss_b"][0]] == pytest.approx(expected)
        assert latest["total_loss"][0] == pytest.approx(sum(expected))

    def test_a_single_loss_is_the_total(self, batches, sgd):
        model = Mean(nn.Linear(3, 1))
        trainer = SimpleTrainer(model, batches, sgd(model), async_write_metrics=True)
        trainer.train(0, 3)
        assert set(trainer.storage.histories()) == {"rank_data_time", "data_time", "total_loss"}
        assert len(trainer.storage.history("total_loss").values()) == 3

    def test_a_loader_that_ends_begins_again(self, line, batches, sgd):
        SimpleTrainer(line, batches[:3], sgd(line)).train(0, 7)
        with pytest.raises(AssertionError, match="the data loader gives no batch"):
            SimpleTrainer(line, iter(batches[:3]), sgd(line)).train(0, 7)

    def test_another_loader(self, line, batches, sgd):
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.train(0, 2)
        trainer.reset_data_loader(lambda: itertools.repeat(batches[0]))
        trainer.train(0, 2)
        assert torch.equal(trainer.batches[0], batches[0])

    def test_wrong_use_is_named(self, line, batches, sgd):
        with pytest.raises(AssertionError, match="accumulate must be at least 1; got 0"):
            SimpleTrainer(line, batches, sgd(line), accumulate=0)
        trainer = SimpleTrainer(line, batches, sgd(line))
        line.eval()
        with pytest.raises(AssertionError, match="the model is in evaluation mode"):
            trainer.train(0, 1)

    def test_state_round_trip(self, line, batches, sgd):
        trainer = SimpleTrainer(line, batches, sgd(line))
        trainer.train(0, 2)
        other = SimpleTrainer(line, batches, sgd(line, lr=9.0))
        other.load_state_dict(copy.deepcopy(trainer.state_dict()))
        assert other.optimizer.param_groups[0]["lr"] == 0.1
        assert len(other.optimizer.state) == 4


class Averaging(nn.Module):
    """Keeps a running mean beside its weights, as RetinaNet does."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 1)
        self.mean = torch.zeros(())

    def training_state(self):
        return {"mean": self.mean}

    def load_training_state(self, state):
        self.mean = state["mean"]

    def forward(self, batch):
        self.mean = self.mean * 0.9 + batch.mean()
        return {"loss": (self.inner(batch) - self.mean).square().mean()}


class TestTrainingState:
    def test_it_is_saved_beside_the_weights(self, batches, sgd):
        model = nn.Sequential(Averaging())
        trainer = SimpleTrainer(model, batches, sgd(model))
        trainer.train(0, 3)
        state = trainer.state_dict()
        assert list(state) == ["iteration", "optimizer", "model_training_state"]
        other = nn.Sequential(Averaging())
        SimpleTrainer(other, batches, sgd(other)).load_state_dict(state)
        assert other[0].mean == model[0].mean != 0
        gone = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1))
        SimpleTrainer(gone, batches, sgd(gone)).load_state_dict(
            state | {"optimizer": sgd(gone).state_dict()}
        )

    def test_looking_leaves_it_alone(self, batches):
        model = Averaging()
        before = model.mean
        validation_losses(model, batches)
        first_non_finite(model, batches)
        assert model.mean == before


class TestMixedPrecision:
    def test_bfloat16_trains_on_a_cpu(self, line, batches, sgd):
        seen = []
        line.layer.register_forward_hook(lambda *args: seen.append(args[2].dtype))
        trainer = AMPTrainer(line, batches, sgd(line), precision=torch.bfloat16)
        trainer.train(0, 3)
        assert set(seen) == {torch.bfloat16}
        assert trainer.state_dict()["grad_scaler"] == {}

    def test_float16_scales_and_resumes(self, line, batches, sgd):
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        trainer = AMPTrainer(line, batches, sgd(line), grad_scaler=scaler, log_grad_scaler=True)
        trainer.train(0, 2)
        assert trainer.storage.latest()["[metric]grad_scaler"][0] == 8.0
        other = AMPTrainer(line, batches, sgd(line))
        other.load_state_dict(trainer.state_dict())
        assert other.grad_scaler.get_scale() == 8.0
        bfloat = AMPTrainer(line, batches, sgd(line), precision=torch.bfloat16)
        other.load_state_dict(bfloat.state_dict())  # without a scale, which leaves it alone
        assert other.grad_scaler.get_scale() == 8.0

    def test_one_process_one_device(self, line, batches, sgd):
        with pytest.raises(AssertionError, match="spread over several devices"):
            AMPTrainer(nn.DataParallel(line), batches, sgd(line))


class TestNotFinite:
    def test_training_stops_before_the_weights_change(self, line, batches, sgd):
        batches[3][0, 0] = float("nan")
        trainer = SimpleTrainer(line, batches, sgd(line))
        with pytest.raises(
            NonFiniteLossError, match=r"iteration 3: the loss is not finite"
        ) as info:
            trainer.train(0, 5)

        assert torch.isfinite(weights(line)).all()
        text = str(info.value)
        assert "losses: loss_a = nan, loss_b = nan" in text
        assert "first:  the input\n" in text
        assert "a lower learning rate (it was 0.1" in text
        assert isinstance(info.value, FloatingPointError)

    def test_images_losses_and_layers_are_named(self, sgd):
        class Detector(nn.Module):
            def __init__(self):
                super().__init__()
                self.stem = nn.Linear(1, 1)
                self.norm = nn.BatchNorm1d(1)
                self.head = nn.Linear(1, 1)
                self.head.register_forward_hook(lambda m, i, out: out / 0)

            def forward(self, batch):
                out = self.norm(self.stem(torch.stack([s["image"] for s in batch])))
                return {"loss_cls": out.mean(), "loss_box": self.head(out).square().sum()}

        model = Detector()
        batch = [{"image": torch.ones(1) * i, "file_name": f"{i}.jpg"} for i in range(20)]
        trainer = SimpleTrainer(model, [batch], sgd(model))
        with pytest.raises(NonFiniteLossError) as info:
            trainer.train(0, 1)
        text = str(info.value)

        assert "loss_box = inf, loss_cls = " in text
        assert "0.jpg, 1.jpg" in text
        assert "15.jpg, and 4 more" in text
        assert "the output of layer 'head' (Linear)" in text

    def test_a_model_that_notices_by_itself(self, sgd):
        class Careful(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(3, 1)

            def forward(self, batch):
                if not torch.isfinite(self.layer(batch / 0)).all():
                    raise FloatingPointError("boxes are infinite")

        model = Careful()
        with pytest.raises(NonFiniteLossError) as info:
            SimpleTrainer(model, [torch.ones(4, 3)], sgd(model)).train(0, 1)
        assert "iteration 0: the loss is not finite\n  model:  boxes are infinite" in str(
            info.value
        )
        assert "the output of layer 'layer' (Linear)" in str(info.value)

    def test_buffers_stay_as_they_were(self, line, batches):
        before = line.norm.running_mean.clone()
        assert first_non_finite(line, batches).startswith("no layer: when run again")
        assert torch.equal(line.norm.running_mean, before)

    def test_a_bad_weight_comes_first(self, line, batches):
        line.norm.weight.data[0] = float("inf")
        assert "the weight 'norm.weight'" in first_non_finite(line, batches)

    def test_a_model_that_fails_again_is_said(self, batches):
        model = nn.Linear(5, 1)
        assert "running the model again failed (RuntimeError" in first_non_finite(model, batches)

    def test_reporting_notices_on_the_cpu(self):
        with (
            EventStorage(),
            pytest.raises(FloatingPointError, match="iteration 4: the loss is not finite: a = nan"),
        ):
            SimpleTrainer.write_metrics({"a": torch.tensor(float("nan"))}, 0.0, 4)

    def test_errors_of_reporting_are_logged(self, line, batches, sgd, caplog):
        caplog.set_level(logging.ERROR)
        trainer = SimpleTrainer(line, batches, sgd(line))
        with EventStorage(), pytest.raises(TypeError, match="str"):
            trainer._write_metrics({"a": "b"}, 0.0)
        assert "Exception in writing metrics: of iteration 0" in caplog.text


class Mean(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, batch):
        return self.layer(batch).square().mean()
