"""One reader for every format: the same tensors, bit by bit, and what is said of them."""

import argparse
import json
import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from retinue.checkpoint.errors import CheckpointError, DamagedFileError
from retinue.checkpoint.files import find_format, list_file, read_file, verify_file
from retinue.checkpoint.reader import Checkpoint, list_checkpoint, read_checkpoint
from retinue.checkpoint.sharded import write_alone
from retinue.checkpoint.writer import write_checkpoint
from retinue.config import CfgNode, get_cfg
from retinue.structures import (
    BitMasks,
    Boxes,
    BoxMode,
    ImageList,
    Instances,
    Keypoints,
    PolygonMasks,
    ROIMasks,
    RotatedBoxes,
)
from retinue.utils.restricted_pickle import RestrictedPickleError, loads

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.complex64,
)


def every_bit(dtype):
    """A tensor of patterns of bits, NaNs with payloads among them."""
    bits = torch.arange(256, dtype=torch.uint8).repeat(8)
    if dtype == torch.bool:
        bits %= 2
    return bits.view(dtype).clone()


def same_bits(first, second):
    assert first.dtype == second.dtype
    assert first.shape == second.shape
    return torch.equal(
        first.contiguous().view(-1).view(torch.uint8), second.view(-1).view(torch.uint8)
    )


def weights(dtypes=DTYPES):
    tensors = {str(dtype): every_bit(dtype) for dtype in dtypes}
    matrix = torch.arange(6.0).reshape(2, 3)
    return tensors | {
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.5),
        "transposed": matrix.t(),
        "part": matrix[:, 1],
        "shared": matrix,
    }


@pytest.mark.parametrize(
    "name",
    ["a.pth", "a.ckpt", "a.bin", "a.safetensors", "a.pkl", "folder", "shards", "distributed"],
)
def test_round_trips_keep_every_bit(tmp_path, name):
    dtypes = [d for d in DTYPES if d != torch.bfloat16 or name != "a.pkl"]
    source = Checkpoint(weights(dtypes), record={"classes": ["a", "b"], "metrics": {"AP": 1.5}})
    path = tmp_path / name
    format = "distributed" if name == "distributed" else None
    shard_size = 3000 if name == "shards" else 1 << 30
    lost = write_checkpoint(path, source, format=format, shard_size=shard_size)
    back = read_checkpoint(path)

    assert lost == (["record"] if name == "a.bin" else [])
    assert set(back.weights) == set(source.weights)
    assert all(same_bits(back.weights[k], v.contiguous()) for k, v in source.weights.items())
    if name != "a.bin":
        assert back.class_names == ["a", "b"]
        assert back.record["metrics"] == {"AP": 1.5}
    listed = list_checkpoint(path)
    assert {k: (tuple(v.shape), v.dtype) for k, v in listed.weights.items()} == {
        k: (tuple(v.shape), v.dtype) for k, v in source.weights.items()
    }
    if name == "shards":
        assert len(list(path.glob("model-*-of-*.safetensors"))) > 2


def test_through_all_formats_and_back(tmp_path):
    dtypes = [d for d in DTYPES if d != torch.bfloat16]
    source = Checkpoint(weights(dtypes), author="me", matching_heuristics=True)
    current = source
    for name in ("1.pth", "2.safetensors", "3.pkl", "4", "5.ckpt", "6", "7.pth"):
        format = "distributed" if name == "6" else None
        write_checkpoint(tmp_path / name, current, format=format)
        current = read_checkpoint(tmp_path / name)
        assert (current.author, current.matching_heuristics) == ("me", True)
    assert all(same_bits(current.weights[k], v.contiguous()) for k, v in source.weights.items())


def test_a_pickle_has_no_bfloat16(tmp_path):
    source = Checkpoint({"w": torch.zeros(2, dtype=torch.bfloat16)})
    with pytest.raises(CheckpointError, match=r"'w' is of type torch\.bfloat16.*write \.pth or"):
        write_checkpoint(tmp_path / "a.pkl", source)
    with pytest.raises(ValueError, match=r"cannot write '\.onnx'; known are \.pth"):
        write_checkpoint(tmp_path / "a.onnx", source)
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_is_named(tmp_path):
    source = Checkpoint({"w": torch.ones(2)}, record={"classes": ["a"]}, rest={"iteration": 3})
    assert write_checkpoint(tmp_path / "a.data", source, format="torch") == []
    assert torch.load(tmp_path / "a.data", weights_only=True)["iteration"] == 3
    assert write_checkpoint(tmp_path / "bare", source, format="state_dict") == [
        "iteration",
        "record",
    ]
    assert list(torch.load(tmp_path / "bare", weights_only=True)) == ["w"]
    with pytest.raises(KeyError, match="unknown format of checkpoints 'tensor'; known names: dist"):
        write_checkpoint(tmp_path / "b", source, format="tensor")


