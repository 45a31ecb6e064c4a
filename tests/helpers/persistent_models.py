"""Models of each kind. Running this file writes those of tests/persistence/models.

Run it for a new format only, and give the files new names: later versions must read the
old files, and give the scores recorded with them.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from encoders import bands
from sklearn.base import clone
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_asd import (
    AugmentationExpander,
    AugmentConfidenceDetector,
    AutoencoderDetector,
    Clips,
    EmbeddingNeighborDetector,
    EncoderEmbedding,
    GammaProbabilityEnsemble,
    GaussianDetector,
    IDConfidenceDetector,
    LinearSpectrogram,
    LogMelSegmenter,
    MahalanobisDetector,
    NoiseCanceller,
    OnlyMachineTypes,
    PerMachine,
    PerMachineType,
    PowerSpectrum,
    RecordingCheck,
    SpectrumStatistics,
    ThresholdTuner,
    ZScoreEnsemble,
    save_model,
)
from sklearn_asd.features import DeviationWeightedMean
from sklearn_asd.networks import ArcFace, PVMilk20, SubClusterAdaCos

# Code that the model of this name needs, which its file does not hold.
ENCODERS = {"encoder": {"encoders:bands": bands}}

FOLDER = Path(__file__).parents[1] / "persistence" / "models"

SEGMENTER = LogMelSegmenter(
    sample_rate=8000,
    n_fft=512,
    hop_length=256,
    n_mels=16,
    segment_duration=0.64,
    segment_hop=0.32,
)
DETECTOR = IDConfidenceDetector(
    network=partial(PVMilk20, n_embedding=8),
    batch_size=16,
    max_epochs=2,
    precision="float32",
    random_state=0,
)


def make_clips(seed, n_clips=6):
    """Make noise of two fans, of which one is duller, from a generator that lasts."""
    rng = np.random.RandomState(seed)
    waveforms = rng.normal(scale=0.1, size=(2 * n_clips, 16000))
    waveforms[n_clips:] = (waveforms[n_clips:] + np.roll(waveforms[n_clips:], 1, 1)) / 2
    ids = ["00"] * n_clips + ["01"] * n_clips
    return Clips(list(waveforms), machine_type=["fan"] * len(ids), machine_id=ids)


def as_recorded(name, clips):
    """Give clips the far microphone that the model of this name needs."""
    if name != "microphones":
        return clips
    noise = np.random.RandomState(2).normal(scale=0.1, size=len(clips.sources[0]))
    pairs = [np.stack([near + noise, noise], axis=1) for near in clips.sources]
    return Clips(pairs, machine_type=clips.machine_type, machine_id=clips.machine_id)


def make_models():
    """Make a model of each kind, unfitted."""
    spectrum = make_pipeline(
        SpectrumStatistics(), StandardScaler(), MahalanobisDetector(n_folds=3)
    )
    members = [
        ("id", DETECTOR),
        ("msp", clone(DETECTOR).set_params(confidence="msp")),  # trains no second one
        ("spectrum", PerMachine(spectrum)),
        ("dropped", "drop"),
    ]
    augment = AugmentConfidenceDetector(
        network=DETECTOR.network,
        loss=ArcFace(n_sub_centers=2),
        batch_size=16,
        max_epochs=1,
        validation_fraction=0.3,
        precision="float32",
        random_state=0,
    )
    views = AugmentationExpander(
        pitch_steps=(0,), stretch_rates=(1,), extra=["flip_time"]
    )
    rows = EmbeddingNeighborDetector(SpectrumStatistics(), metric="mahalanobis")
    near = EmbeddingNeighborDetector(DETECTOR, metric="mahalanobis")
    encoder = AutoencoderDetector(
        n_hidden=8, n_bottleneck=2, batch_size=64, max_epochs=1, random_state=0
    )
    return {
        "ensemble": make_pipeline(
            SEGMENTER, GammaProbabilityEnsemble(members, group_by="machine_id")
        ),
        "augment": Pipeline(
            [("expand", views), ("segment", SEGMENTER), ("detect", augment)]
        ),
        "encoder": make_pipeline(
            EncoderEmbedding(bands, sample_rate=8000, max_duration=0.5),
            GaussianDetector(
                SpectrumStatistics(["generalized_mean", DeviationWeightedMean(2)])
            ),
        ),
        "neighbors": OnlyMachineTypes(make_pipeline(SEGMENTER, near), ("fan",)),
        "microphones": make_pipeline(
            NoiseCanceller(n_fft=512), SEGMENTER, PerMachine(spectrum)
        ),
        "power": make_pipeline(
            PowerSpectrum(sample_rate=8000, n_fft=1024, n_bands=16),
            PerMachine(
                make_pipeline(SpectrumStatistics(), MahalanobisDetector(n_folds=3))
            ),
        ),
        "linear": make_pipeline(
            LinearSpectrogram(sample_rate=8000, n_fft=64, hop_length=32, n_spectrum=16),
            clone(DETECTOR).set_params(
                loss=SubClusterAdaCos(n_sub_centers=2),
                self_supervision="statex",
                n_networks=2,
            ),
        ),
        "check": make_pipeline(
            SEGMENTER, RecordingCheck(), GaussianDetector(SpectrumStatistics())
        ),
        "gaussian": make_pipeline(
            SEGMENTER, GaussianDetector(SpectrumStatistics(), standardization=0.5)
        ),
        "types": make_pipeline(
            SEGMENTER,
            PerMachineType(
                [("fan", GaussianDetector(SpectrumStatistics("max"))), ("no", "drop")],
                training_types={"fan": ["fan"]},
            ),
        ),
        "zscore": make_pipeline(
            SEGMENTER,
            ZScoreEnsemble(
                [("near", rows), ("spectrum", PerMachine(spectrum)), ("no", "drop")],
                n_selected=1,
                calibration_cv=3,
            ),
        ),
        "threshold": ThresholdTuner(
            make_pipeline(SEGMENTER, encoder), false_alarm_rate=0.4, random_state=0
        ),
    }


def main():
    """Fit the models, save them, and record their scores."""
    recorded = {}
    for name, model in make_models().items():
        model.fit(as_recorded(name, make_clips(0)))
        save_model(model, FOLDER / f"{name}_format2.asd")
        recorded[name] = model.score_samples(
            as_recorded(name, make_clips(1, 2))
        ).tolist()
    (FOLDER / "scores_format2.json").write_text(json.dumps(recorded, indent=1))


if __name__ == "__main__":
    main()
