"""Deterministic weights, images and ground truth for the numeric checks.

Everything is a pure function of (seed, name): values do not depend on the order in which tensors
are filled, on the numpy version or on the platform.  The random source is the raw 64-bit output of
a Philox counter generator keyed by crc32("<seed>/<name>"); "normal" numbers are the centred sum of
the four 16-bit parts of each raw word (exact integer arithmetic, variance 1, |x| < 3.47), and all
synthesised values are rounded to float32, so a float32 model and a float64 model get identical
numbers.

Only numpy and torch are needed.
"""

import re
import zlib

import numpy as np
import torch

__all__ = [
    "densepose",
    "fill_state",
    "ground_truth",
    "image",
    "integers",
    "normal",
    "panoptic_targets",
    "point_annotations",
    "points",
    "proposals",
    "sample_indices",
    "state_from_keys",
    "uniform",
]


# ------------------------------------------------------------------------------------ random source
def _raw(seed, name, count):
    bits = np.random.Philox(key=zlib.crc32(f"{seed}/{name}".encode()))
    return np.asarray(bits.random_raw(int(count)), dtype=np.uint64).reshape(-1)


def normal(seed, name, shape=(), centred=False):
    """Zero-mean, unit-variance float64 array (Irwin-Hall of order 4).

    centred: make the mean of every x[i] exactly zero.
    """
    n = int(np.prod(shape, dtype=np.int64))
    raw = _raw(seed, name, max(n, 1))[:n]
    parts = raw.view(np.uint16).reshape(n, 4).sum(axis=1, dtype=np.int64) - 131070
    if centred:
        rows = parts.reshape(shape[0], -1)
        parts = (rows * rows.shape[1] - rows.sum(axis=1, keepdims=True)) / rows.shape[1]
    return (parts / 37837.226).reshape(shape)  # 65536 * sqrt(4 / 12)


def uniform(seed, name, shape=()):
    """float64 array in [0, 1), multiples of 2**-53."""
    n = int(np.prod(shape, dtype=np.int64))
    raw = _raw(seed, name, max(n, 1))[:n]
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def integers(seed, name, shape, high):
    """int64 array in [0, high)."""
    return np.minimum((uniform(seed, name, shape) * high).astype(np.int64), high - 1)


def sample_indices(name, numel, count):
    """Sorted flat indices at which a large array is sampled."""
    numel = int(numel)
    if numel <= count:
        return np.arange(numel)
    return np.sort(integers(0, f"sample/{name}", (count,), numel))


# ------------------------------------------------------------------------------------------ weights
_SKIP = re.compile(
    r"(pixel_mean|pixel_std|num_batches_tracked|relative_position_index|cell_anchors|anchors)"
)

# (pattern on the key, standard deviation or None for the default, mean) - first match wins.
# `f` is the fan-in of the tensor (product of all dimensions but the first).
_RULES = [
    # statistics of normalisation layers
    (r"running_mean$", lambda f: 0.1, 0.0),
    (r"running_var$", "var", None),
    # position encodings
    (r"rel_pos_[hw]$", lambda f: 0.2, 0.0),
    (r"relative_position_bias_table$", lambda f: 0.5, 0.0),
    (r"(pos_embed|cls_token|absolute_pos_embed)$", lambda f: 0.2, 0.0),
    (r"positional_encoding_gaussian_matrix$", lambda f: 1.0, 0.0),
    # biases of dense classifiers: keep most scores low
    (r"(^|\.)head\.cls_score\.bias$", lambda f: 0.3, -4.0),
    (r"bias$", lambda f: 0.05, 0.0),
    # last normalisation of a residual block
    (r"(conv3\.norm|\.f\.c_bn|(^|\.)bn3|fuse_layers.*\.1)\.weight$", "quarter", None),
    # feature pyramids
    (r"fpn_lateral\d+\.weight$", lambda f: 0.6 * f**-0.5, 0.0),
    (r"fpn_output2\.weight$", lambda f: 0.80 * f**-0.5, 0.0),
    (r"fpn_output3\.weight$", lambda f: 0.87 * f**-0.5, 0.0),
    (r"fpn_output4\.weight$", lambda f: 1.02 * f**-0.5, 0.0),
    (r"fpn_output\d+\.weight$", lambda f: 1.45 * f**-0.5, 0.0),
    # predictors
    (r"anchor_deltas\.weight$", lambda f: 0.3 * f**-0.5, 0.0),
    (r"(^|\.)head\.bbox_pred\.weight$", lambda f: 0.3 * f**-0.5, 0.0),
    (r"(^|\.)head\.cls_score\.weight$", lambda f: 1.2 * f**-0.5, 0.0),
    (r"cls_score\.weight$", lambda f: 2.5 * f**-0.5, 0.0),
    (r"bbox_pred\.weight$", lambda f: 1.0 * f**-0.5, 0.0),
    (r"predictor\.weight$", lambda f: 2.0 * f**-0.5, 0.0),
    (r"parameter_head\.prediction\.weight$", lambda f: 0.05 * f**-0.5, 0.0),
    # transposed convolutions (in, out, k, k) with stride 2
    (r"(deconv|lowres)\.weight$", "transposed", None),
    (r"conv2_offset\.weight$", lambda f: 0.5 * f**-0.5, 0.0),
    # transformer blocks: no rectifier in front of most matrices
    (r"(blocks|layers)\..*\.(qkv|proj|fc1|fc2|reduction)\.weight$", lambda f: f**-0.5, 0.0),
]
_RULES = [(re.compile(p), s, m) for p, s, m in _RULES]


