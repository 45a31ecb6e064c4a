import base64
import datetime
import hashlib
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.ensemble import IsolationForest
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    ClipSpectrograms,
    EmbeddingNeighborDetector,
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    MahalanobisDetector,
    PerMachine,
    PowerSpectrum,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
    load_clips,
)
from sklearn_asd._version import __version__
from sklearn_asd.audio import reading
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.explanation import Location
from sklearn_asd.meta.scoring import honest_training_scores
from sklearn_asd.meta.structure import walk
from sklearn_asd.plotting import ClipScoreDisplay
from sklearn_asd.presets import DETECTORS, make_detector, make_paper_system
from sklearn_asd.report import write_report
from sklearn_asd.report.machines import tabulate_machines
from sklearn_asd.report.members import describe_member, name_member
from sklearn_asd.report.sentences import choose_digits, describe_place, format_margin
from sklearn_asd.report.trend import draw_trend
from sklearn_asd.report.verdicts import Verdicts

RATE = 16000
LIMIT = -25.0
HOSTILE = "<script>alert('x')</script>&amp;\"onerror=.wav"


class Level(OutlierMixin, BaseEstimator):
    """The anomaly score is a clip's mean level in dB; above LIMIT it is anomalous."""

    def fit(self, X, y=None):
        self.offset_ = -LIMIT
        return self

    def score_samples(self, X):
        usable = X.n_segments[:, 0] > 0
        return np.array(
            [-X.log_mel(row).mean() if usable[row] else np.nan for row in range(len(X))]
        )

    def decision_function(self, X):
        return self.score_samples(X) - self.offset_


class Bands(nn.Module):
    """A small network on the mean spectrum."""

    def __init__(self, n_classes, n_mels):
        super().__init__()
        self.classify = nn.Linear(n_mels, n_classes)

    def forward(self, log_mel):
        embedding = log_mel.mean(dim=2) / 30
        return self.classify(embedding), embedding