@pytest.mark.parametrize("format", ["sharded", "distributed"])
def test_a_folder_of_other_things_is_not_replaced(tmp_path, format):
    source = Checkpoint({"w": torch.ones(2)})
    folder = tmp_path / "a"
    for _ in range(2):  # a checkpoint is replaced
        write_checkpoint(folder, source, format=format)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files than .*'notes\.txt' for one"):
        write_checkpoint(folder, source, format=format)
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("new", [True, False])
def test_files_of_torch_save_old_and_new(tmp_path, new):
    content = {
        "state_dict": {"w": torch.randn(3, 2), "p": nn.Parameter(torch.ones(2))},
        "epoch": np.int64(3),
        "scores": np.array([0.5, 1.5]),
        "args": argparse.Namespace(lr=0.1, out=Path("a/b")),
        "shape": torch.Size([1, 2]),
        "type": torch.float16,
        "rng": torch.get_rng_state(),
    }
    torch.save(content, tmp_path / "a.bin", _use_new_zipfile_serialization=new)
    back = read_checkpoint(tmp_path / "a.bin")

    assert torch.equal(back.weights["w"], content["state_dict"]["w"])
    assert torch.equal(back.weights["p"], torch.ones(2))
    assert back.rest["epoch"] == 3
    assert back.rest["scores"].tolist() == [0.5, 1.5]
    assert back.rest["args"] == {"lr": 0.1, "out": "a/b"}
    assert back.rest["type"] == torch.float16
    assert torch.equal(back.rest["rng"], content["rng"])
    assert list_checkpoint(tmp_path / "a.bin").weights["w"].shape == (3, 2)


def test_formats_are_told_by_content(tmp_path):
    torch.save({"w": torch.ones(1)}, tmp_path / "a.pkl")
    (tmp_path / "b.pth").write_bytes(pickle.dumps({"model": {"w": np.ones(1)}, "__author__": "x"}))
    assert find_format(str(tmp_path / "a.pkl"))[0] == "torch"
    assert find_format(str(tmp_path / "b.pth"))[0] == "pickle"
    assert read_checkpoint(tmp_path / "b.pth").author == "x"
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_checkpoint(tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match="no checkpoint in it; looked for"):
        read_checkpoint(tmp_path)


def test_a_folder_of_torch_distributed_checkpoint(tmp_path):
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iteration": 3}
    write_alone(str(tmp_path / "a"), state)
    back = read_checkpoint(tmp_path / "a")

    assert back.format == "distributed"
    assert all(torch.equal(back.weights[k], v) for k, v in model.state_dict().items())
    assert back.rest["optimizer"]["param_groups"][0]["lr"] == 0.5
    assert back.rest["iteration"] == 3
    assert list_checkpoint(tmp_path / "a").weights["weight"].shape == (2, 3)


