"""Load golden data and compare arrays against it.

    golden = compare.load("models/mask_rcnn_R_50_FPN_1x")        # arrays + its entry of the index
    got = {}
    got.update(compare.summary("backbone/p2", features["p2"]))
    got["out/0/boxes"] = boxes
    compare.check(golden, got)                                    # raises AssertionError with a report

Only numpy is needed (torch tensors are accepted where arrays are).
"""

import json
import os

import numpy as np
import synth

HERE = os.path.dirname(os.path.abspath(__file__))
DEFAULT_TOL = 1e-6  # float64 against float64
FLOAT32_TOL = 2e-4  # float32 against float64
MASK_TOL = 2e-4  # fraction of pixels of a bit mask or label map that may differ

__all__ = ["Golden", "check", "diff", "index", "load", "pack", "summary", "to_numpy", "unpack"]


class Golden(dict):
    """A dict of arrays with the entry of the index as attribute `meta`."""

    meta = None
    path = ""


def to_numpy(x):
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.double() if str(x.dtype) == "torch.bfloat16" else x
        return x.numpy()
    return np.asarray(x)


def index(root=HERE):
    with open(os.path.join(root, "models", "index.json")) as f:
        return json.load(f)


def load(name, root=HERE):
    """name: path of an npz file below `root`, without extension."""
    out = Golden()
    out.path = os.path.join(root, name + ".npz")
    with np.load(out.path, allow_pickle=False) as z:
        for k in z.files:
            out[k] = z[k]
    if name.startswith("models/"):
        out.meta = index(root).get(name[len("models/") :])
    return out


def summary(name, x, count=16):
    """Three small arrays that stand for a large one: shape, [mean, std, max abs], sampled values."""
    x = to_numpy(x)
    flat = x.reshape(-1).astype(np.float64)
    idx = synth.sample_indices(name, flat.size, count)
    stats = [flat.mean(), flat.std(), np.abs(flat).max()] if flat.size else [0.0, 0.0, 0.0]
    return {
        f"{name}/shape": np.asarray(x.shape, dtype=np.int64),
        f"{name}/stats": np.asarray(stats, dtype=np.float64),
        f"{name}/samples": flat[idx],
    }


def pack(masks):
    """(packed bits, shape) of a boolean array."""
    masks = to_numpy(masks).astype(bool)
    return np.packbits(masks.reshape(-1)), np.asarray(masks.shape, dtype=np.int64)


def unpack(bits, shape):
    n = int(np.prod(shape))
    return np.unpackbits(bits)[:n].reshape(tuple(int(s) for s in shape)).astype(bool)


def _floor(key):
    """Part of the largest magnitude that is added to the denominator of relative errors."""
    if "/grad_norms" in key or "/buffer_norms" in key:
        return 1e-3
    if "/loss/" in key:
        return 1e-12
    return 1.0


def error(key, got, want):
    """(relative error, absolute error) of a float array; see _floor for the denominator."""
    got, want = np.asarray(got, dtype=np.float64), np.asarray(want, dtype=np.float64)
    if got.size == 0:
        return 0.0, 0.0
    if not np.array_equal(np.isfinite(got), np.isfinite(want)):
        return float("inf"), float("inf")
    d = np.abs(got - want)
    d = np.where(np.isfinite(d), d, 0.0)
    w = np.where(np.isfinite(want), np.abs(want), 0.0)
    rel = d / (w * (1.0 if _floor(key) < 1 else 0.0) + _floor(key) * max(w.max(), 1e-30))
    return float(rel.max()), float(d.max())


def is_mask(key):
    return key.endswith(("/masks", "/argmax", "/panoptic"))


def mask_fraction(key, got, want):
    if key.endswith("/masks"):  # packed bits
        bad = np.unpackbits(np.bitwise_xor(got, want)).sum()
        return float(bad) / max(1, got.size * 8)
    return float((got != want).mean()) if got.size else 0.0


