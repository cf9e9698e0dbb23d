"""Addresses of published weights, as commands take them, from a mirror on this machine."""

import functools
import hashlib
import http.server
import pickle
import threading

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from retinue.checkpoint import read_checkpoint
from retinue.cli.main import app

RESNET = {
    "conv1.weight": torch.ones(64, 3, 7, 7),
    "bn1.weight": torch.ones(64),
    "layer1.0.conv1.weight": torch.ones(64, 64, 3, 3),
}
ZOO_FILE = "detectron2/COCO-Detection/faster_rcnn_R_50_FPN_1x/137257794/model_final_b275ba.pkl"
CATALOG_FILE = "detectron/ImageNetPretrained/MSRA/R-50.pkl"
TIMM_FILE = "timm/resnet18.a1_in1k/resolve/main/model.safetensors"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


def run(*args):
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that a server on loopback serves in the place of the three hosts."""
    root = tmp_path / "site"
    for name in (ZOO_FILE, CATALOG_FILE, TIMM_FILE, "models/x"):
        (root / name).parent.mkdir(parents=True)
    handler = functools.partial(Quiet, directory=root)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        place = f"http://127.0.0.1:{httpd.server_port}/"
        hosts = ("dl.fbaipublicfiles.com", "download.pytorch.org", "huggingface.co")
        monkeypatch.setenv("RETINUE_MIRRORS", " ".join(f"https://{h}/={place}" for h in hosts))
        monkeypatch.setenv("RETINUE_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nobody is there
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("RETINUE_OFFLINE", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield root
        httpd.shutdown()
        thread.join()


@pytest.fixture
def published(site):
    """What can be asked for: address -> names that the file has."""
    blobs = {"conv1_w": np.ones((64, 3, 7, 7), np.float32)}
    (site / CATALOG_FILE).write_bytes(pickle.dumps(blobs))
    torch.save(RESNET, site / "file")
    digits = hashlib.sha256((site / "file").read_bytes()).hexdigest()[:8]
    (site / "file").rename(site / "models" / f"mine-{digits}.pth")
    safetensors.torch.save_file(RESNET, site / TIMM_FILE)
    zoo = {"model": {"a.weight": np.ones(3, np.float32)}, "__author__": "Detectron2 Model Zoo"}
    (site / "detectron2" / "a.pkl").write_bytes(pickle.dumps(zoo))
    return {
        "catalog://ImageNetPretrained/MSRA/R-50": {"conv1_w"},
        f"torchvision://mine-{digits}.pth": set(RESNET),
        "timm://resnet18.a1_in1k": set(RESNET),
        "detectron2://a.pkl": {"a.weight"},
    }


def test_show_and_convert(published, tmp_path, monkeypatch):
    for number, (address, names) in enumerate(published.items()):
        shown = run("checkpoint", "show", address)
        assert shown.exit_code == 0, shown.output
        assert names <= set(shown.stdout.split())
        target = tmp_path / f"{number}.safetensors"
        monkeypatch.setenv("RETINUE_OFFLINE", "1")  # it is in the cache now
        converted = run("convert", address, target, "--keep-names")
        monkeypatch.setenv("RETINUE_OFFLINE", "0")
        assert converted.exit_code == 0, converted.output
        assert f"Read {len(names)} tensors." in converted.output
        assert set(read_checkpoint(target).weights) == names


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["checkpoint", "show", "torchvision://resnet18"], "expected SHA-256 f37072fd; got "),
        (["zoo", "download", "COCO-Detection/faster_rcnn_R_50_FPN_1x"], "expected MD5 b275ba; got"),
        (["checkpoint", "show", "catalog://ImageNetPretrained/MSRA/R-51"], "did you mean"),
        (["checkpoint", "show", "timm://resnet18.b_in1k"], "the server answered 404"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(site, tmp_path, monkeypatch, command, said):
    monkeypatch.setattr("retinue.utils.download.time.sleep", lambda seconds: None)
    for name in (ZOO_FILE, "models/resnet18-f37072fd.pth"):
        torch.save(RESNET, site / name)
    (site / ZOO_FILE).write_bytes((site / ZOO_FILE).read_bytes() + b".")
    result = run(*command)

    assert result.exit_code == 2, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert said in last
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [p for p in cached if p.suffix not in (".lock", ".part", ".tag", ".meta")] == []


def test_averaged_weights_are_asked_for_behind_the_path(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"model": {"w": torch.zeros(2)}, "model_ema": {"v": torch.ones(2)}}, path)
    shown = run("checkpoint", "show", f"{path}?weights=ema")
    assert "v  float32" in shown.output
    run("convert", f"{path}?weights=ema", tmp_path / "b.pth")
    assert set(read_checkpoint(tmp_path / "b.pth").weights) == {"v"}
