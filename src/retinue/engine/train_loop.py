"""What happens in an iteration of training.

``SimpleTrainer`` takes batches, computes losses and steps an optimizer; ``AMPTrainer`` does so in
mixed precision. The loop around it is ``TrainerBase``, in loop.py.

Nothing here makes the host wait for an accelerator to finish a step: losses stay on their device
until a writer reads them, and whether a loss is finite is asked while the backward pass runs.

Reading order: SimpleTrainer.run_step.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from retinue.checkpoint.sharded import is_sharded
from retinue.engine.loop import HookBase, TrainerBase
from retinue.engine.non_finite import FiniteCheck, NonFiniteLossError, non_finite_loss
from retinue.engine.training_state import load_training_state, training_state
from retinue.utils import comm
from retinue.utils.errors import InputError
from retinue.utils.events import get_event_storage

__all__ = ["AMPTrainer", "HookBase", "SimpleTrainer", "TrainerBase"]

logger = logging.getLogger(__name__)


class SimpleTrainer(TrainerBase):
    """One model, one optimizer, one stream of batches; one step of the optimizer an iteration.

    The model is put into training mode. It maps a batch to a loss or a dict of losses, whose sum is
    minimised. Wrap model, loader or optimizer to do something with what goes through them.

    Args:
        model: the model, maybe inside ``DistributedDataParallel``.
        data_loader: gives batches; one that ends is started again.
        optimizer: steps once an iteration.
        gather_metric_period: iterations between averages of the losses over all processes.
        zero_grad_before_forward: clear gradients before the forward pass rather than after it.
        async_write_metrics: report losses from another thread.
        accumulate: batches in an iteration; their losses are averaged.

    Raises:
        InputError: If ``accumulate`` is not positive.

    Example:
        ``SimpleTrainer(model, loader, torch.optim.SGD(model.parameters(), 0.01)).train(0, 1000)``
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        async_write_metrics: bool = False,
        *,
        accumulate: int = 1,
    ) -> None:
        super().__init__()
        if accumulate < 1:
            raise InputError(f"SimpleTrainer: accumulate must be at least 1; got {accumulate}")
        model.train()
        self.model = model
        self.data_loader = data_loader
        self._data_loader_iter_obj: Iterator[Any] | None = None
        self.optimizer = optimizer
        self.gather_metric_period = gather_metric_period
        self.zero_grad_before_forward = zero_grad_before_forward
        self.async_write_metrics = async_write_metrics
        self.accumulate = accumulate
        self.batches: list[Any] = []
        """The batches of the current iteration, for hooks."""
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1)

    def run_step(self) -> None:
        """Take batches, compute losses and gradients, report, step.

        Raises:
            InputError: If the model was left in evaluation mode.
            NonFiniteLossError: (a ``FloatingPointError``) before the optimizer's step.
        """
        if not self.model.training:
            raise InputError(
                f"{type(self).__name__}: the model is in evaluation mode; something called"
                " model.eval() and not model.train() afterwards"
            )
        start = time.perf_counter()
        self.batches = [self._next_batch() for _ in range(self.accumulate)]
        data_time = time.perf_counter() - start

        try:
            losses, check = self._compute_gradients()
        except FloatingPointError as error:  # the model has noticed by itself
            raise self._non_finite(str(error)) from error
        self.after_backward()
        self._stop_if_not_finite(losses, check)
        if self.async_write_metrics and comm.get_world_size() == 1:
            write = self._write_metrics
            self.concurrent_executor.submit(write, losses, data_time, iter=self.iter)
        else:
            self._write_metrics(losses, data_time)
        self._optimizer_step()

    def _compute_gradients(self) -> tuple[dict[str, torch.Tensor], FiniteCheck]:
        """Return the losses (means over the batches, detached), and whether their sum is finite."""
        if self.zero_grad_before_forward:
            self.optimizer.zero_grad()
        means: dict[str, torch.Tensor] = {}
        for index, batch in enumerate(self.batches):
            is_last = index == len(self.batches) - 1
            with self._gradient_exchange(is_last):
                with self._precision():
                    losses = self._losses(batch)
                    if isinstance(losses, torch.Tensor):
                        losses = {"total_loss": losses}
                    total = sum(losses.values()) / len(self.batches)
                if index == 0 and not self.zero_grad_before_forward:
                    self.optimizer.zero_grad()
                for name, loss in losses.items():
                    part = loss.detach() / len(self.batches)
                    means[name] = means[name] + part if name in means else part
                check = FiniteCheck(means.values()) if is_last else None
                self._backward(total)
        assert check is not None
        return means, check

    def _losses(self, batch: Any) -> Any:
        try:
            return self.model(batch)
        except RuntimeError as error:
            if "finished reduction in the prior iteration" in str(error):
                raise UnusedParametersError(_unused_parameters(self.model)) from error
            raise

    def _gradient_exchange(self, is_last: bool) -> AbstractContextManager[Any]:
        """Processes exchange gradients after the last batch only."""
        if is_last or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _precision(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def _backward(self, total: torch.Tensor) -> None:
        total.backward()

    def _optimizer_step(self) -> None:
        self.optimizer.step()

    def _stop_if_not_finite(self, losses: Mapping[str, torch.Tensor], check: FiniteCheck) -> None:
        is_bad_here = not check
        is_bad_anywhere = comm.any_process(is_bad_here)
        if is_bad_here:
            raise self._non_finite(losses)
        if is_bad_anywhere:
            raise NonFiniteLossError(
                f"iteration {self.iter}: the loss of another process is not finite; see its log"
            )

    def _non_finite(self, what: Mapping[str, torch.Tensor] | str) -> NonFiniteLossError:
        rate = self.optimizer.param_groups[0]["lr"]
        return non_finite_loss(self.iter, what, self.batches, self.model, rate, self._precision)

    def _next_batch(self) -> Any:
        for _ in range(2):
            batch = next(self._data_loader_iter, self)
            if batch is not self:
                return batch
            self._data_loader_iter_obj = None  # the end of an epoch: begin again
        raise InputError(
            f"{type(self).__name__}: the data loader gives no batch; is the dataset empty, or"
            " smaller than a batch, or the loader a generator that has ended?"
        )

    @property
    def _data_loader_iter(self) -> Iterator[Any]:
        if self._data_loader_iter_obj is None:
            self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def reset_data_loader(self, data_loader_builder: Callable[[], Iterable[Any]]) -> None:
        """Replace the loader by what ``data_loader_builder()`` returns.

        The old loader is let go of first, with its workers.
        """
        self._data_loader_iter_obj = None
        del self.data_loader
        self.data_loader = data_loader_builder()

    def _write_metrics(
        self,
        loss_dict: Mapping[str, torch.Tensor],
        data_time: float,
        prefix: str = "",
        iter: int | None = None,
    ) -> None:
        iteration = self.iter if iter is None else iter
        if (iteration + 1) % self.gather_metric_period == 0:
            try:
                SimpleTrainer.write_metrics(loss_dict, data_time, iteration, prefix)
            except Exception:  # said here, since another thread's errors are not
                logger.exception("Exception in writing metrics: of iteration %d", iteration)
                raise

    @staticmethod
    def write_metrics(
        loss_dict: Mapping[str, torch.Tensor], data_time: float, cur_iter: int, prefix: str = ""
    ) -> None:
        """Report losses, their sum, and the time that the slowest process waited for data.

        The main process reports means over all processes. Tensors are not read here.

        Args:
            loss_dict: scalars.
            data_time: in seconds.
            cur_iter: the iteration they belong to.
            prefix: for the name ``total_loss``.

        Raises:
            FloatingPointError: If losses on the CPU are not finite.
        """
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time, cur_iter=cur_iter)
        losses = {name: torch.as_tensor(loss).detach() for name, loss in loss_dict.items()}
        losses, longest = _over_processes(losses, data_time)
        if not comm.is_main_process():
            return
        storage.put_scalar("data_time", longest, cur_iter=cur_iter)
        total = torch.stack([loss.float() for loss in losses.values()]).sum()
        if total.device.type == "cpu" and not torch.isfinite(total):
            values = ", ".join(f"{name} = {loss:.4g}" for name, loss in losses.items())
            raise NonFiniteLossError(f"iteration {cur_iter}: the loss is not finite: {values}")
        storage.put_scalar(f"{prefix}total_loss", total, cur_iter=cur_iter)
        if len(losses) > 1:
            for name, loss in losses.items():
                storage.put_scalar(name, loss, cur_iter=cur_iter)

    def state_dict(self) -> dict[str, Any]:
        # Of a model spread over processes the optimizer is saved by parts, see Checkpointer.
        optimizer = None if is_sharded(self.model) else self.optimizer.state_dict()
        state = {**super().state_dict(), "optimizer": optimizer}
        of_model = training_state(self.model)
        return {**state, "model_training_state": of_model} if of_model else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        if state_dict["optimizer"] is not None:
            self.optimizer.load_state_dict(state_dict["optimizer"])
        load_training_state(self.model, state_dict.get("model_training_state", {}))

    def after_train(self) -> None:
        super().after_train()
        self.concurrent_executor.shutdown(wait=True)
        self.concurrent_executor = ThreadPoolExecutor(max_workers=1)  # for another train()