def tensor_values(name, shape, seed=0, gains=()):
    """float32 numpy array for one named tensor; `gains` is a list of [regex, factor]."""
    shape = tuple(int(s) for s in shape)
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    std, mean = None, 0.0
    for pattern, s, m in _RULES:
        if pattern.search(name):
            std, mean = s, m
            break
    if std == "var":
        x = 0.5 + uniform(seed, name, shape)
    elif std == "quarter":
        x = 0.25 * (1.0 + 0.1 * normal(seed, name, shape))
    elif std == "transposed":
        x = (2.7 / (shape[0] * shape[2] * shape[3] / 4.0)) ** 0.5 * normal(seed, name, shape)
    elif std is not None:
        x = mean + std(float(fan_in)) * normal(seed, name, shape, centred=fan_in >= 16)
    elif len(shape) >= 2:
        x = (2.7 / fan_in) ** 0.5 * normal(seed, name, shape, centred=fan_in >= 16)
    else:  # scale of a normalisation layer, or another scale factor
        x = 1.0 + 0.1 * normal(seed, name, shape)
    for pattern, factor in gains:
        if re.search(pattern, name):
            x = x * factor
    return np.asarray(x, dtype=np.float64).astype(np.float32).reshape(shape)


def _fillable(name, tensor):
    return tensor.is_floating_point() and not _SKIP.search(name)


@torch.no_grad()
def fill_state(target, seed=0, gains=()):
    """Overwrite the floating-point tensors of a module or of a state dict, by name.

    Returns the list of the names that were filled.  Integer tensors and constants (pixel mean/std,
    anchors, relative position indices, batch counters) are left alone.
    """
    state = target.state_dict() if isinstance(target, torch.nn.Module) else target
    done = []
    for name, tensor in state.items():
        if not _fillable(name, tensor):
            continue
        values = torch.from_numpy(tensor_values(name, tensor.shape, seed, gains))
        tensor.copy_(values.to(tensor.dtype))
        done.append(name)
    return done


def state_from_keys(keys, seed=0, gains=()):
    """A state dict made from a {name: [shape, dtype]} table (see models/state_keys.json.gz).

    Use it when the names of the model under test differ from the names of the checkpoint format:
    the result can be written with torch.save and read by the checkpoint loader under test.
    """
    state = {}
    for name, (shape, dtype) in keys.items():
        tensor = torch.zeros(shape, dtype=getattr(torch, dtype))
        if _fillable(name, tensor):
            tensor = torch.from_numpy(tensor_values(name, shape, seed, gains)).to(tensor.dtype)
        elif not tensor.is_floating_point():
            continue  # counters and index tables: keep what the model has
        else:
            continue
        state[name] = tensor
    return state


# ------------------------------------------------------------------------------------------- inputs
def _upsample(grid, height, width):
    """Bilinear interpolation of a coarse grid (align corners), float64."""
    gh, gw = grid.shape[-2:]
    y = np.arange(height) * ((gh - 1) / max(height - 1, 1))
    x = np.arange(width) * ((gw - 1) / max(width - 1, 1))
    y0 = np.minimum(y.astype(np.int64), gh - 2)
    x0 = np.minimum(x.astype(np.int64), gw - 2)
    fy = (y - y0)[:, None]
    fx = (x - x0)[None, :]
    a = grid[..., y0, :][..., x0] * (1 - fx) + grid[..., y0, :][..., x0 + 1] * fx
    b = grid[..., y0 + 1, :][..., x0] * (1 - fx) + grid[..., y0 + 1, :][..., x0 + 1] * fx
    return a * (1 - fy) + b * fy