def diff(golden, got, strict=False):
    """{key: (relative error, absolute error, note)} for every key of `got`."""
    out = {}
    for key in golden:
        if strict and key not in got:
            out[key] = (float("inf"), float("inf"), "missing in the result")
    for key, g in got.items():
        if key not in golden:
            out[key] = (float("inf"), float("inf"), "not in the golden data")
            continue
        g, w = to_numpy(g), golden[key]
        if g.dtype.kind in "US" or w.dtype.kind in "US":
            extra, missing = (
                sorted(set(g.tolist()) - set(w.tolist())),
                sorted(set(w.tolist()) - set(g.tolist())),
            )
            same = g.shape == w.shape and bool((g == w).all())
            note = (
                ""
                if same
                else f"too many: {extra[:5]}, missing: {missing[:5]}"
                if extra or missing
                else "another order"
            )
            out[key] = (0.0 if same else float("inf"),) * 2 + (note,)
        elif g.shape != w.shape:
            out[key] = (float("inf"),) * 2 + (f"shape {g.shape}, expected {w.shape}",)
        elif is_mask(key):
            f = mask_fraction(key, g, w)
            out[key] = (f, f, "fraction of differing pixels")
        elif w.dtype.kind in "iub":
            bad = int((g != w).sum())
            at = np.argwhere(np.atleast_1d(g != w))[:1].tolist()
            out[key] = (
                float("inf") if bad else 0.0,
                float(bad),
                f"{bad} of {w.size} integers differ, first at {at}" if bad else "",
            )
        else:
            rel, ab = error(key, g, w)
            if key.endswith("/segment_areas"):  # counts of pixels: the label map's tolerance
                pixels = golden[key.replace("segment_areas", "panoptic")].size
                rel = 0.0 if ab <= MASK_TOL * pixels else rel
            out[key] = (rel, ab, "")
    return out


def tolerance(golden, key, float32=False, tol=None, exact=False):
    base = tol if tol is not None else (FLOAT32_TOL if float32 else DEFAULT_TOL)
    if is_mask(key):
        base = MASK_TOL
    table = {}
    if golden.meta and not exact:
        table = golden.meta.get("tolerance_float32" if float32 else "tolerance", {})
    return max(base, table.get(key, 0.0))


def check(golden, got, float32=False, tol=None, strict=False, exact=False):
    """Raise AssertionError unless every array of `got` agrees with the golden array of that name.

    float32: the result comes from a float32 run; wider tolerances apply.
    tol:     replaces the default relative tolerance (per-key entries of the index still apply).
    strict:  every golden key must be present in `got`.
    exact:   ignore the per-key tolerances of the index (they leave room for box structures that
             round coordinates to float32 in an otherwise float64 model).
    Returns {key: relative error}.
    """
    res = diff(golden, got, strict)
    # keys are reported in the order in which the golden data lists them: stage by stage
    order = {k: i for i, k in enumerate(golden)}
    bad = [
        k
        for k in sorted(res, key=lambda k: order.get(k, -1))
        if not res[k][0] <= tolerance(golden, k, float32, tol, exact)
    ]
    if bad:
        lines = [f"{golden.path}: {len(bad)} of {len(res)} arrays differ; first: {bad[0]}"]
        for k in bad[:12]:
            rel, ab, note = res[k]
            lines.append(
                f"  {k}: max rel {rel:.3e} (allowed {tolerance(golden, k, float32, tol, exact):.1e}), "
                f"max abs {ab:.3e} {note}"
            )
            if k.endswith("grad_norms") and k in golden and not note:
                names = golden[k.replace("grad_norms", "grad_names")]
                g, w = to_numpy(got[k]), golden[k]
                r = np.abs(g - w) / (np.abs(w) + 1e-3 * np.abs(w).max())
                for i in np.argsort(-r)[:5]:
                    lines.append(f"      {names[i]}: {g[i]:.9e}, expected {w[i]:.9e}")
            elif k in golden and not note and golden[k].size:
                g, w = to_numpy(got[k]).reshape(-1), golden[k].reshape(-1)
                i = int(np.nanargmax(np.abs(g.astype(float) - w.astype(float))))
                lines.append(f"      worst element {i}: {g[i]!r}, expected {w[i]!r}")
        raise AssertionError("\n".join(lines))
    return {k: v[0] for k, v in res.items()}
