from .clip import ClipScoreDisplay
from .embedding import EmbeddingDisplay
from .scores import ScoreDistributionDisplay

__all__ = ["ClipScoreDisplay", "EmbeddingDisplay", "ScoreDistributionDisplay"]
