"""In how many training images of LVIS v1 each category is annotated."""

from retinue.data.datasets.category_tables import read_table

LVIS_CATEGORY_IMAGE_COUNT = [
    {"id": row["id"], "image_count": row["image_count"]} for row in read_table("lvis_v1")
]
