"""Base classes of all estimators: versions in pickles, links to the documentation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib import metadata
from operator import attrgetter
from types import FunctionType
from typing import Any

import numpy as np
from sklearn.base import OutlierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._utils.validation import bounded_messages
from sklearn_asd._version import __version__

__all__ = [
    "EstimatorMixin",
    "JudgingMixin",
    "adds_or_not",
    "all_or_nothing",
    "documentation_address",
    "fit_clone",
    "fitted_attributes",
    "is_frozen",
    "left_out_threshold",
    "of_one_fit",
]


class EstimatorMixin:
    """Base class of detectors and transformers.

    Loading a pickle from another version of the library warns, and the HTML diagram of
    an estimator links to its page if the documentation is published.
    """

    # Attributes that `fit` sets, also private ones, with their types. NotRequired: not
    # always set. Each class lists its own.
    _fitted_attributes: dict = {}

    def _validate_params(self) -> None:
        with bounded_messages():
            super()._validate_params()  # type: ignore[misc]

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_sklearn_asd_version": __version__}  # type: ignore[dict-item]

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        version = state.pop("_sklearn_asd_version", "an earlier one")
        if version != __version__:
            warnings.warn(
                f"this {type(self).__name__} was pickled with another version of "
                f"sklearn_asd ({version}; here is {__version__}) and may "
                "give other scores or fail: install that version, fit the model "
                "again, or keep models with save_model, whose files later versions "
                "read",
                stacklevel=2,
            )
        super().__setstate__(state)  # type: ignore[misc]

    @property
    def _doc_link_module(self) -> str:
        # scikit-learn adds links only to estimators of the module named here.
        return "sklearn_asd" if documentation_address() else ""

    @property
    def _doc_link_template(self) -> str:
        address = (documentation_address() or "").rstrip("/")
        return address + "/generated/sklearn_asd.{name}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"name": type(self).__name__}


def of_one_fit(method: Callable[..., Any]) -> Callable[..., Any]:
    """Make a method use one fit throughout, while another thread fits anew.

    Parameters
    ----------
    method : callable
        A method of an estimator whose `fit` is `all_or_nothing`.

    Returns
    -------
    method : callable
        The same method.
    """

    @wraps(method)
    def _call_on_one_fit(self, *args, **kwargs):
        # `fit` replaces the attributes as a whole, and does not change these.
        return method(_share(self, vars(self)), *args, **kwargs)

    return _call_on_one_fit


def _share(estimator: Any, attributes: dict[str, Any]) -> Any:
    """Make an object of the same class that has these very attributes."""
    other = object.__new__(type(estimator))
    other.__dict__ = attributes
    return other


class JudgingMixin(EstimatorMixin, OutlierMixin):
    """Methods that follow from `fit`, `score_samples` and `offset_`.

    Each public method of a subclass is of one fit, as `of_one_fit` makes it.
    """

    offset_: float

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, value in list(vars(cls).items()):
            public = not name.startswith(("_", "fit", "add_", "set_", "get_"))
            if public and isinstance(value, FunctionType):
                setattr(cls, name, of_one_fit(value))

    def anomaly_score(self, X):
        """Score clips: the higher, the more anomalous.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        scores : ndarray of shape (n_clips,), float64
            The negative of :meth:`score_samples`; NaN for clips that could not be used.
        """
        return -self.score_samples(X)

    @of_one_fit
    def decision_function(self, X):
        """Score clips relative to the threshold.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        decisions : ndarray of shape (n_clips,), float64
            ``score_samples(X) - offset_``: negative for anomalous clips.
        """
        return self.score_samples(X) - self.offset_

    @available_if(attrgetter("decision_function"))
    def predict(self, X):
        """Judge clips.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        verdicts : ndarray of shape (n_clips,), int
            +1 for normal, -1 for anomalous. A clip that could not be used scores NaN
            and counts as anomalous.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def fit_predict(self, X, y=None):
        """Fit, then judge the same clips.

        Parameters
        ----------
        X : any
            Clips.

        y : array-like of shape (n_clips,) or None, default=None
            As in `fit`: clips marked -1 are not trained on, but judged.

        Returns
        -------
        verdicts : ndarray of shape (n_clips,), int
            +1 for normal, -1 for anomalous.
        """
        # OutlierMixin.fit_predict would fit without y.
        return self.fit(X, y).predict(X)


