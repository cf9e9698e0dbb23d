"""Checkpoints of detectors: ours, detectron2's, Detectron 1's, pycls's, torchvision's, timm's.

Files are read by ``reader``. Then names are brought into ours: names that have no place in the
model are translated if they are those of a known family (``names``); those of Detectron 1 and pycls
are matched by their endings (``c2_model_loading``), others if the path ends in
``?matching_heuristics=True``. ``?weights=ema`` takes averaged weights. What the weights take for
granted about images is compared with the model (``conventions``), and heads of other classes are
mapped by the names of classes where both are known (``classes``).

Reading order: DetectionCheckpointer.load, ._read, ._load_model.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import torch
from torch import nn

from retinue.checkpoint.c2_model_loading import align_and_update_state_dicts
from retinue.checkpoint.checkpointer import Checkpointer, IncompatibleKeys
from retinue.checkpoint.classes import find_layout, map_rows
from retinue.checkpoint.conventions import TRAINED, check_conventions
from retinue.checkpoint.errors import MissingCheckpointError
from retinue.checkpoint.files import find_format, read_file
from retinue.checkpoint.names import put_under_prefix, recognise
from retinue.checkpoint.names_torchvision import is_torchvision_detector
from retinue.checkpoint.reader import (
    KNOWN_QUERIES,
    local_copy,
    record_of,
    split_query,
    understand,
)
from retinue.checkpoint.sharded import whole
from retinue.utils import comm
from retinue.utils.download import without_secrets
from retinue.utils.errors import close_names
from retinue.utils.file_io import PathManager

__all__ = ["DetectionCheckpointer"]

logger = logging.getLogger(__name__)

BACKGROUND_MOVED = "the background class was the first of the scores, and is the last now"
CLASS_OUTPUTS = re.compile(r"(cls_score|bbox_pred|mask_head\.predictor|point_head\.predictor)\b")


class DetectionCheckpointer(Checkpointer):
    """Saves on the main process, and loads any detector's checkpoint in all of them.

    A process that can't read the file gets its content from the main process.

    Args:
        model: the model.
        save_dir: folder that checkpoints are saved in and resumed from.
        save_to_disk: whether this process saves; the main process alone by default.
        class_names: of the model, by which heads are mapped from a checkpoint with other classes
            that says their names.
        trust: run whatever code a file holds; the log says so. For files of your own only.
        asynchronous: write files in a thread, while training goes on.
        sharded: save folders to which every process writes its part, see ``Checkpointer``.
        checkpointables: further objects by name.

    Example:
        ``DetectionCheckpointer(model).load("detectron2://ImageNetPretrained/MSRA/R-50.pkl")``
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        save_to_disk: bool | None = None,
        class_names: Sequence[str] = (),
        trust: bool = False,
        asynchronous: bool = False,
        sharded: bool = False,
        **checkpointables: Any,
    ) -> None:
        if save_to_disk is None:
            save_to_disk = comm.is_main_process()
        super().__init__(
            model,
            save_dir,
            save_to_disk=save_to_disk,
            asynchronous=asynchronous,
            sharded=sharded,
            **checkpointables,
        )
        self.path_manager = PathManager
        self.class_names = list(class_names)
        self._trust = trust
        self._asked: dict[str, str] = {}
        self._unknown_query = ""
        self._unreached: OSError | None = None
        self._is_start = False

    def load(
        self, path: str, checkpointables: Sequence[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Load a checkpoint, see ``Checkpointer.load``.

        Behind a path, ``?matching_heuristics=True`` and ``?weights=ema`` are for the checkpointer;
        what else stands behind an address, such as a signature, is for its server.

        Raises:
            OSError: If the main process can't read the file.
            ValueError: If a path ends in another query, or an address in a misspelt one.
        """
        shown = without_secrets(str(path or ""))
        logger.info("[%s] Loading from %s ...", type(self).__name__, shown)
        if not path:
            return super().load(path, checkpointables, **kwargs)
        try:
            path = self._take_query_off(path)
            return super().load(self._local_path(path), checkpointables, **kwargs)
        finally:
            self._asked, self._unknown_query = {}, ""

    def _take_query_off(self, path: str) -> str:
        address, self._asked = split_query(path)
        plain, _, query = address.partition("?")
        if os.path.exists(address):  # older caches have a server's query in the names of files
            return address
        if "://" not in address:
            self._unknown_query = query
            return plain
        keys = [key for key, _ in parse_qsl(query, keep_blank_values=True)]
        if slips := [key for key in keys if close_names(key, KNOWN_QUERIES)]:
            raise _unknown_query(plain, f"{slips[0]}=...")
        return address

    def _local_path(self, path: str) -> str:
        self._unreached = None
        try:
            if self.path_manager is PathManager:
                path = local_copy(path)
            else:
                path = self.path_manager.get_local_path(path)
        except OSError as error:
            if comm.get_world_size() == 1:
                raise
            self._unreached = error  # the main process may have more luck
        if comm.get_world_size() == 1 and not os.path.exists(path):
            raise MissingCheckpointError(f"checkpoint {path!r}: there is no such file")
        return path

    def _load_file(self, filename: str) -> dict[str, Any]:
        if comm.get_world_size() == 1:
            return self._read(filename)
        readable = comm.all_gather(os.path.exists(filename))
        if not readable[0]:
            reason = f": {self._unreached}" if self._unreached else ""
            raise MissingCheckpointError(
                f"checkpoint {without_secrets(filename)!r}: the main process can't find it{reason}"
            ) from self._unreached
        if all(readable):
            return self._read(filename)
        absent = [rank for rank, found in enumerate(readable) if not found]
        shown = without_secrets(filename)
        self.logger.warning("%s is not on ranks %s: rank 0 sends it", shown, absent)
        outcome: Any = None
        if comm.is_main_process():
            try:
                outcome = self._read(filename)
            except Exception as error:  # the others are waiting to hear of it
                outcome = error
        outcome = comm.all_gather(outcome)[0]
        if isinstance(outcome, Exception):
            raise outcome
        return dict(outcome)

    def _read(self, path: str) -> dict[str, Any]:
        kind, _ = find_format(path)
        if kind == "torch":
            content = self._torch_load(path)
        else:
            content, kind = read_file(path, trust=self._trust, mmap=True)
        content = understand(content, path, kind, weights=self._asked.get("weights", "model"))
        if kind != "pickle" and not path.endswith(".pyth"):
            if self._asked.get("matching_heuristics") == "True":
                content["matching_heuristics"] = True
            if self._unknown_query:
                raise _unknown_query(path, self._unknown_query)
        return content

    def _torch_load(self, f: str) -> Any:
        """Read a file of ``torch.save``, for subclasses to extend.

        What goes into the model alone is left in the file until it is copied there.
        """
        is_short_lived = not self.checkpointables or self._is_start
        content, _ = read_file(f, trust=self._trust, mmap=is_short_lived)
        return content

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint, or start from weights in ``path``."""
        self._is_start = not (resume and self.has_checkpoint())
        try:
            return super().resume_or_load(path, resume=resume)
        finally:
            self._is_start = False

    def _load_model(self, checkpoint: dict[str, Any]) -> IncompatibleKeys:
        self._convert_ndarray_to_tensor(checkpoint["model"])
        self._unwrap(checkpoint["model"], self.model.state_dict())
        trained = ""
        if checkpoint.get("matching_heuristics"):
            trained = self._match_by_endings(checkpoint)
        else:
            trained = self._translate(checkpoint)
        if trained:
            self.report.warnings += check_conventions(self.model, TRAINED[trained])
        self._map_classes(checkpoint)
        incompatible = super()._load_model(checkpoint)
        # The config sets pixel statistics, which older files lack; older files have anchors, which
        # are computed nowadays. Neither is worth a word.
        from_config = {"pixel_mean", "pixel_std"} & {
            name for name, _ in self.model.named_buffers(recurse=False)
        }
        return IncompatibleKeys(
            [name for name in incompatible.missing_keys if name not in from_config],
            [n for n in incompatible.unexpected_keys if "anchor_generator.cell_anchors" not in n],
            incompatible.incorrect_shapes,
        )

    def _match_by_endings(self, checkpoint: dict[str, Any]) -> str:
        """Rename by endings, after Caffe2's names are translated; return how it was trained."""
        author, state = checkpoint.get("__author__", ""), checkpoint["model"]
        is_caffe2 = author == "Caffe2" or recognise_caffe2(state)
        if is_caffe2:
            self.report.source = "Caffe2"
            if any(name.startswith("cls_score") for name in state):
                self.report.notes.append(BACKGROUND_MOVED)
        elif family := recognise(state):
            state, _ = family.translate(state)
            self.report.source = family.name
        own = self.model.state_dict()
        old_names = {id(tensor): name for name, tensor in checkpoint["model"].items()}
        checkpoint["model"] = align_and_update_state_dicts(own, state, c2_conversion=is_caffe2)
        self._note_renamed(checkpoint["model"], old_names)
        if is_caffe2:
            return "X-101-32x8d" if "X-101-32x8d" in self.report.path else "MSRA"
        return "torchvision" if "torchvision" in str(author).lower() or self.report.source else ""

    def _translate(self, checkpoint: dict[str, Any]) -> str:
        """Rename if a family is recognised and more names fit then; return how it was trained."""
        state, own = checkpoint["model"], self.model.state_dict()
        family = recognise(state)
        if family is None or family.signature(own):
            return ""
        if is_torchvision_detector(state) and getattr(self.model, "takes_torchvision_names", False):
            return ""
        old_names = {id(tensor): name for name, tensor in state.items()}
        translated, _ = family.translate(state)
        if family.has_many_prefixes:
            translated = align_and_update_state_dicts(own, translated, c2_conversion=False)
        else:
            translated = put_under_prefix(translated, own)
        if sum(name in own for name in translated) <= sum(name in own for name in state):
            return ""
        self.report.source = family.name
        checkpoint["model"] = translated
        self._note_renamed(translated, old_names)
        if family.background_was_first and any(".cls_score." in name for name in translated):
            self.report.notes.append(BACKGROUND_MOVED)
        return family.trained

    def _note_renamed(self, state: dict[str, Any], old_names: dict[int, str]) -> None:
        own = self.model.state_dict()
        for name, tensor in state.items():
            old = old_names.get(id(tensor), self.report.source and "a part of it")
            if name in own and old and old != name:
                self.report.renamed[name] = old

    def _map_classes(self, checkpoint: dict[str, Any]) -> None:
        """Bring the outputs of heads into the order of the model's classes, by names."""
        saved = record_of(checkpoint).get("classes")
        if self._refuse_other_shapes or not saved or not self.class_names:
            return
        if list(saved) == self.class_names:
            return
        state, own, mapped = checkpoint["model"], self.model.state_dict(), []
        for name in filter(CLASS_OUTPUTS.search, own):
            if name not in state or state[name].shape[1:] != own[name].shape[1:]:
                continue
            rows = state[name].shape[0], own[name].shape[0]
            layout = find_layout(name, rows, (len(saved), len(self.class_names)))
            if layout is None or ("bbox_pred" in name and layout.per < 4):
                continue
            state[name] = map_rows(state[name], whole(own[name]), layout, saved, self.class_names)
            mapped.append(name)
        known = set(saved)
        common = [name for name in self.class_names if name in known]
        for name in mapped:
            self.report.reshaped[name] = "rows mapped by the names of classes"
        if mapped:
            new = [name for name in self.class_names if name not in known]
            self.report.notes.append(
                f"{len(common)} of the model's {len(self.class_names)} classes were known to the"
                f" checkpoint and took its outputs ({_some(common)}); new: {_some(new)}"
            )


def _unknown_query(path: str, query: str) -> ValueError:
    return ValueError(
        f"{path}: unknown query ?{query}; known are ?matching_heuristics=True and ?weights=ema"
    )


def recognise_caffe2(state: dict[str, torch.Tensor]) -> bool:
    """Say whether names are blobs of Caffe2's, whoever wrote the file."""
    family = recognise(state)
    return family is not None and family.name == "Caffe2"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) + more) or "none"