def image(seed, height, width):
    """Smooth random uint8 image, shape (3, height, width), channel order BGR."""
    coarse = _upsample(normal(seed, "image/coarse", (3, 5, 5)), height, width)
    middle = _upsample(normal(seed, "image/middle", (3, 17, 17)), height, width)
    fine = normal(seed, "image/fine", (3, height, width))
    x = 118.0 + 48.0 * coarse + 30.0 * middle + 6.0 * fine
    return np.clip(np.floor(x + 0.5), 0, 255).astype(np.uint8)


def _grid(x):
    """Round to multiples of 1/64: exactly representable in float32."""
    return np.floor(np.asarray(x, dtype=np.float64) * 64 + 0.5) / 64


def ground_truth(
    seed, height, width, num_classes, n=4, num_keypoints=17, sem_classes=54, ignore_value=255
):
    """Plain numpy ground truth of one image.

    Returns a dict with
      boxes          (n, 4) float64, x1 y1 x2 y2, the extent of the polygons
      classes        (n,) int64
      polygons       list of n lists of flat float64 arrays x0 y0 x1 y1 ...
      keypoints      (n, num_keypoints, 3) float64: x, y, visibility in {0, 1, 2}
      rotated_boxes  (n, 5) float64: cx, cy, w, h, angle in degrees
      sem_seg        (height, width) int64 in [0, sem_classes) or ignore_value
    All coordinates are multiples of 1/64.
    """
    boxes, polygons, keypoints, rotated = [], [], [], []
    # Sizes close to those of the usual anchors: a box that is a little wider and a little lower
    # than an anchor (or the reverse) has one best anchor, not several with equal overlap.
    sizes = (
        (32, 32),
        (64, 64),
        (45.25, 90.5),
        (128, 128),
        (90.5, 45.25),
        (22.6, 45.25),
        (45.25, 22.6),
    )
    first = int(integers(seed, "gt/first", (1,), len(sizes))[0])
    for i in range(n):
        u = uniform(seed, f"gt/box/{i}", (6,))
        h, w = sizes[(first + i) % len(sizes)]
        sign = 1 if u[0] < 0.5 else -1
        h, w = h * (1 + sign * (0.04 + 0.05 * u[1])), w * (1 - sign * (0.04 + 0.05 * u[2]))
        h, w = min(h, height - 6.0), min(w, width - 6.0)
        y0 = float(_grid(1.5 + u[3] * (height - h - 3)))
        x0 = float(_grid(1.5 + u[4] * (width - w - 3)))
        h, w = float(_grid(h)), float(_grid(w))
        parts = 2 if i % 3 == 2 else 1
        polys = []
        for p in range(parts):
            k = 7 + i % 4
            r = 0.65 + 0.35 * uniform(seed, f"gt/poly/{i}/{p}", (k,))
            a = 2 * np.pi * (np.arange(k) + 0.3 * uniform(seed, f"gt/angle/{i}/{p}", (k,))) / k
            xy = np.stack([p * 1.8 + r * np.cos(a), r * np.sin(a)], axis=1)
            polys.append(xy)
        low = np.concatenate(polys).min(axis=0)
        high = np.concatenate(polys).max(axis=0)
        polys = [(xy - low) / (high - low) for xy in polys]  # fill the box
        polys = [_grid(np.array([x0, y0]) + xy * np.array([w, h])).reshape(-1) for xy in polys]
        box = np.array([x0, y0, x0 + w, y0 + h])
        polygons.append(polys)
        boxes.append(box)
        kp = uniform(seed, f"gt/kp/{i}", (num_keypoints, 2))
        kx = _grid(box[0] + kp[:, 0] * w)
        ky = _grid(box[1] + kp[:, 1] * h)
        vis = integers(seed, f"gt/vis/{i}", (num_keypoints,), 3)
        vis[0] = 2
        # coordinates of unlabelled key points are zero
        keypoints.append(np.stack([kx * (vis > 0), ky * (vis > 0), vis], axis=1))
        rotated.append([_grid(x0 + w / 2), _grid(y0 + h / 2), w, h, _grid(-90 + 180 * u[5])])
    classes = integers(seed, "gt/classes", (n,), num_classes)

    sites = uniform(seed, "gt/sites", (14, 2))
    sy = (sites[:, 0] * height).astype(np.int64)
    sx = (sites[:, 1] * width).astype(np.int64)
    labels = integers(seed, "gt/labels", (14,), sem_classes)
    labels[-1] = ignore_value
    yy, xx = np.mgrid[:height, :width]
    dist = (yy[None] - sy[:, None, None]) ** 2 + (xx[None] - sx[:, None, None]) ** 2
    sem_seg = labels[dist.argmin(axis=0)]
    return {
        "boxes": np.asarray(boxes, dtype=np.float64).reshape(-1, 4),
        "classes": classes,
        "polygons": polygons,
        "keypoints": np.asarray(keypoints, dtype=np.float64).reshape(-1, num_keypoints, 3),
        "rotated_boxes": np.asarray(rotated, dtype=np.float64).reshape(-1, 5),
        "sem_seg": sem_seg.astype(np.int64),
    }


