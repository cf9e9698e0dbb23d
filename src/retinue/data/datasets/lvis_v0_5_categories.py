"""The 1230 categories of LVIS v0.5, https://www.lvisdataset.org (definitions left out)."""

from retinue.data.datasets.category_tables import read_table

LVIS_CATEGORIES = read_table("lvis_v0_5")
