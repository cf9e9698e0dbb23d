"""Geometry of cameras and boxes, metrics, pictures, weights' addresses."""