def proposals(seed, height, width, n, boxes=None):
    """External proposals for Fast R-CNN: (n, 4) boxes and (n,) objectness logits.

    When ground-truth `boxes` are given, the first proposals are jittered copies of them.
    """
    u = uniform(seed, "proposals/box", (n, 4))
    w = 12 + u[:, 2] * (width * 0.7 - 12)
    h = 12 + u[:, 3] * (height * 0.7 - 12)
    x = u[:, 0] * (width - w)
    y = u[:, 1] * (height - h)
    out = np.stack([x, y, x + w, y + h], axis=1)
    if boxes is not None and len(boxes):
        k = min(n, 3 * len(boxes))
        src = np.asarray(boxes)[np.arange(k) % len(boxes)]
        size = np.concatenate([src[:, 2:] - src[:, :2]] * 2, axis=1)
        out[:k] = src + 0.06 * normal(seed, "proposals/jitter", (k, 4)) * size
    out[:, 0::2] = np.clip(out[:, 0::2], 0, width)
    out[:, 1::2] = np.clip(out[:, 1::2], 0, height)
    logits = np.sort(normal(seed, "proposals/logits", (n,)))[::-1]
    return _grid(out), logits.astype(np.float32).astype(np.float64)


def points(count):
    """(count, 2) low-discrepancy points in the open unit square; used in place of random points."""
    i = np.arange(1, count + 1)[:, None]
    step = np.array([[0.7548776662466927, 0.5698402909980532]])
    return np.floor(((0.5 + i * step) % 1.0) * 2.0**20 + 0.5) / 2.0**20


def panoptic_targets(seed, height, width):
    """Centre heat map, centre offsets and weights, as a bottom-up panoptic model wants them.

    The keys are those of the training input: center, offset, center_weights, offset_weights,
    sem_seg_weights.
    """
    c = _upsample(uniform(seed, "panoptic/center", (1, 9, 9)), height, width)[0] ** 2
    o = 20.0 * _upsample(normal(seed, "panoptic/offset", (2, 9, 9)), height, width)
    cw = _upsample(uniform(seed, "panoptic/cw", (1, 7, 7)), height, width)[0] > 0.4
    ow = _upsample(uniform(seed, "panoptic/ow", (1, 7, 7)), height, width)[0] > 0.5
    f = lambda x: np.asarray(x, dtype=np.float64).astype(np.float32).astype(np.float64)  # noqa: E731
    sw = 1.0 + 2.0 * (integers(seed, "sem_seg_weights", (height, width), 4) == 0)
    return {
        "center": f(c),
        "offset": f(o),
        "center_weights": f(cw),
        "offset_weights": f(ow),
        "sem_seg_weights": f(sw),
    }


def point_annotations(seed, boxes, count):
    """Labelled points inside each box: (n, count, 2) coordinates and (n, count) labels 0/1."""
    boxes = np.asarray(boxes)
    u = uniform(seed, "point_sup/xy", (len(boxes), count, 2))
    xy = _grid(boxes[:, None, :2] + u * (boxes[:, None, 2:] - boxes[:, None, :2]))
    return xy, integers(seed, "point_sup/label", (len(boxes), count), 2)


def densepose(seed, n, num_points=40):
    """Dense-pose style annotations for n boxes: a list of dicts of plain arrays.

    x, y       point coordinates relative to the box, in [0, 255]
    part       fine part index 1..24;  u, v in [0, 1]
    segm       (256, 256) int64 coarse part labels 0..14 on the box grid
    """
    out = []
    for i in range(n):
        p = uniform(seed, f"dp/{i}", (4, num_points))
        site = integers(seed, f"dp/site/{i}", (16, 2), 256)
        label = np.arange(16) % 15
        yy, xx = np.mgrid[:256, :256]
        d = (yy[None] - site[:, 0, None, None]) ** 2 + (xx[None] - site[:, 1, None, None]) ** 2
        out.append(
            {
                "x": _grid(p[0] * 255),
                "y": _grid(p[1] * 255),
                "u": np.floor(p[2] * 256) / 256,
                "v": np.floor(p[3] * 256) / 256,
                "part": 1 + integers(seed, f"dp/part/{i}", (num_points,), 24),
                "segm": label[d.argmin(axis=0)].astype(np.int64),
            }
        )
    return out