class Page(HTMLParser):
    """Elements, and the text without that of scripts and styles."""

    VOID = frozenset({"meta", "link", "img"})

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []  # every element is closed
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.words.append(" " if tag in ("th", "td", "p", "li") else "")

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    def find(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture
def audio(rng):
    """Five clips of 4 s, the later the louder, in steps of 10 dB."""
    quiet = rng.normal(size=4 * RATE) / 1000
    return [quiet * 10 ** (step / 2) for step in range(5)]


@pytest.fixture
def level():
    pipe = make_pipeline(LogMelSegmenter(on_bad_clip="nan"), Level())
    return pipe.fit([np.zeros(4 * RATE)])


def report(tmp_path, detector, X, **settings):
    settings = {"max_details": 1, **settings}
    return Page(write_report(detector, X, tmp_path / "page.html", **settings))


def clips_in_order(page):
    listed = page.source[page.source.index('<h2 id="anomalous">') :]
    return re.findall(r'<th scope="row">(?:<a[^>]*>)?([^<]*)', listed)


# -- text ----------------------------------------------------------------------


def test_clips_are_listed_with_the_most_anomalous_first(tmp_path, level, audio):
    scores = -level.score_samples(audio)
    page = report(tmp_path, level, audio, title="Five clips")
    assert page.source.startswith("<!DOCTYPE html>")
    assert "<title>Five clips</title>" in page.source
    n_anomalous = (scores > LIMIT).sum()
    assert 0 < n_anomalous < 5
    assert clips_in_order(page)[:5] == [f"recording {row}" for row in (4, 3, 2, 1, 0)]
    assert f"{n_anomalous} anomalous {5 - n_anomalous} normal 0 not usable" in page.text
    margins = LIMIT - scores
    assert all(f"{one:+.1f}".replace("-", "\u2212") in page.text for one in margins)
    assert "below 0 it is anomalous" in page.text


def test_it_states_how_many_clips_are_not_shown_in_detail(tmp_path, level, audio):
    page = report(tmp_path, level, audio, max_details=1)
    assert len(page.find("article")) == 1
    assert "1 further anomalous recording is only listed above." in page.text
    page = report(tmp_path, level, audio, max_details=0)
    assert page.find("article") == []


def test_names_from_outside_are_text(tmp_path, level, audio):
    folder = tmp_path / "clips"
    folder.mkdir()
    table = pd.DataFrame(
        {
            "path": [str(folder / f"{row}.wav") for row in range(5)],
            "machine_type": "<b>fan",
            "machine_id": ["<img src=x onerror=alert(1)>"] * 5,
        }
    )
    # A slash is no part of a name.
    table.loc[4, "path"] = str(folder / HOSTILE.replace("/", ""))
    for path, samples in zip(table["path"], audio, strict=True):
        soundfile.write(path, samples, RATE)
    page = report(
        tmp_path, level, table, X_normal=table, title="<script>alert(2)</script>"
    )
    assert page.find("script") == [{}]  # the page's own; see below
    assert all(image["src"].startswith("data:image/svg") for image in page.find("img"))
    assert not any("onerror" in attrs for _, attrs in page.elements)
    assert HOSTILE.replace("/", "") in page.text
    assert "<b>fan/<img src=x onerror=alert(1)>" in page.text
    assert "<script>alert(2)</script>" in page.text


def test_names_are_paths_below_the_common_folder(tmp_path, level, audio):
    paths = [tmp_path / name / "a.wav" for name in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        soundfile.write(path, audio[4], RATE)
    page = report(tmp_path, level, paths)
    assert sorted(clips_in_order(page)[:2]) == ["one/a.wav", "two/a.wav"]


@pytest.mark.parametrize("normal", [False, True])
def test_a_report_is_not_written_over_a_recording(tmp_path, level, audio, normal):
    path = tmp_path / "a.wav"
    soundfile.write(path, audio[0], RATE)
    before = path.read_bytes()
    X, X_normal = ([audio[1]], [path]) if normal else ([path], None)
    with pytest.raises(ValueError, match=r"path '.*a.wav' is the file '.*a.wav', whi"):
        write_report(level, X, path, X_normal=X_normal)
    assert path.read_bytes() == before


def test_names_that_are_no_text_do_not_break_the_page(tmp_path, level, audio):
    machine = "\udcff\u202e\x1b\n1"  # no UTF-8, backwards, and what terminals obey
    table = pd.DataFrame({"audio": audio, "machine_id": machine})
    text = report(tmp_path, level, table).text
    assert r"Machine \udcff\u202e\x1b\n1." in text
    assert "\u202e" not in text


def test_clips_that_could_not_be_used_are_listed_with_the_reason(
    tmp_path, level, audio
):
    audio[1] = audio[1][:100]
    audio[2] = np.array([np.nan])
    with pytest.warns(UserWarning, match="2 of 5 clips cannot be used"):
        page = report(tmp_path, level, audio)
    assert "2 not usable" in page.text
    assert "recording 1 is about" in page.text
    assert "segments need 3.072 s" in page.text
    assert "recording 2 holds nan at sample 0" in page.text


def test_a_page_without_a_usable_clip_is_a_page(tmp_path, level):
    with pytest.warns(UserWarning, match="1 of 1 clips"):
        page = report(tmp_path, level, [np.zeros(10)])
    assert "0 anomalous 0 normal 1 not usable" in page.text
    assert "No recording is called anomalous." in page.text


def test_the_promise_of_a_tuned_threshold_is_shown(tmp_path, rng):
    audio = rng.normal(size=(30, 4 * RATE)) / 100
    tuner = ThresholdTuner(Level(), false_alarm_rate=0.3, random_state=0)
    pipe = make_pipeline(LogMelSegmenter(), tuner).fit(audio)
    page = report(tmp_path, pipe, audio[:8])
    assert "At most 30 % of unseen normal recordings are called anomalous" in page.text
    low, high = tuner.false_alarm_interval(8)
    assert f"between {100 * low:.3g} and {100 * high:.3g} %" in page.text


def test_the_promise_of_machines_own_thresholds_is_shown(tmp_path, sounds):
    train, test = sounds
    rows = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    for detector in (
        ThresholdTuner(PerMachine(rows), false_alarm_rate=0.3),
        PerMachine(ThresholdTuner(rows, false_alarm_rate=0.4, random_state=0)),
    ):
        pipe = make_pipeline(LogMelSegmenter(), detector).fit(train)
        page = report(tmp_path, pipe, test)
        promise = detector.promise_.replace("clips", "recordings")
        assert promise.startswith("of each of 2 machines, ")
        assert f"O{promise[1:]}." in page.text
        assert "How many false alarms to expect is not known" not in page.text


def test_an_infinite_threshold_is_explained(tmp_path, audio):
    tuner = ThresholdTuner(Level(), false_alarm_rate=0.1, random_state=0)
    with pytest.warns(UserWarning, match="cannot promise"):
        pipe = make_pipeline(LogMelSegmenter(), tuner).fit(audio)
    page = report(tmp_path, pipe, audio)
    assert "No recording is called anomalous, whatever it sounds like." in page.text
    assert "cannot promise 10 % of false alarms; it takes 9" in page.text
    assert " inf" not in page.text
    assert "-inf" not in page.text
    names = [name for name in clips_in_order(page) if name.startswith("recording")]
    assert names == [f"recording {row}" for row in (4, 3, 2, 1, 0)]  # by score


def test_thresholds_without_a_promise_are_explained(tmp_path, audio):
    forest = IsolationForest(contamination=0.1, random_state=0)
    pipe = make_pipeline(LogMelSegmenter(), SpectrumStatistics(), forest)
    page = report(tmp_path, pipe.fit(audio), audio)
    assert "How many false alarms to expect is not known" in page.text
    assert "10 % of the training recordings lie beyond it." in page.text


def test_a_threshold_by_left_out_clips_has_expected_false_alarms(tmp_path, audio):
    pipe = make_pipeline(LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector())
    page = report(tmp_path, pipe.fit(audio), audio)
    assert "Expected false alarms: about 10 % of normal recordings, est" in page.text
    assert "is not known" not in page.text.partition("The picture shows")[0]


def test_clips_are_sorted_by_their_distance_to_their_machines_threshold(tmp_path, rng):
    X = ClipSpectrograms.from_arrays(
        rng.normal(size=(20, 8, 96)) * np.repeat([1, 30], 10)[:, None, None],
        machine_id=np.repeat(["quiet", "loud"], 10),
    )
    detector = PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector()))
    page = report(tmp_path, detector.fit(X), X)
    margins = -detector.decision_function(X)
    expected = [f"recording {row}" for row in np.argsort(-margins)]
    names = [name for name in clips_in_order(page) if name.startswith("recording")]
    assert names == expected
    assert "those of different machines may be on different scales" in page.text


def test_detectors_without_threshold_are_refused(tmp_path, audio):
    pipe = make_pipeline(LogMelSegmenter(), SpectrumStatistics(), KernelDensity())
    with pytest.raises(TypeError, match="KernelDensity has no threshold.*ThresholdTun"):
        report(tmp_path, pipe.fit(audio), audio)


