"""Networks that several members of an ensemble would train alike are trained once."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from contextvars import ContextVar
from numbers import Integral
from typing import Any

import joblib

__all__ = ["SharedFits", "fit_once"]

_ACTIVE: ContextVar[SharedFits | None] = ContextVar("shared_fits", default=None)


class SharedFits:
    """What was trained within one fit of an ensemble, by parameters and clips.

    Members need not know of each other, so that cloning them and setting their
    parameters is what it always is: two whose networks would be the same train one,
    and after a change of either they train two.
    """

    def __init__(self) -> None:
        self._fits: dict[str, dict[str, Any]] = {}
        self._lock = threading.RLock()

    @classmethod
    def active(cls) -> SharedFits:
        """Those of an ensemble around this one, or new ones.

        Returns
        -------
        shared : SharedFits
            To run members with.
        """
        return _ACTIVE.get() or cls()

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function whose trainings are shared, in whatever thread this is.

        Parameters
        ----------
        function : callable
            What to call.

        *arguments : any
            Passed to it.

        Returns
        -------
        result : any
            What it returned.
        """
        token = _ACTIVE.set(self)
        try:
            return function(*arguments)
        finally:
            _ACTIVE.reset(token)

    def get(self, key: str, train: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Train, unless that was done before.

        Parameters
        ----------
        key : str
            All that decides the training.

        train : callable
            Gives fitted attributes by name.

        Returns
        -------
        fitted : dict
            What it gave now or then.
        """
        with self._lock:
            if key not in self._fits:
                self._fits[key] = train()
            return self._fits[key]

    def __getstate__(self) -> dict[str, Any]:
        return {}  # another process has trained nothing yet

    def __setstate__(self, state: dict[str, Any]) -> None:
        SharedFits.__init__(self)


def fit_once(
    detector: Any,
    X: Any,
    train: Callable[[Any], dict[str, Any]],
    unrelated: tuple[str, ...],
) -> dict[str, Any]:
    """Train a detector, unless a member of the same ensemble has trained the same.

    Parameters
    ----------
    detector : estimator
        With a parameter `random_state`, which must be an int for two fits to be equal.

    X : ClipSpectrograms
        Training clips.

    train : callable
        ``train(X)`` gives the fitted attributes by name.

    unrelated : tuple of str
        Parameters that do not change them.

    Returns
    -------
    fitted : dict
        The fitted attributes by name, to be treated as read-only.
    """
    shared = _ACTIVE.get()
    if shared is None or not isinstance(detector.random_state, Integral):
        return train(X)
    parameters = detector.get_params()
    parameters["random_state"] = int(detector.random_state)  # NumPy's hash otherwise
    for name in unrelated:
        parameters.pop(name, None)
    try:
        key = joblib.hash((type(detector), parameters, X))
    except pickle.PicklingError:  # such as a lambda for a network
        return train(X)
    return shared.get(key, lambda: train(X))
