"""What code that draws in the manner of detectron2's visualizer imports from it beside classes."""

__all__ = ["SMALL_OBJECT_AREA"]

SMALL_OBJECT_AREA = 1000
"""Pixels, at scale 1, below which the name of an object was written beside its box."""
