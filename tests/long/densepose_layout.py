"""DensePose's annotations of the generated pictures, and made-up meshes where its files are cached.

``write_densepose(root, cache)`` wants the pictures of ``coco_layout`` below ``root``. Every mesh
has 96 vertices, four in each of the 24 parts of a body, the corners of a square in each. Addresses
of DensePose's files are answered from ``cache``, the folder named by ``FVCORE_CACHE``.
"""

import itertools
import json
import pickle
import shutil
from pathlib import Path

import hotcoco.mask
import numpy as np
from PIL import Image
from scipy.io import savemat

PARTS, CORNERS = 24, 4
VERTICES = PARTS * CORNERS
POINTS = 20
SIZE = 256  # of a body's map of parts
ANIMALS = {"bear_4936": 76, "cow_5002": 80}  # mesh -> LVIS category
MESHES = ("smpl_27554", *ANIMALS, "cat_7466", "dog_7466", "sheep_5004", "horse_5004", "zebra_5002",
          "giraffe_5002", "elephant_5002")  # fmt: skip
PERSON = {"id": 1, "name": "person", "supercategory": "person"}


def _part_masks():
    """Return the run-length codes of 14 coarse parts; two are there, left and right."""
    masks = []
    for left, right in ((8, 128), (128, 248)):
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8, order="F")
        mask[8:248, left:right] = 1
        code = hotcoco.mask.encode(mask)
        counts = code["counts"]
        counts = counts.decode() if isinstance(counts, bytes) else counts
        masks.append({"size": [SIZE, SIZE], "counts": counts})
    return masks + [[]] * 12


def _points(number, surface):
    """Return a body's labelled points, in charts or as vertices of a mesh."""
    rng = np.random.default_rng(number)
    places = rng.uniform(20, 230, (2, POINTS)).round(2).tolist()
    common = {"dp_x": places[0], "dp_y": places[1], "dp_masks": _part_masks()}
    if surface == "charts":
        parts = [float(1 + i % PARTS) for i in range(POINTS)]
        u, v = rng.uniform(0, 1, (2, POINTS)).round(3).tolist()
        return {**common, "dp_I": parts, "dp_U": u, "dp_V": v}
    vertices = rng.integers(0, VERTICES, POINTS).tolist()
    return {**common, "dp_vertex": vertices, "ref_model": surface}


def _annotated(instances, surface):
    rows = [
        {**row, "category_id": 1, **_points(row["id"], surface)} for row in instances["annotations"]
    ]
    return {**instances, "annotations": rows, "categories": [PERSON]}


def _of_animals(lvis):
    rows = [
        {**row, "category_id": ANIMALS[mesh], **_points(row["id"], mesh)}
        for row, mesh in zip(lvis["annotations"], itertools.cycle(ANIMALS), strict=False)
    ]
    return {**lvis, "annotations": rows}


