"""The 1203 categories of LVIS v1, https://www.lvisdataset.org (definitions left out)."""

from retinue.data.datasets.category_tables import read_table

LVIS_CATEGORIES = [
    {column: value for column, value in row.items() if column != "image_count"}
    for row in read_table("lvis_v1")
]
