from .areas import auc_table, pauc_score
from .challenge import dcase_score, dcase_table
from .decisions import decision_table
from .intervals import score_interval
from .scorers import (
    make_dcase_scorer,
    mean_auc_scorer,
    mean_pauc_scorer,
    pauc_scorer,
    sibling_auc,
)

__all__ = [
    "auc_table",
    "dcase_score",
    "dcase_table",
    "decision_table",
    "make_dcase_scorer",
    "mean_auc_scorer",
    "mean_pauc_scorer",
    "pauc_score",
    "pauc_scorer",
    "score_interval",
    "sibling_auc",
]
