"""From scores to verdicts, which all detectors reach in the same way."""

from __future__ import annotations

import numpy as np
from sklearn.base import OutlierMixin

from sklearn_asd._doc_links import DocLinkMixin
from sklearn_asd._versions import VersionedMixin

__all__ = ["JudgingMixin"]


class JudgingMixin(VersionedMixin, DocLinkMixin, OutlierMixin):
    """What follows from `fit`, `score_samples` and `offset_`."""

    offset_: float

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

    def predict(self, X):
        """Judge clips.

        Parameters
        ----------
        X : any
            Clips, of the kind that was passed to `fit`.

        Returns
        -------
        verdicts : ndarray of shape (n_clips,), int
            +1 for normal, -1 for anomalous. A clip that scores NaN, as it could not be
            used, is anomalous too: nothing speaks for it.
        """
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def fit_predict(self, X, y=None):
        """Fit, then judge the same clips.

        Parameters
        ----------
        X : any
            Clips.

        y : array-like of shape (n_clips,) or None, default=None
            As in `fit`: clips marked -1 are judged, and not trained on.

        Returns
        -------
        verdicts : ndarray of shape (n_clips,), int
            +1 for normal, -1 for anomalous.
        """
        # scikit-learn's own takes y for a third party's convention, and drops it.
        return self.fit(X, y).predict(X)
