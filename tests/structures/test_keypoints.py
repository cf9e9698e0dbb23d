"""Expected numbers: by hand, or recorded from detectron2 02b5c4e (golden/structures.npz)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from retinue.structures import Keypoints, heatmaps_to_keypoints

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "structures.npz")


def test_cells_are_detectron2s():
    keypoints = Keypoints(GOLDEN["keypoints_to_heatmap_14/in/keypoints"])
    boxes = torch.from_numpy(GOLDEN["keypoints_to_heatmap_14/in/rois"])

    cells, valid = keypoints.to_heatmap(boxes, 14)

    assert np.array_equal(cells, GOLDEN["keypoints_to_heatmap_14/out32/heatmaps"])
    assert np.array_equal(valid, GOLDEN["keypoints_to_heatmap_14/out32/valid"])


def test_positions_are_detectron2s():
    maps, rois = (
        torch.from_numpy(GOLDEN[f"heatmaps_to_keypoints/in/{n}"]) for n in ("maps", "rois")
    )

    got = heatmaps_to_keypoints(maps, rois)

    np.testing.assert_allclose(got, GOLDEN["heatmaps_to_keypoints/out32"], rtol=1e-5)


def test_cells_by_hand():
    """A box of 8 x 4 pixels under 4 x 4 cells: a cell is 2 wide and 1 high."""
    box = torch.tensor([[10.0, 20.0, 18.0, 24.0]])
    points = [[10, 20, 2], [13, 21.5, 1], [18, 24, 2], [13, 21.5, 0], [9.9, 21, 2]]
    cells, valid = Keypoints([points]).to_heatmap(box, 4)

    assert cells.tolist() == [[0, 5, 15, 0, 0]]
    assert valid.tolist() == [[1, 1, 1, 0, 0]]


def test_a_peak_is_found_where_it_was_put():
    """A map as large as its box needs no resizing; position d is d + 0.5."""
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 5, 2] = 10.0
    x, y, logit, score = heatmaps_to_keypoints(maps, torch.tensor([[1.0, 2.0, 9.0, 10.0]]))[0, 0]

    assert (x, y, logit) == (3.5, 7.5, 10.0)
    assert score == pytest.approx(1 / (1 + 63 * np.exp(-10.0)), rel=1e-6)


def test_a_box_without_area_counts_as_a_pixel():
    got = heatmaps_to_keypoints(torch.randn(1, 2, 8, 8), torch.tensor([[4.0, 4.0, 4.0, 4.0]]))

    assert got[0, :, :2].tolist() == [[4.5, 4.5]] * 2


def test_no_keypoints():
    assert heatmaps_to_keypoints(torch.zeros(0, 17, 8, 8), torch.zeros(0, 4)).shape == (0, 17, 4)
    cells, valid = Keypoints(torch.zeros(0, 17, 3)).to_heatmap(torch.zeros(0, 4), 8)
    assert cells.shape == valid.shape == (0, 17)


def test_indexing_and_cat():
    keypoints = Keypoints(np.arange(18.0).reshape(3, 2, 3))

    assert keypoints.tensor.dtype == torch.float32
    assert keypoints[1].tensor.shape == (1, 2, 3)
    assert keypoints[torch.tensor([True, False, True])].tensor[1, 0, 0] == 12
    assert len(Keypoints.cat([keypoints, keypoints[:1]])) == 4
    assert repr(keypoints.to("cpu")) == "Keypoints(num_instances=3)"
    assert keypoints.device.type == "cpu"


def test_wrong_input_is_named():
    with pytest.raises(AssertionError, match=r"must have shape \(N, K, 3\); got \(2, 17, 2\)"):
        Keypoints(torch.zeros(2, 17, 2))
    with pytest.raises(AssertionError, match=r"boxes must have shape \(1, 4\); got \(2, 4\)"):
        Keypoints(torch.zeros(1, 17, 3)).to_heatmap(torch.zeros(2, 4), 8)
    with pytest.raises(AssertionError, match="at least 1 Keypoints"):
        Keypoints.cat([])
    with pytest.raises(AssertionError, match=r"rois must have shape \(1, 4\)"):
        heatmaps_to_keypoints(torch.zeros(1, 17, 8, 8), torch.zeros(2, 4))
