"""Folds that hold every machine, for searches and cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _num_samples

from sklearn_asd._utils.messages import abbreviate, shorten
from sklearn_asd._utils.parameters import Interval, validate_parameter_constraints
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import machine_index

__all__ = ["MachineStratifiedKFold"]

_CONSTRAINTS = {
    "n_splits": [Interval(Integral, 2, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
}


class MachineStratifiedKFold(BaseCrossValidator):
    """Folds with normal clips of every machine, to train on and to test.

    The normal clips of each machine are spread evenly over the folds, so a detector
    always learns every machine that it is tested on. So are the anomalous clips of each
    machine, as far as their number allows.

    Parameters
    ----------
    n_splits : int >= 2, default=5
        Number of folds; at most the number of normal clips of any machine.

    shuffle : bool, default=False
        Whether to draw each machine's folds at random. By default they are successive
        rows: recordings that follow each other are alike, and if a clip's neighbours
        are trained on, the test promises more than new recordings will keep. Shuffle
        rows that are in no order of time, such as anomalies sorted by their kind.

    random_state : int, RandomState or None, default=None
        Decides how rows are shuffled. An int gives the same folds again. Only with
        ``shuffle=True``.

    See Also
    --------
    sklearn_asd.metrics.mean_auc_scorer : Scores each fold by its machines' AUCs.

    Notes
    -----
    Machines are read from X, as everywhere in this library. Clips of no known machine
    count as one machine, and so do all clips if X names no machines.

    The numbers of a machine's normal clips in two folds differ by one at most. So do
    those of its anomalous clips, those of all normal clips, and those of all anomalous
    clips. With fewer anomalies than folds, some folds have none.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_asd.model_selection import MachineStratifiedKFold
    >>> clips = pd.DataFrame({"machine_id": ["00"] * 4 + ["02"] * 4})
    >>> y = [1, 1, 1, -1, 1, 1, -1, -1]
    >>> for train, test in MachineStratifiedKFold(2).split(clips, y):
    ...     print(train, test)
    [2 5 7] [0 1 3 4 6]
    [0 1 3 4 6] [2 5 7]
    """

    def __init__(self, n_splits=5, *, shuffle=False, random_state=None):
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def split(self, X, y=None, groups=None):
        """Split clips into folds, each of which is the test set once.

        Parameters
        ----------
        X : DataFrame, Clips or ClipSpectrograms of n_clips
            Machine types and machine IDs of the clips.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones; None takes all as normal.

        groups : None
            Not used.

        Returns
        -------
        folds : iterator of (train, test)
            Rows of each part in ascending order, as arrays of int.

        Raises
        ------
        ValueError
            If a machine has fewer normal clips than there are folds, y holds anything
            but +1 and -1, or a parameter is not valid.
        """
        validate_parameter_constraints(_CONSTRAINTS, vars(self), type(self).__name__)
        if self.random_state is not None and not self.shuffle:
            raise ValueError(
                f"random_state={shorten(self.random_state)} changes nothing with "
                "shuffle=False: set shuffle=True, or leave random_state out"
            )
        if groups is not None:
            warnings.warn(
                "groups is not used: MachineStratifiedKFold reads machines from X",
                stacklevel=2,
            )
        fold = self._assign(machine_index(X), normal_rows(y, _num_samples(X)))
        return self._list_rows(fold)

    def get_n_splits(self, X=None, y=None, groups=None):
        """Count the folds.

        Parameters
        ----------
        X, y, groups : any
            Not used.

        Returns
        -------
        n_splits : int
            Number of folds.
        """
        return self.n_splits

    def _assign(self, machine: pd.MultiIndex, normal: np.ndarray) -> np.ndarray:
        """Give each clip the number of its fold."""
        if len(machine) == 0:
            raise ValueError("X holds 0 clips; there is nothing to split")
        codes, machines = machine.factorize(sort=True)
        counts = np.bincount(codes[normal], minlength=len(machines))
        _check_counts(self.n_splits, counts, machines)
        random_state = check_random_state(self.random_state)
        fold = np.empty(len(codes), dtype=int)
        for kind in (normal, ~normal):
            first = 0  # the fold that gets the next clip that is left over
            for code in range(len(machines)):
                rows = np.flatnonzero(kind & (codes == code))
                if self.shuffle:
                    random_state.shuffle(rows)
                n_each, n_over = divmod(len(rows), self.n_splits)
                sizes = np.full(self.n_splits, n_each)
                sizes[(first + np.arange(n_over)) % self.n_splits] += 1
                fold[rows] = np.repeat(np.arange(self.n_splits), sizes)
                first += n_over
        return fold

    def _list_rows(self, fold: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for number in range(self.n_splits):
            yield np.flatnonzero(fold != number), np.flatnonzero(fold == number)


def _check_counts(n_splits: int, counts: np.ndarray, machines: Any) -> None:
    """Refuse machines with too few normal clips."""
    if counts.min() >= n_splits:
        return
    few = [
        f"{'/'.join(filter(None, machines[row])) or 'clips without machine ID'}: "
        f"{counts[row]}"
        for row in np.flatnonzero(counts < n_splits)
    ]
    lower = f"lower n_splits to {counts.min()}, or " if counts.min() >= 2 else ""
    raise ValueError(
        f"n_splits={n_splits} needs {n_splits} normal clips of each machine, one for "
        f"each fold; there are fewer of some ({abbreviate(few)}): {lower}add normal "
        "clips of these machines, or leave the machines out"
    )
