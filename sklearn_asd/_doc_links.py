"""Links from an estimator's HTML picture to its page in the documentation."""

from __future__ import annotations

from functools import cache
from importlib import metadata

__all__ = ["DocLinkMixin", "documentation_address"]


@cache
def documentation_address() -> str | None:
    """Look up where the documentation is published.

    Returns
    -------
    address : str or None
        The package's project URL "Documentation" (`project_urls` of setup.cfg); None
        while there is none.
    """
    try:
        entries = metadata.metadata("sklearn_asd").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # run from its source
        return None
    addresses = dict(entry.split(", ", 1) for entry in entries)
    return addresses.get("Documentation")


class DocLinkMixin:
    """What scikit-learn's HTML picture of an estimator asks for, to link to its page.

    Where no documentation is published there is no link.
    """

    @property
    def _doc_link_module(self) -> str:
        # Of any other module than the estimator's own, scikit-learn makes no link.
        return "sklearn_asd" if documentation_address() else ""

    @property
    def _doc_link_template(self) -> str:
        address = (documentation_address() or "").rstrip("/")
        return address + "/generated/sklearn_asd.{name}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"name": type(self).__name__}
