"""Data: datasets and meshes, the mapper, loaders, and training on a model's own predictions."""

from retinue.utils.lazy import lazy_exports

_HERE = "retinue.projects.densepose.data"

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "BootstrapDatasetFactoryCatalog": f"{_HERE}.build",
        "CombinedDataLoader": f"{_HERE}.combined_loader",
        "DatasetMapper": f"{_HERE}.dataset_mapper",
        "ImageListDataset": f"{_HERE}.image_list_dataset",
        "InferenceBasedLoader": f"{_HERE}.inference_based_loader",
        "ScoreBasedFilter": f"{_HERE}.inference_based_loader",
        "build": "",
        "build_combined_loader": f"{_HERE}.build",
        "build_detection_test_loader": f"{_HERE}.build",
        "build_detection_train_loader": f"{_HERE}.build",
        "build_frame_selector": f"{_HERE}.build",
        "build_inference_based_loaders": f"{_HERE}.build",
        "builtin": "retinue.projects.densepose.data.meshes:builtin",
        "combined_loader": "",
        "dataset_mapper": "",
        "datasets": "",
        "has_inference_based_loaders": f"{_HERE}.build",
        "image_list_dataset": "",
        "inference_based_loader": "",
        "is_relative_local_path": f"{_HERE}.utils",
        "maybe_prepend_base_path": f"{_HERE}.utils",
        "meshes": "",
        "samplers": "",
        "transform": "",
        "utils": "",
        "video": "",
    },
)
