"""Scored clips as one HTML file."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_scalar
from tqdm.auto import tqdm

from sklearn_asd._utils.files import check_outputs, replacing
from sklearn_asd._utils.text import printable
from sklearn_asd.report.findings import Findings
from sklearn_asd.report.head import describe_head
from sklearn_asd.report.members import describe_member, name_member
from sklearn_asd.report.recordings import find_paths, find_segmenter
from sklearn_asd.report.sentences import (
    describe_threshold,
    format_margin,
    format_share,
)
from sklearn_asd.report.verdicts import Verdicts

__all__ = ["load_template", "write_page", "write_report"]

# The only script that the page allows, by its hash.
_SCRIPT = (Path(__file__).parent / "templates" / "report.js").read_text("utf-8")
_SCRIPT_HASH = f"sha256-{b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}"


def write_report(
    detector,
    X,
    path,
    *,
    X_normal=None,
    X_train=None,
    model_path=None,
    title="Anomalous sounds",
    max_details=10,
    max_audio_duration=15.0,
    verbose=0,
):
    """Score clips, and write the verdicts and the reasons as one HTML file.

    The page is for people who look after machines. It says which model judged which
    recordings, and shows the margins of each machine over time, with a normal recording
    to hear. A clip's margin is its `decision_function`: below 0 is anomalous. All clips
    are listed, the most anomalous first. For the most anomalous ones the page shows
    when and in which bands the anomaly lies, if any carries most of it, the most
    similar normal clip and the difference of the two, which member of an ensemble found
    it, and which view was mistaken for another one, if the detector provides it.

    The file contains all its pictures and sounds and loads nothing from a network, so
    it can be mailed and archived. Its only script sorts tables by clicks on the heads
    of their columns; a Content-Security-Policy forbids any other. Without it, and on
    paper, the page is complete.

    Parameters
    ----------
    detector : outlier detector or Pipeline
        Fitted, and with a threshold. Of this library, of scikit-learn or of PyOD, also
        inside :class:`~sklearn_asd.ThresholdTuner`, ensembles and so on.

    X : any
        Clips to score, of the kind that was passed to its `fit`. The page has sound if
        they are recordings, for a Pipeline that begins with
        :class:`~sklearn_asd.LogMelSegmenter` or :class:`~sklearn_asd.PowerSpectrum`.

    path : str or path-like
        The file to write; an existing one is replaced once the new one is complete.

    X_normal : any, default=None
        Normal clips of the same kind, preferably the training clips. Without them the
        page does not show when and at which frequencies clips are anomalous, and has no
        sound of the nearest normal clip.

    X_train : any, default=None
        The clips that the detector was fitted to, in the same order. With them the page
        names their folder, and says of each machine how many there were, their usual
        margin, and how many false alarms to expect. They are not read.

    model_path : str or path-like, default=None
        File that the detector comes from, for the head of the page.

    title : str, default="Anomalous sounds"
        The page's title.

    max_details : int >= 0, default=10
        Number of clips to show in detail: the most anomalous of those called anomalous.
        The page states how many are left out.

    max_audio_duration : float >= 0, default=15.0
        Longest sound of each clip, from its beginning, in s; 0 leaves all sound out.
        15 s at 16 kHz take about 0.1 MB.

    verbose : int, default=0
        Above 0, show progress.

    Returns
    -------
    path : Path
        The file.

    Raises
    ------
    ImportError
        If matplotlib or Jinja2 is not installed.

    TypeError
        If the detector has no threshold.

    ValueError
        If a parameter is out of range, or `path` is one of the recordings.

    OSError
        If the file cannot be written.

    Notes
    -----
    Clips are sorted by how far they are above the threshold, which is the order of
    their anomaly scores unless each machine has its own threshold. Clips that could not
    be used are listed separately, with the reason, if the segmenter has
    ``on_bad_clip="nan"``; otherwise the first one raises an error.

    The nearest normal clip is of the same machine. It is found by the cosine distance
    in the embedding of the detector's network, or without such a network by the mean
    spectrum in dB. Without `X_normal` an
    :class:`~sklearn_asd.EmbeddingNeighborDetector` names a training clip.

    Cost: each clip is read and scored once, and so are the normal clips of the machines
    that are shown in detail, at most 200 of each. All of them stay in memory. The
    normal recording that is heard of each machine is read again. A clip in
    detail costs at most 600 scorings, of all its views and by each network, to find
    when and in which bands it is anomalous.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_asd import (
    ...     LogMelSegmenter, MahalanobisDetector, SpectrumStatistics)
    >>> from sklearn_asd.datasets import make_machine_sounds
    >>> from sklearn_asd.report import write_report
    >>> clips = make_machine_sounds(
    ...     "fan", n_machines=1, n_train=8, n_test_normal=1, n_test_anomalous=1,
    ...     duration=4.0, random_state=0)
    >>> train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    >>> detector = make_pipeline(
    ...     LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()).fit(train)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = write_report(detector, test, folder + "/fan.html", X_normal=train)
    ...     page.read_text()[:15]
    '<!DOCTYPE html>'
    """
    check_scalar(max_details, "max_details", Integral, min_val=0)
    check_scalar(max_audio_duration, "max_audio_duration", Real, min_val=0)
    template = load_template()
    segmenter = find_segmenter(detector, X)
    recordings = [*find_paths(X, segmenter).values()]
    if X_normal is not None:
        recordings += find_paths(X_normal, segmenter).values()
    check_outputs({"path": path}, recordings)
    verdicts = Verdicts(detector, X, max_details)
    verdicts.judge(np.arange(len(verdicts.scores)))
    findings = Findings(
        verdicts, X_normal, max_audio_duration, model_path=model_path, X_train=X_train
    )
    return write_page(template, findings, path, title=title, verbose=verbose)


def write_page(
    template: Any,
    findings: Findings,
    path: str | PathLike[str],
    *,
    title: str = "Anomalous sounds",
    verbose: int = 0,
) -> Path:
    """Write the findings about clips as one HTML file.

    Parameters
    ----------
    template : jinja2.Template
        From :func:`load_template`.

    findings : Findings
        Contents of the page; the clips that its verdicts keep open are explained.

    path : str or path-like
        The file to write; an existing one is replaced once the new one is complete.

    title : str, default="Anomalous sounds"
        The page's title.

    verbose : int, default=0
        Above 0, show progress.

    Returns
    -------
    path : Path
        The file.
    """
    detailed = tqdm(
        findings.verdicts.opened, "explain", unit="clip", disable=not verbose
    )
    n_scored = len(findings.anomalous) + len(findings.normal)
    page = template.render(
        title=title,
        findings=findings,
        promise=describe_threshold(findings.detector, n_scored),
        details=[findings.explain(row) for row in detailed],
        head=describe_head(findings),
        describe_member=describe_member,
        format_margin=format_margin,
        format_share=format_share,
        name_member=name_member,
        script=_SCRIPT,
        script_hash=_SCRIPT_HASH,
    )
    with replacing(path) as file:
        file.write(page.encode("utf-8"))
    return Path(path)


def load_template(name: str = "report.html") -> Any:
    """Load the template of a page.

    Parameters
    ----------
    name : str, default="report.html"
        Its file in the folder templates.

    Returns
    -------
    template : jinja2.Template
        The template.

    Raises
    ------
    ImportError
        If matplotlib or Jinja2 is not installed.
    """
    try:
        import matplotlib  # noqa: F401
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise ImportError(
            f"a report needs {error.name}, which is not installed: in a checkout "
            'of sklearn_asd, run pip install -e ".[report]"'
        ) from error
    environment = Environment(
        loader=PackageLoader("sklearn_asd.report"),
        autoescape=True,
        finalize=_show_names,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _show_names(value: Any) -> Any:
    """Show control characters in names; what is markup already stays as it is."""
    return printable(value) if type(value) is str else value
