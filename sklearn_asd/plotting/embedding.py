"""EmbeddingDisplay: a map of the clips in a network's embedding."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone
from sklearn.decomposition import PCA

from sklearn_asd._utils.validation import normal_rows
from sklearn_asd.audio.machines import machine_labels
from sklearn_asd.explanation import clip_embeddings
from sklearn_asd.plotting.style import COLORS, ink, make_axes

__all__ = ["EmbeddingDisplay"]

_MARKERS = "osD^vP"
_MOST_IN_LEGEND = 16


@dataclass(repr=False, eq=False)
class EmbeddingDisplay:  # numpydoc ignore=PR02
    """Map of clips in two dimensions; clips that sound alike to a network are close.

    Made by :meth:`from_estimator` or :meth:`from_predictions`. Each machine has a
    colour, and a marker where there are more machines than colours. Training clips are
    small and pale, new clips are large, and anomalous clips are crossed out.

    Parameters
    ----------
    points : ndarray of shape (n_clips, 2)
        Positions of new clips; NaN is left out.

    y : array-like of shape (n_clips,) or None, default=None
        +1 for normal clips, -1 for anomalous ones, if known.

    machines : array-like of shape (n_clips,), str, or None, default=None
        Machine of each new clip.

    training_points : ndarray of shape (n_training, 2) or None, default=None
        Positions of training clips.

    training_machines : array-like of shape (n_training,), str, or None, default=None
        Machine of each training clip.

    axis_labels : tuple of str, default=("first dimension", "second dimension")
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the map.

    figure_ : matplotlib Figure
        Figure of the axes.

    See Also
    --------
    sklearn_asd.explanation.clip_embeddings : The positions in all dimensions.
    sklearn_asd.EmbeddingNeighborDetector : Scores clips by distances between them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_asd import ClipSpectrograms, IDConfidenceDetector
    >>> from sklearn_asd.plotting import EmbeddingDisplay
    >>> X = ClipSpectrograms.from_arrays(
    ...     np.random.default_rng(0).normal(size=(4, 64, 96)), machine_id=list("aabb"))
    >>> detector = IDConfidenceDetector(max_epochs=1, random_state=0).fit(X)
    >>> display = EmbeddingDisplay.from_estimator(detector, X, [1, -1, 1, 1])
    >>> len(display.points)
    4
    """

    points: np.ndarray
    _: KW_ONLY
    y: ArrayLike | None = None
    machines: Any = None
    training_points: np.ndarray | None = None
    training_machines: Any = None
    axis_labels: tuple[str, str] = ("first dimension", "second dimension")

    @classmethod
    def from_estimator(
        cls, detector, X, y=None, *, X_train=None, projection=None, ax=None
    ):
        """Embed clips, project them, and draw the map.

        Parameters
        ----------
        detector : outlier detector or Pipeline
            Fitted, with a confidence detector inside.

        X : any
            New clips, of the kind that was passed to its `fit`.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones.

        X_train : any, default=None
            Normal training clips of the same kind.

        projection : transformer or None, default=None
            Maps embeddings to two dimensions; None is ``PCA(n_components=2)``. A clone
            is fitted to the training clips, or to the new clips if there are none. A
            projection without `transform`, such as t-SNE, is fitted to all clips.

        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay
            Drawn.

        Raises
        ------
        TypeError
            If the detector has no embedding; see
            :func:`~sklearn_asd.explanation.clip_embeddings`.

        ImportError
            If matplotlib is not installed.
        """
        training = None if X_train is None else clip_embeddings(detector, X_train)
        return cls.from_predictions(
            clip_embeddings(detector, X),
            y,
            machines=machine_labels(X),
            training_embedding=training,
            training_machines=machine_labels(X_train),
            projection=projection,
            ax=ax,
        )

    @classmethod
    def from_predictions(
        cls,
        embedding,
        y=None,
        *,
        machines=None,
        training_embedding=None,
        training_machines=None,
        projection=None,
        ax=None,
    ):
        """Project embeddings that are already computed, and draw the map.

        Parameters
        ----------
        embedding : array-like of shape (n_clips, n_embedding)
            Embedding of new clips, as `embed` returns it.

        y : array-like of shape (n_clips,) or None, default=None
            +1 for normal clips, -1 for anomalous ones.

        machines : array-like of shape (n_clips,), str, or None, default=None
            Machine of each new clip.

        training_embedding : array-like of shape (n_training, n_embedding), default=None
            Embedding of training clips.

        training_machines : array-like of shape (n_training,), str, or None, \
                default=None
            Machine of each training clip.

        projection : transformer or None, default=None
            As in :meth:`from_estimator`.

        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        n_training = 0 if training_embedding is None else len(training_embedding)
        both = [training_embedding, embedding] if n_training else [embedding]
        points, labels = _project(np.concatenate(both), n_training, projection)
        display = cls(
            points[n_training:],
            y=y,
            machines=machines,
            training_points=points[:n_training] if n_training else None,
            training_machines=training_machines,
            axis_labels=labels,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        display : EmbeddingDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = make_axes(ax, type(self).__name__, figsize=(7, 5))
        styles = self._choose_styles()
        if self.training_points is not None:
            points, machines = self.training_points, self.training_machines
            self._scatter(ax, points, machines, styles, s=14, alpha=0.35)
        self._scatter(ax, self.points, self.machines, styles, s=60, alpha=0.9)
        self._draw_anomalous(ax)
        ax.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])
        self._draw_legend(ax, styles)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _choose_styles(self) -> dict[Any, dict[str, Any]]:
        """Choose a colour and marker for each machine, and for clips without one."""
        names = {
            name
            for machines in (self.machines, self.training_machines)
            if machines is not None
            for name in machines
        }
        styles = {
            name: {
                "color": COLORS[number % len(COLORS)],
                "marker": _MARKERS[number // len(COLORS) % len(_MARKERS)],
            }
            for number, name in enumerate(sorted(names, key=str))
        }
        return {None: {"color": COLORS[0], "marker": "o"}} | styles

    @staticmethod
    def _scatter(
        ax: Any, points: np.ndarray, machines: Any, styles: dict, **settings: Any
    ) -> None:
        names = np.full(len(points), None) if machines is None else np.asarray(machines)
        for name in dict.fromkeys(names):
            rows = np.array([one == name for one in names])
            style = styles.get(name, styles[None])
            ax.scatter(*points[rows].T, **style, **settings)

    def _list_kinds(self) -> list[tuple[str, dict[str, Any]]]:
        """List the name and the style, in grey, of each kind of clip."""
        dot: dict[str, Any] = {"marker": "o", "color": "grey"}
        kinds = []
        if self.training_points is not None:
            kinds.append(("normal, training", dot | {"markersize": 4, "alpha": 0.5}))
        new = "new" if self.y is None else "normal, new"
        kinds.append((new, dot | {"markersize": 8}))
        if self.y is not None:
            cross = {"marker": "x", "color": ink(), "markersize": 9}
            kinds.append(("anomalous, new", cross))
        return kinds

    def _draw_anomalous(self, ax: Any) -> None:
        if self.y is not None:
            anomalous = np.asarray(self.points)[~normal_rows(self.y, len(self.points))]
            ax.scatter(*anomalous.T, color=ink(), marker="x", s=90, linewidth=1.5)

    def _draw_legend(self, ax: Any, styles: dict) -> None:
        entries = self._list_kinds()
        named = [(name, style) for name, style in styles.items() if name is not None]
        entries += named[:_MOST_IN_LEGEND]
        if len(named) > _MOST_IN_LEGEND:
            entries.append((f"and {len(named) - _MOST_IN_LEGEND} more machines", {}))
        handles = [
            ax.plot([], [], linestyle="", label=label, **style)[0]
            for label, style in entries
        ]
        ax.legend(
            handles=handles,
            frameon=False,
            loc="center left",
            bbox_to_anchor=(1, 0.5),
        )


def _project(
    embedding: np.ndarray, n_training: int, projection: Any
) -> tuple[np.ndarray, tuple[str, str]]:
    """Compute positions in two dimensions and labels of the axes; NaN stays NaN."""
    embedding = embedding.astype(np.float64)
    usable = ~np.isnan(embedding).any(axis=1)
    fitted = usable & (np.arange(len(usable)) < (n_training or len(usable)))
    projection = PCA(n_components=2) if projection is None else clone(projection)
    points = np.full((len(embedding), 2), np.nan)
    if hasattr(projection, "transform"):
        projection.fit(embedding[fitted])
        points[usable] = projection.transform(embedding[usable])
    else:
        points[usable] = projection.fit_transform(embedding[usable])
    if not isinstance(projection, PCA):
        name = type(projection).__name__
        return points, (f"{name} 1", f"{name} 2")
    first, second = projection.explained_variance_ratio_
    whole = "of the variance" if n_training == 0 else "of the training clips' variance"
    return points, (f"PC 1 ({first:.0%} {whole})", f"PC 2 ({second:.0%} {whole})")
