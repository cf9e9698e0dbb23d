"""Models as folders: written, read again, converted from others' weights, shared."""

import json
import sys
import types
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import retinue
from retinue.checkpoint import read_checkpoint
from retinue.cli.main import app
from retinue.engine import hub


@pytest.fixture(scope="module")
def detector():
    return retinue.load("demo", device="cpu")


def equal(first, second):
    state, other = first.state_dict(), second.state_dict()
    return state.keys() == other.keys() and all(torch.equal(v, other[k]) for k, v in state.items())


@pytest.mark.slow
def test_a_folder_round_trip(detector, tmp_path):
    folder = retinue.save_pretrained(
        detector, tmp_path / "shapes", licence="CC0-1.0", metrics={"box AP": 67.7}
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "classes.json",
        "config.yaml",
        "model.safetensors",
    ]
    again = retinue.from_pretrained(folder, device="cpu", threshold=0.4)
    assert equal(detector.model, again.model)
    assert again.class_names == detector.class_names
    assert again.cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.4
    card = (folder / "README.md").read_text()
    assert "license: cc0-1.0" in card
    assert "- box AP: 67.7" in card
    assert detector.class_names[0] in card
    shown = CliRunner().invoke(app, ["checkpoint", "show", str(folder / "model.safetensors")])
    assert "licence: CC0-1.0" in shown.output
    assert f"{len(detector.model.state_dict())} tensors" in shown.output


@pytest.mark.slow
def test_the_hub_is_asked_for_data_only(detector, tmp_path, monkeypatch):
    asked = {}
    folder = retinue.save_pretrained(detector, tmp_path / "shapes")

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(folder)

    class HfApi:
        def __init__(self, token):
            asked["token"] = token

        def create_repo(self, name, **options):
            asked["created"] = name, options

        def upload_folder(self, repo_id, folder_path):
            asked["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            return types.SimpleNamespace(commit_url="https://hub/commit")

    fake = types.SimpleNamespace(snapshot_download=snapshot_download, HfApi=HfApi)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    monkeypatch.setenv("RETINUE_CACHE", str(tmp_path))
    monkeypatch.setenv("RETINUE_OFFLINE", "1")
    again = retinue.from_pretrained("me/shapes", device="cpu", revision="v1")

    assert equal(detector.model, again.model)
    assert (asked["name"], asked["revision"], asked["local_files_only"]) == (
        "me/shapes",
        "v1",
        True,
    )
    assert not any(pattern.endswith((".py", ".bin", "*")) for pattern in asked["allow_patterns"])
    address = retinue.push_to_hub(detector, "me/shapes", token="t", description="Shapes.")
    assert address == "https://hub/commit"
    assert asked["created"] == ("me/shapes", {"private": True, "exist_ok": True})
    assert "README.md" in asked["files"]


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ImportError, match=r"pip install 'retinue\[hub\]'"):
        hub.from_pretrained("me/shapes")
    with pytest.raises(ValueError, match="is no folder, and no repository either"):
        hub.from_pretrained("./nowhere/at/all")


@pytest.mark.slow
def test_convert_into_a_model(detector, tmp_path):
    state = {f"module.{name}": value for name, value in detector.model.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    command = ["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "b.safetensors")]
    report = tmp_path / "report.json"
    result = CliRunner().invoke(app, [*command, "--model", "demo", "--report", str(report)])

    assert result.exit_code == 0, result.output
    assert f"Loaded {len(state)} of the model's {len(state)} tensors." in result.output
    assert json.loads(report.read_text())["missing"] == []
    again = retinue.load("demo", weights=tmp_path / "b.safetensors", device="cpu")
    assert equal(detector.model, again.model)


def test_convert_and_show_in_words(tmp_path):
    torch.save({"model": {"w": torch.ones(2, 3)}, "iteration": 4}, tmp_path / "a.pth")
    run = CliRunner().invoke
    result = run(app, ["convert", str(tmp_path / "a.pth"), str(tmp_path / "b.pkl")])
    assert "this format has no place for iteration" in result.output
    shown = run(app, ["checkpoint", "show", str(tmp_path / "a.pth"), "--verify"])
    assert "also has: iteration (4)" in shown.output
    assert "w  float32  (2, 3)" in shown.output
    as_json = run(app, ["checkpoint", "show", str(tmp_path / "b.pkl"), "--json"])
    shown = json.loads(as_json.output[as_json.output.index("{") :])  # after what may be logged
    assert shown["weights"] == {"w": {"shape": [2, 3], "dtype": "float32"}}
    for name, options in (
        ("shards", ["--shard-size", "1e-8"]),
        ("distributed", ["--format", "distributed"]),
        ("b.bin", []),
        ("b.ckpt", []),
    ):
        result = run(app, ["convert", str(tmp_path / "a.pth"), str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
        assert torch.equal(read_checkpoint(tmp_path / name).weights["w"], torch.ones(2, 3))
    (tmp_path / "c.pth").write_bytes(b"PK\x03\x04broken")
    for words in (["checkpoint", "show"], ["convert"]):
        more = [str(tmp_path / "d.pth")] if words == ["convert"] else []
        refused = run(app, [*words, str(tmp_path / "c.pth"), *more])
        assert refused.exit_code == 2
        assert "not a whole checkpoint file" in refused.output
