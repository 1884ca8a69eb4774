"""Settings of `make docs`."""

project = "Litfass"
copyright = "The Litfass developers, EUPL-1.2"  # noqa: A001  # Sphinx's name
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Edge gateway for municipal sensors", "fixed_sidebar": True}
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]
