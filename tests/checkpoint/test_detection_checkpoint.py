"""Reading the files that detectors come in."""

import http.server
import json
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer, read_checkpoint
from retinue.checkpoint.checkpointer import CheckpointError, DamagedFileError
from retinue.config import get_cfg
from retinue.engine.model_source import find_model
from retinue.engine.run_setup import fetch_weights
from retinue.utils.file_io import NativePathHandler, PathManagerBase

FILES = json.loads((Path(__file__).parents[1] / "golden" / "checkpoint_names.json").read_text())[
    "files"
]


def filled(value):
    if isinstance(value, list):
        return {name: np.ones(2, np.float32) for name in value}
    return np.ones(2, np.float32) if value == "..." else value


def small_model():
    layer = nn.Sequential()
    layer.fc = nn.Linear(2, 1)
    return layer


@pytest.mark.parametrize("case", FILES.values(), ids=FILES)
def test_files_are_understood_as_by_detectron2(tmp_path, case):
    """Recorded from detectron2 02b5c4e."""
    path = tmp_path / f"weights{case['extension']}"
    content = {key: filled(value) for key, value in case["content"].items()}
    if case["extension"] == ".pkl":
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    checkpointer = DetectionCheckpointer(small_model())
    read = []
    checkpointer._load_model = lambda checkpoint: read.append(dict(checkpoint))

    if "raises" in case:
        with pytest.raises((ValueError, AssertionError), match="weights"):
            checkpointer.load(str(path) + case["query"])
        return
    checkpointer.load(str(path) + case["query"])
    got = {k: list(v) if isinstance(v, dict) else v for k, v in read[0].items()}
    assert got == case["interpreted_as"]


def test_safetensors(tmp_path):
    source, target = small_model(), small_model()
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(source.state_dict(), path)
    DetectionCheckpointer(target).load(str(path))
    assert torch.equal(source.fc.weight, target.fc.weight)

    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DamagedFileError, match=r"model\.safetensors: not a whole"):
        DetectionCheckpointer(target).load(str(path))


def test_a_caffe2_backbone_lands_in_a_detector(tmp_path):
    weights = {"conv1_w": np.full((1, 1, 2, 2), 5, np.float32), "conv1_w_momentum": np.zeros(1)}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps({"blobs": weights}))
    detector = nn.Module()
    detector.backbone = nn.Module()
    detector.backbone.stem = nn.Module()
    detector.backbone.stem.conv1 = nn.Conv2d(1, 1, 2, bias=False)
    rest = DetectionCheckpointer(detector).load(str(tmp_path / "R-50.pkl"))

    assert (detector.backbone.stem.conv1.weight == 5).all()
    assert rest == {"__author__": "Caffe2", "matching_heuristics": True}


@pytest.mark.parametrize("nothing", ["", None])  # lazy configs may have either
def test_no_path_loads_nothing(nothing):
    assert DetectionCheckpointer(small_model()).load(nothing) == {}


def test_matching_is_asked_for_by_a_query(tmp_path):
    """Also through a path manager of one's own, whose addresses the query is no part of."""

    class Handler(NativePathHandler):
        def _get_supported_prefixes(self):
            return ["mine://"]

        def _get_local_path(self, path, **kwargs):
            return str(tmp_path / path.removeprefix("mine://"))

    torch.save({"weight": torch.full((1, 2), 3.0)}, tmp_path / "a.pth")
    model = small_model()
    model.fc.weight.data.zero_()
    checkpointer = DetectionCheckpointer(model)
    checkpointer.path_manager = PathManagerBase([Handler()])
    checkpointer.load("mine://a.pth")
    assert (model.fc.weight == 0).all()
    checkpointer.load("mine://a.pth?matching_heuristics=True")
    assert (model.fc.weight == 3).all()


