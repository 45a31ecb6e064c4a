"""Pickles know which version of the library wrote them, as scikit-learn's do."""

from __future__ import annotations

import warnings
from typing import Any

import sklearn_asd

__all__ = ["VersionedMixin"]


class VersionedMixin:
    """Warns where a pickle of another version of the library is loaded."""

    def __getstate__(self) -> dict[str, Any]:
        version = sklearn_asd.__version__
        return {**super().__getstate__(), "_sklearn_asd_version": version}  # type: ignore[dict-item]

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_sklearn_asd_version", "an earlier one")
        if version != sklearn_asd.__version__:
            warnings.warn(
                f"this {type(self).__name__} was pickled with another version of "
                f"sklearn_asd ({version}; here is {sklearn_asd.__version__}) and may "
                "give other scores or fail: install that version, fit the model "
                "again, or keep models with save_model, whose files later versions "
                "read",
                stacklevel=2,
            )
        super().__setstate__(state)  # type: ignore[misc]