def _dump(content, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        path.write_text(json.dumps(content))


def _write_charts(folder):
    """Write what the charts' evaluation and mirroring read."""
    folder.mkdir(parents=True, exist_ok=True)
    maps = np.empty((1, PARTS), dtype=object)
    ramp = np.linspace(0, 1, SIZE)
    maps[0, :] = [np.tile(1 - ramp, (SIZE, 1))] * PARTS
    savemat(folder / "UV_symmetry_transforms.mat", {"U_transforms": maps, "V_transforms": maps})
    corners = np.array([(0, 0), (0, 1), (1, 0), (1, 1)], dtype=float)
    uv = np.tile(corners, (PARTS, 1))
    parts = np.repeat(np.arange(1, PARTS + 1), CORNERS)
    table = {"Part_ID_subdiv": parts, "U_subdiv": uv[:, :1], "V_subdiv": uv[:, 1:]}
    savemat(folder / "SMPL_subdiv.mat", table)
    savemat(folder / "SMPL_SUBDIV_TRANSFORM.mat", {"index": np.arange(1, VERTICES + 1)[:, None]})
    rows, columns = np.tril_indices(VERTICES, -1)
    pairs = np.abs(rows - columns)[:, None] / VERTICES
    _dump({"Pdist_matrix": pairs.astype(np.float32)}, folder / "Pdist_matrix.pkl")


def _write_meshes(cache):
    rng = np.random.default_rng(0)
    for name in MESHES:
        vertices = rng.normal(size=(VERTICES, 3)).astype(np.float32)
        distances = np.linalg.norm(vertices[:, None] - vertices, axis=-1)
        faces = [[i, (i + 1) % VERTICES, (i + 2) % VERTICES] for i in range(VERTICES)]
        meshes = cache / "densepose" / "meshes"
        _dump({"vertices": vertices, "faces": np.array(faces)}, meshes / f"{name}.pkl")
        _dump(distances, meshes / "geodists" / f"geodists_{name}.pkl")
        mirrored = {"vertex_transforms": np.arange(VERTICES)[::-1].copy()}
        _dump(mirrored, meshes / "symmetry" / f"symmetry_{name}.pkl")
        texture = rng.uniform(size=(VERTICES, 2)).astype(np.float32)
        _dump(texture, meshes / "texcoords" / f"texcoords_{name}.pkl")
        features = {
            "features": rng.normal(size=(VERTICES, 256)).astype(np.float32),
            "embeddings": rng.normal(size=(256, 16)).astype(np.float32),
        }
        _dump(features, cache / "densepose/data/cse/lbo" / f"phi_{name}_256.pkl")
    colors = np.empty(2, dtype=object)
    colors[:] = [rng.normal(size=(VERTICES, 256)), 0.0]
    np.save(cache / "densepose/data/cse/mds_d=256.npy", colors, allow_pickle=True)
    keys = {name: {"nose": 3, "tail": 70} for name in MESHES}
    _dump(keys, cache / "densepose/data/cse/mesh_keyvertices_v0.json")


def _write_video(path):
    """Write 40 frames of a grey square on its way, every tenth one a key frame."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.gop_size = 160, 128, 10
        for step in range(40):
            pixels = np.full((128, 160, 3), 40, dtype=np.uint8)
            pixels[30:90, step : step + 60] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    (path.parent / "video_list.txt").write_text(f"{path.name}\n")


def write_densepose(root: Path, cache: Path) -> None:
    """Write annotations below ``root`` and files below ``cache``, unless they are there."""
    if (root / "densepose_done").exists():
        return
    for split, name in (("train", "train2014"), ("val", "minival2014")):
        source = root / "coco" / "annotations" / f"instances_{split}2017.json"
        instances = json.loads(source.read_text())
        _dump(_annotated(instances, "charts"), root / f"coco/annotations/densepose_{name}.json")
        cse = f"coco_cse/densepose_{name}_cse.json"
        _dump(_annotated(instances, "smpl_27554"), root / cse)
        lvis = json.loads((root / "lvis" / f"lvis_v1_{split}.json").read_text())
        _dump(_of_animals(lvis), root / f"lvis/densepose_lvis_v1_ds2_{split}_v1.json")
        pictures = root / "coco" / f"{split}2017"
        shutil.copytree(pictures, root / "coco" / f"{split}2014", dirs_exist_ok=True)
        shutil.copytree(pictures, root / f"coco_{split}2017", dirs_exist_ok=True)
    for other in ("minival2014_100", "valminusminival2014"):
        shutil.copy(root / "coco/annotations/densepose_minival2014.json",
                    root / f"coco/annotations/densepose_{other}.json")  # fmt: skip
        shutil.copy(root / "coco_cse/densepose_minival2014_cse.json",
                    root / f"coco_cse/densepose_{other}_cse.json")  # fmt: skip
    chimps = root / "densepose_chimps"
    shutil.copytree(root / "coco" / "val2017", chimps / "images", dirs_exist_ok=True)
    shutil.copy(root / "coco/annotations/densepose_minival2014.json",
                chimps / "densepose_chimps_densepose.json")  # fmt: skip
    _write_video(root / "chimpnsee" / "cdna.eva.mpg.de" / "walk.mp4")
    _write_charts(cache / "densepose" / "data")
    _write_meshes(cache)
    rng = np.random.default_rng(1)
    Image.fromarray(rng.integers(0, 255, (96, 64, 3), dtype=np.uint8)).save(root / "texture.png")
    (root / "densepose_done").touch()