def all_or_nothing(fit: Callable[..., Any]) -> Callable[..., Any]:
    """Make `fit` start from a clean slate, and change the estimator in one step.

    Otherwise an estimator whose `fit` was stopped by an error, or by Ctrl-C, could
    judge with a new network and an old threshold, and so could one that another thread
    scores with meanwhile; attributes that only an earlier fit set would stay.

    Parameters
    ----------
    fit : callable
        The method `fit` of an estimator.

    Returns
    -------
    fit : callable
        The same method, which sets all attributes or none. Until it ends the estimator
        is what it was.
    """

    @wraps(fit)
    def _fit_and_replace(self, *args, **kwargs):
        known = fitted_attributes(type(self))
        fresh = _share(
            self,
            {
                name: value
                for name, value in vars(self).items()
                if not (name.endswith("_") or name in known)
            },
        )
        fit(fresh, *args, **kwargs)
        self.__dict__ = vars(fresh)
        return self

    return _fit_and_replace


def adds_or_not(add_normals: Callable[..., Any]) -> Callable[..., Any]:
    """Make `add_normals` start from the fit, and change the estimator in one step.

    Parameters
    ----------
    add_normals : callable
        The method of a fitted estimator.

    Returns
    -------
    add_normals : callable
        The same method, which sets all attributes or none, as :func:`all_or_nothing`
        does.
    """

    @wraps(add_normals)
    def _add_and_replace(self, X):
        check_is_fitted(self)
        fresh = _share(self, dict(vars(self)))
        add_normals(fresh, X)
        self.__dict__ = vars(fresh)
        return self

    return _add_and_replace


def fit_clone(estimator: Any, X: Any) -> Any:
    """Fit a clone of an estimator.

    Parameters
    ----------
    estimator : estimator
        Stays unfitted.

    X : any
        Clips, as it takes them.

    Returns
    -------
    fitted : estimator
        The fitted clone; a FrozenEstimator is returned as it is.
    """
    if is_frozen(estimator):
        return estimator
    return clone(estimator).fit(X)


def is_frozen(estimator: Any) -> bool:
    """Whether an estimator was fitted earlier, and is not to be fitted again.

    Parameters
    ----------
    estimator : object
        Any.

    Returns
    -------
    is_frozen : bool
        True for a FrozenEstimator.
    """
    return isinstance(estimator, FrozenEstimator)


def fitted_attributes(kind: type) -> dict[str, Any]:
    """List the attributes that `fit` sets on estimators of a class.

    Parameters
    ----------
    kind : type
        A class; its parents' tables `_fitted_attributes` are included.

    Returns
    -------
    types : dict of str to type
        Type of each attribute: a class, a union, or ``NotRequired`` of these for one
        that is not always set.
    """
    types: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        types |= vars(one).get("_fitted_attributes", {})
    return types


def left_out_threshold(scores: np.ndarray, contamination: float) -> float:
    """Find the threshold below which a share of new normal clips falls.

    A new clip is as likely to fall into each of the n + 1 gaps between n left-out
    scores, so the threshold has rank ``contamination * (n + 1)`` among them. The plain
    percentile would promise too few false alarms, by about a clip in n.

    Parameters
    ----------
    scores : ndarray of shape (n_clips,)
        `score_samples` of training clips, each left out of the fit; NaN is ignored.

    contamination : float in (0, 0.5]
        The share.

    Returns
    -------
    threshold : float
        The lowest score, if there are fewer than ``1 / contamination - 1``.
    """
    known = scores[~np.isnan(scores)]
    return float(np.quantile(known, contamination, method="weibull"))


@cache
def documentation_address() -> str | None:
    """Look up where the documentation is published.

    Returns
    -------
    address : str or None
        The package's project URL "Documentation" (`project_urls` of setup.cfg); None
        if it has none.
    """
    try:
        entries = metadata.metadata("sklearn_asd").get_all("Project-URL") or []
    except metadata.PackageNotFoundError:  # not installed
        return None
    addresses = dict(entry.split(", ", 1) for entry in entries)
    return addresses.get("Documentation")