@pytest.mark.parametrize("name", ["max_details", "max_audio_duration"])
def test_numbers_out_of_range_are_refused(tmp_path, level, audio, name):
    with pytest.raises(ValueError, match=name):
        report(tmp_path, level, audio, **{name: -1})


def test_rows_of_numbers_have_verdicts_and_no_sound(tmp_path, rng):
    X = rng.normal(size=(40, 2))
    page = report(tmp_path, IsolationForest(random_state=0).fit(X), X, X_normal=X)
    assert "40 recordings in all" in page.text
    assert "There is no sound" in page.text
    assert "There is no picture: the model hears no spectrogram." in page.text
    assert page.find("audio") == []


def test_power_spectra_are_named_as_such_and_have_sound(tmp_path, rng):
    audio = rng.normal(size=(6, RATE)) / 100
    audio[5] += np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    detector = make_pipeline(
        PowerSpectrum(), SpectrumStatistics(), MahalanobisDetector()
    ).fit(audio[:5])
    path = tmp_path / "report.html"
    write_report(detector, audio, path, X_normal=audio[:5], max_details=1)
    text = path.read_text()
    assert (
        "Power spectrum of recording 5. Of the frequencies, 81 to 123 Hz carry most"
        in text
    )
    assert "When it occurs is not known: the model hears the mean spectrum" in text
    assert "Spectrogram of" not in text
    assert "<audio" in text


def test_without_jinja_the_error_names_the_extra(tmp_path, level, audio, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ImportError, match=r"needs jinja2.*\.\[report\]"):
        report(tmp_path, level, audio)


@pytest.mark.parametrize(
    ("time", "band", "text"),
    [
        (
            (1.67, 3.33),
            (1480.2, 1993.4),
            "Most of the anomaly is heard from 1.7 to 3.3 s. Of the frequencies, 1480 "
            "to 1990 Hz carry most of it.",
        ),
        (
            (1.67, 3.33),
            None,
            "Most of the anomaly is heard from 1.7 to 3.3 s. No single band of "
            "frequencies carries it.",
        ),
        (
            None,
            (1480.2, 1993.4),
            "Of the frequencies, 1480 to 1990 Hz carry most of the anomaly. No single "
            "moment does.",
        ),
        (
            None,
            None,
            "No single moment and no single band of frequencies carries most of the "
            "anomaly.",
        ),
    ],
)
def test_a_place_is_told_only_where_it_carries_most_of_the_anomaly(time, band, text):
    scores = pd.DataFrame({"contribution": [1.0]})
    location = Location(time, band, 1.0, 1.0, scores, scores)
    known = {"frame_duration": 0.032, "edges": np.arange(5)}
    display = ClipScoreDisplay(np.zeros((4, 9)), location, **known)
    assert describe_place(display) == text


def test_without_units_a_place_is_told_in_frames_and_mel_bands():
    scores = pd.DataFrame({"contribution": [1.0]})
    location = Location((20.0, 24.0), (6.0, 7.0), 1.0, 1.0, scores, scores)
    said = describe_place(ClipScoreDisplay(np.zeros((4, 9)), location))
    assert said == (
        "Most of the anomaly is in frames 20 to 24. Of the mel bands, 6 to 7 carry "
        "most of it."
    )
    assert describe_place(ClipScoreDisplay(np.zeros((4, 9)))) == ""


def test_the_page_tells_when_and_at_which_frequencies_a_tone_was_heard(tmp_path):
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(20, 6 * RATE)) / 100
    detector = make_pipeline(
        LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()
    ).fit(audio)
    heard = audio[:1].copy()
    heard[0, 2 * RATE : 3 * RATE] += np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    page = report(tmp_path, detector, heard, X_normal=audio)
    times = r"Most of the anomaly is heard from (\S+) to (\S+) s\."
    bands = r" Of the frequencies, (\d+) to (\d+) Hz carry most of it\."
    start, stop, low, high = map(float, re.search(times + bands, page.text).groups())
    assert 1.5 <= start <= 2 < 3 <= stop <= 3.6
    assert 900 < low < 1000 < high < 1300
    assert "segment" not in page.text


# -- sound and pictures --------------------------------------------------------


def decode(sound):
    kind, _, content = sound["src"].partition(",")
    assert kind == "data:audio/mpeg;base64"
    return soundfile.read(io.BytesIO(base64.b64decode(content)))


def test_the_sound_is_the_amplified_clip(tmp_path, level, audio):
    page = report(tmp_path, level, audio)
    samples, rate = decode(page.find("audio")[0])
    assert rate == RATE
    gain = 0.9 / np.abs(audio[4]).max()
    ratio = np.sqrt(np.mean(samples**2) / np.mean(audio[4] ** 2))
    assert ratio == pytest.approx(gain, rel=0.1)  # MP3 is lossy
    assert f"played {20 * np.log10(gain):.0f} dB louder than recorded" in page.text


def test_a_clip_and_its_nearest_normal_one_are_amplified_alike(tmp_path, level, audio):
    page = report(tmp_path, level, audio, X_normal=[audio[0]])
    _, clip, normal = (decode(sound)[0] for sound in page.find("audio"))
    ratio = np.abs(clip).max() / np.abs(normal).max()
    assert ratio == pytest.approx(100, rel=0.05)  # 40 dB, as recorded


