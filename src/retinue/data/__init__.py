"""From annotation files to batches.

Reading order: ``catalog`` (names to datasets), ``datasets`` (files to dataset dicts),
``transforms``, ``detection_utils`` and ``dataset_mapper`` (a dataset dict to model input),
``samplers``, ``common`` and ``build`` (batches), ``health`` (the report before training).
"""

from retinue.utils.lazy import lazy_exports

_HOMES = {
    "DataReport": "retinue.data.health",
    "DatasetCatalog": "retinue.data.catalog",
    "DatasetFromList": "retinue.data.common",
    "DatasetMapper": "retinue.data.dataset_mapper",
    "MapDataset": "retinue.data.common",
    "Metadata": "retinue.data.catalog",
    "MetadataCatalog": "retinue.data.catalog",
    "ToIterableDataset": "retinue.data.common",
    "build": "",
    "build_batch_data_loader": "retinue.data.build",
    "build_detection_test_loader": "retinue.data.build",
    "build_detection_train_loader": "retinue.data.build",
    "catalog": "",
    "common": "",
    "dataset_mapper": "",
    "datasets": "",
    "detection_utils": "",
    "get_detection_dataset_dicts": "retinue.data.build",
    "load_dataset_dicts": "retinue.data.dataset_dicts",
    "load_proposals_into_dataset": "retinue.data.build",
    "print_instances_class_histogram": "retinue.data.build",
    "report_dataset": "retinue.data.health",
    "samplers": "",
    "transforms": "",
}
__getattr__, __dir__, __all__ = lazy_exports(__name__, _HOMES)
