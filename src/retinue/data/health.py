"""What there is to know about a dataset before training on it.

``report_dataset`` looks at every annotation, but opens no image, and lists what is wrong: problems
are *fatal* if training would fail or learn nonsense, and *warnings* if annotations are merely left
out or changed. ``report_files`` only looks whether image files are there. ``compare_classes`` sets
the classes of several datasets beside each other.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retinue.data.catalog import DatasetCatalog, MetadataCatalog
from retinue.data.health_kinds import KINDS
from retinue.structures import BoxMode
from retinue.utils.errors import InputError
from retinue.utils.tables import format_table

__all__ = ["DataReport", "Problem", "compare_classes", "report_dataset", "report_files"]

logger = logging.getLogger(__name__)

_EXAMPLES = 3
_FILE_KEYS = ("file_name", "sem_seg_file_name", "pan_seg_file_name")
_MAX_SECONDS = 30.0  # for looking for files, which may lie behind a slow network
_PIXELS_OUTSIDE = 1.0  # rounding in annotation tools; clipping takes care of it


@dataclass(frozen=True)
class Problem:
    """One kind of thing that is wrong, however often.

    Attributes:
        code: a short name, such as ``"box_without_area"``.
        is_fatal: whether training must not start.
        message: what is wrong, where first, and what to do or what will happen.
        count: how often.
    """

    code: str
    is_fatal: bool
    message: str
    count: int = 1

    def __str__(self) -> str:
        return f"{'ERROR' if self.is_fatal else 'warning'}: {self.message}"


@dataclass
class DataReport:
    """Counts and problems of one dataset; as text, a table and a list.

    Attributes:
        name: of the dataset.
        class_names: by class number.
        num_images: all, before empty ones are dropped.
        num_empty_images: without an annotation that isn't a crowd.
        keeps_empty_images: whether training sees them.
        num_instances: annotations, crowds not counted.
        num_crowds: annotations of crowds.
        instances_of_class: by class number.
        images_of_class: images that show the class.
        annotated: how many instances have ``"polygons"``, ``"rle"``, ``"bitmap"``, ``"keypoints"``.
        problems: fatal ones first.
    """

    name: str
    class_names: list[str]
    num_images: int = 0
    num_empty_images: int = 0
    keeps_empty_images: bool = False
    num_instances: int = 0
    num_crowds: int = 0
    instances_of_class: Counter[int] = field(default_factory=Counter)
    images_of_class: Counter[int] = field(default_factory=Counter)
    annotated: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    @property
    def fatal(self) -> list[Problem]:
        """The problems that training must not start with."""
        return [problem for problem in self.problems if problem.is_fatal]

    @property
    def warnings(self) -> list[Problem]:
        """The other problems."""
        return [problem for problem in self.problems if not problem.is_fatal]

    def raise_if_fatal(self) -> None:
        """Raise an error with the text of all fatal problems.

        Raises:
            InputError: If there is one.
        """
        if self.fatal:
            text = "\n".join(f"  {problem.message}" for problem in self.fatal)
            raise InputError(f"dataset {self.name!r} can't be used:\n{text}")

    @property
    def _rows(self) -> list[list[Any]]:
        return [
            [number, name, self.instances_of_class[number], self.images_of_class[number]]
            for number, name in enumerate(self.class_names)
        ]

    def __str__(self) -> str:
        table = format_table(self._rows, ["class", "name", "instances", "images"])
        return "\n".join([self._summary(), table, *map(str, self.problems)])

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("class", "name", "instances", "images", title=self._summary())
        for row in self._rows:
            table.add_row(*map(str, row), style=None if row[2] else "dim")
        style = {True: "bold red", False: "yellow"}
        return Group(table, *(Text(str(p), style=style[p.is_fatal]) for p in self.problems))

    def _summary(self) -> str:
        kinds = ", ".join(f"{count} with {kind}" for kind, count in self.annotated.items())
        how = "kept" if self.keeps_empty_images else "dropped"
        num_empty = self.num_empty_images
        return (
            f"Dataset {self.name}: {self.num_images} images, {self.num_instances} instances"
            + (f" ({kinds})" if kinds else "")
            + (f", {self.num_crowds} crowds" if self.num_crowds else "")
            + (f"; {num_empty} images without objects, {how}" if num_empty else "")
        )


def report_dataset(
    dataset: str | Sequence[dict[str, Any]],
    *,
    name: str = "",
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    num_classes_key: str = "MODEL.ROI_HEADS.NUM_CLASSES",
    filter_empty: bool = True,
    use_masks: bool | None = False,
    use_keypoints: bool = False,
    check_files: bool = True,
    skip_unreadable: bool = False,
) -> DataReport:
    """Look through a dataset.

    Args:
        dataset: a registered name, or dataset dicts.
        name: of dicts: what to call them, and whose metadata holds for them.
        class_names: what the classes are called; of a registered dataset, its metadata knows.
        num_classes: what the model is configured for; not compared if None.
        num_classes_key: the key that says so.
        filter_empty: whether training drops images without objects
            (``DATALOADER.FILTER_EMPTY_ANNOTATIONS``).
        use_masks: whether training needs a mask of every instance; None if it does where any has
            one.
        use_keypoints: whether training needs keypoints.
        check_files: make sure that the image files are there, as ``report_files`` does.
        skip_unreadable: whether training goes on without images that are not
            (``RETINUE.SKIP_UNREADABLE``).

    Returns:
        Counts and problems; nothing is raised for what is wrong with the data.
    """
    name = dataset if isinstance(dataset, str) else name
    records = DatasetCatalog.get(dataset) if isinstance(dataset, str) else dataset
    meta = MetadataCatalog.get(name) if name in MetadataCatalog else None
    if class_names is None:
        class_names = (meta.get("thing_classes") if meta else None) or []
    labels = {a["category_id"] for r in records for a in r.get("annotations", ())}
    if not class_names:
        known = [label for label in labels if isinstance(label, int) and label >= 0]
        class_names = [str(number) for number in range(max(known, default=-1) + 1)]
    report = DataReport(
        name or "without a name", list(class_names), keeps_empty_images=not filter_empty
    )
    found = _Findings(report)
    _count(records, report, found)
    without_mask = []
    for record in records:
        for number, anno in enumerate(record.get("annotations", ())):
            where = f"image {record.get('image_id')} ({record.get('file_name')}), annotation"
            where = f"{where} {anno.get('id', f'number {number}')}"
            for code, detail in _check_annotation(anno, record, len(class_names)):
                found.add(code, f"{where}: {detail}")
            if "segmentation" not in anno and not anno.get("iscrowd", 0):
                without_mask.append(where)
    if use_masks or (use_masks is None and len(without_mask) < report.num_instances):
        for where in without_mask:
            found.add("mask_missing", where)
    _check_keypoints(report, found, meta, use_keypoints)
    _check_num_classes(report, found, num_classes, num_classes_key)
    if check_files:
        _check_files(records, found, skip_unreadable)
    if meta is not None and not any(KINDS[code][0] for code in found.counts):
        _check_annotation_file(meta.get("json_file"), found)
    found.finish()
    return report


class _Findings:
    """Collects findings by kind; at the end each kind becomes one problem."""

    def __init__(self, report: DataReport) -> None:
        self.report = report
        self.examples: dict[str, list[str]] = defaultdict(list)
        self.counts: Counter[str] = Counter()

    def add(self, code: str, example: str = "", count: int = 1) -> None:
        self.counts[code] += count
        if example and len(self.examples[code]) < _EXAMPLES:
            self.examples[code].append(example)

    def finish(self) -> None:
        for code, (is_fatal, what, advice) in KINDS.items():
            if count := self.counts[code]:
                times = f" ({count} times)" if count > 1 else ""
                examples = "; ".join(self.examples[code])
                text = f"{what}{times}" + (f": {examples}" if examples else "") + f"; {advice}"
                self.report.problems.append(Problem(code, is_fatal, text, count))
        self.report.problems.sort(key=lambda problem: not problem.is_fatal)


def _count(records: Sequence[dict[str, Any]], report: DataReport, found: _Findings) -> None:
    report.num_images = len(records)
    image_ids: Counter[Any] = Counter()
    annotation_ids: Counter[Any] = Counter()
    for record in records:
        image_ids[record.get("image_id", record.get("file_name"))] += 1
        annos = record.get("annotations", ())
        instances = [anno for anno in annos if not anno.get("iscrowd", 0)]
        report.num_instances += len(instances)
        report.num_crowds += len(annos) - len(instances)
        report.num_empty_images += not instances
        report.instances_of_class.update(anno["category_id"] for anno in instances)
        report.images_of_class.update({anno["category_id"] for anno in instances})
        for anno in instances:
            report.annotated.update(_what_is_annotated(anno))
        annotation_ids.update(anno["id"] for anno in annos if "id" in anno)
    for code, counts in (("image_twice", image_ids), ("annotation_twice", annotation_ids)):
        for value, count in counts.items():
            if count > 1:
                found.add(code, str(value))
    for number, name in enumerate(report.class_names):
        if not report.instances_of_class[number]:
            found.add("class_unused", f"{number} ({name})")
    for name, count in Counter(report.class_names).items():
        if count > 1:
            numbers = [i for i, other in enumerate(report.class_names) if other == name]
            found.add("class_twice", f"{name!r} is number {' and '.join(map(str, numbers))}")
    if not records:
        found.add("no_image")
    elif not report.num_instances and any("annotations" in record for record in records):
        found.add("no_instance")
    if report.num_empty_images and not report.keeps_empty_images:
        found.add("empty_image_dropped", count=report.num_empty_images)


def _what_is_annotated(anno: Mapping[str, Any]) -> Iterator[str]:
    if "segmentation" in anno:
        segmentation = anno["segmentation"]
        is_polygons, is_rle = isinstance(segmentation, list), isinstance(segmentation, dict)
        yield "polygons" if is_polygons else "rle" if is_rle else "bitmap"
    if "keypoints" in anno:
        yield "keypoints"


def _check_annotation(
    anno: Mapping[str, Any], record: Mapping[str, Any], num_classes: int
) -> Iterator[tuple[str, str]]:
    """Yield (code, detail) for what is wrong with one annotation."""
    label = anno["category_id"]
    if not (isinstance(label, (int, np.integer)) and 0 <= label < num_classes):
        yield "class_outside", f"class {label} is not among 0 to {num_classes - 1}"
    size = (record.get("height"), record.get("width"))
    yield from _check_box(anno, size)
    yield from _check_segmentation(anno.get("segmentation"), size)


def _check_box(anno: Mapping[str, Any], size_hw: tuple[Any, Any]) -> Iterator[tuple[str, str]]:
    if "bbox" not in anno:
        yield "no_box", "no bbox"
        return
    box = list(anno["bbox"])
    if not all(isinstance(value, (int, float, np.number)) for value in box):
        yield "box_not_finite", f"bbox {box}"
        return
    if len(box) not in (4, 5) or not all(map(math.isfinite, box)):
        yield "box_not_finite", f"bbox {box}"
        return
    if len(box) == 5:
        if min(box[2:4]) <= 0:
            yield "box_without_area", f"bbox {box}"
        return
    x0, y0, x1, y1 = box
    if anno.get("bbox_mode", BoxMode.XYWH_ABS) == BoxMode.XYWH_ABS:
        x1, y1 = x0 + x1, y0 + y1
    if x1 <= x0 or y1 <= y0:
        yield "box_without_area", f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
    elif None not in size_hw:
        height, width = size_hw
        detail = f"x {x0:g} to {x1:g}, y {y0:g} to {y1:g}, image {width} wide and {height} high"
        edge = _PIXELS_OUTSIDE
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            yield "box_outside", detail
        elif min(x0, y0) < -edge or x1 > width + edge or y1 > height + edge:
            yield "box_over_edge", detail


def _check_segmentation(segmentation: Any, size_hw: tuple[Any, Any]) -> Iterator[tuple[str, str]]:
    from hotcoco import mask as coco_mask

    if segmentation is None:
        return
    if isinstance(segmentation, list):
        lengths = [len(polygon) for polygon in segmentation]
        wrong = [length for length in lengths if length < 6 or length % 2]
        if wrong or not lengths:
            yield "polygon_points", f"{wrong[0] if wrong else 0} coordinates"
    elif isinstance(segmentation, dict):
        size = tuple(segmentation.get("size", ()))
        counts = segmentation.get("counts")
        if None not in size_hw and size != tuple(size_hw):
            yield "rle_size", f"RLE {list(size)}, image {list(size_hw)}"
        elif isinstance(counts, list) and sum(counts) != size[0] * size[1]:
            yield "rle_size", f"counts add up to {sum(counts)}, size is {list(size)}"
        elif isinstance(counts, (str, bytes)):
            try:
                coco_mask.area(segmentation)
            except ValueError as error:
                yield "rle_broken", str(error)
    elif isinstance(segmentation, np.ndarray):
        if None not in size_hw and segmentation.shape != tuple(size_hw):
            yield "rle_size", f"bitmap {list(segmentation.shape)}, image {list(size_hw)}"
    else:
        yield "segmentation_kind", type(segmentation).__name__


def _check_keypoints(report: DataReport, found: _Findings, meta: Any, use_keypoints: bool) -> None:
    with_keypoints = report.annotated["keypoints"]
    if use_keypoints and report.num_instances and not with_keypoints:
        found.add("keypoints_missing", "none has any")
    if use_keypoints and meta is not None:
        lacking = [k for k in ("keypoint_names", "keypoint_flip_map") if meta.get(k) is None]
        if lacking:
            found.add("keypoints_unnamed", f"no {' and no '.join(lacking)}")


def _check_num_classes(
    report: DataReport, found: _Findings, num_classes: int | None, key: str
) -> None:
    num_names = len(report.class_names)
    if num_classes is None or num_classes == num_names:
        return
    detail = f"the dataset has {num_names} ({_shorten(report.class_names)}), {key} is {num_classes}"
    found.add("num_classes_few" if num_classes < num_names else "num_classes_many", detail)


def report_files(
    records: Iterable[dict[str, Any]],
    name: str,
    *,
    keys: Sequence[str] = _FILE_KEYS,
    skip_unreadable: bool = False,
) -> DataReport:
    """Look whether the files of a dataset exist and have bytes; nothing is read.

    Remote addresses are passed over, and what is left after half a minute.

    Args:
        records: dataset dicts.
        name: what to call the dataset.
        keys: of the dicts; their values are paths.
        skip_unreadable: whether training goes on without such files.
    """
    found = _Findings(DataReport(name, []))
    _check_files(records, found, skip_unreadable, keys)
    found.finish()
    return found.report


def _check_files(
    records: Iterable[dict[str, Any]],
    found: _Findings,
    skip_unreadable: bool,
    keys: Sequence[str] = _FILE_KEYS,
) -> None:
    suffix = "_skipped" if skip_unreadable else ""
    end = time.monotonic() + _MAX_SECONDS
    for number, record in enumerate(records):
        if time.monotonic() > end:
            logger.info(
                "Dataset %s: looked for the files of the first %d images only, as that took long",
                found.report.name,
                number,
            )
            return
        for key in keys:
            path = record.get(key)
            if path and "://" not in str(path):
                try:
                    if os.stat(path).st_size == 0:
                        found.add(f"file_empty{suffix}", str(path))
                except (OSError, ValueError):
                    found.add(f"file_missing{suffix}", str(path))


def _check_annotation_file(json_file: Any, found: _Findings) -> None:
    """Let hotcoco look at the file for what a dataset dict doesn't show any more."""
    if not json_file or not os.path.isfile(json_file):
        return
    from hotcoco import COCO

    try:
        health = COCO(os.fspath(json_file)).healthcheck()
    except ValueError as error:
        found.add("file_format", f"{json_file}: {error}")
        return
    for finding in health["errors"] + health["warnings"]:
        if finding["code"] in KINDS:
            ids = finding["affected_ids"]
            example = f"annotations {', '.join(map(str, ids[:_EXAMPLES]))}"
            found.add(finding["code"], example, len(ids))


