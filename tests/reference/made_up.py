"""Annotations and predictions to compare evaluators on; the same on every machine and version.

All numbers come from integers, so that recorded results of other programs stay valid. Predictions
are annotations moved about, some missed, some of a wrong class, some made up, none with the score
of another.
"""

import numpy as np

HEIGHT, WIDTH = 96, 128
NUM_IMAGES, NUM_CLASSES, NUM_KEYPOINTS = 12, 5, 17


class Draw:
    """Numbers that look random: a linear congruential generator (Knuth's MMIX constants)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (self.state >> 33) % n

    def between(self, low, high):
        return low + self.below(high - low + 1)


def ellipse(box):
    """The pixels of the ellipse in a box x, y, w, h, as ``(H, W)`` bool."""
    x, y, w, h = box
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inner = ((columns + 0.5 - x - w / 2) / (w / 2)) ** 2 + ((rows + 0.5 - y - h / 2) / (h / 2)) ** 2
    return inner <= 1


def run_lengths(mask):
    """COCO's uncompressed run lengths of a mask."""
    flat = mask.flatten(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": lengths[:-1] if lengths[-1] == 0 else lengths}


def images():
    return [
        {"id": 100 + i, "file_name": f"{i:03d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in range(NUM_IMAGES)
    ]


def _box(draw):
    w, h = draw.between(6, 60), draw.between(6, 60)
    return [draw.between(0, WIDTH - w), draw.between(0, HEIGHT - h), w, h]


def _keypoints(draw, box):
    x, y, w, h = box
    return [(x + draw.below(w + 1), y + draw.below(h + 1), draw.below(3)) for _ in range(17)]


def annotations(seed=1):
    """Objects: up to six an image, none in the fifth image, a crowd now and then."""
    draw, rows = Draw(seed), []
    for i, image in enumerate(images()):
        for _ in range(0 if i == 4 else draw.between(1, 6)):
            box = _box(draw)
            points = [p if p[2] else (0, 0, 0) for p in _keypoints(draw, box)]
            mask = ellipse(box)
            rows.append(
                {
                    "id": len(rows) + 1,
                    "image_id": image["id"],
                    "category_id": draw.below(NUM_CLASSES) + 1,
                    "bbox": box,
                    "area": int(mask.sum()),
                    "iscrowd": int(draw.below(12) == 0),
                    "segmentation": run_lengths(mask),
                    "keypoints": [number for point in points for number in point],
                    "num_keypoints": sum(point[2] > 0 for point in points),
                }
            )
    return rows


def detections(seed=2):
    """Predictions: dicts like annotations, with a score."""
    draw, rows = Draw(seed), []
    for row in annotations():
        for _ in range(draw.below(4)):  # missed, found, found again
            rows.append(_moved(draw, row))
    for image in images():
        for _ in range(draw.below(3)):
            rows.append(_as_prediction(draw, image["id"], draw.below(NUM_CLASSES) + 1, _box(draw)))
    order = sorted(range(len(rows)), key=lambda i: (i * 7919) % 100_003)
    for rank, i in enumerate(order):  # no ties: evaluators may break them as they like
        rows[i]["score"] = round(1 - (rank + 1) / (len(rows) + 1), 3)
    return rows


def _moved(draw, row):
    x, y, w, h = row["bbox"]
    w, h = max(3, w + draw.between(-2, 2)), max(3, h + draw.between(-2, 2))
    x, y = x + draw.between(-1, 1), y + draw.between(-1, 1)
    x, y = min(max(x, 0), WIDTH - w), min(max(y, 0), HEIGHT - h)
    category = row["category_id"] if draw.below(6) else draw.below(NUM_CLASSES) + 1
    moved = _as_prediction(draw, row["image_id"], category, [x, y, w, h])
    points = np.array(row["keypoints"]).reshape(-1, 3)
    moved["keypoints"] = [
        number
        for x, y, v in points.tolist()
        for number in ((x + draw.between(-3, 3), y + draw.between(-3, 3), 1) if v else (0, 0, 1))
    ]
    return moved


def _as_prediction(draw, image_id, category, box):
    points = [n for x, y, _ in _keypoints(draw, box) for n in (x, y, 1)]
    return {
        "image_id": image_id,
        "category_id": category,
        "bbox": box,
        "segmentation": run_lengths(ellipse(box)),
        "keypoints": points,
    }


def rotate(rows, seed=3):
    """Give boxes an angle: ``bbox`` becomes x and y of the centre, w, h, degrees."""
    draw = Draw(seed)
    for row in rows:
        x, y, w, h = row["bbox"]
        base = (37 * row["image_id"] + 101 * row["category_id"]) % 341 - 170
        angle = base + (draw.between(-6, 6) if "score" in row else 0)
        yield row | {"bbox": [x + w / 2, y + h / 2, w, h, float(angle)], "area": w * h}


def label_maps(num_labels=7, seed=5):
    """Pairs of an annotated and a predicted label map, ``(H, W)`` uint8; 255 is ignored."""
    draw = Draw(seed)
    for _ in range(4):
        truth = np.full((HEIGHT, WIDTH), draw.below(num_labels), dtype=np.uint8)
        found = np.full((HEIGHT, WIDTH), draw.below(num_labels), dtype=np.uint8)
        for _ in range(8):
            box, label = _box(draw), draw.below(num_labels - 1)  # the last one may be nowhere
            truth[ellipse(box)] = label
            box = [n + draw.between(-2, 2) for n in box]
            found[ellipse(box)] = label if draw.below(5) else draw.below(num_labels)
        truth[ellipse(_box(draw))] = 255
        yield truth, found


THINGS = {1: 0, 2: 1, 3: 2}  # the dataset's id -> contiguous id
STUFF = {10: 3, 11: 4, 12: 5}
LABEL_DIVISOR = 1000


def panoptic_annotations(seed=6):
    """Id maps and segments of four images, and predictions of them with contiguous classes.

    Returns:
        (truth, predictions): lists of ``(H, W)`` int id maps with their segments; 0 is void.
    """
    draw = Draw(seed)
    return zip(*(_panoptic_pair(draw) for _ in range(4)), strict=True)


def _panoptic_pair(draw):
    truth, found = np.zeros((2, HEIGHT, WIDTH), dtype=np.int32)
    kinds, guesses = {}, {}
    stuff = sorted(STUFF)
    for i, rows in enumerate((slice(0, 40), slice(40, 96))):  # sky above, ground below
        truth[rows], kinds[i + 1] = i + 1, stuff[i]
        below = slice(rows.start + draw.below(6), rows.stop)
        found[below], guesses[i + 1] = i + 1, stuff[i] if draw.below(4) else stuff[2]
    for i in range(3, 9):
        box, kind = _box(draw), draw.between(1, 3)
        truth[ellipse(box)], kinds[i] = i * 70_000, kind
        if draw.below(5):
            moved = [n + draw.between(-2, 2) for n in box]
            found[ellipse(moved)], guesses[i] = i, kind if draw.below(5) else draw.between(1, 3)
    truth[ellipse(_box(draw))] = 0  # void
    there = set(np.unique(truth).tolist())
    segments = [
        {
            "id": segment,
            "category_id": kind,
            "iscrowd": int(kind < 10 and draw.below(8) == 0),
            "area": int((truth == segment).sum()),
            "bbox": [0, 0, 1, 1],
        }
        for i, kind in kinds.items()
        if (segment := i if i < 3 else i * 70_000) in there
    ]
    predicted = [
        {"id": i, "isthing": kind < 10, "category_id": (THINGS | STUFF)[kind]}
        for i, kind in guesses.items()
        if (found == i).any()
    ]
    return (truth, segments), (found, predicted)


def as_labels(ids, segments):
    """An id map as ``category * LABEL_DIVISOR + instance``, which needs no segments; -1 is void."""
    labels = np.full(ids.shape, -1, dtype=np.int64)
    for segment in segments:
        instance = segment["id"] if segment["isthing"] else 0
        labels[ids == segment["id"]] = segment["category_id"] * LABEL_DIVISOR + instance
    return labels
