# ruff: noqa: NPY002
import copy
import logging
import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, IterableDataset

from retinue.config import get_cfg
from retinue.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
)
from retinue.data.build import (
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    filter_images_with_few_keypoints,
    get_detection_dataset_dicts,
    load_proposals_into_dataset,
    print_instances_class_histogram,
    trivial_batch_collator,
    worker_init_reset_seed,
)
from retinue.data.dataset_dicts import load_dataset_dicts
from retinue.data.datasets import register_coco_instances
from retinue.data.resume import StreamStart, stream_start, streams_enter_at
from retinue.data.samplers import InferenceSampler, RepeatFactorTrainingSampler, TrainingSampler
from retinue.structures import Boxes, BoxMode
from retinue.utils import comm
from retinue.utils import logger as loggers


@pytest.fixture
def things(coco_folder):
    register_coco_instances("things", {}, coco_folder / "ann.json", coco_folder)
    return "things"


@pytest.fixture
def cfg(things):
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = (things,)
    cfg.DATASETS.TEST = (things,)
    cfg.SOLVER.IMS_PER_BATCH = 2
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN = (24, 32)
    cfg.INPUT.MIN_SIZE_TEST = 24
    cfg.SEED = 7
    return cfg


def test_images_without_objects_are_dropped_and_it_is_said(things, caplog):
    with caplog.at_level(logging.INFO):
        assert len(get_detection_dataset_dicts(things)) == 4
    assert "Removed 2 images with no usable annotations. 4 images left" in caplog.text
    assert "DATALOADER.FILTER_EMPTY_ANNOTATIONS False keeps them" in caplog.text
    assert len(get_detection_dataset_dicts([things], filter_empty=False)) == 6


def test_datasets_are_joined(things, coco_folder):
    register_coco_instances("more", {}, coco_folder / "ann.json", coco_folder)
    assert len(get_detection_dataset_dicts([things, "more"])) == 8


def test_classes_must_agree(things):
    DatasetCatalog.register("other", lambda: [{"annotations": [{"category_id": 0}]}])
    MetadataCatalog.get("other").thing_classes = ["cat"]
    with pytest.raises(ValueError, match="same thing_classes; 'things' has 2 entries"):
        get_detection_dataset_dicts([things, "other"])
    assert len(get_detection_dataset_dicts([things, "other"], check_consistency=False)) == 5


def test_wrong_names_and_nothing(things):
    with pytest.raises(KeyError, match="unknown dataset 'thngs'; did you mean 'things'"):
        get_detection_dataset_dicts(["thngs"])
    with pytest.raises(AssertionError, match="no dataset is named; set DATASETS"):
        get_detection_dataset_dicts([])
    DatasetCatalog.register("nothing", list)
    with pytest.raises(AssertionError, match="'nothing' is empty"):
        get_detection_dataset_dicts("nothing")
    DatasetCatalog.register("bare", lambda: [{"annotations": []}])
    with pytest.raises(AssertionError, match=r"no images are left of bare: all 1 were dropped"):
        get_detection_dataset_dicts("bare")


def test_few_keypoints():
    dicts = [{"annotations": [{"keypoints": [1, 1, v, 1, 1, 2]}, {}]} for v in (0, 1)]
    assert filter_images_with_few_keypoints(dicts, 2) == dicts[1:]
    DatasetCatalog.register("people", lambda: dicts)
    assert len(get_detection_dataset_dicts("people", min_keypoints=2)) == 1


def test_own_torch_datasets():
    DatasetCatalog.register("one", lambda: DatasetFromList([1]))
    assert len(get_detection_dataset_dicts("one")) == 1
    assert isinstance(get_detection_dataset_dicts(["one", "one"]), ConcatDataset)


def test_histogram(caplog):
    loggers._LOG_COUNTER.clear()
    annos = [{"category_id": c, "iscrowd": int(c == 1)} for c in (0, 0, 1, 3)]
    names = ["cat", "dog", "a very long name", "bird"]
    with caplog.at_level(logging.INFO):
        print_instances_class_histogram([{"annotations": annos}], names)
    text = " ".join(caplog.text.split())
    assert "Distribution of instances among all 4 categories" in text
    assert "| cat | 2 | dog | 0 | a very long.. | 0 |" in text
    assert "| bird | 1 | total | 3 |" in text
    wrong = {"file_name": "a.jpg", "annotations": [{"category_id": 9, "id": 5}]}
    match = r"a.jpg, annotation number 0 \(id 5\): category_id is 9, .* 4 classes"
    with pytest.raises(AssertionError, match=match):
        print_instances_class_histogram([wrong], names)


