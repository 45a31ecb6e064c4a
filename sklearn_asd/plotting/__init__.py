"""Pictures of scores, of clips and of embeddings, in scikit-learn's Display style."""

from sklearn_asd.plotting.clip import ClipScoreDisplay
from sklearn_asd.plotting.embedding import EmbeddingDisplay
from sklearn_asd.plotting.scores import ScoreDistributionDisplay

__all__ = ["ClipScoreDisplay", "EmbeddingDisplay", "ScoreDistributionDisplay"]
