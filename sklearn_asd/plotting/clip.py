"""ClipScoreDisplay: where in time and frequency one clip is anomalous."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
import pandas as pd

from sklearn_asd.explanation.axes import band_edges, frame_duration
from sklearn_asd.explanation.localization import Location, locate, map_cells
from sklearn_asd.explanation.parts import find_spectrograms, take_clip
from sklearn_asd.features import ClipSpectrograms
from sklearn_asd.meta.structure import Opened
from sklearn_asd.plotting.style import ANOMALOUS, NORMAL, ink, make_axes

__all__ = ["ClipScoreDisplay", "lay_out"]

# Marked on the axis, by how the bands are spaced.
_FREQUENCIES = {
    "mel": (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000),
    "log": (1, 10, 30, 100, 300, 1000, 3000, 10000, 30000),
    "linear": (0, 1000, 2000, 4000, 8000, 16000, 32000),
}

# Linear magnitudes are drawn in dB, at least -100 as those of log-mels.
_MIN_MAGNITUDE = 1e-5

# Drawn are the fewest cells that contribute this share of all.
_SHARE_OF_CELLS = 0.5

# The difference of two clips is drawn as means over so many frames and bands: single
# values of noise differ by more than most faults.
_DIFFERENCE_FRAMES = 8
_DIFFERENCE_BANDS = 2

# The colours of the difference reach at least so far, in dB, so that the difference of
# two clips that are alike looks small.
_LEAST_DIFFERENCE = 10.0

# Bars reach at least so far, in shares of what the clip scores above normal clips, so
# that small contributions look small.
_LEAST_LIMIT = 0.5


@dataclass(repr=False, eq=False)
class ClipScoreDisplay:  # numpydoc ignore=PR02
    """Log-mel of a clip, with what each time and each band contributes to its score.

    Made by :meth:`from_estimator` or :meth:`from_predictions`. The bars below the
    log-mel are the contributions of pieces of time
    (:func:`~sklearn_asd.explanation.time_scores`), those beside it of bands
    (:func:`~sklearn_asd.explanation.band_scores`). Upward bars, and bars to the right,
    make the clip more anomalous. A frame marks the time and the band that carry most of
    the anomaly (:func:`~sklearn_asd.explanation.locate_anomaly`), and a thin line the
    fewest cells that together contribute half of it
    (:func:`~sklearn_asd.explanation.occlusion_map`). Where no time and no band carries
    most of it, there is neither.

    With a normal clip to compare with, its log-mel is drawn below, in the same size and
    colours, and under it the difference of the two: how much louder the clip is.

    Parameters
    ----------
    log_mel : ndarray of shape (n_mels, n_frames)
        Power in dB.

    location : Location or None, default=None
        Contributions, and the place that carries most of the anomaly.

    cells : DataFrame or None, default=None
        `start`, `stop` (s), `low` and `high` (Hz) of each cell, and its `contribution`.

    frame_duration : float or None, default=None
        Time between frames in s; None: the axis, and `location`, count frames.

    edges : ndarray of shape (n_mels + 1,) or None, default=None
        Edges of the mel bands in Hz; None: the axis, and `location`, count mel bands.

    band_scale : {"mel", "log", "linear"}, default="mel"
        How the bands are spaced; see :class:`~sklearn_asd.ClipSpectrograms`.

    normal : ndarray of shape (n_mels, n_normal_frames) or None, default=None
        Power of a normal clip in dB, to compare with.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes of the log-mel.

    normal_ax_, difference_ax_ : matplotlib Axes or None
        Axes of the normal clip and of the difference, if they are drawn.

    times_ax_ : matplotlib Axes or None
        Axes of the contributions by time, if they are drawn.

    bands_ax_ : matplotlib Axes or None
        Axes of the contributions by frequency, if they are drawn.

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
    ...     LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()).fit(X)
    >>> display = ClipScoreDisplay.from_estimator(detector, X, clip=3, X_normal=X[4:])
    >>> display.times_ax_.get_xlabel()
    'time (s)'
    """

    log_mel: np.ndarray
    location: Location | None = None
    _: KW_ONLY
    cells: Any = None
    frame_duration: float | None = None
    edges: np.ndarray | None = None
    band_scale: str = "mel"
    normal: np.ndarray | None = None

    @classmethod
    def from_estimator(
        cls, detector, X, clip=0, *, X_normal=None, ax=None, **plot_settings
    ):
        """Find what each time and band of a clip contributes, and draw it.

        Parameters
        ----------
        detector : outlier detector or Pipeline
            Fitted; see :func:`~sklearn_asd.explanation.time_scores`.

        X : any
            Clips, of the kind that was passed to its `fit`.

        clip : int, default=0
            Row of the clip.

        X_normal : any, default=None
            Normal clips of the same kind, whose pieces replace those of the clip; see
            :func:`~sklearn_asd.explanation.time_scores`. None draws the log-mel only.

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
            If the clip cannot be used, no normal clip is of its machine, or the members
            of an ensemble have different spectrograms.

        ImportError
            If matplotlib is not installed.
        """
        opened = Opened(detector, take_clip(X, clip))
        heard = find_spectrograms(opened)
        location = cells = None
        if X_normal is not None:
            normal = Opened(detector, X_normal)
            location = locate(opened, normal)
            if location.is_named:
                cells = map_cells(opened, normal)
        return lay_out(heard, location, cells).plot(ax, **plot_settings)

    @classmethod
    def from_predictions(
        cls,
        log_mel,
        location=None,
        *,
        cells=None,
        frame_duration=None,
        edges=None,
        band_scale="mel",
        normal=None,
        ax=None,
        **plot_settings,
    ):
        """Draw contributions that are already computed.

        Parameters
        ----------
        log_mel : array-like of shape (n_mels, n_frames)
            Power in dB.

        location : Location or None, default=None
            From :func:`~sklearn_asd.explanation.locate_anomaly`.

        cells : DataFrame or None, default=None
            From :func:`~sklearn_asd.explanation.occlusion_map`.

        frame_duration : float or None, default=None
            Time between frames in s, if known.

        edges : array-like of shape (n_mels + 1,) or None, default=None
            Edges of the mel bands in Hz, if known.

        band_scale : {"mel", "log"}, default="mel"
            How the bands are spaced; see :class:`~sklearn_asd.ClipSpectrograms`.

        normal : array-like of shape (n_mels, n_normal_frames) or None, default=None
            Power of a normal clip in dB, to compare with.

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
            location,
            cells=cells,
            frame_duration=frame_duration,
            edges=edges,
            band_scale=band_scale,
            normal=None if normal is None else np.asarray(normal),
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
        found = self.location
        has_times = found is not None and found.times is not None
        heights = [2.2] + [1] * has_times + [2.2] * 2 * (self.normal is not None)
        widths = [6, 0.22] if found is None else [6, 1.5, 0.22]
        grid = ax.get_subplotspec().subgridspec(
            len(heights), len(widths), height_ratios=heights, width_ratios=widths
        )
        self.ax_ = self.figure_.add_subplot(grid[0, 0])
        self.times_ax_ = self.bands_ax_ = None
        levels = self._find_levels(vmin, vmax)
        image = self._draw_spectrum(self.ax_, self.log_mel, cmap, levels)
        self._add_colors(image, grid[0, -1], "power (dB)")
        if found is not None and found.times is not None:
            self.times_ax_ = self.figure_.add_subplot(grid[1, 0], sharex=self.ax_)
            self._draw_times(self.times_ax_, found.times)
        if found is not None:
            self.bands_ax_ = self.figure_.add_subplot(grid[0, 1], sharey=self.ax_)
            self._draw_bands(self.bands_ax_, found.bands)
            self._mark_place(found)
        self._compare(grid, cmap, levels)
        below = (self.ax_, self.times_ax_, self.normal_ax_, self.difference_ax_)
        *above, lowest = [one for one in below if one is not None]
        for one in above:
            one.tick_params(labelbottom=False)
        lowest.set_xlabel("frame" if self.frame_duration is None else "time (s)")
        return self

    def _find_levels(self, vmin: Any, vmax: Any) -> tuple[float, float]:
        quiet, loud = np.percentile(self.log_mel.astype(np.float32), [1, 99.9])
        return quiet if vmin is None else vmin, loud if vmax is None else vmax

    def _draw_spectrum(
        self, ax: Any, power: np.ndarray, cmap: str, levels: tuple[float, float]
    ) -> Any:
        """Draw power, or its difference, over time and frequency."""
        n_mels, n_frames = power.shape
        image = ax.imshow(
            power.astype(np.float32),
            origin="lower",
            aspect="auto",
            interpolation="nearest",
            extent=(0, n_frames * (self.frame_duration or 1), 0, n_mels),
            cmap=cmap,
            vmin=levels[0],
            vmax=levels[1],
        )
        if self.edges is None:
            ax.set_ylabel("mel band" if self.band_scale == "mel" else "band")
            return image
        edges = np.asarray(self.edges)
        low, high = 2 * edges[0] - edges[1], 2 * edges[-1] - edges[-2]
        shown = [f for f in _FREQUENCIES[self.band_scale] if low <= f <= high]
        ax.set_yticks(self._place(shown), [f"{f:g}" for f in shown])
        ax.set_ylabel(f"frequency (Hz, {self.band_scale} scale)")
        return image

    def _add_colors(self, image: Any, place: Any, label: str) -> None:
        self.figure_.colorbar(image, cax=self.figure_.add_subplot(place), label=label)

    def _compare(self, grid: Any, cmap: str, levels: tuple[float, float]) -> None:
        """Draw the normal clip and the difference, in the lowest two rows."""
        self.normal_ax_ = self.difference_ax_ = None
        if self.normal is None:
            return
        shared = {"sharex": self.ax_, "sharey": self.ax_}
        self.normal_ax_ = self.figure_.add_subplot(grid[-2, 0], **shared)
        image = self._draw_spectrum(self.normal_ax_, self.normal, cmap, levels)
        self._add_colors(image, grid[-2, -1], "power (dB)")
        self.difference_ax_ = self.figure_.add_subplot(grid[-1, 0], **shared)
        difference = _subtract(self.log_mel, self.normal)
        limit = max(float(np.percentile(np.abs(difference), 99.9)), _LEAST_DIFFERENCE)
        image = self._draw_spectrum(
            self.difference_ax_, difference, "RdBu_r", (-limit, limit)
        )
        self._add_colors(image, grid[-1, -1], "louder (dB)")
        n_frames = max(self.log_mel.shape[1], self.normal.shape[1])
        self.ax_.set_xlim(0, n_frames * (self.frame_duration or 1))
        self.ax_.set_title("this recording")
        self.normal_ax_.set_title("normal recording")
        self.difference_ax_.set_title("difference")

    def _draw_times(self, ax: Any, times: pd.DataFrame) -> None:
        ax.bar(
            times["start"],
            times["contribution"],
            times["stop"] - times["start"],
            align="edge",
            **_color_bars(times),
        )
        ax.axhline(0, color=ink(), linewidth=0.8)
        ax.set_ylim(_find_limits(times))
        ax.locator_params(axis="y", nbins=4)
        ax.set_ylabel("anomaly\nby time")

    def _draw_bands(self, ax: Any, bands: pd.DataFrame) -> None:
        low, high = self._place(bands["low"]), self._place(bands["high"])
        ax.barh(
            low, bands["contribution"], high - low, align="edge", **_color_bars(bands)
        )
        ax.axvline(0, color=ink(), linewidth=0.8)
        ax.tick_params(labelleft=False, labelbottom=False, labeltop=True, top=True)
        ax.xaxis.set_label_position("top")
        ax.set_xlim(_find_limits(bands))
        ax.locator_params(axis="x", nbins=2)
        ax.set_xlabel("anomaly\nby frequency")

    def _mark_place(self, found: Location) -> None:
        """Draw a frame around the place that carries most of the anomaly."""
        from matplotlib.patches import Rectangle

        def _frame(time: Any, band: Any, **style: Any) -> None:
            low, high = self._place(band)
            size = time[1] - time[0], high - low
            frame = Rectangle((time[0], low), *size, fill=False, **style)
            self.ax_.add_patch(frame)

        if self.cells is not None:
            self._outline_cells(self.cells)
        if not found.is_named:
            return
        n_mels, n_frames = self.log_mel.shape
        whole = (0, n_mels) if self.edges is None else (self.edges[0], self.edges[-1])
        time = found.time or (0, n_frames * (self.frame_duration or 1))
        band = found.band or whole
        # Legible on light and on dark parts.
        _frame(time, band, edgecolor="black", linewidth=3)
        _frame(time, band, edgecolor="white", linewidth=1.5)

    def _outline_cells(self, cells: pd.DataFrame) -> None:
        """Draw a line around the cells that together contribute half of the anomaly."""
        from matplotlib.collections import LineCollection

        cells = cells.assign(chosen=_choose_cells(cells))
        chosen = cells.pivot(index="low", columns="start", values="chosen")
        times = [*chosen.columns, cells["stop"].max()]
        bands = self._place([*chosen.index, cells["high"].max()])
        inside = np.pad(chosen.to_numpy(), 1).astype(int)
        lines = [
            [(times[column], bands[row]), (times[column], bands[row + 1])]
            for row, column in np.argwhere(np.diff(inside[1:-1], axis=1))
        ] + [
            [(times[column], bands[row]), (times[column + 1], bands[row])]
            for row, column in np.argwhere(np.diff(inside[:, 1:-1], axis=0))
        ]
        self.ax_.add_collection(LineCollection(lines, colors="white", linewidths=0.7))

    def _place(self, frequencies: Any) -> np.ndarray:
        """Places of frequencies on the axis of mel bands."""
        if self.edges is None:
            return np.asarray(frequencies, dtype=float)
        return np.interp(frequencies, self.edges, np.arange(len(self.edges)))


