"""Saving and loading models together with what belongs to them.

A checkpoint is a ``.pth`` file of plain data: ``{"model": state dict, "iteration": n, ...}`` with
an entry for each further object. It appears whole or not at all; the file ``last_checkpoint``
beside it names the newest and is written afterwards. Loading runs no code from a file. Of a
model that is spread over processes (FSDP) it is a folder, to which each process writes its part.

Reading order: Checkpointer.save, .load, .resume_or_load.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from retinue.checkpoint.background import InTurn, snapshot
from retinue.checkpoint.distributed import list_folder
from retinue.checkpoint.errors import CheckpointError, DamagedFileError
from retinue.checkpoint.files import read_torch_file
from retinue.checkpoint.names import strip_prefix, unwrap
from retinue.checkpoint.periodic import PeriodicCheckpointer
from retinue.checkpoint.report import (
    IncompatibleKeys,
    LoadReport,
    describe_shapes,
    get_missing_parameters_message,
    get_unexpected_parameters_message,
)
from retinue.checkpoint.sharded import clear_leftover, cut_as, is_leftover, is_sharded, is_shards
from retinue.utils import comm
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
            Sharded checkpoints are written at once all the same.
        sharded: save folders to which every process writes its part, which a model of FSDP needs;
            all processes call the methods that save then.
        checkpointables: further objects by name, e.g. ``optimizer=optimizer``.

    Attributes:
        optimizer: of the model, for sharded checkpoints: their parts of it go by the names of
            parameters; the checkpointable ``optimizer`` if there is one.
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
        sharded: bool = False,
        **checkpointables: Any,
    ) -> None:
        self.model = _inner_model(model)
        self.optimizer: torch.optim.Optimizer | None = checkpointables.get("optimizer")
        self.checkpointables: dict[str, Any] = {}
        for key, checkpointable in checkpointables.items():
            self.add_checkpointable(key, checkpointable)
        self.logger = logging.getLogger(__name__)
        self.save_dir = save_dir
        self.save_to_disk = save_to_disk
        self.sharded = sharded
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

        Sharded, it is the folder ``<save_dir>/<name>``.

        Args:
            name: of the file, without folder or extension.
            kwargs: further plain data to save, such as ``iteration``.
        """
        path = self.write(name, **kwargs)
        if path and self.save_to_disk:
            self.in_turn(lambda: self.tag_last_checkpoint(os.path.basename(path)))

    def write(self, name: str, **kwargs: Any) -> str:
        """Save everything as ``save`` does, but leave the last checkpoint what it is.

        Returns:
            The path, or an empty string in a process that doesn't save.

        Raises:
            InputError: If ``name`` has a folder in it, or the model is spread over processes.
        """
        if not self.save_dir or not (self.save_to_disk or self.sharded):
            return ""
        if os.path.basename(name) != name:
            raise InputError(
                f"Checkpointer.save: name must be a plain file name; got {name!r}; the folder is"
                f" save_dir ({self.save_dir!r})"
            )
        if self.sharded:
            return self._write_shards(name, kwargs)
        if is_sharded(self.model):
            raise InputError(
                "Checkpointer.save: the model is spread over processes, and this one has a part of"
                " it; make the Checkpointer with sharded=True and call save in all of them"
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
        try:
            with self._writer(path, "wb") as file:
                torch.save(content, file)
        except (OSError, RuntimeError) as error:
            # PyTorch's writer ends in a RuntimeError of its own where a disk is full.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise OSError(
                cause.errno,
                f"checkpoint {path} can't be written: {cause.strerror}; earlier ones are whole;"
                " make room or choose another folder, and resume",
            ) from error

    def _write_shards(self, name: str, facts: dict[str, Any]) -> str:
        from retinue.checkpoint.sharded import save_sharded

        path = os.path.join(self.save_dir, name)
        self.logger.info("Saving checkpoint to %s", path)
        objects = {k: v for k, v in self.checkpointables.items() if v is not self.optimizer}
        rest = {key: thing.state_dict() for key, thing in objects.items()}
        save_sharded(path, self.model, self.optimizer, **rest, **facts)
        return path

    def _load_shards(self, folder: str, wanted: Sequence[str]) -> dict[str, Any]:
        from retinue.checkpoint.sharded import load_sharded

        saved, own = list_folder(folder), self.model.state_dict()
        weights = saved.get("model", {})
        if shapes := _other_shapes(weights, own):
            raise _other_model(shapes)
        if absent := [name for name in own if name not in weights]:
            raise CheckpointError(
                f"{folder}: lacks {len(absent)} of the model's {len(own)} tensors: {absent[:5]};"
                " load it without the optimizer, which re-initialises them"
            )
        rest = load_sharded(folder, self.model, self.optimizer if "optimizer" in saved else None)
        self.report.loaded = list(own)
        self.report.unexpected = [name for name in weights if name not in own]
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
            self.logger.info("No checkpoint found. Initializing model from scratch")
            return {}
        self.logger.info("[Checkpointer] Loading from %s ...", path)
        self.report = LoadReport(path)
        wanted = list(self.checkpointables) if checkpointables is None else checkpointables
        if wanted and self.optimizer is not None and is_shards(path):
            return self._load_shards(path, wanted)
        checkpoint = self._load_file(path)
        incompatible = self._load_model(checkpoint)
        if incompatible is not None:  # subclasses written for older interfaces return nothing
            self._log_incompatible_keys(incompatible)
        for key in wanted:
            if key in checkpoint:
                self.logger.info("Loading %s from %s ...", key, path)
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
        """Return the paths of all ``.pth`` files in ``save_dir``, and of sharded checkpoints."""
        paths = [os.path.join(self.save_dir, name) for name in self.path_manager.ls(self.save_dir)]
        return [
            path
            for path in paths
            if is_shards(path) or (path.endswith(".pth") and self.path_manager.isfile(path))
        ]

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
        if self.sharded:
            comm.synchronize()  # the main process may have put a folder back
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
            path = os.path.join(self.save_dir, name)
            if re.fullmatch(rf"\.(.+\.pth|{LAST_CHECKPOINT})\.[0-9a-f]+\.tmp", name):
                with contextlib.suppress(OSError):
                    os.remove(path)
            elif is_leftover(path):
                clear_leftover(path)

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
        incorrect_shapes = _other_shapes(state, own)
        if incorrect_shapes and self._refuse_other_shapes:
            raise _other_model(incorrect_shapes)
        for name, _, _ in incorrect_shapes:
            del state[name]
        cut_as(own, state)
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
            report.reinitialised[name] = f"{saved} in the checkpoint but {here} in the model"
        report.missing = [n for n in incompatible.missing_keys if n not in report.reinitialised]
        report.unexpected = list(incompatible.unexpected_keys)
        absent = {*report.missing, *report.reinitialised}
        report.loaded = [name for name in self.model.state_dict() if name not in absent]
        for level, message in report.messages():
            self.logger.log(level, "%s", message)

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


def _other_shapes(
    state: Mapping[str, Any], own: Mapping[str, torch.Tensor]
) -> list[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    return [
        (name, tuple(tensor.shape), tuple(own[name].shape))
        for name, tensor in state.items()
        if name in own
        and not nn.parameter.is_lazy(own[name])
        and tuple(tensor.shape) != tuple(own[name].shape)
    ]


def _other_model(shapes: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> CheckpointError:
    return CheckpointError(
        "cannot resume: the checkpoint is for a model of other shapes. Resume with the config it"
        " was trained with; or start anew in another output folder, with this checkpoint as"
        " MODEL.WEIGHTS, which re-initialises these:" + describe_shapes(shapes)
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