def compare_classes(
    class_lists: Mapping[str, Sequence[str] | None], *, fatal: Iterable[str] = ()
) -> list[Problem]:
    """Compare the classes of several sources with those of the first.

    Args:
        class_lists: source -> its classes by number; None where unknown. The first is the measure,
            usually the training set; others are test sets and the checkpoint.
        fatal: sources that must not differ.

    Returns:
        A problem for each source that differs.

    Example:
        >>> lists = {"my_train": ["cat", "dog"], "my_val": ["dog", "cat"]}
        >>> print(compare_classes(lists, fatal=["my_val"])[0].message.split(":")[0])
        my_val has the classes of my_train in another order
    """
    known = {source: list(names) for source, names in class_lists.items() if names is not None}
    if len(known) < 2:
        return []
    first, expected = next(iter(known.items()))
    advice = "predictions would be counted as the wrong classes; make the lists equal"
    problems = []
    for source, names in known.items():
        if names != expected:
            text = f"{_difference(source, names, first, expected)}; {advice}"
            problems.append(Problem("classes_differ", source in fatal, text))
    return problems


def _difference(source: str, names: list[str], first: str, expected: list[str]) -> str:
    if sorted(names) == sorted(expected):
        i = next(i for i, name in enumerate(names) if name != expected[i])
        return (
            f"{source} has the classes of {first} in another order: number {i} is {names[i]!r},"
            f" not {expected[i]!r}"
        )
    lacking = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    parts = [f"{source} has {len(names)} classes, {first} has {len(expected)}"]
    parts += [f"not in {source}: {_shorten(lacking)}"] if lacking else []
    parts += [f"only in {source}: {_shorten(extra)}"] if extra else []
    return "; ".join(parts)


def _shorten(names: Sequence[str], most: int = 5) -> str:
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more