def lay_out(
    heard: ClipSpectrograms,
    location: Location | None = None,
    cells: pd.DataFrame | None = None,
    normal: ClipSpectrograms | None = None,
) -> ClipScoreDisplay:
    """Prepare the display of a clip, in seconds and Hz where they are known.

    Parameters
    ----------
    heard : ClipSpectrograms of length 1
        The clip.

    location, cells : any
        See :class:`ClipScoreDisplay`.

    normal : ClipSpectrograms of length 1, or None, default=None
        A normal clip to compare with.

    Returns
    -------
    display : ClipScoreDisplay
        Not yet drawn.
    """
    has_frequencies = None not in (heard.fmin, heard.fmax)
    return ClipScoreDisplay(
        _in_decibels(heard),
        location,
        cells=cells,
        frame_duration=frame_duration(heard),
        edges=band_edges(heard) if has_frequencies else None,
        band_scale=heard.band_scale,
        normal=None if normal is None else _in_decibels(normal),
    )


def _in_decibels(X: ClipSpectrograms) -> np.ndarray:
    frames = X.log_mel(0, X.main_view)
    if X.band_scale != "linear":
        return frames
    return 20 * np.log10(np.maximum(frames.astype(np.float32), _MIN_MAGNITUDE))


def _subtract(log_mel: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Difference in dB over the time that both last, as means of neighbours."""
    n_frames = min(log_mel.shape[1], normal.shape[1])
    difference = log_mel[:, :n_frames].astype(np.float32) - normal[:, :n_frames]
    for axis, width in enumerate((_DIFFERENCE_BANDS, _DIFFERENCE_FRAMES)):
        starts = np.arange(0, difference.shape[axis], width)
        sizes = np.diff([*starts, difference.shape[axis]])
        means = np.add.reduceat(difference, starts, axis) / np.expand_dims(
            sizes, 1 - axis
        )
        difference = np.repeat(means, sizes, axis)
    return difference


def _color_bars(scores: pd.DataFrame) -> dict[str, Any]:
    colors = [ANOMALOUS if one > 0 else NORMAL for one in scores["contribution"]]
    return {"color": colors, "edgecolor": "white", "linewidth": 0.4}


def _find_limits(scores: pd.DataFrame) -> tuple[float, float]:
    """Ends of the axis of contributions."""
    found = scores.attrs
    above_normal = found.get("score", 0) - found.get("normal_score", 0)
    highest = max(scores["contribution"].max(), _LEAST_LIMIT * above_normal)
    lowest = min(scores["contribution"].min(), 0)
    room = 0.08 * (highest - lowest) or 1.0
    return lowest - (room if lowest < 0 else 0), highest + room


def _choose_cells(cells: pd.DataFrame) -> pd.Series:
    """Which cells are the fewest that together contribute half of what all do."""
    positive = cells["contribution"].clip(lower=0)
    largest = positive.sort_values(ascending=False, kind="stable")
    before = (largest.cumsum() - largest).reindex(cells.index)
    return (before < _SHARE_OF_CELLS * positive.sum()) & (positive > 0)
