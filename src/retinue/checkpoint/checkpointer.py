"""Saving and loading models together with what belongs to them.

A checkpoint is a ``.pth`` file of plain data: ``{"model": state dict, "iteration": n, ...}`` with
an entry for each further object. It appears whole or not at all; the file ``last_checkpoint``
beside it names the newest and is written afterwards. Loading runs no code from a file.

Reading order: Checkpointer.save, .load, .resume_or_load; PeriodicCheckpointer.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from retinue.checkpoint.background import InTurn, snapshot
from retinue.checkpoint.errors import CheckpointError, DamagedFileError
from retinue.checkpoint.files import read_torch_file
from retinue.checkpoint.names import strip_prefix, unwrap
from retinue.checkpoint.report import (
    IncompatibleKeys,
    LoadReport,
    describe_shapes,
    get_missing_parameters_message,
    get_unexpected_parameters_message,
)
from retinue.checkpoint.sharded import is_sharded
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager, atomic_write

_strip_prefix_if_present = strip_prefix  # the name that detectron2's users import

__all__ = [
    "CheckpointError",
    "Checkpointer",
    "DamagedFileError",
    "IncompatibleKeys",
    "PeriodicCheckpointer",
    "get_missing_parameters_message",
    "get_unexpected_parameters_message",
    "read_torch_file",
]

LAST_CHECKPOINT = "last_checkpoint"


class Checkpointer:
    """Saves and loads a model and other objects that have a ``state_dict``.

    Args:
        model: the model; inside ``DistributedDataParallel`` or ``torch.compile``, the module they
            wrap is meant.
        save_dir: folder that checkpoints are saved in and resumed from; empty to save none.
        save_to_disk: whether this process saves.
        asynchronous: write files in a thread, from a copy of the state, while training goes on.
        checkpointables: further objects by name, e.g. ``optimizer=optimizer``.

    Attributes:
        report: what happened to every tensor in the last load.

    Example:
        ``Checkpointer(model, "output", optimizer=optimizer).save("model_final", iteration=999)``
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool = True,
        asynchronous: bool = False,
        **checkpointables: Any,
    ) -> None:
        self.model = _inner_model(model)
        self.checkpointables: dict[str, Any] = {}
        for key, checkpointable in checkpointables.items():
            self.add_checkpointable(key, checkpointable)
        self.logger = logging.getLogger(__name__)
        self.save_dir = save_dir
        self.save_to_disk = save_to_disk
        self.path_manager: Any = PathManager
        self.report = LoadReport()
        self._turns = InTurn(asynchronous)
        self._refuse_other_shapes = False

    def add_checkpointable(self, key: str, checkpointable: Any) -> None:
        """Save and load another object, too, under the name ``key``.

        Raises:
            KeyError: If the name is taken.
            TypeError: If the object has no ``state_dict()``.
        """
        if key in self.checkpointables:
            raise KeyError(f"Checkpointer: {key!r} is the name of another object already")
        if not hasattr(checkpointable, "state_dict"):
            raise TypeError(
                f"Checkpointer: {key!r} needs a state_dict() method to be saved by;"
                f" {type(checkpointable).__name__} has none"
            )
        self.checkpointables[key] = checkpointable

    def save(self, name: str, **kwargs: Any) -> None:
        """Save everything to ``<save_dir>/<name>.pth``, and make it the last checkpoint.

        Args:
            name: of the file, without folder or extension.
            kwargs: further plain data to save, such as ``iteration``.
        """
        if self.write(name, **kwargs):
            self.in_turn(lambda: self.tag_last_checkpoint(f"{name}.pth"))

    def write(self, name: str, **kwargs: Any) -> str:
        """Save everything as ``save`` does, but leave the last checkpoint what it is.

        Returns:
            The path, or an empty string in a process that doesn't save.

        Raises:
            InputError: If ``name`` has a folder in it, or the model is spread over processes.
        """
        if not self.save_dir or not self.save_to_disk:
            return ""
        if os.path.basename(name) != name:
            raise InputError(
                f"Checkpointer.save: name must be a plain file name; got {name!r}; the folder is"
                f" save_dir ({self.save_dir!r})"
            )
        if is_sharded(self.model):
            raise InputError(
                "Checkpointer.save: the model is spread over processes, and this one has a part of"
                " it; call save_sharded in all of them"
            )
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        content = {"model": self.model.state_dict()}
        content.update({key: obj.state_dict() for key, obj in self.checkpointables.items()})
        content |= kwargs
        if self._turns.is_async:
            self.wait()  # for the one before, so that at most one copy is there
            content = snapshot(content)
        self.path_manager.mkdirs(self.save_dir)
        self.in_turn(lambda: self._write_file(path, content))
        return path

    def _write_file(self, path: str, content: dict[str, Any]) -> None:
        with self._writer(path, "wb") as file:
            torch.save(content, file)

    def save_sharded(self, name: str, **kwargs: Any) -> None:
        """Save from all processes into the folder ``<save_dir>/<name>``, each its part.

        It becomes the last checkpoint. The model is saved, the optimizer that is a checkpointable
        of the name ``optimizer``, and the states of the others.

        Args:
            name: of the folder.
            kwargs: further plain data to save, such as ``iteration``.
        """
        from retinue.checkpoint.sharded import save_sharded

        others = {k: o.state_dict() for k, o in self.checkpointables.items() if k != "optimizer"}
        optimizer = self.checkpointables.get("optimizer")
        save_sharded(os.path.join(self.save_dir, name), self.model, optimizer, **others, **kwargs)
        if self.save_to_disk:
            self.tag_last_checkpoint(name)

    def _load_sharded(self, folder: str, checkpointables: Sequence[str] | None) -> dict[str, Any]:
        from retinue.checkpoint.sharded import load_sharded

        wanted = list(self.checkpointables) if checkpointables is None else checkpointables
        optimizer = self.checkpointables.get("optimizer") if "optimizer" in wanted else None
        rest = load_sharded(folder, self.model, optimizer)
        self.report.loaded = list(self.model.state_dict())
        for key in wanted:
            if key in rest:
                self.checkpointables[key].load_state_dict(rest.pop(key))
        return rest

    def in_turn(self, function: Callable[[], None]) -> None:
        """Run ``function`` when the files saved so far are written; at once if they are."""
        self._turns.do(function)

    def wait(self) -> None:
        """Wait until all files are written.

        Raises:
            OSError: If one couldn't be.
        """
        self._turns.wait()

    def write_weights(self, name: str, **facts: Any) -> str:
        """Save the model alone to ``<save_dir>/<name>.safetensors``.

        Args:
            name: of the file, without folder or extension.
            facts: plain data to write into it, such as ``config``, ``classes`` and ``metrics``;
                those of a checkpointable named ``run`` are there too.

        Returns:
            The path, or an empty string in a process that doesn't save.
        """
        from retinue.checkpoint.writer import make_record, write_safetensors

        if not self.save_dir or not self.save_to_disk:
            return ""
        path = os.path.join(self.save_dir, f"{name}.safetensors")
        run = self.checkpointables.get("run")
        record = make_record(**((run.state_dict() if run is not None else {}) | facts))
        weights = snapshot(self.model.state_dict())
        self.path_manager.mkdirs(self.save_dir)
        self.in_turn(lambda: write_safetensors(path, weights, record))
        return path

    def _writer(self, path: str, mode: str) -> Any:
        if "://" in path and self.path_manager is not PathManager:
            return self.path_manager.open(path, mode)  # a store known to that path manager only
        return atomic_write(path, mode)

    def load(self, path: str, checkpointables: Sequence[str] | None = None) -> dict[str, Any]:
        """Load a checkpoint; what doesn't fit the model is reported and skipped.

        Args:
            path: a file or an address; nothing is loaded if empty.
            checkpointables: names of the objects to load beside the model; all by default.

        Returns:
            What the file has beyond the model and the loaded objects.
        """
        if not path:
            self.logger.info("No checkpoint was given: the model starts from its initial weights")
            return {}
        self.logger.info("[%s] Loading from %s ...", type(self).__name__, path)
        self.report = LoadReport(path)
        if os.path.isdir(path) and is_sharded(self.model):
            return self._load_sharded(path, checkpointables)
        checkpoint = self._load_file(path)
        incompatible = self._load_model(checkpoint)
        if incompatible is not None:  # subclasses written for older interfaces return nothing
            self._log_incompatible_keys(incompatible)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key in checkpoint:
                self.logger.info("Loading %s from %s", key, path)
                self.checkpointables[key].load_state_dict(checkpoint.pop(key))
        return checkpoint

    def has_checkpoint(self) -> bool:
        """Say whether ``save_dir`` has a last checkpoint."""
        self.wait()
        return bool(self.path_manager.exists(os.path.join(self.save_dir, LAST_CHECKPOINT)))

    def get_checkpoint_file(self) -> str:
        """Return the path of the last checkpoint, or an empty string."""
        self.wait()
        try:
            with self.path_manager.open(os.path.join(self.save_dir, LAST_CHECKPOINT), "r") as file:
                return os.path.join(self.save_dir, file.read().strip())
        except OSError:  # may have been deleted a moment ago
            return ""

    def get_all_checkpoint_files(self) -> list[str]:
        """Return the paths of all ``.pth`` files in ``save_dir``."""
        names = [n for n in self.path_manager.ls(self.save_dir) if n.endswith(".pth")]
        paths = [os.path.join(self.save_dir, name) for name in names]
        return [path for path in paths if self.path_manager.isfile(path)]

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint, or start from the weights in ``path``.

        Resuming loads everything, from the newest file that is whole: one that was cut off is said
        and passed over. Starting loads the model only.

        Args:
            path: weights to start with if there is no last checkpoint, or ``resume`` is False.
            resume: whether to look for a last checkpoint.

        Returns:
            The same as ``load``.

        Raises:
            CheckpointError: If a checkpoint to resume from is for a model of other shapes, or none
                of the files is whole.
        """
        if not (resume and self.has_checkpoint()):
            return self.load(path, checkpointables=[])
        self._remove_leftovers()
        self._refuse_other_shapes = True
        try:
            return self._resume()
        finally:
            self._refuse_other_shapes = False

    def _resume(self) -> dict[str, Any]:
        last = self.get_checkpoint_file()
        reasons = []
        for path in [last, *self._newest_first(without=last)]:
            try:
                return self.load(path)
            except (DamagedFileError, FileNotFoundError) as error:
                reasons.append(str(error))
                self.logger.warning(
                    "Cannot resume from this file, trying the one before: %s", error
                )
        raise CheckpointError(
            "nothing to resume from: no checkpoint is whole; start anew, or put a whole one into"
            f" {self.save_dir!r}:\n  " + "\n  ".join(reasons)
        )

    def _newest_first(self, without: str) -> list[str]:
        paths = set(self.get_all_checkpoint_files()) - {without}
        with contextlib.suppress(OSError):  # remote files have no time here; names have numbers
            return sorted(paths, key=lambda path: (os.path.getmtime(path), path), reverse=True)
        return sorted(paths, reverse=True)

    def _remove_leftovers(self) -> None:
        """Delete what a killed process left of a file that it was writing."""
        if not self.save_to_disk or not os.path.isdir(self.save_dir):
            return
        for name in os.listdir(self.save_dir):
            if re.fullmatch(rf"\.(.+\.pth|{LAST_CHECKPOINT})\.[0-9a-f]+\.tmp", name):
                with contextlib.suppress(OSError):
                    os.remove(os.path.join(self.save_dir, name))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Make a file of ``save_dir`` the last checkpoint."""
        with self._writer(os.path.join(self.save_dir, LAST_CHECKPOINT), "w") as file:
            file.write(last_filename_basename)

    def _load_file(self, f: str) -> dict[str, Any]:
        """Read a checkpoint file into a dict with the key ``model``; for subclasses to extend."""
        content: dict[str, Any] = read_torch_file(f, self.path_manager)
        return content

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys:
        """Load ``checkpoint.pop("model")`` into the model.

        Raises:
            CheckpointError: When resuming, if shapes differ.
        """
        state = checkpoint.pop("model")
        self._convert_ndarray_to_tensor(state)
        own = self.model.state_dict()
        self._unwrap(state, own)
        if state and not any(name in own for name in state):
            self.report.warnings.append(
                "no name of the checkpoint is one of the model's: it is of another kind of network"
            )
        self._fit(state, own)
        incorrect_shapes = [
            (name, tuple(tensor.shape), tuple(own[name].shape))
            for name, tensor in state.items()
            if name in own
            and not nn.parameter.is_lazy(own[name])
            and tensor.shape != own[name].shape
        ]
        if incorrect_shapes and self._refuse_other_shapes:
            raise CheckpointError(
                "cannot resume: the checkpoint is for a model of other shapes. Resume with the"
                " config it was trained with; or start anew in another output folder, with this"
                " checkpoint as MODEL.WEIGHTS, which re-initialises these:"
                + describe_shapes(incorrect_shapes)
            )
        for name, _, _ in incorrect_shapes:
            del state[name]
        result = self.model.load_state_dict(state, strict=False)
        return IncompatibleKeys(
            _without_aliases(self.model, result.missing_keys),
            list(result.unexpected_keys),
            incorrect_shapes,
        )

    def _unwrap(self, state: dict[str, Any], own: dict[str, torch.Tensor]) -> None:
        """Take what wrappers put before names off them, in place."""
        if wrappers := unwrap(state, own):
            self.report.notes.append(f"names came without {wrappers}, which a wrapper had added")

    def _fit(self, state: dict[str, Any], own: dict[str, torch.Tensor]) -> None:
        """Change tensors of ``state`` in place so that they fit; sizes of 1 may come and go."""
        for name, tensor in state.items():
            if name not in own or nn.parameter.is_lazy(own[name]):
                continue
            want, got = tuple(own[name].shape), tuple(tensor.shape)
            if want != got and [n for n in want if n != 1] == [n for n in got if n != 1]:
                state[name] = tensor.reshape(want)
                self.report.reshaped[name] = f"{got} in the checkpoint became {want}"

    def _log_incompatible_keys(self, incompatible: IncompatibleKeys) -> None:
        """Report how a load went."""
        report = self.report
        for name, saved, here in incompatible.incorrect_shapes:
            report.reinitialised[name] = f"{saved} in the checkpoint, {here} here"
        report.missing = [n for n in incompatible.missing_keys if n not in report.reinitialised]
        report.unexpected = list(incompatible.unexpected_keys)
        absent = {*report.missing, *report.reinitialised}
        report.loaded = [name for name in self.model.state_dict() if name not in absent]
        level = logging.INFO if report.is_complete and not report.warnings else logging.WARNING
        self.logger.log(level, "%s", report)

    def _convert_ndarray_to_tensor(self, state_dict: dict[str, Any]) -> None:
        """Make arrays tensors, in place.

        Raises:
            ValueError: If a value is neither.
        """
        for name, value in state_dict.items():
            if isinstance(value, np.ndarray):
                state_dict[name] = torch.from_numpy(value)
            elif not isinstance(value, torch.Tensor):
                raise ValueError(
                    f"checkpoint: {name!r} must be a tensor or an array; got {type(value).__name__}"
                )