class AMPTrainer(SimpleTrainer):
    """``SimpleTrainer`` in mixed precision, on any device that has ``torch.autocast``.

    Args:
        model, data_loader, optimizer, gather_metric_period: see ``SimpleTrainer``.
        zero_grad_before_forward, async_write_metrics, accumulate: likewise.
        grad_scaler: scales losses so that float16 gradients don't vanish; one is made if None.
        precision: ``torch.float16`` or ``torch.bfloat16``.
        log_grad_scaler: report the scale, for which the host waits in each iteration.

    Raises:
        InputError: If one process drives several devices.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[Any],
        optimizer: torch.optim.Optimizer,
        gather_metric_period: int = 1,
        zero_grad_before_forward: bool = False,
        grad_scaler: Any = None,
        precision: torch.dtype = torch.float16,
        log_grad_scaler: bool = False,
        async_write_metrics: bool = False,
        *,
        accumulate: int = 1,
    ) -> None:
        num_devices = len(getattr(model, "device_ids", None) or ())
        if isinstance(model, nn.DataParallel) or num_devices > 1:
            raise InputError(
                "AMPTrainer: the model is spread over several devices of one process; start one"
                " process per device with retinue.engine.launch or torchrun"
            )
        super().__init__(
            model,
            data_loader,
            optimizer,
            gather_metric_period,
            zero_grad_before_forward,
            async_write_metrics,
            accumulate=accumulate,
        )
        self._device_type = next((p.device.type for p in model.parameters()), "cpu")
        if grad_scaler is None:
            grad_scaler = torch.amp.GradScaler(
                self._device_type, enabled=precision == torch.float16
            )
        self.grad_scaler = grad_scaler
        self.precision = precision
        self.log_grad_scaler = log_grad_scaler

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self._device_type, dtype=self.precision)

    def _backward(self, total: torch.Tensor) -> None:
        self.grad_scaler.scale(total).backward()

    def _optimizer_step(self) -> None:
        if self.log_grad_scaler:
            storage = get_event_storage()
            storage.put_scalar("[metric]grad_scaler", self.grad_scaler.get_scale())
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        super().load_state_dict(state_dict)
        scaler_state = state_dict.get("grad_scaler")
        if scaler_state:  # empty if it was disabled, as for bfloat16
            self.grad_scaler.load_state_dict(scaler_state)


class UnusedParametersError(InputError, RuntimeError):
    """Some parameters get no gradient, for which ``DistributedDataParallel`` waits in vain."""


def _unused_parameters(model: nn.Module) -> str:
    module = getattr(model, "module", model)
    unused = [n for n, p in module.named_parameters() if p.requires_grad and p.grad is None]
    shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
    return (
        f"DistributedDataParallel: every parameter must take part in the loss; {shown or 'some'}"
        " took no part in the last iteration. Take them out of the model, freeze them"
        " (requires_grad=False), or wrap it by"
        " create_ddp_model(model, find_unused_parameters=True), which costs some time in each"
        " iteration (lazy configs: train.ddp.find_unused_parameters=True)"
    )


def _over_processes(
    losses: dict[str, torch.Tensor], data_time: float
) -> tuple[dict[str, torch.Tensor], float | torch.Tensor]:
    """Return the mean losses and the longest time, valid on the main process."""
    if comm.get_world_size() == 1:
        return losses, data_time
    names = sorted(losses)
    mean = torch.stack([losses[name].float() for name in names])
    # Filled on the device: a copy from the host would wait for it.
    longest = torch.full((), data_time, device=mean.device)
    dist.reduce(mean, dst=0)
    dist.reduce(longest, dst=0, op=dist.ReduceOp.MAX)
    mean /= comm.get_world_size()
    return dict(zip(names, mean.unbind(), strict=True)), longest
