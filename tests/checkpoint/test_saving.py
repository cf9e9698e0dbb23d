"""Saving in the background, as safetensors, in shards; addresses of published weights."""

import contextlib
import errno
import importlib
import os
import threading
import types

import pytest
import torch
from torch import nn

from retinue.checkpoint import Checkpointer, PeriodicCheckpointer
from retinue.checkpoint.background import InTurn, snapshot
from retinue.checkpoint.distributed import check_folder
from retinue.checkpoint.errors import CheckpointError, DamagedFileError
from retinue.checkpoint.published import timm_address, torchvision_address
from retinue.checkpoint.reader import read_checkpoint
from retinue.checkpoint.sharded import clear_leftover, is_sharded, load_sharded, save_sharded
from retinue.checkpoint.writer import new_folder
from retinue.utils.errors import InputError
from retinue.utils.file_io import PathManager


def same(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class TestBackground:
    def test_what_is_saved_is_what_was_there(self, tmp_path, monkeypatch):
        model, may_write = nn.Linear(2, 2), threading.Event()
        checkpointer = Checkpointer(model, str(tmp_path), asynchronous=True)
        write = checkpointer._write_file
        monkeypatch.setattr(
            checkpointer, "_write_file", lambda *args: (may_write.wait(30), write(*args))
        )
        before = model.weight.detach().clone()
        checkpointer.save("a", iteration=1)
        assert os.listdir(tmp_path) == []
        model.weight.data.zero_()  # training goes on
        may_write.set()

        assert checkpointer.get_checkpoint_file() == str(tmp_path / "a.pth")
        saved = torch.load(tmp_path / "a.pth", weights_only=True)
        assert torch.equal(saved["model"]["weight"], before)
        assert saved["iteration"] == 1

    def test_an_error_is_raised_by_the_next_call(self, tmp_path, monkeypatch):
        def full(*_):
            raise OSError("disk full")

        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path), asynchronous=True)
        monkeypatch.setattr(checkpointer, "_write_file", full)
        checkpointer.save("a")
        with pytest.raises(OSError, match="disk full"):
            checkpointer.save("b")
        assert not checkpointer.has_checkpoint()  # the file that failed is not the last one

    def test_the_old_file_goes_when_the_new_one_is_there(self, tmp_path):
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path), asynchronous=True)
        periodic = PeriodicCheckpointer(checkpointer, 1, max_iter=4, max_to_keep=1)
        for iteration in range(4):
            periodic.step(iteration)
        assert sorted(os.listdir(tmp_path)) == [
            "last_checkpoint",
            "model_0000003.pth",
            "model_final.pth",
        ]

    def test_copies_are_apart_and_keep_versions(self):
        state = nn.Linear(1, 1).state_dict()
        copied = snapshot({"a": [state], "b": (torch.ones(1), 3)})
        assert copied["a"][0]["weight"].data_ptr() != state["weight"].data_ptr()
        assert copied["a"][0]._metadata == state._metadata
        assert copied["b"][1] == 3

    def test_in_turn_without_a_thread(self):
        done = []
        turns = InTurn(False)
        turns.do(lambda: done.append(1))
        turns.wait()
        assert done == [1]


def test_a_full_disk_is_named_and_earlier_checkpoints_stay(tmp_path, monkeypatch):
    checkpointer = Checkpointer(nn.Linear(100, 100), str(tmp_path))
    checkpointer.save("first")
    write = checkpointer._writer

    @contextlib.contextmanager
    def full(path, mode):
        with write(path, mode) as file:
            room = types.SimpleNamespace(left=1000)

            def fill(data):
                room.left -= len(data)
                if room.left < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return file.write(data)

            yield types.SimpleNamespace(write=fill, flush=file.flush, close=lambda: None)

    monkeypatch.setattr(checkpointer, "_writer", full)
    with pytest.raises(OSError, match=r"second\.pth can't be written: No space left on device"):
        checkpointer.save("second")
    assert sorted(os.listdir(tmp_path)) == ["first.pth", "last_checkpoint"]
    assert checkpointer.get_checkpoint_file().endswith("first.pth")


def test_weights_alone_with_what_is_known_of_them(tmp_path):
    run = types.SimpleNamespace(state_dict=lambda: {"classes": ["cat"], "config": "A: 1"})
    model = nn.Linear(2, 1)
    checkpointer = Checkpointer(model, str(tmp_path), run=run)
    path = checkpointer.write_weights("best", metrics={"AP": 0.5})
    back = read_checkpoint(path)

    assert torch.equal(back.weights["weight"], model.weight)
    assert back.class_names == ["cat"]
    assert back.record["config"] == "A: 1"
    assert back.record["metrics"] == {"AP": 0.5}
    assert {"retinue", "torch"} <= set(back.record)
    assert Checkpointer(model).write_weights("best") == ""


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    for content in ("1", "2"):
        with new_folder(str(tmp_path / "a")) as folder:
            (tmp_path / folder / "file").write_text(content)
    with pytest.raises(RuntimeError, match="crash"), new_folder(str(tmp_path / "a")):
        raise RuntimeError("crash")
    assert (tmp_path / "a" / "file").read_text() == "2"
    assert os.listdir(tmp_path) == ["a"]


