"""Models as folders: written, read, and shared on the Hugging Face hub.

A folder has ``model.safetensors``, ``config.yaml``, ``classes.json``, and the model card
``README.md`` with the licence; it can be named wherever a model is asked for. It holds no code.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retinue.checkpoint.report import LoadReport
from retinue.utils.errors import InputError
from retinue.utils.file_io import atomic_write

if TYPE_CHECKING:
    from retinue.engine.detector import Detector

__all__ = ["convert_for_model", "from_pretrained", "push_to_hub", "save_pretrained"]

_FILES = ("config.yaml", "model.safetensors", "classes.json", "README.md")

_CARD = """---
library_name: retinue
pipeline_tag: {task}
license: {licence_id}
tags:
- object-detection
- retinue
---

# {title}

{architecture} with {num_classes} classes{classes}.

{description}

## Use

```python
import retinue

detector = retinue.from_pretrained("{name}")
detector.predict("picture.jpg").pred_class_names
```

## Licence

{licence}
"""


def save_pretrained(
    detector: Detector,
    folder: str | os.PathLike[str],
    *,
    licence: str = "",
    description: str = "",
    metrics: dict[str, float] | None = None,
) -> Path:
    """Write a model into a folder that ``from_pretrained`` and ``retinue.load`` read.

    Args:
        detector: the model with its config and classes.
        folder: made if it isn't there.
        licence: of the weights, such as ``"CC-BY-SA-3.0"``; the card says if it is not known.
        description: for the card.
        metrics: scores by name, for the card and the file of weights.

    Returns:
        The folder.
    """
    from retinue.checkpoint.writer import make_record, write_safetensors
    from retinue.engine.class_names import write_class_names

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cfg = detector.cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    record = make_record(
        config=cfg.dump(),
        classes=list(detector.class_names) or None,
        metrics=metrics,
        licence=licence or None,
    )
    write_safetensors(str(folder / "model.safetensors"), detector.model.state_dict(), record)
    with atomic_write(folder / "config.yaml", "w") as file:
        file.write(cfg.dump())
    write_class_names(folder, detector.metadata)
    with atomic_write(folder / "README.md", "w") as file:
        file.write(_card(detector, folder.resolve().name, licence, description, metrics or {}))
    return folder


def _card(
    detector: Detector, name: str, licence: str, description: str, metrics: dict[str, float]
) -> str:
    classes = list(detector.class_names)
    shown = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
    scores = "".join(f"\n- {key}: {value:g}" for key, value in metrics.items())
    return _CARD.format(
        task="image-segmentation" if detector.cfg.MODEL.MASK_ON else "object-detection",
        licence_id=licence.lower() or "unknown",
        title=name,
        name=name,
        architecture=detector.cfg.MODEL.META_ARCHITECTURE,
        num_classes=len(classes) or "an unknown number of",
        classes=f": {shown}" if shown else "",
        description=(description or "No description was given.")
        + (f"\n\nScores:\n{scores}" if scores else ""),
        licence=licence or "No licence of the weights was named.",
    )


def from_pretrained(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    device: str | None = None,
    threshold: float | None = None,
) -> Detector:
    """Load what ``save_pretrained`` wrote.

    Args:
        name: a folder, or the name of a repository on the hub, such as ``"me/birds"``.
        revision: branch, tag or commit on the hub.
        device, threshold: see ``retinue.load``.

    Raises:
        InputError: If files are missing.
        ImportError: If it is on the hub, and ``retinue[hub]`` is not installed.
    """
    from retinue.engine.api import load

    folder = os.fspath(name)
    if not os.path.isdir(folder):
        folder = _from_hub(folder, revision)
    return load(folder, device=device, threshold=threshold)


def _from_hub(name: str, revision: str | None) -> str:
    from retinue.utils.cache import get_cache_dir
    from retinue.utils.download import is_offline

    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise InputError(
            f"from_pretrained: {name!r} is no folder, and no repository either (OWNER/NAME)"
        )
    hub = _hub()
    folder: str = hub.snapshot_download(
        name,
        revision=revision,
        allow_patterns=list(_FILES),  # weights and data; whatever else is there stays there
        cache_dir=os.path.join(get_cache_dir(), "hub"),
        local_files_only=is_offline(),
    )
    return folder


def push_to_hub(
    detector: Detector,
    name: str,
    *,
    private: bool = True,
    token: str | None = None,
    **facts: Any,
) -> str:
    """Write a model into a repository on the hub, which is made if it isn't there.

    Args:
        detector: the model.
        name: ``"OWNER/NAME"``.
        private: whether a new repository is seen by its owner only.
        token: of the hub; by default that of ``hf auth login``.
        facts: ``licence``, ``description``, ``metrics``: see ``save_pretrained``.

    Returns:
        The address of the commit.
    """
    import tempfile

    api = _hub().HfApi(token=token)
    api.create_repo(name, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as parent:
        folder = save_pretrained(detector, Path(parent) / name.rpartition("/")[2], **facts)
        commit = api.upload_folder(repo_id=name, folder_path=str(folder))
    return str(getattr(commit, "commit_url", commit))


def _hub() -> Any:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ImportError("the hub needs huggingface_hub: pip install 'retinue[hub]'") from error


def convert_for_model(
    source: str,
    target: str | os.PathLike[str],
    model: str,
    *,
    weights: str,
    trust: bool,
    **options: Any,
) -> LoadReport:
    """Load any checkpoint into a model and write the model's weights; see ``retinue convert``.

    Args:
        source: path or address.
        target: path, whose ending names the format.
        model: what ``retinue.load`` takes for a model.
        weights: ``"model"`` or ``"ema"``.
        trust: run whatever code the file holds.
        options: ``format`` and ``shard_size``, see ``write_checkpoint``.

    Returns:
        What became of every tensor.
    """
    from retinue.checkpoint import DetectionCheckpointer
    from retinue.checkpoint.reader import Checkpoint
    from retinue.checkpoint.writer import make_record, write_checkpoint
    from retinue.engine.model_source import find_model
    from retinue.modeling import build_model

    found = find_model(model)
    found.cfg.MODEL.DEVICE = "cpu"
    built = build_model(found.cfg)
    checkpointer = DetectionCheckpointer(built, class_names=found.class_names, trust=trust)
    checkpointer.load(source + ("?weights=ema" if weights == "ema" else ""))
    record = make_record(config=found.cfg.dump(), classes=found.class_names or None)
    write_checkpoint(target, Checkpoint(dict(built.state_dict()), record=record), **options)
    return checkpointer.report
