"""From any checkpoint to any format, with a report of what became of every tensor."""

from __future__ import annotations

import os
from dataclasses import replace

from retinue.checkpoint.names import recognise, unwrap
from retinue.checkpoint.reader import Checkpoint, read_checkpoint
from retinue.checkpoint.report import LoadReport
from retinue.checkpoint.writer import SHARD_SIZE, write_checkpoint

__all__ = ["convert_checkpoint", "translate"]


def convert_checkpoint(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    keep_names: bool = False,
    weights: str = "model",
    trust: bool = False,
    format: str | None = None,
    shard_size: int = SHARD_SIZE,
) -> LoadReport:
    """Read one checkpoint and write it in another format.

    Args:
        source: path or address, of any format.
        target: path; its ending names the format.
        keep_names: leave names as they are; else wrappers' prefixes go, and names of a known family
            (Caffe2, torchvision, timm) become ours.
        weights: ``"model"``, or ``"ema"`` for averaged weights.
        trust: run whatever code the file holds; the log says so.
        format: of the target, see ``write_checkpoint``.
        shard_size: bytes of one file of a folder, at most.

    Returns:
        Which tensors were written (``loaded``), and under which names they were before.

    Raises:
        CheckpointError: If the file can't be read safely, or the format can't hold a tensor.
    """
    checkpoint = read_checkpoint(source, trust=trust, weights=weights)
    report = LoadReport(path=os.fspath(source), has_model=False, source=checkpoint.author)
    if not keep_names:
        checkpoint = translate(checkpoint, report)
    lost = write_checkpoint(target, checkpoint, format=format, shard_size=shard_size)
    report.loaded = list(checkpoint.weights)
    if lost:
        report.notes.append(f"this format has no place for {', '.join(sorted(lost))}")
    return report


def translate(checkpoint: Checkpoint, report: LoadReport) -> Checkpoint:
    """Give tensors our names; what was renamed goes into the report."""
    state = dict(checkpoint.weights)
    if wrappers := unwrap(state, ()):
        report.notes.append(f"names came without {wrappers}, which a wrapper had added")
    family = recognise(state)
    if family is None:
        return replace(checkpoint, weights=state)
    state, old_of_new = family.translate(state)
    report.source = family.name
    report.renamed = {new: old for new, old in old_of_new.items() if new != old}
    is_part = not any(name.startswith(("backbone.", "roi_heads.")) for name in state)
    author = "" if checkpoint.author == "Caffe2" else checkpoint.author
    return replace(
        checkpoint,
        weights=state,
        author=author or family.name,
        matching_heuristics=checkpoint.matching_heuristics or is_part,
    )