@pytest.mark.parametrize("package", ["retinue", "detectron2"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_structures_come_back_by_their_state(package, protocol):
    instances = Instances((4, 5))
    instances.gt_boxes = Boxes(torch.tensor([[1.0, 2, 3, 4]]))
    instances.names = ["cat"]
    config = get_cfg()
    config.freeze()
    values = [
        instances,
        RotatedBoxes(torch.ones(2, 5)),
        Keypoints(torch.ones(1, 3, 3)),
        BitMasks(torch.ones(1, 2, 2, dtype=torch.bool)),
        ROIMasks(torch.ones(1, 2, 2)),
        PolygonMasks([[np.array([0.0, 0, 1, 0, 1, 1])]]),
        ImageList(torch.ones(1, 3, 2, 2), [(2, 2)]),
        BoxMode.XYWH_ABS,
        config,
    ]
    data = pickle.dumps(values, protocol=protocol)
    if package != "retinue":  # names of protocol 2 stand on lines, those of 5 have a length
        old, new = (f"{name}.".encode() for name in ("retinue", package))
        for length in range(15, 40):
            for module in ("structures.", "config."):
                full = old + module.encode()
                data = data.replace(
                    bytes([0x8C, length]) + full, bytes([0x8C, length + 3]) + new + module.encode()
                )
        data = data.replace(b"c" + old, b"c" + new) if protocol == 2 else _without_frames(data)
    back = loads(data)

    assert [type(value) for value in back] == [type(value) for value in values]
    assert torch.equal(back[0].gt_boxes.tensor, instances.gt_boxes.tensor)
    assert back[0].names == ["cat"]
    assert back[0].image_size == (4, 5)
    assert back[3].image_size == (2, 2)
    assert back[7] is BoxMode.XYWH_ABS
    assert back[8] == config
    assert back[8].is_frozen()
    back[8].defrost()
    back[8].merge_from_list(["SOLVER.BASE_LR", 0.5])
    assert isinstance(back[8].MODEL, CfgNode)


def _without_frames(data):
    """Take the lengths of frames out, which replacing names has made wrong."""
    assert data[2] == 0x95
    out, at = bytearray(data[:2]), 2
    while (found := data.find(b"\x95", at)) != -1 and found == at:
        at = found + 9
    out += data[at:]
    return bytes(out)


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"tensor": torch.zeros(2, 3)}, r"Boxes: tensor must have shape \(N, 4\); got \(2, 3\)"),
        ({"tensor": 3}, "Boxes: tensor must be a tensor; got int"),
        ({"x": 1}, r"Boxes: expected the fields \['tensor'\]; got \['x'\]"),
    ],
)
def test_a_structure_of_another_state_is_refused(state, said):
    boxes = Boxes(torch.zeros(1, 4))
    boxes.__dict__.clear()
    boxes.__dict__.update(state)
    with pytest.raises(RestrictedPickleError, match=said):
        loads(pickle.dumps(boxes))
    torn = Instances((1, 1))
    torn._fields = {"a": [1], "b": [1, 2]}
    with pytest.raises(RestrictedPickleError, match="must have the same length each"):
        loads(pickle.dumps(torn))
    with pytest.raises(RestrictedPickleError, match=r"expected one of .*; got 99"):
        loads(pickle.dumps(BoxMode.XYXY_ABS, 2).replace(b"K\x00\x85", b"K\x63\x85"))


def test_structures_in_a_file_of_torch_save(tmp_path):
    predictions = Instances((4, 5), pred_boxes=Boxes(torch.ones(1, 4)))
    torch.save([predictions], tmp_path / "predictions.pth")
    (back,) = read_file(str(tmp_path / "predictions.pth"))[0]
    assert torch.equal(back.pred_boxes.tensor, torch.ones(1, 4))
    (listed,) = list_file(str(tmp_path / "predictions.pth"))[0]
    assert listed["_fields"]["pred_boxes"]["tensor"].shape == (1, 4)


def test_averaged_weights(tmp_path):
    average = torch.optim.swa_utils.AveragedModel(nn.Linear(2, 1))
    for key, state in (
        ("model_ema", average.module.state_dict()),
        ("ema_state", {"module": average.module.state_dict()}),
    ):
        torch.save({"model": {"w": torch.zeros(1)}, key: state}, tmp_path / "a.pth")
        assert set(read_checkpoint(tmp_path / "a.pth", weights="ema").weights) == {"weight", "bias"}
    torch.save({"model": {"w": torch.zeros(1)}}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no averaged weights in it; looked for model_ema"):
        read_checkpoint(tmp_path / "a.pth", weights="ema")
    with pytest.raises(ValueError, match="must be 'model' or 'ema'; got 'x'"):
        read_checkpoint(tmp_path / "a.pth", weights="x")


@pytest.mark.parametrize("name", ["a.pth", "a.pkl"])
def test_trust_is_asked_for_and_said(tmp_path, caplog, name):
    content = {"model": {"w": torch.zeros(1)}, "__author__": "x", "odd": torch.nn.ReLU()}
    path = tmp_path / name
    torch.save(content, path) if name == "a.pth" else path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"names 'torch\.nn\.modules\.activation\.ReLU'"):
        read_checkpoint(path)
    assert isinstance(read_checkpoint(path, trust=True).rest["odd"], torch.nn.ReLU)
    assert "read with trust=True, which runs any code" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_flipped_bit_is_found_when_asked_for(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"w": torch.full((1000,), 7.0)}, path)
    verify_file(str(path))
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((9,), 7.0).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    read_checkpoint(path)
    with pytest.raises(DamagedFileError, match="its checksum differs"):
        verify_file(str(path))


def test_mapped_tensors_are_the_same(tmp_path):
    torch.save({"w": torch.randn(1000)}, tmp_path / "a.pth")
    plain, mapped = (read_checkpoint(tmp_path / "a.pth", mmap=m).weights["w"] for m in (0, 1))
    assert torch.equal(plain, mapped)


def test_a_record_that_is_no_json_is_ignored(tmp_path):
    import safetensors.torch

    path = tmp_path / "a.safetensors"
    for record in ("{", json.dumps([1])):
        safetensors.torch.save_file({"w": torch.ones(1)}, path, metadata={"retinue": record})
        assert read_checkpoint(path).class_names == []