def test_long_clips_are_cut_and_the_page_says_so(tmp_path, level, audio):
    page = report(tmp_path, level, audio, max_details=1, max_audio_duration=1.5)
    samples, _ = decode(page.find("audio")[0])
    assert len(samples) == 1.5 * RATE
    assert "the first 1.5 of 4 s" in page.text
    page = report(tmp_path, level, audio, max_audio_duration=0)
    assert page.find("audio") == []
    assert "This page was written without sound." in page.text


def test_silence_is_encoded_too(tmp_path, level, audio):
    level[-1].offset_ = 200.0  # all is anomalous
    page = report(tmp_path, level, [np.zeros(4 * RATE)])
    samples, _ = decode(page.find("audio")[0])
    assert (samples == 0).all()


def test_spectrograms_have_pictures_and_no_sound(tmp_path, level, audio):
    X = level[:-1].transform(audio)
    page = report(tmp_path, level[-1], X, X_normal=X)
    assert page.find("audio") == []
    assert [image["class"] for image in page.find("img")] == ["trend", "plot"]
    assert "the model was given spectrograms or numbers" in page.text


def test_pictures_follow_the_readers_preference_for_dark(tmp_path, level, audio):
    page = report(tmp_path, level, audio)
    for image in page.find("img"):
        svg = unquote(image["src"].partition(",")[2])
        assert "prefers-color-scheme:dark" in svg
        assert "var(--ink)" in svg
        assert "#1b1d21" in svg.partition("</style>")[0]
        assert "#1b1d21" not in svg.partition("</style>")[2]
    assert "prefers-color-scheme: dark" in page.source


# -- findings of inner detectors -----------------------------------------------


@pytest.fixture(scope="module")
def sounds():
    clips = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=8,
        n_test_normal=2,
        n_test_anomalous=3,
        duration=4.0,
        snr=10,
        random_state=0,
    )
    return clips[clips["split"] == "train"], clips[clips["split"] == "test"]


@pytest.fixture(scope="module")
def ensemble(sounds):
    detect = IDConfidenceDetector(network=Bands, max_epochs=5, random_state=0)
    members = [
        ("recognised", detect),
        ("near", EmbeddingNeighborDetector(detect)),
        (
            "spectrum",
            PerMachine(make_pipeline(SpectrumStatistics(), MahalanobisDetector())),
        ),
    ]
    tuner = ThresholdTuner(
        GammaProbabilityEnsemble(members), false_alarm_rate=0.4, random_state=0
    )
    return make_pipeline(LogMelSegmenter(on_bad_clip="nan"), tuner).fit(sounds[0])


def test_scores_of_members_and_the_nearest_clip_are_shown(tmp_path, ensemble, sounds):
    train, test = sounds
    page = report(tmp_path, ensemble, test, X_normal=train)
    row = int(np.argmin(ensemble.score_samples(test)))
    X = ensemble[:-1].transform(test)
    inner = ensemble[-1].detector_
    scaled = inner.member_scores(X[row])["scaled"].iloc[0]
    table = page.source[page.source.index("Parts of the model") :]
    assert re.findall(r'<th scope="row">(\w+)', table)[:3] == list(
        scaled.sort_values(ascending=False).index
    )
    machine = inner.named_estimators_["recognised"].predict_id(X[row])[0]
    assert f"It sounds most like machine {machine} (recognised)." in page.text
    embedding = inner.named_estimators_["recognised"].embed
    normal = embedding(ensemble[:-1].transform(train))
    point = embedding(X[row])[0]
    cosine = 1 - normal @ point / np.linalg.norm(normal, axis=1) / np.linalg.norm(point)
    cosine[(train["machine_id"] != test["machine_id"].iloc[row]).to_numpy()] = np.inf
    nearest = rf"Nearest normal recording\s+recording {cosine.argmin()} "
    assert re.search(nearest, page.text)
    assert "Anomaly by time, by frequency" in page.text


def test_a_detector_of_neighbours_names_a_training_clip(tmp_path, ensemble, sounds):
    _, test = sounds
    near = ensemble[-1].detector_.named_estimators_["near"]
    X = ensemble[:-1].transform(test)
    page = report(tmp_path, near, X)
    row = int(np.argmin(near.score_samples(X)))
    expected = near.nearest_training_clips(X[row])["row"].iloc[0]
    assert f"row {expected} of the training recordings" in page.text
    assert "There are no normal recordings to compare with" in page.text


def test_views_that_were_mistaken_are_marked(tmp_path, sounds):
    train, _ = sounds
    one = train[train["machine_id"] == "00"]["audio"].tolist()[:3]
    detector = make_pipeline(
        AugmentationExpander(pitch_steps=(-2, 0), stretch_rates=(1.0,)),
        LogMelSegmenter(),
        AugmentConfidenceDetector(
            network=Bands, max_epochs=1, random_state=0, contamination=0.5
        ),
    ).fit(one)
    page = report(tmp_path, detector, one, max_details=8)
    heard_as = detector[-1].view_scores(detector[:-1].transform(one))["heard_as"]
    worst = np.argsort(detector.score_samples(one))
    detailed = worst[: len(page.find("article"))]
    n_mistaken = (heard_as.iloc[detailed] != list(heard_as.columns)).to_numpy().sum()
    assert page.text.count("(mistaken)") == n_mistaken > 0


