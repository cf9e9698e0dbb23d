"""Datasets, examples, merged categories and examples made of predictions."""

import itertools
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from retinue.config import CfgNode
from retinue.data import DatasetCatalog, MetadataCatalog
from retinue.engine import DefaultTrainer
from retinue.engine.run_checks import check_class_count, check_datasets
from retinue.projects.densepose import DensePoseList
from retinue.projects.densepose.config import get_bootstrap_dataset_config, load_bootstrap_config
from retinue.projects.densepose.data import (
    BootstrapDatasetFactoryCatalog,
    CombinedDataLoader,
    DatasetMapper,
    ImageListDataset,
    InferenceBasedLoader,
    ScoreBasedFilter,
    build,
    maybe_prepend_base_path,
)
from retinue.projects.densepose.data.datasets import builtin, coco, lvis
from retinue.projects.densepose.data.datasets.dataset_type import DatasetType
from retinue.projects.densepose.data.samplers import (
    DensePoseConfidenceBasedSampler,
    PredictionToGroundTruthSampler,
)
from retinue.projects.densepose.data.samplers.densepose_base import take_best
from retinue.projects.densepose.data.transform import ImageResizeTransform
from retinue.projects.densepose.data.video import (
    FirstKFramesSelector,
    LastKFramesSelector,
    RandomKFramesSelector,
    VideoKeyframeDataset,
    list_keyframes,
    video_list_from_file,
)
from retinue.projects.densepose.data.video.video_keyframe_dataset import read_keyframe_helper_data
from retinue.projects.densepose.engine import Trainer
from retinue.projects.densepose.structures import (
    DensePoseChartPredictorOutput,
    DensePoseEmbeddingPredictorOutput,
    decorate_predictor_output_class_with_confidences,
)
from retinue.projects.densepose.utils.dbhelper import EntrySelector
from retinue.structures import Boxes, Instances

NAMES = ("people", "animals")


def runs_of_left_half():
    import hotcoco.mask as runs

    part = np.zeros((256, 256), dtype=np.uint8, order="F")
    part[:, :128] = 1
    rle = runs.encode(part)
    return {"size": [256, 256], "counts": rle["counts"].decode()}


def person(number=1, category=1, **more):
    annotation = {
        "id": number,
        "image_id": 1,
        "category_id": category,
        "bbox": [10, 5, 20, 10],
        "area": 200,
        "iscrowd": 0,
        "dp_x": [128.0],
        "dp_y": [0.0],
        "dp_I": [3.0],
        "dp_U": [0.5],
        "dp_V": [0.5],
        "dp_masks": [runs_of_left_half()],
        "keypoints": [3, 4, 2],
        "segmentation": [[10, 5, 30, 5, 30, 15, 10, 15], [1, 2]],
    }
    return annotation | more


