"""Files that want to run code or to exhaust the machine end in an error that says so."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import hostile_files
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

from retinue.config.safe_yaml import load_yaml
from retinue.data.dataset_dicts import load_proposals_into_dataset
from retinue.utils.restricted_pickle import RestrictedPickleError

SECONDS = 20  # far above what any takes on an idle machine


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What reading and listing each file came to, in a process that may take 1 GiB."""
    if sys.platform != "linux":
        pytest.skip("limits of memory are Linux's")
    folder = tmp_path_factory.mktemp("hostile")
    safetensors.torch.save_file({"w": torch.zeros(2)}, folder / "good.safetensors")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", Path(__file__).with_name("read_hostile.py"), folder],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert not (folder / hostile_files.MARK).exists(), "a file ran its code"
    return json.loads(result.stdout)


@pytest.mark.slow
def test_each_file_is_refused_in_words_and_in_time(outcomes):
    assert len(outcomes) >= 40
    for name, ways in outcomes.items():
        for way, (kinds, message, seconds) in ways.items():
            assert kinds != "nothing", f"{name} was accepted by {way}"
            assert {"CheckpointError", "OSError"} & set(kinds), f"{name}, {way}: {kinds} {message}"
            assert name.split(".")[0] in message, f"{name}: the message doesn't name the file"
            assert seconds < SECONDS, f"{name}: {way} took {seconds:.0f} s"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("reduce_system.pkl", "names 'posix.system'"),
        ("stack_global.pkl", "names 'os.system'"),
        ("inst.pkl", "names 'os.system'"),
        ("torch_reduce.pth", "names 'posix.system'"),
        ("torch_legacy_reduce.pth", "names 'os.system'"),
        ("torch_module.pth", "names 'torch.nn.modules.linear.Linear'"),
        ("pickle_in_a_storage.pkl", "a tensor's storage: not in PyTorch's format"),
        ("ten_gigabytes_of_bytes.pkl", "claims 10,737,418,240 bytes; the file has"),
        ("memo_at_four_billion.pkl", "takes a note at number 4,294,967,295"),
        ("array_that_claims_ten_gigabytes.pkl", "array of shape (10737418240,)"),
        ("lists_in_lists.pkl", "nested more than 200 levels"),
        ("lists_that_double.pkl", "values shared so often"),
        ("tuples_that_double.pkl", "tuples are nested without end"),
        ("torch_claims_ten_gigabytes.pth", "storage '0' claims 10,737,418,240 bytes"),
        ("torch_tensor_larger_than_storage.pth", "does not fit its storage of 4 elements"),
        ("torch_zip_bomb.pth", "claim more bytes than the file has"),
        ("torch_path_traversal.pth", "points out of the archive"),
        ("torch_script.pth", "a TorchScript program"),
        ("torch_flipped.pth", "Bad CRC-32"),
        ("torch_no_weights.pth", "no weights found; it has 'epoch'"),
        ("safetensors_ten_gigabyte_header.safetensors", "its header claims 10,737,418,240 bytes"),
        ("index_traversal.index.json", "a path out of its folder is not followed"),
        ("distributed_traversal", "outside of it"),
        ("distributed_reduce", "names 'posix.system'"),
        ("distributed_large", "claims more bytes than the files have"),
        ("weights_that_are_strings.pkl", "'w' must be a tensor or an array; got str"),
        ("boxes_of_a_string.pkl", "Boxes: tensor must be a tensor; got str"),
        ("html.pkl", "0x3c is no instruction of a pickle"),
    ],
)
def test_what_is_said(outcomes, file, said):
    assert said in outcomes[file]["read"][1]


@pytest.mark.parametrize(
    "text", hostile_files.yaml_texts().values(), ids=hostile_files.yaml_texts()
)
def test_yaml_that_is_no_config(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(yaml.YAMLError, match=r"\w"):
        load_yaml(text)
    assert not (tmp_path / hostile_files.MARK).exists()


def test_proposal_files_are_read_alike(tmp_path):
    path = tmp_path / "proposals.pkl"
    path.write_bytes(pickle.dumps({"ids": [1], "boxes": hostile_files.Call(eval, "1")}))
    with pytest.raises(RestrictedPickleError, match=r"proposals\.pkl: names 'builtins\.eval'"):
        load_proposals_into_dataset([{"image_id": 1}], str(path))

    path.write_bytes(
        pickle.dumps(
            {
                "ids": [1],
                "boxes": [np.array([[0, 0, 1, 1], [2, 2, 3, 3]], np.float32)],
                "objectness_logits": [np.array([0.0, 1.0], np.float32)],
                "bbox_mode": 0,
            }
        )
    )
    (record,) = load_proposals_into_dataset([{"image_id": 1}], str(path))
    assert record["proposal_boxes"].tolist() == [[2, 2, 3, 3], [0, 0, 1, 1]]
