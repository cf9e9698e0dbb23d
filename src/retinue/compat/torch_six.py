"""``torch._six``, gone since PyTorch 2.0: what Python 2 and 3 called differently."""

from collections import abc as container_abcs
from math import inf, nan

__all__ = ["PY3", "PY37", "container_abcs", "inf", "int_classes", "nan", "string_classes"]

PY3 = PY37 = True
int_classes = int
string_classes = (str, bytes)
