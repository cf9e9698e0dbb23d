"""Take models elsewhere: flat inputs and outputs for exporters, and counting what a model costs.

``TracingAdapter`` makes a model of tensors in, tensors out, as ``torch.export`` and ONNX want it.
TorchScript and Caffe2 are not carried over; the names that only they need say so when called.
"""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.export"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "STABLE_ONNX_OPSET_VERSION": f"{_HERE}.torchscript",
        "TracingAdapter": f"{_HERE}.flatten",
        "add_export_config": f"{_HERE}.torchscript",
        "dump_torchscript_IR": f"{_HERE}.torchscript",
        "flatten": "",
        "scripting_with_instances": f"{_HERE}.torchscript",
        "torchscript": "",
        "torchscript_patch": "",
    },
)
