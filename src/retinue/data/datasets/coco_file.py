"""Reading a file that should be COCO's JSON."""

from __future__ import annotations

import gc
import json
import logging
import os
from typing import Any

from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager
from retinue.utils.timer import Timer

__all__ = ["read_annotation_file"]

logger = logging.getLogger("retinue.data.datasets.coco")


def read_annotation_file(json_file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON file and make sure that it looks like COCO's.

    Raises:
        FileNotFoundError: If it does not exist.
        InputError: If it is no JSON, or its ``images`` are no list.
    """
    timer = Timer()
    try:
        with PathManager.open(os.fspath(json_file), "rb") as file:
            raw = file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"annotation file {os.fspath(json_file)!r} does not exist; the builtin datasets are"
            " looked for in the folder that RETINUE_DATASETS names, ./datasets by default"
        ) from error
    was_enabled = gc.isenabled()
    gc.disable()  # nothing read here is garbage; collecting would take half of the time
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise InputError(f"{json_file} is not JSON: {error}; is the file whole?") from error
    finally:
        if was_enabled:
            gc.enable()
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        got = f"keys {sorted(content)}" if isinstance(content, dict) else f"a {type(content)}"
        raise InputError(
            f"{json_file}: a COCO file is an object with lists 'images', 'annotations' and"
            f" 'categories'; got {got}"
        )
    if timer.seconds() > 1:
        logger.info("Loading %s takes %.2f seconds.", json_file, timer.seconds())
    return content
