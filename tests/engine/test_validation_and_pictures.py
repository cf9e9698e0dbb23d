"""Losses on other images, and pictures of training."""

import numpy as np
import torch
from torch import nn

from retinue.engine import SimpleTrainer, TrainingPictures, ValidationLoss
from retinue.engine.validation_loss import build_validation_loaders, validation_losses
from retinue.structures import Boxes, Instances
from retinue.utils.events import has_event_storage


class Sampling(nn.Module):
    """Its loss depends on random numbers, dropout and a norm's statistics."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.dropout = nn.Dropout(0.5)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, batch):
        assert self.training
        return {"loss": self.scale * self.dropout(self.norm(batch)).mean() + torch.rand(())}


def test_losses_have_no_side_effects(batches):
    model = Sampling().eval()
    model.norm.train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(5)
    first = validation_losses(model, batches)
    after = torch.rand(3)
    torch.manual_seed(5)

    assert torch.equal(after, torch.rand(3))
    assert validation_losses(model, batches) == first
    assert all(torch.equal(state[name], t) for name, t in model.state_dict().items())
    assert [model.training, model.norm.training, model.dropout.training] == [False, True, False]
    assert model.scale.grad is None
    assert not has_event_storage()


def test_the_mean_by_hand():
    class First(nn.Module):
        def forward(self, batch):
            return {"a": batch.sum(), "b": batch.sum() * 2}

    got = validation_losses(First(), [torch.tensor(1.0), torch.tensor(4.0)])
    assert got == {"a": 2.5, "b": 5.0}
    assert validation_losses(First(), []) == {}


def test_the_hook_reports(line, batches, sgd, caplog):
    trainer = SimpleTrainer(line, batches, sgd(line))
    trainer.register_hooks([ValidationLoss(3, line, [batches[:2], batches[2:3]])])
    trainer.train(0, 4)
    history = trainer.storage.history("val_total_loss").values()
    assert [iteration for _, iteration in history] == [2, 3]
    parts = [trainer.storage.latest()[f"val_loss_{name}"][0] for name in "ab"]
    assert abs(sum(parts) - history[-1][0]) < 1e-9

    trainer.register_hooks([ValidationLoss(1, line, [])])
    trainer.train(0, 1)
    assert "no annotated image" in caplog.text


def test_loaders_give_annotated_images(small_cfg):
    (loader,) = build_validation_loaders(small_cfg)
    batches = list(loader)
    assert len(batches) == 6
    assert batches[0][0]["instances"].gt_classes.tolist() == [0]
    assert min(batches[0][0]["image"].shape[1:]) == 48


class Detector(nn.Module):
    def __init__(self, output="instances"):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.output = output

    def forward(self, batch):
        if self.training:
            return {"loss": self.weight.square()}
        size = (batch[0]["height"], batch[0]["width"])
        found = Instances(size, pred_boxes=Boxes([[2, 2, 20, 20]]), pred_classes=torch.tensor([1]))
        return [{self.output: found}] if self.output else [{}]


def sample():
    image = torch.zeros(3, 32, 40, dtype=torch.uint8)
    image[0] = 200  # blue
    truth = Instances((32, 40), gt_boxes=Boxes([[5, 5, 30, 25]]), gt_classes=torch.tensor([0]))
    return {"image": image, "instances": truth}


def test_pictures_show_both_sides(sgd):
    model = Detector()
    trainer = SimpleTrainer(model, [[sample()]], sgd(model))
    trainer.register_hooks([TrainingPictures(2)])
    trainer.train(0, 5)
    pictures = trainer.storage._vis_data

    assert [iteration for _, _, iteration in pictures] == [1, 3]
    picture = pictures[0][1]
    assert picture.shape == (3, 32, 80)
    assert picture[:, 0, 0].tolist() == [0, 0, 200]
    left, right = np.split(picture, 2, axis=2)
    assert (left != right).any()
    assert model.training


def test_pictures_without_predictions_or_samples(sgd):
    model = Detector(output="")
    picture = TrainingPictures(1, "RGB").draw(model, {"image": sample()["image"]})
    assert picture[0, 0].tolist() == [200, 0, 0]

    trainer = SimpleTrainer(model, [torch.zeros(1)], sgd(model))
    trainer.register_hooks([TrainingPictures(1)])
    trainer.train(0, 1)
    assert not trainer.storage._vis_data
