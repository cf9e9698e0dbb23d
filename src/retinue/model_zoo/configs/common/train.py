"""Settings of a training run that are not the model, the data or the optimizer."""

train = {
    "output_dir": "./output",
    "init_checkpoint": "",
    "max_iter": 90_000,
    "amp": {"enabled": False},
    "ddp": {  # arguments of DistributedDataParallel; fp16_compression halves its traffic
        "broadcast_buffers": False,
        "find_unused_parameters": False,
        "fp16_compression": False,
    },
    "checkpointer": {"period": 5000, "max_to_keep": 100},
    "eval_period": 5000,
    "log_period": 20,
    "device": "cuda",
}