@pytest.fixture
def signed(tmp_path, monkeypatch):
    """The address of a file that a server gives to nobody without its signature."""

    class Signed(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            body = (tmp_path / path.strip("/")).read_bytes()
            is_signed = query == "X-Amz-Signature=af%2F91&version=2"
            self.send_response(200 if is_signed else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("RETINUE_OFFLINE", raising=False)
    torch.save({"weight": torch.full((1, 2), 3.0)}, tmp_path / "a.pth")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Signed) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        host = f"http://127.0.0.1:{httpd.server_port}"
        yield f"{host}/a.pth?X-Amz-Signature=af%2F91&version=2"
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("ours", ["", "&matching_heuristics=True"])
def test_a_servers_own_query_is_for_the_server(signed, ours, caplog):
    caplog.set_level("INFO")
    model = small_model()
    model.fc.weight.data.zero_()
    fetch_weights(signed + ours)
    DetectionCheckpointer(model).load(signed + ours)

    assert (model.fc.weight == (3 if ours else 0)).all()
    assert read_checkpoint(signed + ours).matching_heuristics == bool(ours)
    assert "X-Amz-Signature=***&version=2" in caplog.text
    assert "af%2F91" not in caplog.text


def test_a_model_may_be_named_by_a_signed_address(signed, tmp_path):
    record = {"config": get_cfg().dump(), "classes": ["bird"]}
    torch.save({"model": {"w": torch.ones(1)}, "run": record}, tmp_path / "a.pth")
    found = find_model(f"{signed}&weights=model")
    assert found.class_names == ["bird"]
    assert f"{signed}&weights=model" == found.cfg.MODEL.WEIGHTS


def test_a_file_may_have_a_servers_query_in_its_name(tmp_path):
    """As iopath's cache keeps it."""
    torch.save({"weight": torch.full((1, 2), 3.0)}, tmp_path / "a.pth?version=2")
    model = small_model()
    DetectionCheckpointer(model).load(f"{tmp_path}/a.pth?version=2&matching_heuristics=True")
    assert (model.fc.weight == 3).all()


def test_a_process_that_cannot_download_is_sent_the_file(monkeypatch, caplog):
    gathered = []

    def all_gather(mine):
        gathered.append(mine)
        others = {"model": {"fc.weight": torch.full((1, 2), 3.0)}}
        return [True, mine] if isinstance(mine, bool) else [others, mine]

    monkeypatch.setenv("RETINUE_OFFLINE", "1")
    monkeypatch.setattr("retinue.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("retinue.utils.comm.is_main_process", lambda: False)
    monkeypatch.setattr("retinue.utils.comm.all_gather", all_gather)
    model = small_model()
    checkpointer = DetectionCheckpointer(model)
    checkpointer.load("https://example.org/a.pth?token=abc")
    assert (model.fc.weight == 3).all()
    assert gathered == [False, None]
    assert "a.pth?token=*** is not on ranks [1]: rank 0 sends it" in caplog.text

    monkeypatch.setattr("retinue.utils.comm.all_gather", lambda mine: [mine, True])
    with pytest.raises(FileNotFoundError, match=r"main process can't find it: .* are off"):
        checkpointer.load("https://example.org/a.pth?token=abc")


def test_what_is_no_servers_query_is_refused(signed, tmp_path):
    for path in (f"{tmp_path}/a.pth?version=2", f"{signed}&weight=ema"):
        with pytest.raises(ValueError, match=r"unknown query \?.*; known are \?matching_"):
            DetectionCheckpointer(small_model()).load(path)


def test_what_the_config_sets_is_not_missed(tmp_path, caplog):
    caplog.set_level("INFO")
    model = small_model()
    model.register_buffer("pixel_mean", torch.zeros(3))
    model.register_buffer("pixel_std", torch.ones(3))
    state = small_model().state_dict()
    state["rpn.anchor_generator.cell_anchors.0"] = torch.zeros(3, 4)
    torch.save({"model": state}, tmp_path / "a.pth")
    DetectionCheckpointer(model).load(str(tmp_path / "a.pth"))

    assert caplog.records[-1].getMessage() == "Loaded 4 of the model's 4 tensors."


def test_pickles_with_code_are_refused_by_name(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": nn.Linear(1, 1), "__author__": "x"}))
    with pytest.raises(CheckpointError, match=r"names 'torch\.nn\.modules\.linear\.Linear'"):
        DetectionCheckpointer(small_model()).load(str(path))
    path.write_bytes(pickle.dumps([1]))
    with pytest.raises(CheckpointError, match="expected a dict of weights; got list"):
        DetectionCheckpointer(small_model()).load(str(path))


def test_an_absent_file_is_named():
    with pytest.raises(AssertionError, match=r"'nowhere\.pth': there is no such file"):
        DetectionCheckpointer(small_model()).load("nowhere.pth")


def test_nothing_is_loaded_from_an_empty_path():
    assert DetectionCheckpointer(small_model()).load("") == {}
