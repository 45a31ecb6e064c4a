"""Where neither the packages nor a home are writable, as under `docker run -u`."""

import subprocess
import sys
from pathlib import Path

import pytest

# Numba refuses to be used where it finds no folder for what it compiles, and librosa
# uses it. The test takes its folders away, whatever is writable.
PREPARE = """
import sys, warnings
sys.path[:0] = {path!r}
import numba.core.caching
for locator in numba.core.caching.CacheImpl._locator_classes:
    if locator is not numba.core.caching.UserProvidedCacheLocator:
        locator.from_function = classmethod(lambda *arguments: None)
try:
    import librosa.core.audio
    sys.exit("numba does not refuse")
except RuntimeError as error:
    assert "no locator available" in str(error)
for name in [name for name in sys.modules if name.startswith("librosa")]:
    del sys.modules[name]
warnings.simplefilter("error")

import numpy as np, pandas as pd, soundfile, torch
from sklearn.pipeline import make_pipeline
from sklearn_asd import *

torch.set_num_threads(1)
rng = np.random.default_rng(0)
short = dict(segment_duration=0.512, segment_hop=0.256, n_mels=16)
clips = pd.DataFrame(dict(
    audio=list(rng.normal(size=(8, 16000)) / 9), machine_id=["00", "02"] * 4))
few = dict(max_epochs=1, batch_size=16, random_state=0)
"""

USES = {
    "files, resampled": """
files = [f"{folder}/{{n}}.flac" for n in range(2)]
for file in files:
    soundfile.write(file, rng.uniform(-0.1, 0.1, 44100), 44100)
for front_end in LogMelSegmenter(**short), PowerSpectrum():
    assert len(front_end.fit_transform(files)) == 2
assert len(load_clips({folder!r})) == 2
""",
    "cache": """
segment = LogMelSegmenter(cache_dir={folder!r} + "/cache", n_jobs=2, **short)
for _ in range(2):
    assert len(segment.fit_transform(clips)) == 8
""",
    "views": """
views = AugmentationExpander(pitch_steps=(0, 1), stretch_rates=(1,))
pipe = make_pipeline(
    views, LogMelSegmenter(**short), AugmentConfidenceDetector(**few))
assert np.isfinite(pipe.fit(clips).score_samples(clips)).all()
""",
    "networks": """
for detector in IDConfidenceDetector(**few), AutoencoderDetector(**few):
    pipe = make_pipeline(LogMelSegmenter(**short), detector).fit(clips)
    assert np.isfinite(pipe.score_samples(clips)).all()
""",
    "statistics": """
near = EmbeddingNeighborDetector(SpectrumStatistics())
far = GaussianDetector(SpectrumStatistics())
ensemble = ZScoreEnsemble([("near", near), ("far", far)])
pipe = make_pipeline(LogMelSegmenter(**short), ensemble).fit(clips)
assert np.isfinite(pipe.score_samples(clips)).all()
save_model(pipe, {folder!r} + "/model.asd")
load_model({folder!r} + "/model.asd").score_samples(clips)
""",
}


# librosa compiles for half a minute where nothing is kept.
SEPARATE = """
views = AugmentationExpander(pitch_steps=(0,), stretch_rates=(1,), extra=["harmonic"])
assert make_pipeline(views, LogMelSegmenter(**short)).transform(clips).usable.all()
"""


def run(code, folder):
    """Run it in a process without an environment or a home."""
    path = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    result = subprocess.run(
        [sys.executable, "-B", "-c", PREPARE.format(path=path) + code],
        env={"HOME": "/nonexistent", "TMPDIR": str(folder)},
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def test_all_is_read_learnt_and_scored_where_numba_has_no_folder(tmp_path):
    code = "\n".join(USES.values()).format(folder=str(tmp_path))
    run(code + '\nassert not any("librosa" in name for name in sys.modules)', tmp_path)


@pytest.mark.slow
def test_harmonic_views_are_made_where_numba_has_no_folder(tmp_path):
    run(SEPARATE, tmp_path)
    assert list(tmp_path.iterdir()) == []
