"""How the documentation is built: ``make docs`` writes HTML below ``output/docs``.

Nothing is fetched. The tables of models and registries and the pages of the API are written by
``generate.py`` from the library itself before Sphinx reads them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import api_state
import generate

import retinue

project = "retinue"
author = "The retinue developers"
copyright = "The retinue developers"
version = release = retinue.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes of dataclasses are described once
napoleon_use_rtype = False
napoleon_custom_sections = ["Shapes", "Units"]

html_theme = "pydata_sphinx_theme"
html_title = f"retinue {release}"
html_show_sourcelink = False
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}
html_static_path: list[str] = []

generate.main(Path(__file__).parent)
api_state.main(Path(__file__).parent)
