"""Train in two processes on the CPU; run by ``tests/engine/test_launch.py``.

Each check is a function of a folder; what it returns or prints is compared by the test.
"""

import contextlib
import datetime
import json
import sys
from pathlib import Path

import torch
from torch import nn

from retinue.checkpoint import DetectionCheckpointer
from retinue.checkpoint.checkpointer import DamagedFileError
from retinue.engine import DefaultTrainer, SimpleTrainer, create_ddp_model, hooks, launch
from retinue.engine.non_finite import NonFiniteLossError
from retinue.engine.train_loop import HookBase
from retinue.engine.validation_loss import validation_losses
from retinue.evaluation import DatasetEvaluator
from retinue.utils import comm


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 1)

    def forward(self, batch):
        return {"loss": self.layer(batch).square().mean(), "loss_rank": batch.mean()}


def batches(rank=None):
    generator = torch.Generator().manual_seed(1)
    whole = [torch.randn(4, 3, generator=generator) for _ in range(6)]
    return whole if rank is None else [batch[2 * rank : 2 * rank + 2] for batch in whole]


def train(model, data, *more, accumulate=1):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleTrainer(model, data, optimizer, accumulate=accumulate)
    trainer.register_hooks(more)
    trainer.train(0, 6 // accumulate)
    return trainer


def check_gradients(folder):
    """Two processes with half of each batch learn what one learns with all of it."""
    expected = Mean()
    if comm.is_main_process():
        weight = expected.layer.weight
        for batch in batches():
            expected(batch)["loss"].backward()
            with torch.no_grad():
                for p in expected.parameters():
                    p -= 0.1 * p.grad
                    p.grad = None
    model = create_ddp_model(Mean(), broadcast_buffers=False)
    trainer = train(model, batches(comm.get_rank()))
    if comm.is_main_process():
        torch.testing.assert_close(model.module.layer.weight, weight)
        reported = trainer.storage.history("loss_rank").values()
        want = [(batch.mean().item(), i) for i, batch in enumerate(batches())]
        torch.testing.assert_close(torch.tensor(reported), torch.tensor(want))
        assert "data_time" in trainer.storage.histories()
    else:
        assert set(trainer.storage.histories()) == {"rank_data_time"}


def check_accumulation(folder):
    """Gradients are exchanged once an iteration and come out equal in both."""
    model = create_ddp_model(Mean())
    train(model, batches(comm.get_rank()), accumulate=2)
    weights = comm.all_gather(model.module.layer.weight.detach())
    assert torch.equal(weights[0], weights[1])


def check_unused(folder):
    """A layer without gradient is named, with what to do; told to look for such, it trains."""
    model = Mean()
    model.spare = nn.Linear(2, 2)
    try:
        train(create_ddp_model(model), batches(comm.get_rank()))
    except RuntimeError as error:
        said = str(error)
    else:
        said = "no error"
    assert "spare.weight, spare.bias took no part" in said, said
    assert "find_unused_parameters=True" in said, said
    train(create_ddp_model(model, find_unused_parameters=True), batches(comm.get_rank()))


def check_not_finite(folder):
    """Both stop in the same iteration; the one with the bad loss names it."""
    data = batches(comm.get_rank())
    if comm.get_rank() == 1:
        data[2] = data[2] / 0
    model = create_ddp_model(Mean())
    try:
        train(model, data)
    except NonFiniteLossError as error:
        texts = comm.all_gather(str(error))
        assert "iteration 2: the loss of another process" in texts[0], texts
        assert "iteration 2: the loss is not finite" in texts[1], texts
        return
    raise AssertionError("no error")


def check_checkpoint(folder):
    """A file that the main process alone can read reaches the other one, and so do errors."""
    rank = comm.get_rank()
    model = Mean()
    model.layer.weight.data.fill_(rank)
    own = folder / f"rank{rank}"
    DetectionCheckpointer(model, str(folder / "rank0")).save("model_final", iteration=4)
    comm.synchronize()
    other = Mean()
    rest = DetectionCheckpointer(other).load(str(own / "model_final.pth"))
    assert rest == {"iteration": 4}
    assert (other.layer.weight == 0).all()
    if rank == 0:
        (own / "model_final.pth").write_bytes(b"PK")
    comm.synchronize()
    try:
        DetectionCheckpointer(other).load(str(own / "model_final.pth"))
    except DamagedFileError:
        return
    raise AssertionError("no error")


def check_sharded(folder):
    """Two processes save their halves; one alone, and two again, read the whole."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from retinue.checkpoint import read_checkpoint

    mesh = init_device_mesh("cpu", (2,))

    def trained(seed, num_steps):
        torch.manual_seed(seed)
        model = fully_shard(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3)), mesh=mesh)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1 + seed)
        for batch in batches(comm.get_rank())[:num_steps]:
            model(batch).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return DetectionCheckpointer(
            model, str(folder / "sharded"), sharded=True, optimizer=optimizer
        )

    def whole(model):
        return {name: p.full_tensor().detach() for name, p in model.named_parameters()}

    first = trained(seed=0, num_steps=3)
    assert first.model[0].weight.to_local().shape == (2, 3)  # of (4, 3)
    first.save("step", iteration=7)
    files = sorted(path.name for path in (folder / "sharded" / "step").glob("*.distcp"))
    assert files == ["__0_0.distcp", "__1_0.distcp"], files

    second = trained(seed=1, num_steps=1)
    assert second.resume_or_load("") == {"iteration": 7}
    weights = whole(first.model)
    assert same_tensors(whole(second.model), weights)
    optimizers = [c.checkpointables["optimizer"] for c in (first, second)]
    averages = [
        [optimizer.state[p]["exp_avg_sq"].full_tensor() for p in c.model.parameters()]
        for optimizer, c in zip(optimizers, (first, second), strict=True)
    ]
    assert all(map(torch.equal, *averages))
    assert optimizers[1].param_groups[0]["lr"] == 0.1

    assert same_tensors(read_checkpoint(folder / "sharded" / "step").weights, weights)
    alone = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))
    DetectionCheckpointer(alone).load(str(folder / "sharded" / "step"))
    assert same_tensors(alone.state_dict(), weights)


def check_fsdp(folder):
    """A trainer that spreads its model learns what copies learn, and resumes exactly."""
    from retinue.checkpoint import read_checkpoint
    from retinue.checkpoint.sharded import whole

    cfg = small_config(folder)
    cfg.RETINUE.FSDP = True
    cfg.OUTPUT_DIR = str(folder / "whole")
    undisturbed = SmallTrainer(cfg)
    assert undisturbed.checkpointer.sharded
    undisturbed.resume_or_load(resume=False)  # MODEL.WEIGHTS, a file
    results = undisturbed.train()
    assert results is None or results["AP"] != 0
    if comm.is_main_process():
        names = {p.name for p in (folder / "whole").iterdir() if "events" not in p.name}
        assert names == {"last_checkpoint", "metrics.json", "model_0000005", "model_best",
                         "model_final"}, names  # fmt: skip
        assert (folder / "whole" / "last_checkpoint").read_text() == "model_final"

    cfg.OUTPUT_DIR = str(folder / "broken")
    broken = SmallTrainer(cfg)
    broken.resume_or_load(resume=False)
    broken.register_hooks([FailAfter(4)])
    with contextlib.suppress(RuntimeError):
        broken.train()
    resumed = SmallTrainer(cfg)
    resumed.resume_or_load()
    assert resumed.start_iter == 4, resumed.start_iter
    resumed.train()
    want, got = parts(undisturbed), parts(resumed)
    assert same_tensors(got, want), [n for n in want if not torch.equal(got[n], want[n])]
    assert resumed.optimizer.param_groups[0]["lr"] == undisturbed.optimizer.param_groups[0]["lr"]

    final = read_checkpoint(folder / "broken" / "model_final")
    weights = {n: whole(t) for n, t in resumed.model.state_dict().items()}
    assert same_tensors(final.weights, weights)
    assert final.class_names == ["cat", "dog"]
    averaged = read_checkpoint(folder / "broken" / "model_final", weights="ema").weights
    assert not same_tensors(averaged, weights)

    cfg.RETINUE.FSDP = False
    cfg.OUTPUT_DIR = str(folder / "copies")
    copies = SmallTrainer(cfg)
    copies.resume_or_load(resume=False)
    copies.train()
    of_copies = copies.checkpointer.model.state_dict()
    torch.testing.assert_close(dict(of_copies), weights, rtol=1e-5, atol=1e-6)
    # What was spread goes on without being spread.
    cfg.OUTPUT_DIR = str(folder / "broken")
    cfg.SOLVER.MAX_ITER = 8
    alone = SmallTrainer(cfg)
    alone.resume_or_load()
    assert alone.start_iter == 6
    assert same_tensors(alone.checkpointer.model.state_dict(), weights)
    buffers = [alone.optimizer.state[p]["momentum_buffer"] for p in alone.model.parameters()]
    spread = [resumed.optimizer.state[p]["momentum_buffer"] for p in resumed.model.parameters()]
    assert all(torch.equal(a, b.full_tensor()) for a, b in zip(buffers, spread, strict=True))
    alone.train()


def parts(trainer):
    """What a run ends with: weights, their averages and momenta, this process's parts."""
    found = {f"model.{n}": p.to_local() for n, p in trainer.model.named_parameters()}
    average = trainer._average.model
    found |= {f"average.{n}": p.to_local() for n, p in average.named_parameters()}
    for name, parameter in trainer.model.named_parameters():
        found[f"momentum.{name}"] = trainer.optimizer.state[parameter]["momentum_buffer"].to_local()
    return {name: tensor.detach().clone() for name, tensor in found.items()}


class FailAfter(HookBase):
    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise RuntimeError("crash")


class Brightness(nn.Module):
    """Losses from mean colours; random numbers are part of it, and a layer of odd size."""

    def __init__(self, cfg):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        self.backbone = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 5))
        self.register_buffer("scale", torch.full((2,), 0.5))
        self.head = nn.Linear(5, cfg.MODEL.ROI_HEADS.NUM_CLASSES)

    def forward(self, batch):
        means = [self.stem(s["image"][None].float() / 255).mean(dim=(0, 2, 3)) for s in batch]
        scores = self.head(self.backbone(torch.stack(means)))
        if not self.training:
            return [{"score": score.sum()} for score in scores]
        return {"loss_a": (scores - torch.rand(())).square().mean(), "loss_b": scores.abs().mean()}


