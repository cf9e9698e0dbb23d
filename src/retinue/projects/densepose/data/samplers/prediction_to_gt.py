"""Makes ground truth out of a model's outputs, field by field."""

from collections.abc import Callable
from typing import Any

from retinue.structures import Instances
from retinue.utils.errors import unknown_name

__all__ = ["ModelOutput", "PredictionToGroundTruthSampler", "SampledData"]

ModelOutput = dict[str, Any]
SampledData = dict[str, Any]
Sampler = Callable[[Instances], Any]


class PredictionToGroundTruthSampler:
    """Replaces predicted fields; boxes and classes are kept, scores dropped, from the start.

    Args:
        dataset_name: what the examples' ``dataset`` says.
    """

    def __init__(self, dataset_name: str = "") -> None:
        self.dataset_name = dataset_name
        self._samplers: dict[tuple[str, str | None], Sampler | None] = {}
        self.register_sampler("pred_boxes", "gt_boxes", None)
        self.register_sampler("pred_classes", "gt_classes", None)
        self.register_sampler("scores")

    def __call__(self, model_output: list[ModelOutput]) -> list[SampledData]:
        """Change ``instances`` of each output, in place, and say which dataset it is."""
        for output in model_output:
            instances = output["instances"]
            made = {
                target: instances.get(source) if sampler is None else sampler(instances)
                for (source, target), sampler in self._samplers.items()
                if target is not None and instances.has(source)
            }
            for source in {source for source, _ in self._samplers}:
                if instances.has(source):
                    instances.remove(source)
            for target, value in made.items():
                instances.set(target, value)
            output["dataset"] = self.dataset_name
        return model_output

    def register_sampler(
        self, prediction_attr: str, gt_attr: str | None = None, func: Sampler | None = None
    ) -> None:
        """Say what a predicted field becomes.

        Args:
            prediction_attr: the field, which is removed.
            gt_attr: the field that it becomes; None for none.
            func: makes it of the instances; by default it is copied.
        """
        self._samplers[prediction_attr, gt_attr] = func

    def remove_sampler(self, prediction_attr: str, gt_attr: str | None = None) -> None:
        """Take back what was said by :meth:`register_sampler`.

        Raises:
            UnknownNameError: If it was not.
        """
        if (prediction_attr, gt_attr) not in self._samplers:
            known = [f"{source} -> {target}" for source, target in self._samplers]
            raise unknown_name("sampler", f"{prediction_attr} -> {gt_attr}", known)
        del self._samplers[prediction_attr, gt_attr]
