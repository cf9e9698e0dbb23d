"""Other programs of detectron2's ``projects/``, unmodified: tools, demos and tests, on retinue.

``python third_party_programs.py FOLDER`` takes the arguments of ``third_party.py``. A program
passes when it ends well and has written what it should.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from densepose_layout import VERTICES
from third_party import D2, DENSEPOSE, EMBEDDERS, LOW_SCORES, environment, prepare


@dataclass(frozen=True)
class Program:
    """One call of one program.

    Attributes:
        name: of the result's row.
        project: path of the project's clone, below the folder of all.
        words: its command line; ``{project}``, ``{datasets}`` and ``{output}`` are folders.
        writes: files that are there, and new, afterwards.
        copies: folders of the project that are copied to the output, where it runs then; else it
            runs where the folder ``datasets`` is.
        own: import the project's own package; else retinue's.
    """

    name: str
    project: str
    words: str
    writes: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()
    own: bool = True


ON_CPU = f"--opts MODEL.DEVICE cpu INPUT.MIN_SIZE_TEST 96 INPUT.MAX_SIZE_TEST 160 {LOW_SCORES}"
PICTURE = "{datasets}/coco/val2014/000000000001.jpg"
CHARTS = f"{{project}}/configs/densepose_rcnn_R_50_FPN_s1x.yaml '' {PICTURE}"
CSE = f"{{project}}/configs/cse/densepose_rcnn_R_50_FPN_soft_s1x.yaml '' {PICTURE}"
SMALL_MESH = f"{EMBEDDERS}.smpl_27554.NUM_VERTICES {VERTICES}"
# not test_dataset_loaded_annotations: imports a name that densepose lacks; not
# test_video_keyframe_dataset: calls torchvision.io.write_video, which is gone
TESTS = "-m unittest " + " ".join(
    f"tests.test_{name}"
    for name in (
        "chart_based_annotations_accumulator", "combine_data_loader",
        "cse_annotations_accumulator", "frame_selector", "image_list_dataset",
        "image_resize_transform", "model_e2e", "setup", "structures", "tensor_storage",
    )
)  # fmt: skip
TOOLS, CONFIGS = "detectron2/tools", "{project}/../configs"
TINY = (
    "MODEL.DEVICE cpu MODEL.WEIGHTS '' MODEL.RESNETS.DEPTH 18 MODEL.RESNETS.RES2_OUT_CHANNELS 64"
    " MODEL.FPN.OUT_CHANNELS 16 MODEL.ROI_HEADS.SCORE_THRESH_TEST 0.0 TEST.DETECTIONS_PER_IMAGE 2"
    " MODEL.RPN.POST_NMS_TOPK_TEST 8 MODEL.RPN.POST_NMS_TOPK_TRAIN 16 SOLVER.IMS_PER_BATCH 2"
    " INPUT.MIN_SIZE_TEST 32 INPUT.MIN_SIZE_TRAIN (32,) DATASETS.TEST ('coco_2017_train',)"
    " DATALOADER.NUM_WORKERS 0 OUTPUT_DIR {output}"
)
FASTER = f"--config-file {CONFIGS}/COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"
MASK = f"--config-file {CONFIGS}/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
SEGMENTER = f"--config-file {CONFIGS}/Misc/semantic_R_50_FPN_1x.yaml"

# not demo.py: it imports vision.fair.detectron2, a folder of its authors'
PROGRAMS = (
    Program("visualize_data.py, annotations", TOOLS,
            f"{{project}}/visualize_data.py --source annotation {MASK} --output-dir {{output}}",
            ("{output}/000000000006.jpg",)),
    Program("visualize_json_results.py", TOOLS,
            "{project}/visualize_json_results.py --input {datasets}/coco/results.json"
            " --output {output} --conf-threshold 0", ("{output}/000000000002.jpg",)),
    Program("analyze_model.py", TOOLS,
            "{project}/analyze_model.py --tasks flop activation parameter structure --num-inputs 2"
            f" {FASTER} {TINY}"),
    Program("analyze_model.py, lazy", TOOLS,
            "{project}/analyze_model.py --tasks parameter structure --num-inputs 1 --config-file"
            f" {CONFIGS}/COCO-Detection/retinanet_R_50_FPN_1x.py train.device=cpu"
            " train.init_checkpoint=''"),
    Program("benchmark.py eval", TOOLS,
            f"{{project}}/benchmark.py --task eval {SEGMENTER} {TINY}"),
    Program("benchmark.py train", TOOLS,
            f"{{project}}/benchmark.py --task train {SEGMENTER} {TINY}"),
    Program("benchmark.py data", TOOLS,
            f"{{project}}/benchmark.py --task data_advanced {FASTER} {TINY}"
            " DATALOADER.NUM_WORKERS 1"),
    Program("convert-torchvision-to-d2.py", TOOLS,
            "{project}/convert-torchvision-to-d2.py {datasets}/resnet.pth {output}/resnet.pkl",
            ("{output}/resnet.pkl",)),
    Program("DensePose apply_net dump", DENSEPOSE,
            f"{{project}}/apply_net.py dump {CHARTS} --output {{output}}/all.pkl {ON_CPU}",
            ("{output}/all.pkl",)),
    Program("DensePose apply_net show", DENSEPOSE,
            f"{{project}}/apply_net.py show {CHARTS}"
            " dp_segm,dp_u,dp_v,dp_iuv_texture,bbox --min_score 0 --nms_thresh 0.5"
            f" --texture_atlas {{datasets}}/texture.png --output {{output}}/seen.png {ON_CPU}",
            ("{output}/seen.0001.png",)),
    Program("DensePose apply_net dump, embeddings", DENSEPOSE,
            f"{{project}}/apply_net.py dump {CSE} --output {{output}}/all.pkl {ON_CPU}"
            f" {SMALL_MESH}", ("{output}/all.pkl",)),
    Program("DensePose query_db print", DENSEPOSE,
            "{project}/query_db.py print densepose_coco_2014_minival image_id:int=1"
            " --max-entries 1"),
    Program("DensePose query_db show", DENSEPOSE,
            "{project}/query_db.py show densepose_coco_2014_minival image_id:int=1 dp_segm,bbox"
            " --output {output}/truth.png", ("{output}/truth.0001.png",)),
    Program("DensePose tests", DENSEPOSE, TESTS, copies=("tests", "configs")),
    Program("PointSup prepares points", f"{D2}/PointSup",
            "{project}/tools/prepare_coco_point_annotations_without_masks.py 10",
            ("{datasets}/coco/annotations/instances_train2017_n10_v1_without_masks.json",)),
    Program("TensorMask tests", f"{D2}/TensorMask", "-m unittest tests.test_swap_align2nat",
            copies=("tests",)),
)  # fmt: skip
SERVED = (
    *(
        Program(f"{p.name}, served", p.project, p.words, p.writes, p.copies, own=False)
        for p in PROGRAMS
        if "DensePose" in p.name
    ),
    # its own hands fractions to cv2.circle, which takes whole numbers only
    Program("DensePose query_db show, points, served", DENSEPOSE,
            "{project}/query_db.py show densepose_coco_2014_minival image_id:int=1"
            " dp_i,dp_u,dp_v,dp_pts --output {output}/truth.png", ("{output}/truth.0001.png",),
            own=False),
    Program("DensePose apply_net show, contours, served", DENSEPOSE,  # its own: 2 x 2 at least
            f"{{project}}/apply_net.py show {CHARTS} dp_contour --min_score 0 --output"
            f" {{output}}/seen.png {ON_CPU}", ("{output}/seen.0001.png",), own=False),
    Program("DensePose apply_net show, embeddings, served", DENSEPOSE,  # its own needs CUDA
            f"{{project}}/apply_net.py show {CSE} dp_vertex,dp_cse_texture,bbox --min_score 0"
            ' --texture_atlases_map {{"smpl_27554":"{datasets}/texture.png"}}'
            f" --output {{output}}/seen.png {ON_CPU} {SMALL_MESH}", ("{output}/seen.0001.png",),
            own=False),
)  # fmt: skip


def run(program: Program, folder: Path, work: Path, python: str, limit: float) -> str:
    """Run a program; return what went wrong, or nothing."""
    project = folder / program.project
    output = work / program.name.replace(" ", "_").replace(",", "")
    output.mkdir(parents=True, exist_ok=True)
    for name in program.copies:
        shutil.copytree(project / name, output / name, dirs_exist_ok=True)
    places = {"project": project, "datasets": work / "datasets", "output": output}
    words = [w.replace("''", "") for w in program.words.format(**places).split()]
    if not program.own and not program.copies:
        words[0] = str(shutil.copy(words[0], output))  # away from the project's package
    paths = [project] if program.own else []
    begun = time.time()
    try:
        done = subprocess.run(
            [python, "-m", "retinue.compat", *words],
            cwd=output if program.copies else work, env=environment(work, paths),
            capture_output=True, text=True, timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no end after {limit:.0f}s"
    (output / "stdout.txt").write_text(done.stdout + done.stderr)
    if done.returncode:
        return f"exit {done.returncode}: {(done.stderr or done.stdout).strip().splitlines()[-1]}"
    for pattern in program.writes:
        file = Path(pattern.format(**places))
        if not file.exists() or file.stat().st_mtime < begun:
            return f"did not write {file}"
    return ""


def main() -> int:
    """Run the programs; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the projects' clones are")
    parser.add_argument("--python", default=sys.executable, help="interpreter without detectron2")
    parser.add_argument("--only", default="", help="part of a program's name")
    parser.add_argument("--work", type=Path, help="folder for data, logs and outputs")
    parser.add_argument("--limit", type=float, default=1200, help="seconds a program may take")
    args = parser.parse_args()
    work = (args.work or Path(tempfile.mkdtemp())).resolve()
    prepare(work)
    chosen = [p for p in (*PROGRAMS, *SERVED) if args.only.lower() in p.name.lower()]
    failed = 0
    for program in chosen:
        begun = time.time()
        problem = run(program, args.folder.resolve(), work, args.python, args.limit)
        failed += bool(problem)
        state = "FAILED" if problem else "ok"
        print(f"{state:<7}{program.name:<44}{time.time() - begun:5.0f}s  {problem}", flush=True)
    print(f"{len(chosen) - failed} of {len(chosen)} pass; logs in {work}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
