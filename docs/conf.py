"""How Sphinx builds the documentation: ``make docs``. No inventory is fetched."""

import re
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx_gallery.sorting import ExplicitOrder

HERE = Path(__file__).parent

project = "sklearn_asd"
version = release = version_of("sklearn_asd")
project_copyright = "the sklearn_asd developers"
html_title = f"sklearn_asd {version}"

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "generated/backreferences"]
templates_path = ["_templates"]

# Every reference must resolve; other projects' pages are not looked up.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(joblib|numpy|pandas|scipy|sklearn|skorch|torch)\..*"),
]

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {  # pages without subpages need no list of sections
    page: []
    for page in ("index", "troubleshooting", "versions", "paper_to_code", "changelog")
} | {"benchmarks": [], "accuracy": []}
html_theme_options = {
    "logo": {"text": "sklearn_asd"},
    "header_links_before_dropdown": 5,
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}

myst_heading_anchors = 3

default_role = "literal"  # a name in docstrings
toc_object_entries_show_parents = "hide"

autosummary_generate = True
autodoc_typehints = "none"  # docstrings give types, with shapes and units
numpydoc_show_class_members = False

# From the first steps to the last. Sphinx-Gallery refuses an example that is missing.
GALLERY_ORDER = [
    "plot_quickstart.py",
    "plot_own_recordings.py",
    "plot_thresholds.py",
    "plot_augmentation_views.py",
    "plot_ensemble.py",
    "plot_pyod_member.py",
    "plot_grid_search.py",
    "plot_save_and_load.py",
    "plot_explain_clip.py",
    "plot_dask.py",
]

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": ExplicitOrder(GALLERY_ORDER),
    "doc_module": ("sklearn_asd",),
    "backreferences_dir": "generated/backreferences",
    "download_all_examples": False,
    "min_reported_time": 5,
    "remove_config_comments": True,
    "show_signature": False,
    "thumbnail_size": (400, 280),
}

# The public names, as the text spells them: with or without their module.
API = {}
for full in re.findall(r"^ +~(sklearn_asd\..+)$", (HERE / "api.rst").read_text(), re.M):
    API[full.removeprefix("sklearn_asd.")] = API[full.rpartition(".")[2]] = full


def link_names(app, doctree):
    """Link public names in the text to their pages of the reference.

    So the guide can be plain Markdown, which also reads well without Sphinx.
    """
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().partition("(")[0]
        inside = (nodes.reference, nodes.title, addnodes.pending_xref)
        if name not in API or any(isinstance(n, inside) for n in ancestors(literal)):
            continue
        link = addnodes.pending_xref(
            "",
            refdomain="py",
            reftype="obj",
            reftarget=API[name],
            refexplicit=True,
            refwarn=True,
        )
        link["refdoc"] = app.env.docname
        literal.replace_self(link)
        link += literal


def ancestors(node):
    """Yield the nodes around a node, from the inside out."""
    while node.parent is not None:
        node = node.parent
        yield node


def skip_inherited(app, what, name, obj, skip, options):
    """Skip what scikit-learn and torch document, except for everyday methods."""
    module = getattr(obj, "__module__", None) or ""
    everyday = ("fit_predict", "fit_transform")
    if module.split(".")[0] in ("sklearn", "torch", "skorch") and name not in everyday:
        return True
    return None


def setup(app):
    """Connect the two functions above to Sphinx."""
    app.connect("doctree-read", link_names)
    app.connect("autodoc-skip-member", skip_inherited)
