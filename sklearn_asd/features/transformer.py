"""What the two transformers of recordings tell scikit-learn."""

from __future__ import annotations

from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_asd._versions import VersionedMixin

__all__ = ["ClipTransformer"]


class ClipTransformer(VersionedMixin, TransformerMixin, BaseEstimator):
    """Stateless transformer of recordings, which may be named by their paths."""

    def __init_subclass__(cls, **kwargs):
        # The result has no columns to name, so nothing is wrapped for set_output.
        super().__init_subclass__(auto_wrap_output_keys=None, **kwargs)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.string = True  # paths
        tags.transformer_tags.preserves_dtype = []
        return tags
