"""Saving, loading, resuming: what is kept, what is refused, what is said."""

import os

import numpy as np
import pytest
import torch
from torch import nn

from retinue.checkpoint import Checkpointer, PeriodicCheckpointer
from retinue.checkpoint.checkpointer import (
    CheckpointError,
    DamagedFileError,
    get_missing_parameters_message,
    get_unexpected_parameters_message,
    read_torch_file,
)


def model(seed=0, features=3):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, features), nn.Linear(features, 1))


def same(first, second):
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_round_trip(tmp_path):
    source, target = model(0), model(1)
    optimizers = [
        torch.optim.SGD(m.parameters(), lr=lr) for m, lr in ((source, 0.5), (target, 0.1))
    ]
    Checkpointer(source, str(tmp_path), optimizer=optimizers[0]).save("model_final", iteration=9)
    checkpointer = Checkpointer(target, str(tmp_path), optimizer=optimizers[1])
    rest = checkpointer.load(checkpointer.get_checkpoint_file())

    assert sorted(os.listdir(tmp_path)) == ["last_checkpoint", "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert same(source, target)
    assert optimizers[1].param_groups[0]["lr"] == 0.5
    assert rest == {"iteration": 9}


def test_only_named_objects_are_loaded(tmp_path):
    source = model()
    optimizer = torch.optim.SGD(source.parameters(), lr=0.5)
    Checkpointer(source, str(tmp_path), optimizer=optimizer).save("a")
    optimizer.param_groups[0]["lr"] = 0.1
    rest = Checkpointer(source, optimizer=optimizer).load(str(tmp_path / "a.pth"), [])

    assert optimizer.param_groups[0]["lr"] == 0.1
    assert list(rest) == ["optimizer"]


def test_an_empty_path_loads_nothing(caplog):
    caplog.set_level("INFO")
    assert Checkpointer(model()).load("") == {}
    assert caplog.messages == ["No checkpoint found. Initializing model from scratch"]


@pytest.mark.parametrize("arguments", [{"save_dir": ""}, {"save_to_disk": False}])
def test_processes_that_do_not_save(tmp_path, arguments):
    Checkpointer(model(), **{"save_dir": str(tmp_path), **arguments}).save("a")
    assert not list(tmp_path.iterdir())


def test_wrong_use_is_named(tmp_path):
    checkpointer = Checkpointer(model(), str(tmp_path), optimizer=nn.Linear(1, 1))
    with pytest.raises(KeyError, match="'optimizer' is the name of another object"):
        checkpointer.add_checkpointable("optimizer", nn.Linear(1, 1))
    with pytest.raises(TypeError, match="'x' needs a state_dict"):
        checkpointer.add_checkpointable("x", 3)
    with pytest.raises(AssertionError, match="must be a plain file name; got 'sub/a'"):
        checkpointer.save("sub/a")


def test_wrappers_are_looked_into(tmp_path):
    inner = model()
    compiled = torch.compile(inner)
    assert Checkpointer(nn.DataParallel(inner)).model is inner
    assert Checkpointer(compiled).model is inner
    for name, wrapper in (("parallel", nn.DataParallel(inner)), ("compiled", compiled)):
        torch.save({"model": wrapper.state_dict()}, tmp_path / f"{name}.pth")
        target = model(1)
        Checkpointer(target).load(str(tmp_path / f"{name}.pth"))
        assert same(inner, target)


def test_versions_of_modules_reach_the_model(tmp_path):
    seen = []

    class Versioned(nn.Module):
        _version = 7

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def _load_from_state_dict(self, state_dict, prefix, metadata, *rest):
            seen.append((prefix, metadata.get("version")))
            super()._load_from_state_dict(state_dict, prefix, metadata, *rest)

    whole = nn.Sequential(Versioned())
    torch.save({"model": nn.DataParallel(whole).state_dict()}, tmp_path / "a.pth")
    Checkpointer(whole).load(str(tmp_path / "a.pth"))

    assert seen == [("0.", 7)]


def test_differences_are_reported_by_module(tmp_path, caplog):
    caplog.set_level("INFO")
    state = model(features=4).state_dict()
    state |= {"head.weight": torch.zeros(1), "head.bias": np.zeros(1, np.float32)}
    del state["1.bias"]
    torch.save({"model": state}, tmp_path / "a.pth")
    target = model(1)
    before = target[0].weight.clone()
    Checkpointer(target).load(str(tmp_path / "a.pth"))

    assert torch.equal(target[0].weight, before)
    skipped = "Skip loading parameter '{}' to the model due to incompatible shapes: {}!"
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2 + ["WARNING"] * 5
    told = [message.removesuffix(" It stays as initialised.") for message in caplog.messages]
    assert told[1:] == [
        "Loaded 0 of the model's 4 tensors.",
        skipped.format("0.weight", "(4, 2) in the checkpoint but (3, 2) in the model"),
        skipped.format("0.bias", "(4,) in the checkpoint but (3,) in the model"),
        skipped.format("1.weight", "(1, 4) in the checkpoint but (1, 3) in the model"),
        "Some model parameters or buffers are not found in the checkpoint:\n  1.bias",
        "The checkpoint state_dict contains keys that are not used by the model:\n"
        "  head.{bias, weight}",
    ]


def test_shared_parameters_are_not_missing(tmp_path, caplog):
    caplog.set_level("INFO")
    tied = model(features=1)
    tied.add_module("again", tied[1])
    state = {name: value for name, value in tied.state_dict().items() if "again" not in name}
    torch.save({"model": state}, tmp_path / "a.pth")
    Checkpointer(tied).load(str(tmp_path / "a.pth"))

    assert "Loaded 6 of the model's 6 tensors." in caplog.text


def test_messages_group_names():
    keys = ["backbone.conv.weight", "scale", "backbone.conv.bias"]
    assert get_missing_parameters_message(keys) == (
        "Some model parameters or buffers are not found in the checkpoint:\n"
        "  backbone.conv.{bias, weight}\n  scale"
    )
    assert get_unexpected_parameters_message(keys, max_lines=1).endswith(
        "\n  backbone.conv.{bias, weight}\n  ... and 1 more modules"
    )


def test_what_is_no_tensor_is_refused(tmp_path):
    torch.save({"model": {"0.weight": [1.0]}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"'0\.weight' must be a tensor or an array; got list"):
        Checkpointer(model()).load(str(tmp_path / "a.pth"))


def test_files_with_code_are_refused_by_name(tmp_path):
    torch.save({"model": nn.Linear(1, 1)}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"names 'torch\.nn\.modules\.linear\.Linear'"):
        Checkpointer(model()).load(str(tmp_path / "a.pth"))


def test_numpy_numbers_are_plain_data(tmp_path):
    content = {"ap": np.float64(0.5), "n": np.int64(3), "a": np.arange(3), "lr": np.float32(1)}
    torch.save(content, tmp_path / "a.pth")
    got = read_torch_file(str(tmp_path / "a.pth"))

    assert (got["ap"], got["n"], got["lr"], got["a"].tolist()) == (0.5, 3, 1.0, [0, 1, 2])


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("is_zip", [True, False])
def test_truncated_files_are_noticed(tmp_path, part, is_zip):
    path = tmp_path / "a.pth"
    torch.save({"model": model().state_dict()}, path, _use_new_zipfile_serialization=is_zip)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(DamagedFileError, match=r"a\.pth: not a whole checkpoint file"):
        read_torch_file(str(path))


def test_a_file_of_another_kind_is_not_advised_to_be_trusted(tmp_path):
    path = tmp_path / "a.pth"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    with pytest.raises(DamagedFileError, match=r"not a whole checkpoint") as caught:
        read_torch_file(str(path))
    assert "weights_only" not in str(caught.value)


class TestResume:
    def run(self, tmp_path, seed, **arguments):
        checkpointer = Checkpointer(model(seed), str(tmp_path), **arguments)
        return checkpointer, PeriodicCheckpointer(checkpointer, period=1)

    def test_the_last_one_is_taken_with_everything(self, tmp_path):
        checkpointer, periodic = self.run(tmp_path, 0, extra=nn.Linear(1, 1))
        periodic.step(0)
        periodic.step(1)
        again, _ = self.run(tmp_path, 1, extra=nn.Linear(1, 1))

        assert again.resume_or_load("not used")["iteration"] == 1
        assert same(checkpointer.model, again.model)
        assert same(checkpointer.checkpointables["extra"], again.checkpointables["extra"])

    def test_without_one_the_weights_are_loaded(self, tmp_path):
        source, _ = self.run(tmp_path / "a", 0)
        source.save_dir = str(tmp_path)
        source.write("pretrained", iteration=3)
        again, _ = self.run(tmp_path, 1)

        assert not again.has_checkpoint()
        assert again.resume_or_load(str(tmp_path / "pretrained.pth"))["iteration"] == 3
        assert same(source.model, again.model)

    @pytest.mark.parametrize("damage", ["truncated", "missing"])
    def test_a_damaged_newest_file_is_passed_over(self, tmp_path, caplog, damage):
        checkpointer, periodic = self.run(tmp_path, 0)
        for iteration in range(3):
            checkpointer.model[0].weight.data.fill_(iteration)
            periodic.step(iteration)
            os.utime(tmp_path / f"model_{iteration:07d}.pth", (iteration, iteration))
        newest = tmp_path / "model_0000002.pth"
        if damage == "truncated":
            newest.write_bytes(newest.read_bytes()[:-100])
        else:
            newest.unlink()
        again, _ = self.run(tmp_path, 1)

        assert again.resume_or_load("")["iteration"] == 1
        assert again.model[0].weight[0, 0] == 1
        assert "model_0000002.pth" in caplog.text
        assert "trying the one before" in caplog.text

    def test_nothing_whole_is_an_error(self, tmp_path):
        checkpointer, periodic = self.run(tmp_path, 0)
        periodic.step(0)
        (tmp_path / "model_0000000.pth").write_bytes(b"PK")
        with pytest.raises(CheckpointError, match="no checkpoint is whole"):
            checkpointer.resume_or_load("")

    def test_other_shapes_are_refused_when_resuming_only(self, tmp_path):
        self.run(tmp_path, 0)[1].step(0)
        other = model(1, features=5)
        before = other[0].weight.clone()
        checkpointer = Checkpointer(other, str(tmp_path))
        with pytest.raises(
            CheckpointError,
            match=r"cannot resume(.|\n)*0\.weight: \(3, 2\) in the .*, \(5, 2\) here",
        ):
            checkpointer.resume_or_load("")
        assert torch.equal(other[0].weight, before)

        checkpointer.resume_or_load(checkpointer.get_checkpoint_file(), resume=False)
        assert torch.equal(other[0].weight, before)

    def test_leftovers_of_a_killed_process_go(self, tmp_path):
        checkpointer, periodic = self.run(tmp_path, 0)
        periodic.step(0)
        for name in (".model_0000001.pth.0123456789ab.tmp", ".last_checkpoint.0123456789ab.tmp"):
            (tmp_path / name).write_bytes(b"half")
        (tmp_path / ".mine.tmp").write_bytes(b"")
        checkpointer.resume_or_load("")

        assert sorted(os.listdir(tmp_path)) == [
            ".mine.tmp",
            "last_checkpoint",
            "model_0000000.pth",
        ]


def test_a_failed_save_leaves_the_old_file(tmp_path):
    class Breaks:
        def state_dict(self):
            return {"broken": (i for i in [])}  # generators can't be saved

    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("a")
    before = (tmp_path / "a.pth").read_bytes()
    checkpointer.add_checkpointable("breaks", Breaks())
    with pytest.raises(TypeError, match="generator"):
        checkpointer.save("a")

    assert (tmp_path / "a.pth").read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["a.pth", "last_checkpoint"]


def test_written_files_are_not_the_last_checkpoint(tmp_path):
    checkpointer = Checkpointer(model(), str(tmp_path))
    checkpointer.save("model_0000009")
    checkpointer.write("model_best")

    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000009.pth")
    assert len(checkpointer.get_all_checkpoint_files()) == 2


class TestPeriodic:
    def test_period_and_final(self, tmp_path):
        periodic = PeriodicCheckpointer(Checkpointer(model(), str(tmp_path)), 2, max_iter=5)
        for iteration in range(5):
            periodic.step(iteration, extra=iteration)
        periodic.save("by_hand", iteration=7)

        assert sorted(path.stem for path in tmp_path.glob("*.pth")) == [
            "by_hand",
            "model_0000001",
            "model_0000003",
            "model_final",
        ]
        final = torch.load(tmp_path / "model_final.pth", weights_only=True)
        assert (final["iteration"], final["extra"]) == (4, 4)

    def test_the_newest_are_kept_also_after_a_resume(self, tmp_path):
        checkpointer = Checkpointer(model(), str(tmp_path))
        for first, last in ((0, 4), (4, 7)):
            periodic = PeriodicCheckpointer(checkpointer, 1, max_iter=7, max_to_keep=2)
            for iteration in range(first, last):
                periodic.step(iteration)

        assert sorted(path.stem for path in tmp_path.glob("*.pth")) == [
            "model_0000005",
            "model_0000006",
            "model_final",
        ]

    def test_period_zero_saves_the_end_only(self, tmp_path):
        periodic = PeriodicCheckpointer(Checkpointer(model(), str(tmp_path)), 0, max_iter=2)
        periodic.step(0)
        periodic.step(1)
        assert [path.stem for path in tmp_path.glob("*.pth")] == ["model_final"]

    def test_keeping_none_is_refused(self):
        with pytest.raises(AssertionError, match="max_to_keep must be above 0; got 0"):
            PeriodicCheckpointer(Checkpointer(model()), 1, max_to_keep=0)
