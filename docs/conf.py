"""Sphinx's settings; `minivi site` copies this folder and adds the pages that it makes."""

import minivi

project = "minivi"
author = "the minivi authors"
copyright = author
release = version = minivi.__version__
language = "en"
extensions = [
    "myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "minivi.site.extension",
]  # fmt: skip
exclude_patterns = ["README.md", "formulas.md", "downloads", "files"]
html_theme = "furo"
html_title = "minivi"
html_favicon = "_static/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["gallery.js"]
html_math_renderer = "mathml"
html_domain_indices = False
html_show_search_summary = False  # which a page that is read from the disk cannot fetch
html_show_copyright = html_show_sphinx = False
html_copy_source = html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
smartquotes = False
suppress_warnings = ["ref.python"]  # of words in docstrings that are names of several things
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # `minivi site` has run them
nb_merge_streams = True
nb_ipywidgets_js = {}  # no script from elsewhere
autodoc_inherit_docstrings = False  # of NumPy's, above all
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90
highlight_language = "none"  # of literal blocks in docstrings: drawings and formulas
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
