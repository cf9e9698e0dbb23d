"""The loop of training: iterations, one after the other, and when hooks are called.

``TrainerBase`` knows nothing of models. Everything else that happens in training (schedules,
checkpoints, evaluation, writing) is a hook.

Reading order: HookBase, TrainerBase.train.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from retinue.utils import comm
from retinue.utils.errors import InputError, UnknownNameError
from retinue.utils.events import EventStorage

__all__ = ["HookBase", "TrainerBase"]

logger = logging.getLogger("retinue.engine.train_loop")  # whose lines scripts look for


class HookBase:
    """Something that a trainer does beside its steps.

    A trainer calls its hooks in the order they were registered, in each iteration
    ``before_step``, ``after_backward`` (before the optimizer's step) and ``after_step``.
    ``before_step`` should be quick: timers start there.

    A hook with a state defines ``state_dict`` and ``load_state_dict``.
    """

    trainer: Any = None
    """The trainer (a weak reference), once the hook is registered."""

    def before_train(self) -> None:
        """Called once, before the first iteration."""

    def after_train(self) -> None:
        """Called once at the end, also when training fails.

        ``trainer.iter`` is ``trainer.max_iter`` if it came to its end.
        """

    def before_step(self) -> None:
        """Called at the start of each iteration."""

    def after_backward(self) -> None:
        """Called when gradients are there."""

    def after_step(self) -> None:
        """Called at the end of each iteration."""

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs; plain data."""
        return {}


class TrainerBase:
    """A loop with hooks; a subclass defines ``run_step``.

    Attributes:
        iter: the current iteration, from 0; afterwards, how many were done.
        start_iter: the first iteration of this run, more than 0 if it was resumed.
        max_iter: where training ends.
        storage: the measurements of this run, while it lasts.
    """

    storage: EventStorage
    max_iter: int

    def __init__(self) -> None:
        self._hooks: list[HookBase] = []
        self._stop_requested = False
        self.iter = 0
        self.start_iter = 0

    def register_hooks(self, hooks: Sequence[HookBase | None]) -> None:
        """Add hooks behind those that are there; None is skipped.

        Raises:
            InputError: If one is no ``HookBase``.
        """
        for hook in hooks:
            if hook is None:
                continue
            if not isinstance(hook, HookBase):
                raise InputError(f"register_hooks: expected HookBase objects; got {hook!r}")
            hook.trainer = weakref.proxy(self)
            self._hooks.append(hook)

    def request_stop(self) -> None:
        """End training after the current iteration."""
        self._stop_requested = True

    def train(self, start_iter: int, max_iter: int) -> None:
        """Run the iterations from ``start_iter`` to ``max_iter - 1``."""
        logger.info("Starting training from iteration %d", start_iter)
        self.iter = self.start_iter = start_iter
        self.max_iter = max_iter
        self._stop_requested = False
        with EventStorage(start_iter) as self.storage:
            try:
                self.before_train()
                num_done = start_iter
                while num_done < max_iter and not self._stop_requested:
                    self.iter = num_done
                    self.before_step()
                    self.run_step()
                    self.after_step()
                    num_done += 1
                self.iter = num_done  # tells hooks in after_train that nothing failed
            except (OSError, InputError, UnknownNameError, FloatingPointError) as error:  # no bug
                logger.error("Exception during training: in iteration %d: %s", self.iter, error)
                raise
            except Exception:
                logger.exception("Exception during training: in iteration %d", self.iter)
                raise
            finally:
                self.after_train()

    def before_train(self) -> None:
        for hook in self._hooks:
            hook.before_train()

    def after_train(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.after_train()

    def before_step(self) -> None:
        self.storage.iter = self.iter
        for hook in self._hooks:
            hook.before_step()

    def after_backward(self) -> None:
        for hook in self._hooks:
            hook.after_backward()

    def after_step(self) -> None:
        for hook in self._hooks:
            hook.after_step()

    def run_step(self) -> None:
        """Do one iteration."""
        raise NotImplementedError(f"{type(self).__name__} must define run_step()")

    def state_dict(self) -> dict[str, Any]:
        """Return the iteration and the states of the hooks, by the names of their classes.

        Of two hooks of one class, only the first is saved, as detectron2's files have it.
        """
        hooks: dict[str, Any] = {}
        for hook in self._hooks:
            state = hook.state_dict()
            if state:
                hooks.setdefault(type(hook).__qualname__, state)
        state = {"iteration": self.iter}
        return {**state, "hooks": hooks} if hooks else state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` returned; hooks that are not there any more are said."""
        self.iter = state_dict["iteration"]
        for name, state in state_dict.get("hooks", {}).items():
            hook: Any = next((h for h in self._hooks if type(h).__qualname__ == name), None)
            if hook is not None:
                hook.load_state_dict(state)
            elif comm.is_main_process():  # others have no hooks that save
                logger.warning(
                    "Cannot find the hook %r: its state in the checkpoint is ignored", name
                )
