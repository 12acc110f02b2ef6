"""Sphinx: pages in MyST, the API from the docstrings, notebooks as they were run."""

import shutil
from pathlib import Path

import medseg

HERE = Path(__file__).parent
NOTEBOOKS = HERE / "notebooks"  # copied, as Sphinx takes pages of its own folder only
shutil.rmtree(NOTEBOOKS, ignore_errors=True)
shutil.copytree(HERE.parent / "notebooks", NOTEBOOKS)

project = "medseg"
copyright = "the authors of medseg"
version = release = medseg.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"medseg {release}"
exclude_patterns = ["_build", "jupyter_execute"]  # what earlier builds left
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes of arrays are not markup
suppress_warnings = ["mystnb.unknown_mime_type", "misc.highlighting_failure"]  # %%writefile of a yaml