class TestSharded:
    def trained(self, seed):
        torch.manual_seed(seed)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1 * (seed + 1))
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        return model, optimizer

    def test_round_trip(self, tmp_path):
        model, optimizer = self.trained(0)
        save_sharded(str(tmp_path / "a"), model, optimizer, iteration=4)
        other, other_optimizer = self.trained(1)
        rest = load_sharded(str(tmp_path / "a"), other, other_optimizer)

        assert same(model, other)
        assert other_optimizer.param_groups[0]["lr"] == 0.1
        first, second = (
            next(iter(o.state.values()))["exp_avg"] for o in (optimizer, other_optimizer)
        )
        assert torch.equal(first, second)
        assert rest == {"iteration": 4}
        assert torch.equal(read_checkpoint(tmp_path / "a").weights["weight"], model.weight)
        assert not is_sharded(model)

    def test_a_damaged_folder_is_refused(self, tmp_path):
        model, _ = self.trained(0)
        save_sharded(str(tmp_path / "a"), model)
        (chunks,) = (tmp_path / "a").glob("*.distcp")
        chunks.write_bytes(chunks.read_bytes()[:-300])
        with pytest.raises(DamagedFileError, match=r"ends before '.*' does"):
            load_sharded(str(tmp_path / "a"), model)
        metadata = tmp_path / "a" / ".metadata"
        metadata.write_bytes(b"cos\nsystem\n.")
        with pytest.raises(CheckpointError, match=r"names 'os\.system'"):
            check_folder(str(tmp_path / "a"))

    def saved(self, tmp_path, *, num_outputs=2):
        torch.manual_seed(0)
        model = nn.Linear(3, num_outputs)
        optimizer = torch.optim.Adam(model.parameters())
        return Checkpointer(model, str(tmp_path), sharded=True, optimizer=optimizer)

    def test_the_oldest_goes_and_the_newest_whole_one_is_resumed(self, tmp_path):
        checkpointer = self.saved(tmp_path)
        periodic = PeriodicCheckpointer(checkpointer, 1, max_to_keep=2)
        for iteration in range(4):
            periodic.step(iteration)
        names = ["last_checkpoint", "model_0000002", "model_0000003"]
        assert sorted(os.listdir(tmp_path)) == names
        os.remove(next((tmp_path / "model_0000003").glob("*.distcp")))
        (tmp_path / "model_0000004.tmp").mkdir()  # of a process that was killed
        (tmp_path / "model_0000004.tmp" / "__0_0.distcp").write_bytes(b"half")
        (tmp_path / "mine.tmp").mkdir()
        (tmp_path / "mine.tmp" / "notes.txt").write_text("kept")

        again = self.saved(tmp_path)
        assert again.resume_or_load("") == {"iteration": 2}
        assert sorted(os.listdir(tmp_path)) == [names[0], "mine.tmp", *names[1:]]
        periodic = PeriodicCheckpointer(again, 1, max_to_keep=1)
        periodic.step(3)
        assert sorted(os.listdir(tmp_path)) == [names[0], "mine.tmp", names[2]]

    def test_another_model_is_refused(self, tmp_path):
        self.saved(tmp_path).save("a")
        other = self.saved(tmp_path, num_outputs=5)
        with pytest.raises(CheckpointError, match=r"weight: \(2, 3\) in the checkpoint, \(5, 3\)"):
            other.resume_or_load("")
        other.model = nn.Sequential(other.model)
        with pytest.raises(CheckpointError, match=r"lacks 2 of the model's 2 .*'0\.weight'"):
            other.resume_or_load("")

    def test_without_an_optimizer_in_it(self, tmp_path):
        model = nn.Linear(3, 2)
        Checkpointer(model, str(tmp_path), sharded=True).save("a", iteration=1)
        other = self.saved(tmp_path)
        assert other.resume_or_load("") == {"iteration": 1}
        assert same(other.model, model)

    @pytest.mark.slow
    @pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
    def test_a_model_of_fsdp_resumes(self, tmp_path):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        torch.distributed.init_process_group(
            "gloo", rank=0, world_size=1, store=torch.distributed.HashStore()
        )
        try:
            mesh = init_device_mesh("cpu", (1,))
            made = []
            for seed in (0, 1):
                torch.manual_seed(seed)
                model = fully_shard(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), mesh=mesh)
                optimizer = torch.optim.SGD(model.parameters(), lr=0.1 + seed, momentum=0.9)
                model(torch.ones(2, 3)).sum().backward()
                optimizer.step()
                made.append(Checkpointer(model, str(tmp_path), sharded=True, optimizer=optimizer))
            first, second = made
            first.save("step", iteration=7)
            assert is_sharded(first.model)
            with pytest.raises(InputError, match="sharded=True and call save in all of them"):
                Checkpointer(first.model, str(tmp_path)).save("step")
            assert second.resume_or_load("") == {"iteration": 7}
            for one, two in zip(first.model.parameters(), second.model.parameters(), strict=True):
                assert torch.equal(one.full_tensor(), two.full_tensor())
            assert second.checkpointables["optimizer"].param_groups[0]["lr"] == 0.1
            start = {"0.weight": torch.ones(4, 3), "1.bias": torch.ones(3)}
            torch.save({"model": start}, tmp_path / "start.pth")
            second.resume_or_load(str(tmp_path / "start.pth"), resume=False)
            assert (second.model[0].weight.full_tensor() == 1).all()
            assert list(second.report.reinitialised) == ["1.bias"]
        finally:
            torch.distributed.destroy_process_group()


