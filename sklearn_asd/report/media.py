"""Pictures and sounds as data URIs, so that the page needs no further files."""

from __future__ import annotations

import io
import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import soundfile

__all__ = ["Image", "Sound", "draw", "encode_sounds"]

# Placeholder for the colour of text, which depends on the reader's light or dark mode.
_INK = "#1b1d21"
_PNG = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
_JPEG_QUALITY = 70
_PALETTE = 256  # colours of a PNG: as many as a scale of colours has
_COLORS = "text.color axes.labelcolor axes.edgecolor xtick.color ytick.color"
_STYLE: Any = dict.fromkeys(_COLORS.split(), _INK) | {
    "axes.facecolor": "none",
    "axes.titlesize": "medium",
    "font.size": 9,
    # The reader's fonts take no space. Verdana is as wide as what matplotlib measures.
    "font.family": ["DejaVu Sans"],
    "svg.fonttype": "none",
}
_SVG_STYLE = (
    "<style>svg{--ink:#1b1d21;font-family:DejaVu Sans,Verdana,sans-serif}"
    "@media (prefers-color-scheme:dark){svg{--ink:#e4e6ea}}</style>"
)
# What matplotlib writes and no reader sees.
_NEEDLESS = (
    (re.compile(r"<metadata>.*?</metadata>", re.DOTALL), ""),
    (re.compile(r" id=\"[a-z0-9.]+_[a-z0-9_]+\""), ""),
    (re.compile(r"(\d\.\d\d)\d+"), r"\1"),
    (re.compile(r"font-family: [^;\"]*; ?"), ""),
    (re.compile(r"\s*\n\s*"), " "),
)
_LOUDEST = 0.9

# Rates of MP3 in Hz. Other recordings are compressed without loss, four times as large.
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_MP3_IS_KNOWN = "MP3" in soundfile.available_formats()  # since libsndfile 1.1
_MIME = {"MP3": "mpeg", "FLAC": "flac"}


class Image(NamedTuple):
    """A picture.

    Attributes
    ----------
    uri : str
        SVG as a data URI.

    width, height : int
        Size in pixels.

    alt : str
        Description for readers who do not see it.
    """

    uri: str
    width: int
    height: int
    alt: str


class Sound(NamedTuple):
    """A recording.

    Attributes
    ----------
    uri : str
        MP3, or FLAC at rates that MP3 lacks, as a data URI.

    remark : str
        How it was changed.
    """

    uri: str
    remark: str


def draw(plot: Callable[[Any], Any], size: tuple[float, float], alt: str) -> Image:
    """Draw a picture that is legible on light and on dark pages.

    Parameters
    ----------
    plot : callable
        Draws on the matplotlib Axes that it is given.

    size : (float, float)
        Width and height in inches.

    alt : str
        Description for readers who do not see it.

    Returns
    -------
    image : Image
        The picture.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained", facecolor="none")
        plot(figure.add_subplot())
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None}, dpi=110)
    svg = file.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "var(--ink)")
    for pattern, less in _NEEDLESS:
        svg = pattern.sub(less, svg)
    svg = _PNG.sub(_compress, svg)
    start = svg.index(">") + 1
    svg = svg[:start] + _SVG_STYLE + svg[start:]
    width, height = (round(96 * inches) for inches in size)
    uri = f"data:image/svg+xml,{quote(svg, safe=' /:;=,+@')}"
    return Image(uri, width, height, alt)


def _compress(png: re.Match[str]) -> str:
    """Write a picture within a drawing as JPEG or with few colours, as is smaller."""
    from PIL import Image as Pictures  # matplotlib depends on it

    picture: Any = Pictures.open(io.BytesIO(b64decode(png[1])))
    files = {"png": io.BytesIO(), "jpeg": io.BytesIO()}
    if picture.getextrema()[-1][0] == 255:  # nothing is transparent
        picture = picture.convert("RGB")
        settings = {"quality": _JPEG_QUALITY, "subsampling": 0, "optimize": True}
        picture.save(files["jpeg"], "JPEG", **settings)
    picture.quantize(_PALETTE).save(files["png"], "PNG", optimize=True)
    contents = {kind: b64encode(file.getvalue()) for kind, file in files.items()}
    kind = min(filter(contents.get, contents), key=lambda one: len(contents[one]))
    return f"data:image/{kind};base64,{contents[kind].decode()}"


def encode_sounds(
    recordings: list[np.ndarray], sample_rate: float, max_duration: float
) -> list[Sound]:
    """Compress recordings, all amplified by the same factor.

    Parameters
    ----------
    recordings : list of ndarray of shape (n_samples,)
        Samples.

    sample_rate : float
        Their rate in Hz.

    max_duration : float
        Longest sound in s; recordings are cut after it.

    Returns
    -------
    sounds : list of Sound
        The sounds.
    """
    peak = max(float(np.abs(samples).max()) for samples in recordings)
    gain = _LOUDEST / peak if peak > 0 else 1.0
    decibels = round(20 * np.log10(gain))
    level = "played at the level of the recording"
    if decibels:
        than = "louder" if decibels > 0 else "quieter"
        level = f"played {abs(decibels)} dB {than} than recorded"
    sounds = []
    for samples in recordings:
        kept = samples[: round(max_duration * sample_rate)]
        kind = "MP3" if sample_rate in _MP3_RATES and _MP3_IS_KNOWN else "FLAC"
        file = io.BytesIO()
        soundfile.write(file, kept * gain, round(sample_rate), format=kind)
        remark = level
        if len(kept) < len(samples):
            remark = (
                f"the first {len(kept) / sample_rate:.3g} of "
                f"{len(samples) / sample_rate:.3g} s, {level}"
            )
        content = b64encode(file.getvalue()).decode()
        uri = f"data:audio/{_MIME[kind]};base64,{content}"
        sounds.append(Sound(uri, remark))
    return sounds