def _inner_model(model: nn.Module) -> nn.Module:
    wrappers = (nn.parallel.DistributedDataParallel, nn.DataParallel)
    while isinstance(model, wrappers) or hasattr(model, "_orig_mod"):
        model = model.module if isinstance(model, wrappers) else model._orig_mod  # type: ignore[assignment]
    return model


def _without_aliases(model: nn.Module, missing: Sequence[str]) -> list[str]:
    """Drop the names of tensors that were loaded under another name."""
    names_of: dict[int, set[str]] = {}
    for tensors in (
        model.named_parameters(remove_duplicate=False),
        model.named_buffers(remove_duplicate=False),
    ):
        for name, tensor in tensors:
            names_of.setdefault(id(tensor), set()).add(name)
    absent = set(missing)
    loaded = {n for names in names_of.values() if not names <= absent for n in names}
    return [name for name in missing if name not in loaded]


class PeriodicCheckpointer:
    """Saves every few iterations and at the end, and keeps the newest files.

    Args:
        checkpointer: what saves.
        period: iterations between saves.
        max_iter: iterations in all; the last one is saved as ``<file_prefix>_final.pth``.
        max_to_keep: how many of the numbered files to keep; all by default.
        file_prefix: files are ``<file_prefix>_0000099.pth``.

    Raises:
        InputError: If ``max_to_keep`` is not positive.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        period: int,
        max_iter: int | None = None,
        max_to_keep: int | None = None,
        file_prefix: str = "model",
    ) -> None:
        if max_to_keep is not None and max_to_keep < 1:
            raise InputError(
                f"PeriodicCheckpointer: max_to_keep must be above 0; got {max_to_keep}"
            )
        self.checkpointer = checkpointer
        self.period = int(period)
        self.max_iter = max_iter
        self.max_to_keep = max_to_keep
        self.recent_checkpoints: list[str] = []
        self.path_manager: Any = checkpointer.path_manager
        self.file_prefix = file_prefix

    def step(self, iteration: int, **kwargs: Any) -> None:
        """Save if it is time to, after iteration number ``iteration`` (from 0).

        Args:
            iteration: saved as ``iteration``.
            kwargs: further plain data to save.
        """
        iteration = int(iteration)
        state = {"iteration": iteration, **kwargs}
        if self.period > 0 and (iteration + 1) % self.period == 0:
            if self.max_to_keep is not None and not self.recent_checkpoints:
                self.recent_checkpoints = self._earlier_files(iteration)
            self.checkpointer.save(f"{self.file_prefix}_{iteration:07d}", **state)
            if self.max_to_keep is not None and self.checkpointer.save_to_disk:
                self.checkpointer.in_turn(self._keep)
        if self.max_iter is not None and iteration >= self.max_iter - 1:
            self.checkpointer.save(f"{self.file_prefix}_final", **state)
            self.checkpointer.wait()

    def _earlier_files(self, iteration: int) -> list[str]:
        """Find the numbered files of the run that this one resumes."""
        numbered = re.compile(rf"{re.escape(self.file_prefix)}_(\d{{7,}})\.pth")
        found = []
        for path in self.checkpointer.get_all_checkpoint_files():
            match = numbered.fullmatch(os.path.basename(path))
            if match and int(match[1]) < iteration:
                found.append(path)
        return sorted(found)

    def _keep(self) -> None:
        self.recent_checkpoints.append(self.checkpointer.get_checkpoint_file())
        while len(self.recent_checkpoints) > (self.max_to_keep or 1):
            oldest = self.recent_checkpoints.pop(0)
            if self.path_manager.exists(oldest):
                self.path_manager.rm(oldest)

    def save(self, name: str, **kwargs: Any) -> None:
        """Save now, as ``Checkpointer.save`` does."""
        self.checkpointer.save(name, **kwargs)
