"""ClipScoreDisplay: where in time and frequency one clip is anomalous."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd.explanation import band_scores, localization
from sklearn_asd.explanation.parts import find_spectrograms, take_clip
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.structure import Opened
from sklearn_asd.plotting.style import ANOMALOUS, NORMAL, ink, make_axes

__all__ = ["ClipScoreDisplay", "lay_out"]

# Marked on the axis, by how the bands are spaced.
_FREQUENCIES = {
    "mel": (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000),
    "log": (1, 10, 30, 100, 300, 1000, 3000, 10000, 30000),
}

_SEGMENT = {"color": NORMAL, "linewidth": 2, "solid_capstyle": "butt"}
_SEGMENT_ABOVE = {"color": ANOMALOUS, "linewidth": 5, "solid_capstyle": "butt"}
_THRESHOLD = {"linestyle": "--", "linewidth": 1}


@dataclass(repr=False, eq=False)
class ClipScoreDisplay:  # numpydoc ignore=PR02
    """Log-mel of a clip, with the scores of its segments and the effect of its bands.

    Made by :meth:`from_estimator` or :meth:`from_predictions`. Below the log-mel, each
    segment is a line as long as the segment; successive segments overlap. The bars
    beside the log-mel show by how much the clip's anomaly score drops without a band
    (:func:`~sklearn_asd.explanation.band_scores`). Bars to the right are bands that
    make the clip anomalous.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    segments : DataFrame or None
        `start`, `stop` (s) and `anomaly_score` of each segment.

    bands : DataFrame or None, default=None
        `low` and `high` (Hz) of each band, and the `drop` of the clip's anomaly score
        without it.

    threshold : float or None, default=None
        Anomaly score above which a clip is anomalous.

    frame_duration : float or None, default=None
        Time between frames in s; None: the axis, and `segments`, count frames.

    edges : ndarray of shape (n_mels + 1,) or None, default=None
        Edges of the mel bands in Hz; None: the axis, and `bands`, count mel bands.

    band_scale : {"mel", "log"}, default="mel"
        How the bands are spaced; see :class:`~sklearn_asd.ClipSpectrograms`.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the log-mel.

    segments_ax_ : matplotlib Axes or None
        Axes of the segments' scores, if they are drawn.

    bands_ax_ : matplotlib Axes or None
        Axes of the bands, if they are drawn.

    figure_ : matplotlib Figure
        Figure of all axes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     LogMelSegmenter, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.plotting import ClipScoreDisplay
    >>> X = np.random.default_rng(0).normal(size=(9, 64000)) / 10  # 9 clips of 4 s
    >>> detector = make_pipeline(
    ...     LogMelSegmenter(segment_duration=1.0, segment_hop=0.5),
    ...     SpectrumStatistics(), MahalanobisDetector()).fit(X)
    >>> display = ClipScoreDisplay.from_estimator(detector, X, clip=3, X_normal=X[4:])
    >>> display.segments_ax_.get_xlabel()
    'time (s)'
    """

    log_mel: np.ndarray
    segments: Any
    _: KW_ONLY
    bands: Any = None
    threshold: float | None = None
    frame_duration: float | None = None
    edges: np.ndarray | None = None
    band_scale: str = "mel"

    @classmethod
    def from_estimator(
        cls,
        detector,
        X,
        clip=0,
        *,
        X_normal=None,
        n_bands=16,
        ax=None,
        **plot_settings,
    ):
        """Score a clip's segments and the effect of its bands, and draw both.

        Parameters
        ----------
        detector : outlier detector or Pipeline
            Fitted; see :func:`~sklearn_asd.explanation.segment_scores`.

        X : any
            Clips, of the kind that was passed to its `fit`.

        clip : int, default=0
            Row of the clip.

        X_normal : any, default=None
            Normal clips of the same kind, whose bands replace those of the clip; see
            :func:`~sklearn_asd.explanation.band_scores`. None draws no bands.

        n_bands : int, default=16
            Number of bands, each replaced in turn.

        ax : matplotlib Axes or None, default=None
            Replaced by the display in its figure; None makes a figure.

        **plot_settings : any
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClipScoreDisplay
            Drawn.

        Raises
        ------
        TypeError
            If nothing inside the detector takes spectrograms.

        ValueError
            If the clip cannot be used, or the members of an ensemble cut it into
            different segments.

        ImportError
            If matplotlib is not installed.
        """
        one = take_clip(X, clip)
        opened = Opened(detector, one)
        threshold = bands = None
        if hasattr(detector, "decision_function"):
            threshold = float(opened.thresholds[0])
        if X_normal is not None:
            bands = band_scores(detector, one, X_normal=X_normal, n_bands=n_bands)
        heard = find_spectrograms(opened)
        segments = localization.score_segments(opened)
        display = lay_out(heard, segments, bands, threshold)
        return display.plot(ax, **plot_settings)

    @classmethod
    def from_predictions(
        cls,
        log_mel,
        segments,
        *,
        bands=None,
        threshold=None,
        frame_duration=None,
        edges=None,
        band_scale="mel",
        ax=None,
        **plot_settings,
    ):
        """Draw scores that are already computed.

        Parameters
        ----------
        log_mel : array-like of shape (n_mels, n_frames)
            Power in dB.

        segments : DataFrame or None
            From :func:`~sklearn_asd.explanation.segment_scores`.

        bands : DataFrame or None, default=None
            From :func:`~sklearn_asd.explanation.band_scores`.

        threshold : float or None, default=None
            Anomaly score above which a clip is anomalous: minus `offset_`.

        frame_duration : float or None, default=None
            Time between frames in s, if known.

        edges : array-like of shape (n_mels + 1,) or None, default=None
            Edges of the mel bands in Hz, if known.

        band_scale : {"mel", "log"}, default="mel"
            How the bands are spaced; see :class:`~sklearn_asd.ClipSpectrograms`.

        ax : matplotlib Axes or None, default=None
            Replaced by the display in its figure; None makes a figure.

        **plot_settings : any
            Passed to :meth:`plot`.

        Returns
        -------
        display : ClipScoreDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        display = cls(
            np.asarray(log_mel),
            segments,
            bands=bands,
            threshold=threshold,
            frame_duration=frame_duration,
            edges=edges,
            band_scale=band_scale,
        )
        return display.plot(ax, **plot_settings)

    def plot(self, ax=None, *, cmap="magma", vmin=None, vmax=None):
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Replaced by the display in its figure; None makes a figure.

        cmap : str, default="magma"
            Colours of the log-mel, from quiet to loud.

        vmin, vmax : float or None, default=None
            Levels in dB at the ends of the colours; None is the 1st and the 99.9th
            percentile.

        Returns
        -------
        display : ClipScoreDisplay
            The same display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        ax = make_axes(ax, type(self).__name__, figsize=(8, 5))
        ax.set_axis_off()
        self.figure_ = ax.figure
        rows, columns = self.segments is not None, self.bands is not None
        grid = ax.get_subplotspec().subgridspec(
            1 + rows,
            2 + columns,
            height_ratios=[2.2, 1][: 1 + rows],
            width_ratios=[6, 1.5, 0.22] if columns else [6, 0.22],
        )
        self.ax_ = self.figure_.add_subplot(grid[0, 0])
        self._draw_log_mel(self.figure_.add_subplot(grid[0, -1]), cmap, vmin, vmax)
        self.segments_ax_ = self.bands_ax_ = None
        if rows:
            self.segments_ax_ = self.figure_.add_subplot(grid[1, 0], sharex=self.ax_)
            self._draw_segments(self.segments_ax_)
            self.ax_.tick_params(labelbottom=False)
        bottom = self.segments_ax_ or self.ax_
        bottom.set_xlabel("frame" if self.frame_duration is None else "time (s)")
        if columns:
            self.bands_ax_ = self.figure_.add_subplot(grid[0, 1], sharey=self.ax_)
            self._draw_bands(self.bands_ax_)
        return self

    def _draw_log_mel(self, colorbar_ax: Any, cmap: str, vmin: Any, vmax: Any) -> None:
        log_mel = self.log_mel.astype(np.float32)
        n_mels, n_frames = log_mel.shape
        step = self.frame_duration or 1
        quiet, loud = np.percentile(log_mel, [1, 99.9])
        image = self.ax_.imshow(
            log_mel,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, n_frames * step, 0, n_mels),
            cmap=cmap,
            vmin=quiet if vmin is None else vmin,
            vmax=loud if vmax is None else vmax,
        )
        self.figure_.colorbar(image, cax=colorbar_ax, label="power (dB)")
        if self.edges is None:
            self.ax_.set_ylabel("mel band" if self.band_scale == "mel" else "band")
            return
        edges = np.asarray(self.edges)
        low, high = 2 * edges[0] - edges[1], 2 * edges[-1] - edges[-2]
        shown = [f for f in _FREQUENCIES[self.band_scale] if low <= f <= high]
        self.ax_.set_yticks(self._place(shown), [f"{f:g}" for f in shown])
        self.ax_.set_ylabel(f"frequency (Hz, {self.band_scale} scale)")

    def _draw_segments(self, ax: Any) -> None:
        limit = np.inf if self.threshold is None else self.threshold
        for one in self.segments.itertuples():
            style = _SEGMENT_ABOVE if one.anomaly_score > limit else _SEGMENT
            ax.plot([one.start, one.stop], [one.anomaly_score] * 2, **style)
        ax.set_ylabel("segment's\nscore")
        ax.margins(y=0.15)
        if np.isfinite(limit):
            ax.plot([], [], label="segment above", **_SEGMENT_ABOVE)
            ax.plot([], [], label="below", **_SEGMENT)
            ax.axhline(limit, label="threshold", color=ink(), **_THRESHOLD)
        else:
            ax.plot([], [], label="segment", **_SEGMENT)
        ax.legend(
            loc="lower left",
            bbox_to_anchor=(-0.02, 0.96),
            ncols=3,
            frameon=False,
            fontsize="small",
            handlelength=1.5,
            columnspacing=1,
        )

    def _draw_bands(self, ax: Any) -> None:
        low, high = self._place(self.bands["low"]), self._place(self.bands["high"])
        drop = self.bands["drop"].to_numpy()
        colors = [ANOMALOUS if one > 0 else NORMAL for one in drop]
        ax.barh(low, drop, 0.9 * (high - low), align="edge", color=colors, alpha=0.9)
        ax.axvline(0, color=ink(), linewidth=0.8)
        ax.tick_params(labelleft=False, labelbottom=False, labeltop=True, top=True)
        ax.xaxis.set_label_position("top")
        farthest = drop[np.abs(drop).argmax()]
        short = np.format_float_positional(
            farthest, precision=2, fractional=False, trim="-"
        )
        ax.set_xticks([farthest], [short])  # the line marks 0
        ax.margins(x=0.15)
        ax.set_xlabel("score drop\nwithout band")

    def _place(self, frequencies: Any) -> np.ndarray:
        """Places of frequencies on the axis of mel bands."""
        if self.edges is None:
            return np.asarray(frequencies, dtype=float)
        return np.interp(frequencies, self.edges, np.arange(len(self.edges)))


def lay_out(
    heard: ClipSpectrograms,
    segments: pd.DataFrame | None = None,
    bands: pd.DataFrame | None = None,
    threshold: float | None = None,
) -> ClipScoreDisplay:
    """Prepare the display of a clip, in seconds and Hz where they are known.

    Parameters
    ----------
    heard : ClipSpectrograms of length 1
        The clip.

    segments, bands, threshold : any
        See :class:`ClipScoreDisplay`.

    Returns
    -------
    display : ClipScoreDisplay
        Not yet drawn.
    """
    has_frequencies = None not in (heard.fmin, heard.fmax)
    return ClipScoreDisplay(
        heard.log_mel(0, heard.main_view),
        segments,
        bands=bands,
        threshold=threshold,
        frame_duration=localization.frame_duration(heard),
        edges=localization.band_edges(heard) if has_frequencies else None,
        band_scale=heard.band_scale,
    )