@pytest.fixture
def datasets(tmp_path):
    """People (1), and cats (17) and dogs (18), one image each."""
    Image.fromarray(np.full((30, 40, 3), 100, dtype=np.uint8)).save(tmp_path / "a.png")
    image = {"id": 1, "height": 30, "width": 40, "file_name": "a.png"}
    animals = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": 1, "name": "person"}]
    contents = {
        "people": ([person()], [{"id": 1, "name": "person"}]),
        "animals": ([person(1, 17), person(2, 18)], animals),
    }
    for name, (annotations, categories) in contents.items():
        content = {"images": [image], "annotations": annotations, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        info = coco.CocoDatasetInfo(name, "", f"{name}.json")
        coco.register_dataset(info, str(tmp_path))
    yield tmp_path
    for name in NAMES:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def test_a_dataset_keeps_what_densepose_wants(datasets):
    (record,) = DatasetCatalog.get("people")
    (row,) = record["annotations"]
    assert record["file_name"] == f"{datasets}/a.png"
    assert record["dataset"] == "people"
    assert row["category_id"] == 1  # as in the file
    assert row["segmentation"] == [[10, 5, 30, 5, 30, 15, 10, 15]]
    assert row["keypoints"] == [3.5, 4.5, 2]
    assert {"dp_x", "dp_I", "dp_masks"} <= set(row)
    metadata = MetadataCatalog.get("people")
    assert metadata.categories == {1: "person"}
    assert metadata.densepose_transform_src.endswith("data/UV_symmetry_transforms.mat")


def test_wrong_annotations_are_refused(tmp_path):
    file = tmp_path / "x.json"

    def write(*annotations):
        image = {"id": 1, "height": 3, "width": 4, "file_name": "x", "frame_id": 5, "vid_id": 6}
        content = {"images": [image], "annotations": annotations, "categories": []}
        file.write_text(json.dumps(content))

    write(person(ignore=1))
    with pytest.raises(AssertionError, match="annotation 1 of image 1 is marked ignore"):
        coco.load_coco_json(str(file), "", "made_up")
    write(person(), person())
    with pytest.raises(AssertionError, match="must be unique"):
        coco.load_coco_json(str(file), "", "made_up")
    write()
    (record,) = coco.load_coco_json(str(file), "", "made_up")
    assert (record["frame_id"], record["video_id"]) == (5, 6)
    assert MetadataCatalog.get("made_up").video_frame_mapping == {6: {5: "x"}}
    MetadataCatalog.pop("made_up")


def test_animals_of_lvis_lie_in_the_folders_of_coco(tmp_path):
    image = {"id": 1, "height": 3, "width": 4, "coco_url": "http://x/train2017/7.jpg"}
    content = {"images": [image], "annotations": [person(category=943)], "categories": []}
    (tmp_path / "x.json").write_text(json.dumps(content))
    (record,) = lvis.load_lvis_json(str(tmp_path / "x.json"), "data/coco_", "made_up_v1")
    assert record["file_name"] == "data/coco_train2017/7.jpg"
    assert MetadataCatalog.get("made_up_v1").categories[943] == "sheep"
    MetadataCatalog.pop("made_up_v1")


def test_published_datasets_are_registered_once():
    before = set(DatasetCatalog.list())
    builtin.register_all("somewhere")
    builtin.register_all("elsewhere")
    added = set(DatasetCatalog.list()) - before
    assert len(added) in (0, 24)  # 15 + 3 of COCO, 5 of LVIS, the videos
    metadata = MetadataCatalog.get("densepose_coco_2014_minival_100_cse")
    assert metadata.json_file.endswith("coco_cse/densepose_minival2014_100_cse.json")
    assert MetadataCatalog.get("base_coco_2017_val_100").image_root.endswith("coco/val2017")
    assert DatasetCatalog.get("chimpnsee") == []
    for name in added:
        DatasetCatalog.remove(name)
        MetadataCatalog.pop(name)


def test_categories_are_chosen_merged_and_numbered(datasets, densepose_cfg, caplog):
    """Cats count as people, dogs are left out."""
    data = densepose_cfg.DATASETS
    data.WHITELISTED_CATEGORIES.animals = [17]
    data.CATEGORY_MAPS.animals = CfgNode({"17": 1})
    data.CLASS_TO_MESH_NAME_MAPPING["0"] = "smpl_27554"
    build.set_category_metadata(densepose_cfg, NAMES)
    records = build.combine_detection_dataset_dicts(NAMES)

    assert [[row["category_id"] for row in r["annotations"]] for r in records] == [[0], [0]]
    metadata = MetadataCatalog.get("animals")
    assert metadata.thing_classes == ["person"]
    assert metadata.thing_dataset_id_to_contiguous_id == {17: 0}
    assert metadata.thing_dataset_id_to_merged_id == {17: 1}
    assert metadata.class_to_mesh_name == {0: "smpl_27554"}
    assert "1 (person) of people, 17 (cat) of animals" in caplog.text
    assert coco.get_contiguous_id_to_category_id_map(metadata) == {0: 17}

    data.CATEGORY_MAPS.animals = CfgNode({"17": 99})
    build.set_category_metadata(densepose_cfg, NAMES)
    with pytest.raises(AssertionError, match="category 99 is not in the file of 'animals'"):
        build.combine_detection_dataset_dicts(NAMES)
    with pytest.raises(AssertionError, match="expected the names of datasets"):
        build.combine_detection_dataset_dicts([])


def test_images_are_kept_for_what_the_heads_learn(densepose_cfg):
    def keeps(**keys):
        return build._keep_in_training(densepose_cfg)({"annotations": [{"iscrowd": 0, **keys}]})

    iuv = dict.fromkeys(coco.DENSEPOSE_IUV_KEYS_WITHOUT_MASK)
    assert keeps(**iuv)
    assert not keeps(segmentation=[])
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS = True
    assert keeps(segmentation=[])
    densepose_cfg.MODEL.DENSEPOSE_ON = False
    assert keeps()
    densepose_cfg.MODEL.KEYPOINT_ON = True
    densepose_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1
    assert not keeps(keypoints=[3, 4, 0])
    assert keeps(keypoints=[3, 4, 2])


@pytest.fixture
def without_symmetries(monkeypatch):
    from retinue.projects.densepose.data import dataset_mapper

    monkeypatch.setattr(dataset_mapper, "_read_symmetries", lambda names: None)


def fixed_size(cfg):
    cfg.INPUT.MIN_SIZE_TRAIN = (60,)
    cfg.INPUT.RANDOM_FLIP = "none"
    return cfg


def test_an_example_has_points_and_boxes(datasets, densepose_cfg, without_symmetries):
    (record,) = DatasetCatalog.get("people")
    record["annotations"].append({"bbox": [0, 0, 5, 5], "bbox_mode": 1, "category_id": 0})
    example = DatasetMapper(fixed_size(densepose_cfg))(record)
    truth = example["instances"]

    assert example["image"].shape == (3, 60, 80)
    assert example["image"].dtype == torch.float32
    assert truth.gt_boxes.tensor[0].tolist() == [20, 10, 60, 30]
    assert isinstance(truth.gt_densepose, DensePoseList)
    assert [data is None for data in truth.gt_densepose] == [False, True]
    assert truth.gt_densepose[0].x.tolist() == [128]
    assert truth.gt_densepose[0].segm[0, [0, 127, 128]].tolist() == [1, 1, 0]
    assert not truth.has("gt_masks")
    assert "dp_x" in record["annotations"][0]  # the dict given stays


def test_masks_are_made_of_parts_where_none_are_annotated(
    datasets, densepose_cfg, without_symmetries
):
    densepose_cfg.MODEL.ROI_DENSEPOSE_HEAD.COARSE_SEGM_TRAINED_BY_MASKS = True
    (record,) = DatasetCatalog.get("people")
    del record["annotations"][0]["segmentation"]
    mask = DatasetMapper(fixed_size(densepose_cfg))(record)["instances"].gt_masks.tensor[0]
    want = torch.zeros(60, 80, dtype=torch.bool)
    want[10:30, 20:40] = True  # the left half of the box
    assert torch.equal(mask, want)


def test_examples_to_predict_on_have_the_image_alone(datasets, densepose_cfg):
    example = DatasetMapper(densepose_cfg, is_train=False)(DatasetCatalog.get("people")[0])
    assert "annotations" not in example
    assert "instances" not in example
    densepose_cfg.MODEL.LOAD_PROPOSALS = True
    with pytest.raises(AssertionError, match=r"set MODEL.LOAD_PROPOSALS to False"):
        DatasetMapper(densepose_cfg)


def test_loaders_of_registered_datasets(datasets, densepose_cfg, without_symmetries):
    densepose_cfg.DATASETS.TRAIN = densepose_cfg.DATASETS.TEST = ("people",)
    densepose_cfg.DATALOADER.NUM_WORKERS = 0
    densepose_cfg.SOLVER.IMS_PER_BATCH = 2
    batch = next(iter(build.build_detection_train_loader(fixed_size(densepose_cfg))))
    assert [len(example["instances"].gt_densepose) for example in batch] == [1, 1]
    for distributed in (True, False):
        densepose_cfg.DENSEPOSE_EVALUATION.DISTRIBUTED_INFERENCE = distributed
        (batch,) = build.build_detection_test_loader(densepose_cfg, "people")
        assert batch[0]["image_id"] == 1


def test_training_checks_no_categories_that_its_loader_numbers_anew(datasets, densepose_cfg):
    """The only person's category is 1 in the file, and 0 in what the model of one class gets."""
    densepose_cfg.DATASETS.TRAIN = ("people",)
    check_datasets(densepose_cfg, Trainer, ("TRAIN",))
    check_class_count(densepose_cfg, Trainer)
    with pytest.raises(ValueError, match="its class is 1"):
        check_class_count(densepose_cfg, DefaultTrainer)


# ------------------------------------------------------------------- examples of predictions


def prediction(*, side=4, confidences=False):
    """Two instances; the left half of each is chart 3."""
    kind = DensePoseChartPredictorOutput
    output = kind(*(torch.zeros(2, c, side, side) for c in (2, 25, 25, 25)))
    output.coarse_segm[:, 1, :, : side // 2] = 1
    output.coarse_segm[:, 0, :, side // 2 :] = 1
    output.fine_segm[:, 3] = 1
    output.u[:, 3] = 0.25
    if confidences:
        kind = decorate_predictor_output_class_with_confidences(kind)
        sigma = torch.arange(float(side)).view(1, 1, side, 1).expand(2, 25, -1, side)
        output = kind(**vars(output), sigma_2=sigma)
    return Instances(
        (20, 30),
        pred_boxes=Boxes(torch.tensor([[0.0, 0, 8, 8], [10, 10, 18, 18]])),
        pred_classes=torch.zeros(2, dtype=torch.int64),
        scores=torch.tensor([0.9, 0.1]),
        pred_densepose=output,
    )


def sampler(kind, cfg, embedder=None, count=5):
    spec = get_bootstrap_dataset_config().DATA_SAMPLER
    spec.TYPE, spec.COUNT_PER_CLASS = kind, count
    return build.build_data_sampler(cfg, spec, embedder)


def test_points_are_drawn_where_charts_are(densepose_cfg):
    made = sampler("densepose_uniform", densepose_cfg)([{"instances": prediction()}])
    truth = made[0]["instances"]
    data = truth.gt_densepose[0]

    assert set(truth.get_fields()) == {"gt_boxes", "gt_classes", "gt_densepose", "gt_masks"}
    assert data.i.tolist() == [3] * 5
    assert data.u.tolist() == [0.25] * 5
    assert (data.x < 128).all()  # pixel centres in the left half
    assert ((data.x / 32 - 0.5) % 1 == 0).all()
    assert data.segm[0, 0] == 2  # chart 3 is the right hand, part 2
    assert data.segm[0, 255] == 0
    assert truth.gt_masks.tensor[0, 0, :9].tolist() == [True] * 4 + [False] * 5


def test_confident_points_are_drawn_first(densepose_cfg):
    """Half of 32 pixels are searched: the upper ones, whose variance is smaller."""
    found = [{"instances": prediction(confidences=True)}]
    made = sampler("densepose_UV_confidence", densepose_cfg)(found)
    assert (made[0]["instances"].gt_densepose[0].y < 128).all()


def test_drawing_among_the_best():
    keys = torch.tensor([3.0, 1, 2, 0])
    assert sorted(take_best(keys, 2, None, None).tolist()) == [1, 3]
    assert set(take_best(keys, 1, 2.0, None).tolist()) <= {1, 3}
    assert set(take_best(keys, 1, None, 0.5).tolist()) <= {1, 3}
    assert len(take_best(keys, 4, None, 0.1)) == 4


def test_background_alone_gives_no_points(densepose_cfg):
    found = prediction()
    found.pred_densepose.coarse_segm[:, 1] = -1
    made = sampler("densepose_uniform", densepose_cfg)([{"instances": found}])
    assert len(made[0]["instances"].gt_densepose[0].x) == 0


@pytest.mark.parametrize("kind", ["densepose_cse_uniform", "densepose_cse_coarse_segm_confidence"])
def test_vertices_are_drawn_on_the_body(densepose_cfg, kind):
    densepose_cfg.DATASETS.CLASS_TO_MESH_NAME_MAPPING["0"] = "cow_5002"
    found = prediction()
    segm = found.pred_densepose.coarse_segm
    embedding = torch.zeros(2, 3, 4, 4)
    embedding[:, 1] = 1
    found.pred_densepose = DensePoseEmbeddingPredictorOutput(embedding, segm)
    found.pred_densepose.coarse_segm_confidence = torch.ones(2, 1, 4, 4)
    confident = decorate_cse(found.pred_densepose)
    found.pred_densepose = confident
    made = sampler(kind, densepose_cfg, lambda name: torch.eye(3))([{"instances": found}])
    data = made[0]["instances"].gt_densepose[0]
    assert data.vertex_ids.tolist() == [1] * 5
    assert (data.x < 128).all()
    with pytest.raises(ValueError, match=r"sampling embeddings needs .*CSE\.EMBEDDERS"):
        sampler(kind, densepose_cfg)


def decorate_cse(output):
    from retinue.projects.densepose.structures import (
        decorate_cse_predictor_output_class_with_confidences as decorate,
    )

    return decorate(DensePoseEmbeddingPredictorOutput)(**vars(output))


def test_what_is_made_of_predictions_can_be_changed(densepose_cfg):
    change = PredictionToGroundTruthSampler("made")
    change.remove_sampler("scores")
    output = change([{"instances": prediction()}])[0]
    assert output["dataset"] == "made"
    assert output["instances"].has("scores")
    with pytest.raises(KeyError, match="unknown sampler 'scores -> None'"):
        change.remove_sampler("scores")
    with pytest.raises(KeyError, match="did you mean 'densepose_uniform'"):
        sampler("densepose_unifrom", densepose_cfg)
    with pytest.raises(ValueError, match=r"got both, 2 and 0\.5"):
        DensePoseConfidenceBasedSampler("sigma_2", 8, 2, 0.5)


class FindsOne(nn.Module):
    """Finds an object on bright images."""

    device = torch.device("cpu")

    def forward(self, inputs):
        return [{"instances": self.find(item["image"])} for item in inputs]

    def find(self, image):
        found = Instances(image.shape[1:])
        found.scores = torch.ones(1) * image.max()
        return found[found.scores > 0.5]


def test_examples_are_made_of_predictions():
    bright, dark = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    elements = [{"images": i, "categories": ["cow"]} for i in (bright, dark, bright, bright)]
    made = InferenceBasedLoader(
        FindsOne(),
        [elements],
        data_filter=ScoreBasedFilter(0.8),
        batch_size=2,
        inference_batch_size=3,
        shuffle=False,
        category_to_class_mapping={"cow": 4},
    )
    batches = list(made)
    assert [len(batch) for batch in batches] == [2, 1]
    assert batches[0][0]["instances"].dataset_classes.tolist() == [4]
    assert batches[0][0]["image"].shape == (3, 4, 4)
    made.drop_last = True
    assert [len(batch) for batch in made] == [2]
    frames = {"images": torch.ones(3, 3, 4, 4), "categories": ["cow"]}
    made.data_loader = [[frames]]
    assert [len(batch) for batch in made] == [2]


def test_a_model_that_finds_nothing_is_told_of(caplog):
    dark = {"images": torch.zeros(30, 3, 4, 4), "categories": ["cow"]}
    bright = {"images": torch.ones(1, 3, 4, 4), "categories": ["cow"]}
    assert list(InferenceBasedLoader(FindsOne(), [[dark]] * 9)) == []
    (record,) = caplog.records
    assert "nothing to learn from on the first 120 images" in record.getMessage()
    assert "BOOTSTRAP_MODEL.WEIGHTS" in record.getMessage()

    caplog.clear()
    assert len(list(InferenceBasedLoader(FindsOne(), [[bright]] + [[dark]] * 9))) == 1
    assert not caplog.records


def test_loaders_are_mixed_by_their_shares():
    class Endless:
        def __init__(self, name):
            self.name = name

        def __iter__(self):
            while True:
                yield [self.name] * 3

    mixed = iter(CombinedDataLoader([Endless("a"), Endless("b")], 4, [1.0, 0.0]))
    assert [next(mixed) for _ in range(200)] == [["a"] * 4] * 200
    assert list(CombinedDataLoader([[["x"] * 5]], 2, [1.0])) == [["x", "x"], ["x", "x"]]


def test_a_loaders_batch_is_used_up_before_the_next():
    pairs, triples = [["a", "b"]] * 30, [["c", "d", "e"]] * 30
    mixed = CombinedDataLoader([pairs, triples], 5, [0.5, 0.5])
    text = "".join(itertools.chain.from_iterable(mixed))

    assert re.fullmatch(r"(ab|cde)+(a|cd?)?", text)
    assert "ab" in text
    assert "cde" in text


def test_images_are_read_or_left_out(tmp_path, caplog):
    Image.fromarray(np.full((2, 4, 3), (1, 2, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "none.png")]
    images = ImageListDataset(paths, "cow", ImageResizeTransform(4, 6))
    assert len(images) == 2
    assert images[0]["images"].shape == (1, 3, 3, 6)
    assert images[0]["images"][0, :, 0, 0].tolist() == [3, 2, 1]
    assert images[0]["categories"] == ["cow"]
    assert images[1]["images"].shape == (0, 3, 1, 1)
    assert "none.png is left out" in caplog.text
    with pytest.raises(AssertionError, match="a category for each of 2 files; got 1"):
        ImageListDataset(paths, ["cow"])


def test_frames_are_chosen_by_their_time():
    stamps = [1, 4, 9]
    assert FirstKFramesSelector(2)(stamps) == [1, 4]
    assert LastKFramesSelector(2)(stamps) == [4, 9]
    assert LastKFramesSelector(0)(stamps) == []
    assert sorted(RandomKFramesSelector(5)(stamps)) == stamps
    spec = CfgNode({"STRATEGY": "all", "NUM_IMAGES": 2})
    assert build.build_frame_selector(spec) is None
    spec.STRATEGY = "first_k"
    assert build.build_frame_selector(spec)(stamps) == [1, 4]


def test_lists_of_videos_and_frames(tmp_path, caplog):
    (tmp_path / "list.txt").write_text("a.mp4\n/b.mp4\n")
    assert video_list_from_file(str(tmp_path / "list.txt"), "base") == ["base/a.mp4", "/b.mp4"]
    (tmp_path / "frames.csv").write_text('video_id,keyframes\n2,"[1,11]"\n3,[]\n')
    assert read_keyframe_helper_data(str(tmp_path / "frames.csv")) == {2: [1, 11], 3: []}
    assert read_keyframe_helper_data(str(tmp_path / "none.csv")) == {}
    assert "can't be read" in caplog.text
    (tmp_path / "no.csv").write_text("video_id,keyframes\n0,[]\n")
    videos = VideoKeyframeDataset(["x.mp4"], None, None, None, str(tmp_path / "no.csv"))
    assert len(videos) == 1
    assert videos[0]["images"].shape == (0, 3, 1, 1)
    assert maybe_prepend_base_path(None, "x") == "x"
    assert maybe_prepend_base_path("y", "http://x") == "http://x"


def test_videos_without_pyav_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"pip install retinue\[video\]"):
        list_keyframes("x.mp4")


def test_bootstrap_datasets_are_built_by_their_type(densepose_cfg, tmp_path):
    densepose_cfg.BOOTSTRAP_DATASETS = [{"DATASET": "made_up", "IMAGE_LOADER": {"TYPE": "x"}}]
    load_bootstrap_config(densepose_cfg)
    (spec,) = densepose_cfg.BOOTSTRAP_DATASETS
    assert spec.RATIO == 0.1
    assert build.has_inference_based_loaders(densepose_cfg)
    (tmp_path / "list.txt").write_text("a.mp4\n")
    MetadataCatalog.get("made_up").set(
        dataset_type=DatasetType.VIDEO_LIST,
        video_list_fpath=str(tmp_path / "list.txt"),
        video_base_path="base",
        category="cow",
    )
    with pytest.raises(ValueError, match=r"nothing builds 'made_up'.*IMAGE_LOADER.TYPE 'x'"):
        build.build_bootstrap_dataset("made_up", spec.IMAGE_LOADER)
    reading = spec.IMAGE_LOADER
    reading.TYPE, reading.NUM_WORKERS = "video_keyframe", 0
    reading.SELECT = CfgNode({"STRATEGY": "random_k", "NUM_IMAGES": 4})
    reading.TRANSFORM = CfgNode({"TYPE": "resize", "MIN_SIZE": 8, "MAX_SIZE": 9})
    videos = build.build_bootstrap_dataset("made_up", reading)
    assert videos.video_list == ["base/a.mp4"]
    spec.DATA_SAMPLER.TYPE, spec.DATA_SAMPLER.COUNT_PER_CLASS = "densepose_uniform", 8
    spec.FILTER.TYPE, spec.FILTER.MIN_VALUE = "detection_score", 0.7
    (loader,), ratios = build.build_inference_based_loaders(densepose_cfg, FindsOne())
    assert loader.data_filter.min_score == 0.7
    assert ratios == [0.1]
    reading.TRANSFORM.TYPE = "crop"
    with pytest.raises(KeyError, match="unknown transform 'crop of image'"):
        build.build_bootstrap_dataset("made_up", reading)
    spec.FILTER.TYPE = "x"
    with pytest.raises(KeyError, match=r"unknown FILTER.TYPE 'x'"):
        build.build_data_filter(spec.FILTER)
    with pytest.raises(AssertionError, match="is registered already"):
        BootstrapDatasetFactoryCatalog.register(DatasetType.VIDEO_LIST, None)
    MetadataCatalog.pop("made_up")


def test_batches_are_shared_by_processes(densepose_cfg):
    densepose_cfg.SOLVER.IMS_PER_BATCH = 4
    assert build.build_combined_loader(densepose_cfg, [], []).batch_size == 4
    densepose_cfg.SOLVER.IMS_PER_BATCH = 0
    with pytest.raises(ValueError, match="must be a multiple of the 1 processes; got 0"):
        build.build_combined_loader(densepose_cfg, [], [])


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [("*", True), ("a=x", True), ("a=y", False), ("b:int=3-5", True), ("a=x,b:int=5-9", False)],
)
def test_entries_are_selected_by_text(spec, wanted):
    assert EntrySelector.from_string(spec)({"a": "x", "b": 4}) is wanted


@pytest.mark.parametrize("spec", ["=3", "a", "a:list=3"])
def test_a_wrong_selector_is_refused(spec):
    with pytest.raises(ValueError, match="entry selector"):
        EntrySelector.from_string(spec)
