"""Displays of scores, clips and embeddings, in scikit-learn's Display style."""

from sklearn_asd.plotting.clip import ClipScoreDisplay
from sklearn_asd.plotting.embedding import EmbeddingDisplay
from sklearn_asd.plotting.scores import ScoreDistributionDisplay

__all__ = ["ClipScoreDisplay", "EmbeddingDisplay", "ScoreDistributionDisplay"]