def test_proposals_are_read_sorted(tmp_path):
    path = tmp_path / "proposals.pkl"
    boxes = np.array([[0.0, 0, 1, 1], [2, 2, 3, 3]])
    old_names = {"indexes": [3], "boxes": [boxes], "scores": [np.array([1.0, 2.0])]}
    path.write_bytes(pickle.dumps(old_names))
    (record,) = load_proposals_into_dataset([{"image_id": 3}], str(path))
    assert record["proposal_boxes"].tolist() == boxes[::-1].tolist()
    assert record["proposal_objectness_logits"].tolist() == [2, 1]
    assert record["proposal_bbox_mode"] == BoxMode.XYXY_ABS
    with pytest.raises(KeyError, match=r"image id \(not in .*proposals.pkl\) '4'"):
        load_proposals_into_dataset([{"image_id": 4}], str(path))


def test_proposals_that_would_run_code(tmp_path, caplog):
    path = tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps({"ids": print}))
    kept = tmp_path / "own.pkl"
    kept.write_bytes(pickle.dumps({"ids": [], "made_by": print}))
    with pytest.raises(pickle.UnpicklingError, match=r"names 'builtins\.print'"):
        load_proposals_into_dataset([], str(path))
    assert load_proposals_into_dataset([], str(kept), trust=True) == []
    assert "own.pkl: read with trust=True, which runs any code" in caplog.text


def test_proposals_of_a_dataset_are_trusted_when_asked_for(things, tmp_path):
    path = tmp_path / "own.pkl"
    records = get_detection_dataset_dicts(things, filter_empty=False)
    boxes, scores = np.zeros((1, 4)), np.ones(1)
    ids = [record["image_id"] for record in records]
    content = {"ids": ids, "boxes": [boxes] * len(ids), "objectness_logits": [scores] * len(ids)}
    path.write_bytes(pickle.dumps(content | {"made_by": print}))
    with pytest.raises(pickle.UnpicklingError, match=r"names 'builtins\.print'"):
        get_detection_dataset_dicts(things, proposal_files=[str(path)])
    trusted = get_detection_dataset_dicts(things, proposal_files=[str(path)], trust=True)
    assert "proposal_boxes" in trusted[0]


def test_cached_dataset_dicts(tmp_path, caplog):
    path = tmp_path / "cached.pkl"
    record = {
        "file_name": "a.jpg",
        "annotations": [{"bbox": np.ones(4), "bbox_mode": BoxMode.XYWH_ABS}],
        "proposals": Boxes(torch.ones(1, 4)),
    }
    path.write_bytes(pickle.dumps([record]))
    (back,) = load_dataset_dicts(str(path))
    assert back["annotations"][0]["bbox_mode"] is BoxMode.XYWH_ABS
    assert back["annotations"][0]["bbox"].tolist() == [1, 1, 1, 1]
    assert back["proposals"].tensor.tolist() == [[1, 1, 1, 1]]
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="expected a list of dataset dicts; got dict"):
        load_dataset_dicts(str(path))
    path.write_bytes(pickle.dumps([{"made_by": print}]))
    with pytest.raises(pickle.UnpicklingError, match=r"names 'builtins\.print'"):
        load_dataset_dicts(str(path))
    assert load_dataset_dicts(str(path), trust=True) == [{"made_by": print}]
    assert "cached.pkl: read with trust=True" in caplog.text


def test_as_many_proposal_files_as_datasets(things):
    with pytest.raises(AssertionError, match="1 datasets need as many proposal files; got 2"):
        get_detection_dataset_dicts(things, proposal_files=["a", "b"])


class Draw:
    """A mapper that shows the randomness it was given."""

    def __call__(self, sample):
        return {**sample, "draw": np.random.rand()}


def samples(count=23):
    widths = np.random.RandomState(0).randint(20, 80, count)
    return [{"i": i, "width": int(w), "height": 50} for i, w in enumerate(widths)]


def train_loader(**more):
    arguments = {"mapper": Draw(), "total_batch_size": 4, "seed": 3, **more}
    data = arguments.pop("dataset", samples())
    arguments.setdefault("sampler", TrainingSampler(len(data), seed=5))
    return build_detection_train_loader(data, **arguments)


def shown(batches, count):
    return [[(s["i"], s["draw"]) for s in batch] for batch in islice(batches, count)]


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("iteration", [1, 6, 17])
def test_a_loader_goes_on_where_another_stopped(grouped, iteration):
    whole = shown(train_loader(aspect_ratio_grouping=grouped), 25)
    later = train_loader(aspect_ratio_grouping=grouped, first_sample=4 * iteration)
    assert shown(later, 25 - iteration) == whole[iteration:]