class Scores(DatasetEvaluator):
    def reset(self):
        self.scores = []

    def process(self, inputs, outputs):
        self.scores += [output["score"].item() for output in outputs]

    def evaluate(self):
        return {"AP": sum(map(sum, comm.all_gather(self.scores)))}


class SmallTrainer(DefaultTrainer):
    @classmethod
    def build_model(cls, cfg):
        return Brightness(cfg)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return Scores()


def small_config(folder):
    """A config of six iterations on five pictures, and weights to start from."""
    from PIL import Image

    from retinue.config import get_cfg
    from retinue.data import DatasetCatalog, MetadataCatalog
    from retinue.structures import BoxMode

    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.WEIGHTS = str(folder / "start.pth")
    if comm.is_main_process():
        for index in range(5):
            Image.new("RGB", (24, 20), (40 * index, 99, 200 - index)).save(folder / f"{index}.png")
        torch.manual_seed(5)
        torch.save(Brightness(cfg).state_dict(), cfg.MODEL.WEIGHTS)
    comm.synchronize()
    box = {"bbox": [2, 2, 9, 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 1, "iscrowd": 0}
    dicts = [
        {"file_name": str(folder / f"{index}.png"), "image_id": index, "height": 20, "width": 24,
         "annotations": [box]}
        for index in range(5)
    ]  # fmt: skip
    DatasetCatalog.register("colours", lambda: dicts)
    MetadataCatalog.get("colours").set(thing_classes=["cat", "dog"])
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("colours",), ("colours",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TEST = (16, 24), 20
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.BASE_LR, cfg.SOLVER.STEPS = 4, 0.05, (4,)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.TEST.EVAL_PERIOD = 6, 2, 2
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = True
    cfg.VIS_PERIOD, cfg.SEED = 0, 3
    extras = cfg.RETINUE
    extras.EMA_DECAY, extras.KEEP_CHECKPOINTS, extras.VAL_LOSS_PERIOD = 0.5, 1, 2
    extras.BEST_METRIC = "AP"
    return cfg


def same_tensors(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def check_hooks(folder):
    """The main process's metrics stop both; losses on other images are means over both."""
    values = iter([3.0, 2.0, 1.0])
    evaluate = (lambda: {"AP": next(values)}) if comm.is_main_process() else (lambda: None)
    trainer = train(
        create_ddp_model(Mean()),
        batches(comm.get_rank()),
        hooks.EvalHook(1, evaluate),
        hooks.EarlyStopping(1, "AP", patience=2),
    )
    assert trainer.iter == 3
    share = batches()[comm.get_rank() :: 2][: 1 + comm.get_rank()]
    got = validation_losses(Mean(), share)["loss_rank"]
    shown = torch.stack([batches()[i] for i in (0, 1, 3)])
    assert abs(got - shown.mean().item()) < 1e-6, got


def check_interrupt(folder):
    """Ctrl-C in one process is a request to both."""
    from retinue.engine.interrupt import Interrupt

    interrupt = Interrupt()
    assert not interrupt.is_requested()
    interrupt._is_requested = comm.get_rank() == 1
    assert interrupt.is_requested()


def check_failure(folder):
    """One fails, and the other is not waited for."""

    class Fail(HookBase):
        def after_step(self):
            if comm.get_rank() == 1:
                raise RuntimeError("rank 1 gives up")

    train(create_ddp_model(Mean()), batches(comm.get_rank()), Fail())


def main(names, folder):
    assert comm.get_world_size() == 2
    assert comm.get_local_size() == 2
    for name in names:
        globals()[f"check_{name}"](Path(folder))
        ranks = comm.all_gather(comm.get_rank())
        if comm.is_main_process():
            print(json.dumps({"check": name, "ranks": ranks}), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    timeout = datetime.timedelta(seconds=60)
    launch(main, 2, dist_url="auto", args=(sys.argv[2:], sys.argv[1]), timeout=timeout)
