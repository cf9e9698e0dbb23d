"""Which samples are read, and in which order."""

from retinue.utils.lazy import lazy_exports

_HOMES = {
    "GroupedBatchSampler": "retinue.data.samplers.grouped_batch_sampler",
    "InferenceSampler": "retinue.data.samplers.distributed_sampler",
    "RandomSubsetTrainingSampler": "retinue.data.samplers.distributed_sampler",
    "RepeatFactorTrainingSampler": "retinue.data.samplers.distributed_sampler",
    "TrainingSampler": "retinue.data.samplers.distributed_sampler",
    "distributed_sampler": "",
    "grouped_batch_sampler": "",
}
__getattr__, __dir__, __all__ = lazy_exports(__name__, _HOMES)