def test_a_trainer_says_where_loaders_start():
    whole = shown(train_loader(), 6)
    with streams_enter_at(8):
        later = train_loader()
        told = train_loader(first_sample=12)
    assert shown(later, 4) == whole[2:]
    assert shown(told, 3) == whole[3:]
    assert shown(train_loader(), 1) == whole[:1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("grouped", "start_method"), [(True, "fork"), (False, "fork"), (True, "spawn")]
)
def test_workers_change_nothing(grouped, start_method):
    whole = shown(train_loader(aspect_ratio_grouping=grouped), 9)
    loader = train_loader(
        aspect_ratio_grouping=grouped,
        num_workers=2,
        first_sample=12,
        multiprocessing_context=start_method,
    )
    assert shown(loader, 6) == whole[3:]


def test_batches_hold_images_of_one_shape():
    for batch in islice(train_loader(), 10):
        assert len({s["width"] > s["height"] for s in batch}) == 1


def test_processes_split_a_batch(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr("retinue.data.build.get_world_size", lambda: 2)
    streams = []
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        whole = shown(train_loader(aspect_ratio_grouping=False), 6)
        later = train_loader(aspect_ratio_grouping=False, first_sample=8)
        assert shown(later, 4) == whole[2:]
        streams.append(whole)
    assert all(len(batch) == 2 for batch in streams[0])
    draws = [draw for stream in streams for batch in stream for _, draw in batch]
    assert len(set(draws)) == len(draws)


def test_without_a_seed_generators_are_left_alone():
    def first(seed):
        np.random.seed(seed)
        return shown(train_loader(seed=None), 1)

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_own_collating():
    batch = next(iter(train_loader(collate_fn=len)))
    assert batch == 4
    assert next(iter(train_loader(collate_fn=len, aspect_ratio_grouping=False))) == 4
    assert trivial_batch_collator([1]) == [1]


def test_defaults_of_a_train_loader():
    loader = build_detection_train_loader(samples(), mapper=None, total_batch_size=2)
    assert len(next(iter(loader))) == 2


def test_sizes_that_are_unknown_are_said(caplog):
    data = [{"i": i, "draw": 0} for i in range(9)]

    class Sized(Draw):
        def __call__(self, sample):
            return {**sample, "width": 1 + sample["i"] % 2, "height": 1}

    loader = train_loader(dataset=data, mapper=Sized(), first_sample=8)
    assert len(next(iter(loader))) == 4
    assert "width and height are unknown before they are read" in caplog.text


class Stream(IterableDataset):
    def __iter__(self):
        return iter(copy.deepcopy(samples()))


def test_streams(caplog):
    loader = train_loader(
        dataset=Stream(), sampler=None, first_sample=8, aspect_ratio_grouping=False
    )
    assert [s["i"] for s in next(iter(loader))] == [0, 1, 2, 3]
    assert "can't be entered in the middle" in caplog.text
    with pytest.raises(AssertionError, match="a stream takes no sampler"):
        train_loader(dataset=Stream(), sampler=InferenceSampler(3))
    with pytest.raises(AssertionError, match="test_loader: a stream takes no sampler"):
        build_detection_test_loader(Stream(), mapper=None, sampler=InferenceSampler(3))
    assert len(list(build_detection_test_loader(Stream(), mapper=None))) == 23


Stream.__len__ = lambda self: 23


def test_wrong_arguments(monkeypatch):
    with pytest.raises(
        AssertionError, match=r"sampler must be a torch.utils.data.Sampler; got list"
    ):
        train_loader(sampler=[1])
    with pytest.raises(ValueError, match="got both, 4 and 2"):
        train_loader(single_gpu_batch_size=2)
    with pytest.raises(AssertionError, match="aspect_ratio_grouping needs drop_last=True"):
        train_loader(drop_last=False)
    monkeypatch.setattr("retinue.data.build.get_world_size", lambda: 3)
    with pytest.raises(AssertionError, match="4 must be a positive multiple of the 3 processes"):
        train_loader()


def test_a_batch_size_of_this_process():
    dataset = DatasetFromList(samples())
    loader = build_batch_data_loader(dataset, TrainingSampler(23), 0, single_gpu_batch_size=3)
    assert len(next(iter(loader))) == 3


def test_where_a_stream_goes_on():
    assert stream_start(range(99), 4, 0) == StreamStart()
    assert stream_start(range(99), 4, 3) == StreamStart(first=12)
    groups = [0, 1, 1, 0, 1, 0, 0]
    assert stream_start(range(7), 2, 2, groups.__getitem__) == StreamStart(4, frozenset())
    assert stream_start(range(7), 2, 3, groups.__getitem__) == StreamStart(7, frozenset({4}))


def test_train_loader_of_a_config(cfg):
    whole = list(islice(build_detection_train_loader(cfg), 6))
    assert all(len(batch) == 2 for batch in whole)
    assert "instances" in whole[0][0]
    later = islice(build_detection_train_loader(cfg, first_sample=4), 4)
    for want, got in zip(whole[2:], later, strict=True):
        for a, b in zip(want, got, strict=True):
            assert a["image_id"] == b["image_id"]
            assert torch.equal(a["image"], b["image"])


def test_arguments_of_a_config_for_other_loaders(cfg):
    """Projects build loaders of their own from them, and ``DataLoaderBenchmark``; by detectron2."""
    known = {"dataset", "mapper", "sampler", "total_batch_size", "aspect_ratio_grouping",
             "num_workers"}  # fmt: skip
    assert set(build_detection_train_loader.from_config(cfg)) == known | {"seed"}
    cfg.SEED = -1
    assert set(build_detection_train_loader.from_config(cfg)) == known


def test_a_string_for_a_tuple(cfg):
    cfg.DATASETS.defrost()
    cfg.DATASETS["TRAIN"] = "things"
    with pytest.raises(ValueError, match=r"DATASETS.TRAIN must be a tuple of names; got 'things'"):
        build_detection_train_loader(cfg)


@pytest.mark.parametrize(
    "name",
    [
        "RepeatFactorTrainingSampler",
        "RandomSubsetTrainingSampler",
        "WeightedTrainingSampler",
        "WeightedCategoryTrainingSampler",
    ],
)
def test_samplers_of_a_config(cfg, name):
    cfg.DATALOADER.SAMPLER_TRAIN = name
    cfg.DATALOADER.RANDOM_SUBSET_RATIO = 0.75
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [("things", 2.0)]
    whole = [[d["image_id"] for d in b] for b in islice(build_detection_train_loader(cfg), 5)]
    later = build_detection_train_loader(cfg, first_sample=4)
    assert [[d["image_id"] for d in b] for b in islice(later, 3)] == whole[2:]


def test_weights_of_datasets(cfg, coco_folder):
    from retinue.data.build import _build_weighted_sampler

    register_coco_instances("more", {}, coco_folder / "ann.json", coco_folder)
    cfg.DATASETS.TRAIN = ("things", "more")
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [("more", 3.0)]
    sampler = _build_weighted_sampler(cfg)
    assert isinstance(sampler, RepeatFactorTrainingSampler)
    assert sampler._int_part.tolist() == [1] * 4 + [3] * 4
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = [("mroe", 3.0)]
    with pytest.raises(AssertionError, match="TRAIN_REPEAT_FACTOR 'mroe'; did you mean 'more'"):
        _build_weighted_sampler(cfg)
    cfg.DATASETS.TRAIN_REPEAT_FACTOR = ["xy"]
    with pytest.raises(AssertionError, match=r"needs pairs \(dataset, factor\); got 'xy'"):
        _build_weighted_sampler(cfg)


def test_a_subset_needs_its_size(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "RandomSubsetTrainingSampler"
    with pytest.raises(ValueError, match=r"needs DATALOADER.RANDOM_SUBSET_RATIO"):
        build_detection_train_loader(cfg)


def test_an_unknown_sampler(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainSampler"
    with pytest.raises(
        ValueError, match="SAMPLER_TRAIN 'TrainSampler'; did you mean 'TrainingSampler'"
    ):
        build_detection_train_loader(cfg)


def test_test_loader_of_a_config(cfg):
    batches = list(build_detection_test_loader(cfg, "things"))
    assert [batch[0]["image_id"] for batch in batches] == [10, 11, 12, 13, 14, 15]
    assert "instances" not in batches[0][0]
    assert len(build_detection_test_loader(cfg, ["things"], batch_size=4)) == 2


def test_proposals_of_a_config(cfg, tmp_path):
    cfg.MODEL.LOAD_PROPOSALS = True
    with pytest.raises(ValueError, match="no proposal file for dataset 'things'"):
        build_detection_test_loader(cfg, "things")
    ids = list(range(10, 16))
    boxes, scores = [np.ones((1, 4))] * 6, [np.ones(1)] * 6
    content = {"ids": ids, "boxes": boxes, "objectness_logits": scores}
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    cfg.DATASETS.PROPOSAL_FILES_TEST = (str(tmp_path / "p.pkl"),)
    assert "proposals" in next(iter(build_detection_test_loader(cfg, "things")))[0]


def test_seeding_a_worker(monkeypatch):
    seeds = []
    monkeypatch.setattr("retinue.data.build.seed_all_rng", seeds.append)
    torch.manual_seed(11)
    worker_init_reset_seed(2)
    assert seeds == [13]


def test_more_workers_than_cores_are_no_warning():
    """Warnings are errors in the tests; no worker starts before the loader is asked for a batch."""
    build_detection_test_loader([{}], mapper=None, num_workers=1000)
    build_detection_train_loader([{}], mapper=None, total_batch_size=1, num_workers=1000)