def test_the_papers_ensembles_are_reported(tmp_path, sounds):
    """Their members read the files themselves, and score only some machine types."""
    train, test = (table[::4] for table in sounds)
    unknown = make_machine_sounds(
        "ToyCar",
        n_machines=1,
        n_train=1,
        n_test_normal=0,
        n_test_anomalous=0,
        duration=4.0,
        random_state=0,
    )
    system = make_paper_system("fan", "ii", network=Bands, max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there are fans only
        system.fit(train)
    X = pd.concat([test, unknown])
    page = report(tmp_path, system, X, X_normal=train)
    assert "1 not usable" in page.text
    assert "or of a machine type that the model was not trained on" in page.text
    assert len(page.find("article")) == 1
    assert "what they were recognised as (alterations recognised)" in page.text
    assert "It sounds most like machine fan/0" in page.text


def test_each_file_is_read_once_whatever_is_explained(tmp_path, sounds, monkeypatch):
    tables = []
    for name, table in zip(("train", "test"), (sounds[0][::4], sounds[1]), strict=True):
        paths = [tmp_path / f"{name}{row}.wav" for row in range(len(table))]
        for path, samples in zip(paths, table["audio"], strict=True):
            soundfile.write(path, samples, RATE)
        tables.append(table.drop(columns="audio").assign(path=paths))
    train, test = tables
    system = make_paper_system("fan", "i", network=Bands, max_epochs=1, random_state=0)
    system.set_params(contamination=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # there are fans only
        system.fit(train)
    read, reads = reading.open_file, []

    def count(path, *arguments):
        reads.append(str(path))
        return read(path, *arguments)

    monkeypatch.setattr(reading, "open_file", count)
    page = report(tmp_path, system, test, X_normal=train, max_details=3)
    assert len(page.find("article")) == 3
    assert len(page.find("audio")) == 3 * 2 + len(page.find("h3")) - 3
    assert set(map(str, test["path"])) < set(reads)
    twice = {path for path in reads if reads.count(path) > 1}
    # Of each machine, one normal recording to hear is read again.
    assert len(reads) - len(set(reads)) == len(twice) <= len(page.find("audio")) - 6


# -- machines and times ------------------------------------------------------------


def read_table(page, caption):
    """Cells of the table with a caption, by the name of each line."""
    table = page.source[page.source.index(caption) :].partition("</table>")[0]
    cells = {}
    for line in table.split("<tr")[2:]:
        name = re.search(r'<th scope="row">([^<]*)', line)[1]
        found = re.findall(r'data-label="([^"]*)"[^>]*>([^<]*)', line)
        cells[name] = dict(found)
    return cells


@pytest.fixture(scope="module")
def own_thresholds(sounds):
    rows = make_pipeline(SpectrumStatistics(), MahalanobisDetector(contamination=0.3))
    return make_pipeline(LogMelSegmenter(), PerMachine(rows)).fit(sounds[0])


def test_each_machine_has_its_margins_and_what_to_expect(
    tmp_path, own_thresholds, sounds
):
    train, test = sounds
    page = report(tmp_path, own_thresholds, test, X_train=train)
    table = read_table(page, "One line for each machine")
    margins = pd.Series(own_thresholds.decision_function(test), test.index)
    detectors = own_thresholds[-1].estimators_
    digits = choose_digits(margins)
    for machine, some in margins.groupby(test["machine_id"]):
        cells = table[f"fan/{machine}"]
        left_out = detectors[f"fan/{machine}"][-1]
        usual = left_out.training_score_samples_ - left_out.offset_
        assert cells["Anomalous"] == str((some < 0).sum())
        assert cells["Normal"] == str((some >= 0).sum())
        assert cells["Worst margin"] == format_margin(some.min(), digits)
        assert cells["Median margin"] == format_margin(some.median(), digits)
        assert cells["Usual margin"] == format_margin(np.median(usual), digits)
        assert cells["Expected false alarms"] == f"{(usual < 0).sum()} of 8"
        assert cells["Training recordings"] == "8"
    assert len(table) == 2
    page = report(tmp_path, own_thresholds, test[test["machine_id"] == "00"])
    assert "Usual margin" not in page.text  # not known whose the scores are


def test_training_recordings_that_could_not_be_used_do_not_shift_the_others(sounds):
    train = sounds[0].reset_index(drop=True)
    bad = train.copy()
    bad.at[3, "audio"] = bad.at[3, "audio"][:100]
    rows = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    pipe = make_pipeline(LogMelSegmenter(on_bad_clip="nan"), PerMachine(rows))
    with pytest.warns(UserWarning, match="1 of 16 clips"):
        pipe.fit(bad)
    verdicts = Verdicts(pipe, sounds[1])
    verdicts.judge(np.arange(len(sounds[1])))
    expected = tabulate_machines(verdicts, bad)
    assert expected["n_left_out"].tolist() == [7, 8]
    used = tabulate_machines(verdicts, bad.drop(3))
    assert used["usual"].tolist() == expected["usual"].tolist()
    unknown = tabulate_machines(verdicts, bad.drop([3, 4]))
    assert unknown["n_left_out"].tolist() == [0, 0]


def test_scores_of_recordings_that_set_the_threshold_later_are_none_of_training(
    own_thresholds, sounds
):
    train, test = sounds
    tuner = ThresholdTuner(FrozenEstimator(own_thresholds), false_alarm_rate=0.3)
    tuner.fit(train)  # as many as those of training
    assert honest_training_scores(tuner) is not None
    verdicts = Verdicts(tuner, test)
    verdicts.judge(np.arange(len(test)))
    table = tabulate_machines(verdicts, train)
    assert table["n_training"].tolist() == [8, 8]
    assert table["n_left_out"].tolist() == [0, 0]


def test_machines_of_which_there_is_no_recording_are_named(
    tmp_path, own_thresholds, sounds
):
    train, test = sounds
    some = test[test["machine_id"] == "00"]
    page = report(tmp_path, own_thresholds, some, X_train=train)
    assert "machines of which no recording was judged: fan/01." in page.text


def test_the_most_normal_recording_of_each_machine_can_be_heard(
    tmp_path, own_thresholds, sounds
):
    _, test = sounds
    test = test.reset_index(drop=True)
    page = report(tmp_path, own_thresholds, test, max_details=0)
    margins = pd.Series(own_thresholds.decision_function(test))
    best = margins.groupby(test["machine_id"]).idxmax()
    assert (margins[best] > 0).any()
    players = page.find("audio")
    for row, sound in zip(best[(margins[best] >= 0).to_numpy()], players, strict=True):
        assert sound["aria-label"] == f"Sound of recording {row}"
        samples, _ = decode(sound)
        audio = test.at[row, "audio"]
        assert np.corrcoef(samples[: len(audio)], audio)[0, 1] > 0.95  # MP3 is lossy


def test_a_known_normal_recording_is_heard_rather_than_one_judged_so(
    tmp_path, level, audio
):
    """A fault that the model misses is judged normal, too."""
    known, judged = "A normal recording to compare with", "The highest margin here"
    page = report(tmp_path, level, audio, max_details=0)
    assert (known in page.text, judged in page.text) == (False, True)
    page = report(tmp_path, level, audio, X_normal=audio[-1:], max_details=0)
    assert (known in page.text, judged in page.text) == (True, False)


def test_without_a_normal_recording_one_of_training_is_heard(tmp_path, level, audio):
    level[-1].offset_ = 200.0  # all is anomalous
    page = report(tmp_path, level, audio, X_normal=[audio[0]], max_details=0)
    assert [one["aria-label"] for one in page.find("audio")] == ["Sound of recording 0"]
    assert report(tmp_path, level, audio, max_details=0).find("audio") == []


def test_the_trend_is_in_order_of_time_and_marks_what_is_anomalous():
    margins = pd.DataFrame(
        {
            "time": pd.to_datetime(["2024-05-02", "2024-05-03", "2024-05-01"]),
            "margin": [-1.0, 2.0, 3.0],
        }
    )
    image = draw_trend(margins, "pump_1", usual=2.5)
    assert image.alt == (
        "Margins of 3 recordings of pump_1 over time, 1 below 0: the first +3.00, the "
        "last +2.00"
    )
    svg = unquote(image.uri)
    drawn = {color: svg.count(f"fill: {color}") for color in ("#d55e00", "#0072b2")}
    assert drawn["#d55e00"] >= 1
    assert drawn["#0072b2"] >= 2
    assert len(image.uri) < 12_000
    assert "stroke-dasharray" in svg  # the usual margin
    assert "May" in svg


def test_many_points_take_little_space(rng):
    margins = pd.DataFrame(
        {"time": np.arange(20_000), "margin": rng.normal(size=20_000)}
    )
    assert len(draw_trend(margins, "pump_1").uri) < 60_000


def test_times_come_from_names_or_else_from_files(tmp_path, level, audio):
    def write(names, step):
        paths = []
        for number, name in enumerate(names):
            path = tmp_path / f"{step}" / name
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, audio[number], RATE)
            os.utime(path, (1_700_000_000 + number * step,) * 2)
            paths.append(path)
        return report(tmp_path, level, paths, max_details=0)

    page = write(["2024-05-01_0800.wav", "2024-05-02_0930.wav"], 1)
    assert (
        "2024-05-01 08:00 to 2024-05-02 09:30, by the dates in their names" in page.text
    )
    assert "over time" in page.text
    page = write(["a.wav", "2024-05-01_0800.wav"], 3600)
    assert "by the dates of their files" in page.text
    first = datetime.datetime.fromtimestamp(1_700_000_000)
    assert f"{first:%Y-%m-%d %H:%M:%S} to" in page.text
    page = write(["a.wav", "b.wav"], 0)  # copied: all written at once
    assert "times are not known" in page.text
    assert "in the order of the list" in page.text


def test_the_head_says_which_model_judged_which_recordings(tmp_path, level, audio):
    table = pd.DataFrame({"path": "", "machine_id": ["1", "1", "2"]}, index=[5, 6, 7])
    for row, samples in zip(table.index, audio, strict=False):
        path = tmp_path / "new" / f"{row}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, samples, RATE)
        table.loc[row, "path"] = str(path)
    train = table.assign(path=[f"/works/{row}.wav" for row in range(3)])
    model = tmp_path / "pumps.asd"
    model.touch()
    os.utime(model, (1_700_000_000,) * 2)
    made = f"{datetime.datetime.fromtimestamp(1_700_000_000):%Y-%m-%d %H:%M}"
    page = report(tmp_path, level, table, X_train=train, model_path=model)
    assert f"{model}, written on {made}" in page.text
    assert "3 normal recordings of 2 machines, in /works" in page.text
    assert f"3 recordings of 2 machines, in {tmp_path / 'new'}" in page.text
    assert f"by sklearn_asd {__version__}" in page.text
    page = report(tmp_path, level, audio, model_path=tmp_path / "gone.asd")
    assert f"{tmp_path / 'gone.asd'}" in page.text
    assert "Trained on" not in page.text


def test_margins_have_a_sign_and_the_same_digits():
    assert choose_digits([18.9, -7.2, 0.3, np.nan, np.inf]) == 1
    assert choose_digits([-1.2, 5.4, 0.01]) == 2
    assert choose_digits([250.0]) == 0
    assert choose_digits([np.nan, 0.0]) == 2
    assert format_margin(18.94, 1) == "+18.9"
    assert format_margin(-0.004, 2) == "\u22120.00"  # still anomalous
    assert format_margin(np.inf, 2) == format_margin(np.nan, 2) == "\u2013"


@pytest.mark.parametrize("name", DETECTORS)
def test_members_of_recommended_detectors_have_plain_names(name):
    members = [
        member
        for one in walk(make_detector(name))
        if hasattr(one, "estimators")
        for member, _ in one.estimators
    ]
    assert members
    for member in members:
        assert describe_member(f"outer/{member}")
        assert "_" not in name_member(member)
    assert name_member("outer/bearings") == "bearings"  # of the user's own
    assert describe_member("bearings") == ""


def test_members_of_the_papers_systems_have_plain_names():
    members = [name for name, _ in make_paper_system("fan", "ii").estimators]
    assert all(map(describe_member, members))


# -- as a page -----------------------------------------------------------------


@pytest.fixture(scope="module")
def page_path(ensemble, sounds, tmp_path_factory):
    """A page with all contents, and with long and hostile names."""
    folder = tmp_path_factory.mktemp("page")
    train, test = sounds
    table = test[["machine_type", "machine_id"]].copy()
    name = (HOSTILE * 3).replace("/", "_")
    table["path"] = [str(folder / f"{n} {name}") for n in range(len(table))]
    for path, samples in zip(table["path"], test["audio"], strict=True):
        soundfile.write(path, samples, RATE)
    table.iloc[0, table.columns.get_loc("path")] = str(folder / "missing.wav")
    with pytest.warns(UserWarning, match="missing.wav"):
        return write_report(
            ensemble, table, folder / "report.html", X_normal=train, max_details=2
        )


def test_the_page_loads_nothing_from_a_network(page_path):
    page = Page(page_path)
    for _, attrs in page.elements:
        for name in ("src", "href"):
            assert attrs.get(name, "#").startswith(("data:", "#"))
    (policy,) = [
        meta["content"]
        for meta in page.find("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.startswith("default-src 'none'")
    assert "url(" not in page.source


CODE_NAMES = (
    "contamination score_samples decision_function predict mean_rank max_details "
    "max_audio_duration X_normal X_train ThresholdTuner embedding cosine occlu "
    "Pipeline Log-mel nan NaN None inf offset_ threshold_ sample_rate"
)


def test_no_name_from_the_code_is_on_the_page(page_path):
    page = Page(page_path)
    words = re.split(r"[\s.,:()]+", page.text)
    assert not set(CODE_NAMES.split()) & set(words)
    assert "dB between mean spectra" not in page.text
    assert "<code>" not in page.source
    assert not [word for word in words if re.fullmatch("[a-z]+_[a-z_]+", word)] or (
        {word for word in words if re.fullmatch("[a-z]+_[a-z_]+", word)}
        == {"sklearn_asd"}
    )


def test_the_only_script_is_the_one_whose_hash_the_policy_names(page_path):
    page = Page(page_path)
    assert len(page.find("script")) == 1
    script = page.source.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [
        meta["content"]
        for meta in page.find("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert "unsafe-inline" not in policy.partition("script-src")[2]


def test_the_page_is_accessible(page_path):
    page = Page(page_path)
    assert page.find("html") == [{"lang": "en"}]
    levels = [int(t[1]) for t, _ in page.elements if re.fullmatch(r"h\d", t)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1  # no level is skipped
    assert all(image["alt"] for image in page.find("img"))
    assert all(sound["aria-label"] for sound in page.find("audio"))
    assert all(cell.get("scope") in ("row", "col") for cell in page.find("th"))
    assert len(page.find("caption")) == len(page.find("table")) > 3
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    links = [attrs["href"][1:] for attrs in page.find("a")]
    assert set(links) <= set(ids)


PROBE = """
<script>
window.addEventListener("load", async () => {
  const sounds = [...document.querySelectorAll("audio")];
  const durations = await Promise.all(sounds.map(sound => new Promise(done => {
    const ask = () => done(sound.error ? null : sound.duration);
    if (sound.readyState > 0 || sound.error) return ask();
    sound.addEventListener("loadedmetadata", ask);
    sound.addEventListener("error", ask);
  })));
  const found = {
    width: innerWidth,
    needed: document.documentElement.scrollWidth,
    beyond: [...document.querySelectorAll("main *, header *")]
      .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
      .map(e => e.outerHTML.slice(0, 80)),
    images: [...document.images].map(image => image.naturalWidth),
    durations: durations,
  };
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>
"""


def browse(browser, path, folder, *arguments):
    """Open a page in a headless browser; return its output and its complaints."""
    process = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            "--hide-scrollbars",
            f"--user-data-dir={folder}",
            *arguments,
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    complaints = [line for line in process.stderr.splitlines() if "CONSOLE" in line]
    return process.stdout, complaints


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = [path for path in map(shutil.which, names) if path]
    if not found:
        pytest.skip("no headless browser: install chromium")
    return found[0]


@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser_all_fits_is_seen_and_can_be_played(
    page_path, browser, width, tmp_path
):
    # Scripts are forbidden in the page itself, so a copy without that rule is measured.
    source = page_path.read_text(encoding="utf-8")
    source, n_policies = re.subn(r'<meta http-equiv="Content-Sec[^>]*>', "", source)
    assert n_policies == 1
    probed = tmp_path / "probed.html"
    probed.write_text(source.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    # A window is no narrower than 500 pixels, so a frame of the width is opened in it.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<!DOCTYPE html><iframe id="frame" width="{width}" height="2000" '
        'style="border: 0" src="probed.html"></iframe><script>'
        'const wait = setInterval(() => { const out = document.getElementById("frame")'
        '.contentDocument?.getElementById("found"); if (out) { clearInterval(wait); '
        "document.body.append(out); } }, 50)</script>"
    )
    dump, complaints = browse(
        browser,
        frame,
        tmp_path / "profile",
        "--window-size=1400,2000",
        "--allow-file-access-from-files",
        "--virtual-time-budget=20000",
        "--dump-dom",
    )
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', dump)
    found = json.loads(html.unescape(found))
    assert found["width"] == width
    assert found["needed"] <= width
    assert found["beyond"] == []
    assert min(found["images"]) > 0
    # Two clips, the normal one next to each, and one of each of two machines.
    assert found["durations"] == pytest.approx([4.0] * 6, abs=0.01)
    assert complaints == []


SORT = """
const wait = setInterval(() => {
  const page = document.getElementById("frame").contentDocument;
  const table = page?.querySelector("table.clips");
  if (!table?.tHead.querySelector("button")) return;
  clearInterval(wait);
  const names = () => [...table.tBodies[0].rows].map(row => row.cells[0].innerText);
  const found = [names()];
  const heads = [...table.tHead.rows[0].cells];
  const margin = heads.find(head => head.innerText.trim().startsWith("Margin"));
  for (const n of [1, 2]) {
    margin.querySelector("button").click();
    found.push(names());
  }
  const out = document.createElement("pre");
  out.id = "found";
  out.textContent = JSON.stringify({ orders: found, sorted: margin.ariaSort });
  document.body.append(out);
}, 50);
"""


def test_a_click_on_a_columns_head_sorts_the_table(page_path, browser, tmp_path):
    """The page is as written: its policy lets its own script run, and no other."""
    frame = tmp_path / "frame.html"
    frame.write_text(
        '<!DOCTYPE html><iframe id="frame" width="1280" height="2000" '
        f'src="{page_path.as_uri()}"></iframe><script>{SORT}</script>'
    )
    dump, complaints = browse(
        browser,
        frame,
        tmp_path / "profile",
        "--allow-file-access-from-files",
        "--virtual-time-budget=20000",
        "--dump-dom",
    )
    (found,) = re.findall(r'<pre id="found">(.*?)</pre>', dump)
    found = json.loads(html.unescape(found))
    written, up, down = found["orders"]
    assert len(set(written)) > 1
    assert up == written  # the lowest margin first, as written
    assert down == written[::-1]
    assert found["sorted"] == "descending"
    assert complaints == []


def test_a_browser_does_not_complain_about_the_page(page_path, browser, tmp_path):
    picture = tmp_path / "page.png"
    _, complaints = browse(
        browser,
        page_path,
        tmp_path / "profile",
        "--window-size=1280,2000",
        f"--screenshot={picture}",
    )
    assert complaints == []
    assert picture.stat().st_size > 20_000


# -- real recordings -----------------------------------------------------------


def test_real_recordings_are_reported(recordings, tmp_path):
    clips = load_clips(recordings("valve2023"))
    train = clips[clips["split"] == "train"][:20]
    test = clips[clips["split"] == "test"][:12]
    detector = make_pipeline(
        LogMelSegmenter(), SpectrumStatistics(), MahalanobisDetector()
    ).fit(train)
    page = report(tmp_path, detector, test, X_normal=train, max_details=2)
    assert "12 recordings in all" in page.text
    assert len(page.find("audio")) == 2 * len(page.find("article")) + 1


def test_z_scores_of_members_are_shown(tmp_path, sounds):
    train, test = sounds
    spectrum = make_pipeline(SpectrumStatistics(), MahalanobisDetector())
    members = [
        ("near", EmbeddingNeighborDetector(SpectrumStatistics())),
        ("spectrum", PerMachine(spectrum)),
    ]
    model = make_pipeline(LogMelSegmenter(), ZScoreEnsemble(members)).fit(train)
    page = report(tmp_path, model, test, X_normal=train)
    assert "Standard deviations from normal" in page.source
    assert "Normal recordings that are less anomalous" not in page.source
    row = int(np.argmin(model.score_samples(test)))
    z = model[-1].member_scores(model[:-1].transform(test)[row])["z"].iloc[0]
    table = page.source[page.source.index("Parts of the model") :]
    names = re.findall(r'<th scope="row">(\w+)', table)[:2]
    assert names == list(z.sort_values(ascending=False).index)


@pytest.mark.slow
@pytest.mark.parametrize(("n_clips", "most"), [(50, 3e6), (500, 5e6)])
@pytest.mark.parametrize("name", ["toycar2023", "valve2023"])
def test_reports_of_real_recordings_can_be_mailed(
    recordings, tmp_path, name, n_clips, most
):
    clips = load_clips(recordings(name))
    if name == "toycar2023":
        clips = clips.assign(machine_id=clips["car"])
    train, test = clips[clips["split"] == "train"], clips[clips["split"] == "test"]
    detector = make_pipeline(LogMelSegmenter(), make_detector()).fit(train)
    X = pd.concat([test] * 10, ignore_index=True)[:n_clips]
    page = Page(
        write_report(detector, X, tmp_path / "page.html", X_normal=train, X_train=train)
    )
    assert len(page.find("article")) == 10
    assert len(page.find("audio")) == 20 + train["machine_id"].nunique()
    assert len(page.source) <= most
