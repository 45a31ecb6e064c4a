"""RecordingCheck: recordings without sound, and remarks on those unlike training's."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_asd._base import adds_or_not, all_or_nothing
from sklearn_asd._utils.messages import abbreviate, check_choice
from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.audio.remarks import FACTS, is_silent, make_remark
from sklearn_asd.features.base import ClipTransformer
from sklearn_asd.features.spectrograms import ClipSpectrograms, check_spectrograms

__all__ = ["RecordingCheck", "refuse_silent_machines"]


class RecordingCheck(ClipTransformer):
    """Learn what recordings of each machine have in common, and remark on others.

    A step of a Pipeline between :class:`LogMelSegmenter` or :class:`PowerSpectrum` and
    the detector. A clip without sound, below -90 dB of full scale, cannot be judged: it
    scores NaN, counts as anomalous, and is never trained on. The detector gets all
    other clips unchanged. A remark says that a clip cannot be compared with the
    training clips, so that its score says little about the machine:

    - channels that cancel each other, or without sound;
    - a level more than 6 dB outside of that of training; clipping; an offset;
    - dropouts, where samples do not change for 5 ms or longer;
    - another sample rate, a lossy format, or nothing in the upper bands;
    - another length, by more than 10 %.

    Attributes
    ----------
    machines_ : ndarray of shape (n_machines,), str
        Labels of the machines, sorted. Empty if X has no machines.

    low_, high_ : ndarray of shape (n_machines + 1, n_facts), float64
        Lowest and highest value of each fact among the normal training clips of each
        machine, and in the last row of all; NaN where nothing was measured.
        ``sklearn_asd.audio.remarks.FACTS`` names the facts.

    See Also
    --------
    LogMelSegmenter, PowerSpectrum : Measure the facts as they read clips.

    Notes
    -----
    Clips of machines that were not among those fitted are compared with the training
    clips of all machines. Nothing is known of clips from precomputed log-mels
    (:meth:`ClipSpectrograms.from_arrays`): they have no remarks.

    A remark changes no score. A loud fault may cause one too. Clips without sound have
    the reason in `problems` of the result.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import LogMelSegmenter, RecordingCheck
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(scale=0.01, size=(10, 64_000))  # 10 clips of 4 s
    >>> segmenter = LogMelSegmenter()
    >>> check = RecordingCheck().fit(segmenter.transform(X))
    >>> check.remarks(segmenter.transform([X[0], 0 * X[0], X[0, :50_000]]))
    ['', 'no sound: is the microphone off, muted or unplugged?', '3.12 s long, the \
training recordings 4 s']
    """

    _fitted_attributes: dict = {
        "machines_": np.ndarray,
        "low_": np.ndarray,
        "high_": np.ndarray,
    }

    @all_or_nothing
    def fit(self, X, y=None):
        """Learn the limits of each machine's clips.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Training clips, as a front end made them.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones, which are not learnt from.

        Returns
        -------
        self : RecordingCheck
            Itself.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.

        ValueError
            If y holds anything but +1 and -1, or no normal clip of a machine holds
            sound.
        """
        X = check_spectrograms(X, type(self).__name__)
        rows = np.flatnonzero(normal_rows(y, len(X)))
        refuse_silent_machines(X[rows])
        facts, labels = _facts(X)[rows], _labels(X)[rows]
        self.machines_ = np.unique(labels[labels != ""])
        groups = [labels == one for one in self.machines_]
        groups.append(np.ones(len(rows), dtype=bool))
        self.low_ = np.array([_reduce(np.fmin, facts[group]) for group in groups])
        self.high_ = np.array([_reduce(np.fmax, facts[group]) for group in groups])
        return self

    @adds_or_not
    def add_normals(self, X):
        """Widen the limits to those of more normal clips, exactly as `fit` would have.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            Normal clips, as the front end made them that made those of training.

        Returns
        -------
        self : RecordingCheck
            Itself.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.
        """
        X = check_spectrograms(X, type(self).__name__)
        facts, labels = _facts(X), _labels(X)
        groups = [labels == one for one in self.machines_]
        groups.append(np.ones(len(facts), dtype=bool))
        low = [_reduce(np.fmin, facts[group]) for group in groups]
        high = [_reduce(np.fmax, facts[group]) for group in groups]
        self.low_, self.high_ = np.fmin(self.low_, low), np.fmax(self.high_, high)
        return self

    def transform(self, X):
        """Pass the clips on, and leave out those without sound.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            The clips.

        Returns
        -------
        X : ClipSpectrograms of n_clips
            The same clips. Those without sound cannot be used, and `problems` says so.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.
        """
        check_is_fitted(self)
        X = check_spectrograms(X, type(self).__name__)
        silent = np.flatnonzero(is_silent(_facts(X)) & X.usable)
        for row, remark in zip(silent, self.remarks(X[silent]), strict=True):
            says_so = remark.startswith("no sound")  # or channels cancel each other
            reason = f"holds {remark}" if says_so else f"holds no sound, as {remark}"
            X = X.leave_out(np.array([row]), reason)
        return X

    def remarks(self, X):
        """Say which clips cannot be compared with those of training, and why.

        Parameters
        ----------
        X : ClipSpectrograms of n_clips
            The clips, as the front end made them that made those of training.

        Returns
        -------
        remarks : list of str
            One for each clip; "" where there is nothing to remark.

        Raises
        ------
        TypeError
            If X is not ClipSpectrograms.
        """
        check_is_fitted(self)
        X = check_spectrograms(X, type(self).__name__)
        known = {label: place for place, label in enumerate(self.machines_)}
        places = [known.get(label, -1) for label in _labels(X)]
        return [
            make_remark(facts, self.low_[place], self.high_[place])
            for facts, place in zip(_facts(X), places, strict=True)
        ]

    def usual_range(self, fact, machine=None):
        """Say between which values a fact lay among the training clips.

        Parameters
        ----------
        fact : str
            Its name, one of ``sklearn_asd.audio.remarks.FACTS``, such as "duration".

        machine : str or None, default=None
            Label of a machine, such as "fan/00". For None, and for machines that were
            not among those fitted, all training clips count.

        Returns
        -------
        low, high : float
            Lowest and highest value; NaN where it was not measured.

        Raises
        ------
        ValueError
            If there is no such fact.
        """
        check_is_fitted(self)
        check_choice("fact", fact, FACTS)
        place = list(self.machines_).index(machine) if machine in self.machines_ else -1
        column = FACTS.index(fact)
        return float(self.low_[place, column]), float(self.high_[place, column])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.input_tags.string = False
        tags.input_tags.two_d_array = False  # ClipSpectrograms only
        return tags


def _facts(X: ClipSpectrograms) -> np.ndarray:
    """Facts of the clips, NaN where they were not measured."""
    return np.full((len(X), len(FACTS)), np.nan) if X.facts is None else X.facts


def _labels(X: ClipSpectrograms) -> np.ndarray:
    """Machine of each clip, "" if it is not known."""
    labels = machine_labels(X)
    known = [""] * len(X) if labels is None else [label or "" for label in labels]
    return np.array(known, dtype=str)


def refuse_silent_machines(X: ClipSpectrograms) -> None:
    """Refuse to learn a machine of which nothing was heard.

    Parameters
    ----------
    X : ClipSpectrograms of n_clips
        Clips to learn from. Of those without facts nothing is known.

    Raises
    ------
    ValueError
        If no clip of a machine holds sound: silence would be what is normal.
    """
    facts, labels = _facts(X), _labels(X)
    is_mute = {
        label: bool(is_silent(facts[labels == label]).all())
        for label in np.unique(labels)
    }
    mute = [label for label, is_one in is_mute.items() if is_one]
    if mute:
        of = f" of {abbreviate(mute)}" if any(mute) else ""
        raise ValueError(
            f"the recordings to learn from{of} hold no sound, all are below -90 dB of "
            "full scale: check the microphone and its gain, or leave them out; where "
            "channels cancel each other in their mean, take one of them (channel=0)"
        )


def _reduce(extreme: np.ufunc, facts: np.ndarray) -> np.ndarray:
    """Lowest or highest of each fact, apart from clips without sound."""
    return extreme.reduce(facts[~is_silent(facts)], axis=0, initial=np.nan)
