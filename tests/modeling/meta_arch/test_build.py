import logging

import pytest
import torch

from retinue.config import get_cfg
from retinue.modeling import META_ARCH_REGISTRY, build_model
from retinue.modeling.meta_arch import build


class OneWeight(torch.nn.Linear):
    def __init__(self, cfg):
        super().__init__(1, 1)


@pytest.fixture
def cfg():
    if "OneWeight" not in META_ARCH_REGISTRY:
        META_ARCH_REGISTRY.register(OneWeight)
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "OneWeight"
    return cfg


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    build._say_once.cache_clear()


def test_without_cuda_the_cpu_is_used_and_said_once(cfg, no_cuda, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert cfg.MODEL.DEVICE == "cuda"
    with caplog.at_level(logging.WARNING):
        models = [build_model(cfg) for _ in range(2)]

    assert {model.weight.device.type for model in models} == {"cpu"}
    assert [r.getMessage() for r in caplog.records] == [
        "MODEL.DEVICE: no CUDA device here, so the model runs on 'cpu'."
    ]


def test_a_mac_uses_its_gpu(no_cuda, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert build.usable_device("cuda") == torch.device("mps")


def test_devices_that_are_there_are_taken_as_they_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    for name in ("cuda", "cuda:1", "cpu", "meta"):
        assert build.usable_device(name) == torch.device(name)


def test_a_device_that_is_not_there_is_an_error(cfg, no_cuda):
    cfg.MODEL.DEVICE = "cuda:3"
    with pytest.raises(RuntimeError, match="cuda:3 was asked for, but this machine has 0 CUDA"):
        build_model(cfg)


def test_what_is_no_device_is_named():
    with pytest.raises(ValueError, match=r"MODEL.DEVICE: 'gpu' is no device; expected 'cpu'"):
        build.usable_device("gpu")


def test_a_model_that_does_not_exist_is_named():
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = "RetinaNett"
    cfg.MODEL.DEVICE = "cpu"
    with pytest.raises(KeyError, match="did you mean 'RetinaNet'"):
        build_model(cfg)
