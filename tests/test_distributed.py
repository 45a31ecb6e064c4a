"""The same numbers on a cluster: dask workers in processes of their own."""

import pickle
import warnings

import joblib
import numpy as np
import pytest
import soundfile
import torch
from sklearn.ensemble import IsolationForest
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from sklearn_asd import (
    GammaProbabilityEnsemble,
    IDConfidenceDetector,
    LogMelSegmenter,
    SpectrumStatistics,
    load_clips,
)
from sklearn_asd.datasets import make_machine_sounds
from sklearn_asd.networks import devices

distributed = pytest.importorskip("distributed")

# joblib 1.5's own backend for dask has methods of an old name.
pytestmark = pytest.mark.filterwarnings("ignore:`apply_async` is deprecated")


@pytest.fixture(scope="module")
def cluster(pytestconfig):
    """Two worker processes, which joblib's backend "dask" finds by itself."""

    def lack_bfloat16():
        devices.has_bfloat16 = lambda device="cpu": False

    with warnings.catch_warnings():
        # A port that is taken, and what distributed itself does by old names.
        warnings.simplefilter("ignore")
        options = {"threads_per_worker": 1, "processes": True, "dashboard_address": ""}
        with (
            distributed.LocalCluster(n_workers=2, **options) as cluster,
            distributed.Client(cluster) as client,
        ):
            client.run(torch.set_num_threads, 1)
            if pytestconfig.getoption("--precision") == "float32":
                client.run(lack_bfloat16)
            yield client


@pytest.fixture
def one_thread():
    """As many threads as a worker has, so that even rounding is the same."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Recordings of two fans."""
    folder = tmp_path_factory.mktemp("fans")
    sounds = make_machine_sounds(
        "fan",
        n_machines=2,
        n_train=6,
        n_test_normal=1,
        n_test_anomalous=1,
        duration=4.0,
        random_state=0,
    )
    for row, sound in enumerate(sounds.itertuples()):
        path = folder / f"machine_{sound.machine_id}" / f"{row}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, sound.audio, 16000)
    return load_clips(folder)


@pytest.fixture
def on_cluster(cluster, one_thread):
    with joblib.parallel_config("dask"):
        yield


def make_detector():
    return IDConfidenceDetector(max_epochs=2, batch_size=8, random_state=0)


def run_locally(work):
    with joblib.parallel_config("sequential"):
        return work()


def test_frames_are_computed_by_the_workers(on_cluster, clips, tmp_path):
    local = run_locally(lambda: LogMelSegmenter().transform(clips))
    for cache_dir in (None, tmp_path):
        X = LogMelSegmenter(n_jobs=2, cache_dir=cache_dir).transform(clips)
        np.testing.assert_array_equal(X.frames, local.frames)


def test_an_ensembles_members_are_fitted_by_the_workers(on_cluster, clips):
    of_spectra = make_pipeline(SpectrumStatistics(), IsolationForest(random_state=0))

    def score():
        ensemble = GammaProbabilityEnsemble(
            [("network", make_detector()), ("spectra", of_spectra)], n_jobs=2
        )
        system = make_pipeline(LogMelSegmenter(), ensemble)
        return system.fit(clips).score_samples(clips)

    # A forest adds up the depths of its trees as its threads come to an end.
    np.testing.assert_allclose(score(), run_locally(score), rtol=1e-12)


def test_a_search_is_spread_over_the_workers(on_cluster, clips, tmp_path):
    X = LogMelSegmenter(cache_dir=tmp_path).transform(clips)
    assert len(pickle.dumps(X)) < 10_000  # workers get the file's name

    def search():
        grid = {"center_loss_weight": [0.0, 0.1]}
        folds = KFold(2, shuffle=True, random_state=0)
        search = GridSearchCV(make_detector(), grid, cv=folds, n_jobs=2)
        return search.fit(X).cv_results_["split0_test_score"]

    np.testing.assert_array_equal(search(), run_locally(search))


def test_a_fitted_system_scores_parts_of_a_collection_anywhere(on_cluster, clips):
    system = make_pipeline(LogMelSegmenter(), make_detector()).fit(clips)
    assert len(pickle.dumps(system)) < 500_000
    scores = joblib.Parallel(n_jobs=2)(
        joblib.delayed(system.score_samples)(clips[start : start + 5])
        for start in range(0, len(clips), 5)
    )
    # Other batches round otherwise.
    np.testing.assert_allclose(
        np.concatenate(scores), system.score_samples(clips), rtol=1e-6
    )
