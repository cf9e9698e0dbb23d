"""Kinds of datasets that are no lists of annotated images."""

from enum import Enum

__all__ = ["DatasetType"]


class DatasetType(Enum):
    """What a dataset to bootstrap on is made of."""

    VIDEO_LIST = "video_list"
