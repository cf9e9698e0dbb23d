"""Golden numbers of the operators, and inputs that several tests share."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden" / "layers.npz"


class GoldenCase:
    """One call recorded from detectron2 (commit 02b5c4e) in float64, with its gradients."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays
        self.params = json.loads(str(arrays["params"]))

    def inputs(self, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
        tensors = {
            name[3:]: torch.from_numpy(array)
            for name, array in self.arrays.items()
            if name.startswith("in/")
        }
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                tensors[name] = tensor.to(dtype)
                if f"grad64/{name}" in self.arrays:
                    tensors[name].requires_grad_()
        return tensors

    def check(self, out: torch.Tensor, inputs: dict[str, torch.Tensor], tolerance: float) -> None:
        """Compare output and gradients, relative to the largest magnitude of each array."""
        pairs = [(out.detach(), self.arrays["out64"])]
        names = [name[7:] for name in self.arrays if name.startswith("grad64/")]
        if names:
            cotangent = torch.from_numpy(self.arrays["cotangent"]).to(out.dtype)
            (out * cotangent).sum().backward()
            pairs += [(inputs[name].grad, self.arrays[f"grad64/{name}"]) for name in names]
        for got, expected in pairs:
            want = torch.from_numpy(expected).double()
            worst = tolerance * max(want.abs().max().item(), 1e-30)
            torch.testing.assert_close(got.double(), want, rtol=0, atol=worst)


@pytest.fixture(scope="session")
def golden_group():
    """``golden_group("nms")`` maps case names to cases."""
    with np.load(GOLDEN) as file:
        arrays = {name: file[name] for name in file.files}

    def group(name: str) -> dict[str, GoldenCase]:
        cases: dict[str, dict[str, np.ndarray]] = {}
        for key, array in arrays.items():
            group_name, case, rest = key.split("/", 2)
            if group_name == name:
                cases.setdefault(case, {})[rest] = array
        return {case: GoldenCase(content) for case, content in cases.items()}

    return group


def random_boxes(num: int, *, size: float = 100.0, largest: float = 40.0, seed: int = 0):
    """``(num, 4)`` float64 boxes, some of them outside of ``(0, 0, size, size)``."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num, 2, generator=generator, dtype=torch.float64) * size * 1.2 - 0.1 * size
    extent = torch.rand(num, 2, generator=generator, dtype=torch.float64) * largest
    return torch.cat([corner, corner + extent], dim=1)


@pytest.fixture
def make_boxes():
    return random_boxes


@pytest.fixture
def make_rotated_boxes():
    def make(num: int, *, size: float = 100.0, largest: float = 40.0, seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.rand(num, 5, generator=generator, dtype=torch.float64)
        scale = torch.tensor([size, size, largest, largest, 720.0], dtype=torch.float64)
        return numbers * scale - torch.tensor([0.0, 0, 0, 0, 360], dtype=torch.float64)

    return make
