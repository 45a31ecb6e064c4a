"""What the transformers whose result is clips have in common."""

from __future__ import annotations

from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_asd._base import EstimatorMixin
from sklearn_asd._utils.messages import shorten

__all__ = ["ClipTransformer"]


class ClipTransformer(EstimatorMixin, TransformerMixin, BaseEstimator):
    """Transformer whose result is clips: of recordings, which may be given as paths.

    Its ``_check(X)`` refuses wrong parameters and X of another form. One that learns
    has its own `fit`.
    """

    def __init_subclass__(cls, **kwargs):
        # The result has no columns to name, so nothing is wrapped for set_output.
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def fit(self, X, y=None):
        """Check the parameters and the form of X; nothing is learnt or read.

        Parameters
        ----------
        X : DataFrame, Clips, list of paths, list of 1-D arrays, or 2-D array
            The clips; see :meth:`sklearn_asd.Clips.from_X`.

        y : ignored
            Present for scikit-learn's conventions.

        Returns
        -------
        self : object
            Itself.
        """
        self._check(X)
        return self

    def set_output(self, *, transform=None):
        """Refuse tables: the result is a container of clips, which has no columns.

        Parameters
        ----------
        transform : {"default"} or None, default=None
            Either leaves the result as it is.

        Returns
        -------
        self : object
            Itself.

        Raises
        ------
        ValueError
            If `transform` asks for a table, such as "pandas".
        """
        if transform not in (None, "default"):
            raise ValueError(
                f"transform={shorten(transform)} is not possible, as "
                f"{type(self).__name__} "
                "gives a container of clips, which has no columns: call set_output on "
                "the steps after it that make rows of numbers, such as "
                "SpectrumStatistics, or set it for all that have columns with "
                f"sklearn.set_config(transform_output={shorten(transform)})"
            )
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True  # paths
        tags.transformer_tags.preserves_dtype = []
        return tags