class TestAddresses:
    @pytest.mark.parametrize(
        ("name", "file"),
        [
            ("resnet50", "resnet50-11ad3fa6.pth"),
            ("resnet50/V1", "resnet50-0676ba61.pth"),
            ("resnet50/IMAGENET1K_V1", "resnet50-0676ba61.pth"),
            ("ResNet50_Weights.IMAGENET1K_V2", "resnet50-11ad3fa6.pth"),
            ("ResNet50_Weights.DEFAULT", "resnet50-11ad3fa6.pth"),
            ("MaskRCNN_ResNet50_FPN_Weights.COCO_V1", "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
            ("other-01234567.pth", "other-01234567.pth"),
        ],
    )
    def test_torchvision(self, name, file):
        assert torchvision_address(name) == f"https://download.pytorch.org/models/{file}"

    def test_names_that_torchvision_does_not_have(self):
        with pytest.raises(KeyError, match="'resnet51'; did you mean"):
            torchvision_address("resnet51")
        with pytest.raises(KeyError, match="unknown weights of resnet18 'V2'"):
            torchvision_address("resnet18/V2")

    def test_timm(self, monkeypatch):
        assert timm_address("resnet50.a1_in1k") == (
            "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors"
        )
        real = importlib.import_module

        def absent(name):
            if name == "timm.models":
                raise ImportError(name)
            return real(name)

        monkeypatch.setattr(importlib, "import_module", absent)
        with pytest.raises(ValueError, match=r"which training of it\? Name its tag, such as resn"):
            timm_address("resnet50")
        with pytest.raises(ValueError, match=r"expected MODEL\.TAG"):
            timm_address("../x")

    def test_the_path_manager_knows_them(self, monkeypatch, tmp_path):
        file = tmp_path / "weights"
        file.write_bytes(b"content")
        asked = []
        real = PathManager.get_local_path

        def get_local_path(path, **kwargs):
            if not path.startswith("https://"):
                return real(path, **kwargs)
            asked.append(path)
            return str(file)

        monkeypatch.setattr(PathManager, "get_local_path", get_local_path)
        for name in ("torchvision://resnet18", "timm://resnet18.a1_in1k"):
            with PathManager.open(name, "rb") as opened:
                assert opened.read() == b"content"
        assert [address.rpartition("/")[2] for address in asked] == [
            "resnet18-f37072fd.pth",
            "model.safetensors",
        ]

    def test_a_missing_package_is_named_by_its_extra(self, monkeypatch):
        import fsspec

        def absent(path):
            raise ImportError("Install s3fs to access S3")

        monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
        with pytest.raises(ImportError, match=r"s3://b/x: .*pip install 'retinue\[cloud\]'"):
            PathManager.open("s3://b/x", "rb")
        with pytest.raises(ImportError, match=r"pip install 'retinue\[hub\]'"):
            PathManager.open("hf://b/x", "rb")


def test_a_folder_whose_replacement_was_cut_off_gets_its_name_back(tmp_path):
    old, other = tmp_path / "a.0123456789ab.old", tmp_path / "b.0123456789ab.old"
    for folder in (old, other, tmp_path / "b"):
        folder.mkdir()
        (folder / ".metadata").touch()
    for folder in (old, other):
        clear_leftover(str(folder))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
