"""What the values of a model must be so that it scores: more than their types.

Whoever writes a file can compute its digest, so a model is checked, too: its numbers
are finite, variances positive, arrays that belong together equally long, names in
order, and sizes such that scoring ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_asd.audio.remarks import FACTS
from sklearn_asd.detectors.labels import find_banks
from sklearn_asd.features.front_end import find_fmax
from sklearn_asd.features.pooling import name_poolings
from sklearn_asd.features.spectrograms import BAND_NAMES
from sklearn_asd.meta.gamma import GammaScale
from sklearn_asd.meta.zscale import ZScale
from sklearn_asd.networks.device_names import check_device_name

__all__ = ["check_values"]

# The most that a parameter of this name may be. Scoring uses these; what only `fit`
# uses, such as max_epochs, is free.
_MOST = {
    "n_fft": 2**20,
    "n_mels": 2**14,
    "n_bands": 2**14,
    "n_frames": 2**20,
    "n_jobs": 2**10,
    "n_features_": 2**20,
    "n_features_in_": 2**31,
}
_MOST_PROBED = 2**26  # samples that an encoder is tried with
_MOST_FILTERS = 2**27  # n_fft times the number of bands
_MOST_OVERLAP = 2**10  # n_fft over hop_length
_MOST_VIEWS = 2**10

# NaN stands in these for clips that were not used, or for what was not measured.
_MAY_HOLD_NAN = {
    "high_",
    "history_",
    "low_",
    "machines_",
    "sibling_aucs_",
    "training_score_samples_",
}

# ThresholdTuner may set minus infinity; the others take over their detectors'.
_MAY_BE_MINUS_INFINITE = {"ThresholdTuner", "OnlyMachineTypes", "PerMachine"}

_TEXTS = {
    "classes_",
    "feature_names_in_",
    "machines_",
    "_training_domains",
    "_training_groups",
    "_training_machines",
    "_training_types",
}
_WHOLE = {"_training_rows", "_owners", "_bank_clips"}
_CONFIDENCE = {"classes_": "classes", "centers_": "classes n", "machines_": "machines"}
# Of the clips that were learnt from, for those to be added.
_ADDED = {
    "_training_rows": "points",
    "_training_groups": "points",
    "_training_machines": "points",
}
# Names of the axes of arrays: axes of one name are equally long in one estimator.
_AXES = {
    "AugmentConfidenceDetector": _CONFIDENCE,
    "EmbeddingNeighborDetector": {
        "_training_points": "points columns",
        "_training_rows": "points",
        "_training_machines": "points",
        "_training_domains": "points",
        "_training_embedding": "points columns",
        "_bank_points": "bank columns",
        "_bank_clips": "bank",
        "shifts_": "bank bands",
        "scales_": "bank bands",
        "_whitening": "columns columns",
    },
    "GaussianDetector": {
        "classes_": "machines",
        "machines_": "means n",
        "means_": "means columns",
        "whitenings_": "means columns columns",
        "_owners": "means",
        "_training_points": "points columns",
        "_training_machines": "points",
        "_training_types": "points",
        "_training_domains": "points",
        "_training_rows": "points",
    },
    "IDConfidenceDetector": _CONFIDENCE,
    "LedoitWolf": {
        "n_features_in_": "columns",
        "location_": "columns",
        "covariance_": "columns columns",
        "precision_": "columns columns",
    },
    "MahalanobisDetector": {
        "_training_points": "points columns",
        "_training_rows": "points",
    },
    "GammaProbabilityEnsemble": _ADDED,
    "OnlyMachineTypes": _ADDED,
    "PerMachine": {"classes_": "machines", **_ADDED},
    "PerMachineType": _ADDED,
    "RecordingCheck": {
        "machines_": "machines",
        "low_": "limits facts",
        "high_": "limits facts",
    },
    "ThresholdTuner": _ADDED,
    "ZScoreEnsemble": _ADDED,
    "StandardScaler": {
        "n_features_in_": "columns",
        "mean_": "columns",
        "var_": "columns",
        "scale_": "columns",
    },
}
_AXES_OF_ALL = {
    "feature_names_in_": "inputs",
    "training_score_samples_": "clips",
}


def check_values(estimator: BaseEstimator, fitted: dict[str, Any]) -> None:
    """Refuse an estimator whose values no `fit` could have set.

    Parameters
    ----------
    estimator : estimator
        One of `allowed.ESTIMATORS`, with valid parameters, and unfitted.

    fitted : dict
        All its fitted attributes by name, of the types that are declared; empty if it
        is not to be fitted.

    Raises
    ------
    ValueError
        If scores would be NaN, or fail, or take too long.
    """
    kind = type(estimator).__name__
    values = vars(estimator) | fitted
    for name, value in vars(estimator).items():
        # They have a method `fit`, as detectors have.
        fine = not isinstance(value, GammaScale | ZScale)
        _require(fine, f"{kind}.{name} is the scale of a score")
    for name, value in values.items():
        if name not in _MAY_HOLD_NAN:
            _check_finite(f"{kind}.{name}", value, kind in _MAY_BE_MINUS_INFINITE)
        if name in _MOST and value is not None:
            _require(
                abs(value) <= _MOST[name],
                f"{kind}.{name} is {value!r:.40}, more than {_MOST[name]}",
            )
    for check in _RULES_OF_PARAMETERS.get(kind, ()):
        check(estimator)
    if fitted:
        _check_axes(kind, values)
        for rule in _RULES.get(kind, ()):
            rule(kind, values)


def _require(condition: Any, what: str) -> None:
    if not condition:
        raise ValueError(what)


def _check_finite(where: str, value: Any, minus_infinity: bool) -> None:
    if isinstance(value, np.ndarray):
        fine = value.dtype.kind != "f" or bool(np.isfinite(value).all())
        _require(fine, f"{where} holds NaN or infinity")
    elif isinstance(value, float):
        fine = math.isfinite(value) or (minus_infinity and value == -math.inf)
        _require(fine, f"{where} is {value}")
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            _check_finite(where, one, minus_infinity)


def _check_axes(kind: str, values: dict[str, Any]) -> None:
    """Check the types of arrays, and that they fit together."""
    lengths: dict[str, tuple[str, int]] = {}
    for name, axes in (_AXES.get(kind, {}) | _AXES_OF_ALL).items():
        value = values.get(name)
        if value is None:
            continue
        if isinstance(value, np.ndarray):
            kinds = "OU" if name in _TEXTS else "iu" if name in _WHOLE else "f"
            _require(value.dtype.kind in kinds, f"{kind}.{name} is of {value.dtype}")
        shape = (value,) if name == "n_features_in_" else np.shape(value)
        fine = len(shape) == len(axes.split())
        _require(fine, f"{kind}.{name} has the shape {shape}")
        for axis, length in zip(axes.split(), shape, strict=True):
            first, expected = lengths.setdefault(axis, (name, length))
            _require(
                length == expected or axis == "n",
                f"{kind}.{name} has the shape {shape}; there are {expected} {axis}, "
                f"as {first} says",
            )


def _check_order(kind: str, values: dict[str, Any], name: str) -> None:
    names = values[name]
    fine = names is None or (names[1:] > names[:-1]).all()
    _require(fine, f"{kind}.{name} is not in ascending order")


def _check_detector(kind: str, name: str, detector: Any) -> None:
    found = type(detector).__name__
    fine = hasattr(detector, "score_samples")
    _require(fine, f"{kind}.{name} holds {found}, which cannot score clips")


# -- rules of parameters -------------------------------------------------------------


def _check_device(detector: Any) -> None:
    check_device_name(detector.device)


def _check_types(only: Any) -> None:
    names = only.machine_types
    names = [names] if isinstance(names, str) else names
    fine = isinstance(names, list | tuple | np.ndarray)
    fine = fine and all(isinstance(name, str) for name in names)
    _require(fine, f"OnlyMachineTypes is for the types {names!r:.80}")


def _check_views(expander: Any) -> None:
    n_views = len(expander.get_view_names())
    _require(n_views <= _MOST_VIEWS, f"there are {n_views} views")


def _check_segmenter(segmenter: Any) -> None:
    segmenter.segment_frames()
    find_fmax(segmenter.sample_rate, segmenter.fmin, segmenter.fmax, "bands")
    _check_filters(segmenter.n_fft, segmenter.n_mels)
    overlap = segmenter.n_fft / segmenter.hop_length
    fine = overlap <= _MOST_OVERLAP
    _require(
        fine, f"n_fft is {overlap:.0f} times hop_length, more than {_MOST_OVERLAP}"
    )


def _check_power(spectrum: Any) -> None:
    find_fmax(spectrum.sample_rate, spectrum.fmin, spectrum.fmax, "bands")
    _check_filters(spectrum.n_fft, spectrum.n_bands)


def _check_poolings(statistics: Any) -> None:
    name_poolings(statistics.statistics)


def _check_embedding(embedding: Any) -> None:
    fine = isinstance(embedding.encoder, str)
    _require(fine, f"an encoder is {embedding.encoder!r:.80}, and not its name")
    check_device_name(embedding.device)
    if embedding.pooling is not None:
        name_poolings(embedding.pooling)
    n_samples = (embedding.max_duration or 1) * embedding.sample_rate
    _require(n_samples <= _MOST_PROBED, f"an encoder takes {n_samples:g} samples")


def _check_filters(n_fft: int, n_bands: int) -> None:
    what = f"n_fft={n_fft} times {n_bands} bands is more than {_MOST_FILTERS}"
    _require(n_fft * n_bands <= _MOST_FILTERS, what)


def _check_steps(pipeline: Any) -> None:
    *transformers, _ = [step for _, step in pipeline.steps]
    for one in transformers:
        fine = one in (None, "passthrough") or hasattr(one, "transform")
        _require(fine, f"Pipeline has the step {one!r:.80}, which is no transformer")


def _check_members(ensemble: Any) -> None:
    names = [name for name, _ in ensemble.estimators]
    fine = len(set(names)) == len(names)
    _require(fine, f"{type(ensemble).__name__} has two members of one name")


_RULES_OF_PARAMETERS: dict[str, tuple[Callable[[Any], None], ...]] = {
    "AugmentConfidenceDetector": (_check_device,),
    "AugmentationExpander": (_check_views,),
    "AutoencoderDetector": (_check_device,),
    "EncoderEmbedding": (_check_embedding,),
    "GammaProbabilityEnsemble": (_check_members,),
    "IDConfidenceDetector": (_check_device,),
    "LogMelSegmenter": (_check_segmenter,),
    "OnlyMachineTypes": (_check_types,),
    "PerMachineType": (_check_members,),
    "Pipeline": (_check_steps,),
    "PowerSpectrum": (_check_power,),
    "SpectrumStatistics": (_check_poolings,),
    "ZScoreEnsemble": (_check_members,),
}


# -- rules of fitted attributes ------------------------------------------------------


def _check_covariance(kind: str, values: dict[str, Any]) -> None:
    for name in ("covariance_", "precision_"):
        fine = (np.diag(values[name]) >= 0).all()
        _require(fine, f"{kind}.{name} has a negative variance")


def _check_scaler(kind: str, values: dict[str, Any]) -> None:
    for used, name in (("with_mean", "mean_"), ("with_std", "scale_")):
        fine = not values[used] or values[name] is not None
        _require(fine, f"{kind}.{name} is None")
    for name, least in (("var_", 0), ("scale_", np.nextafter(0, 1))):
        fine = values[name] is None or (values[name] >= least).all()
        _require(fine, f"{kind}.{name} is negative or 0")


def _check_limits(kind: str, values: dict[str, Any]) -> None:
    low, high = values["low_"], values["high_"]
    shape = len(values["machines_"]) + 1, len(FACTS)
    _require(low.shape == shape, f"{kind}.low_ has the shape {low.shape}, not {shape}")
    infinite = np.isinf(low).any() or np.isinf(high).any()
    fine = not infinite and (np.isnan(low) == np.isnan(high)).all()
    _require(fine and not (low > high).any(), f"{kind}.low_ and high_ are no limits")
    _check_order(kind, values, "machines_")


def _check_mahalanobis(kind: str, values: dict[str, Any]) -> None:
    location = getattr(values["covariance_"], "location_", ())
    n_columns = values.get("n_features_in_", len(location))
    fine = 0 < len(location) == n_columns
    points = values.get("_training_points")
    fine = fine and (points is None or points.shape[1] == n_columns)
    _require(fine, f"{kind}.covariance_ is not of {n_columns} columns")
    _check_rows(kind, values)


def _check_gaussian(kind: str, values: dict[str, Any]) -> None:
    n_means, n_columns = values["means_"].shape
    owners = values.get("_owners", np.arange(n_means))
    n_machines = 1
    if "classes_" in values:
        _check_order(kind, values, "classes_")
        n_machines = len(values["classes_"])
    fine = owners.dtype.kind == "i" and set(owners) == set(range(n_machines))
    _require(fine, f"{kind}.means_ is of {n_means} means of other machines")
    if values["encoder_"] is None:
        fine = values.get("n_features_in_") == n_columns
        _require(fine, f"{kind}.n_features_in_ is not {n_columns}")
    else:
        _check_encoder(kind, values["encoder_"])
    _check_rows(kind, values)


def _check_encoder(kind: str, encoder: Any) -> None:
    fine = hasattr(encoder, "embed") or hasattr(encoder, "transform")
    _require(fine, f"{kind}.encoder_ is {type(encoder).__name__}, which embeds nothing")


def _check_neighbors(kind: str, values: dict[str, Any]) -> None:
    _check_encoder(kind, values["encoder_"])
    n_bands, n_columns = values["scales_"].shape[1], values["_training_points"].shape[1]
    _require(n_bands <= n_columns, f"{kind}.scales_ has {n_bands} columns")
    fine = (values["scales_"] > 0).all()
    _require(fine, f"{kind}.scales_ is negative or 0")
    fine = values["metric"] != "mahalanobis" or values["_whitening"] is not None
    _require(fine, f"{kind}._whitening is None")
    _check_rows(kind, values)
    _check_banks(kind, values)


def _check_banks(kind: str, values: dict[str, Any]) -> None:
    n_clips, n_points = len(values["_training_points"]), len(values["scales_"])
    nearest = values.get("_bank_clips")
    fine = (nearest is None) == (values.get("_bank_points") is None)
    _require(fine, f"{kind} has one of _bank_points and _bank_clips")
    if nearest is None:
        _require(n_points == n_clips, f"{kind}.scales_ is of {n_points} points")
        return
    fine = ((nearest >= 0) & (nearest < n_clips)).all()
    _require(fine, f"{kind}._bank_clips are not of {n_clips} clips")
    domains = values.get("_training_domains") if values["by_domain"] else None
    banks = find_banks(values.get("_training_machines"), domains, n_clips)
    fine = all(np.isin(clips, nearest).any() for clips in banks)
    _require(fine, f"{kind}._bank_clips has none of a bank")


def _check_rows(kind: str, values: dict[str, Any]) -> None:
    """Check what clips are added to; files of earlier versions may have none."""
    kept = [name for name in values if name.startswith("_training_")]
    if not kept:
        return
    fine = {"_training_rows", "training_score_samples_"} <= set(values)
    _require(fine and len(values["_training_rows"]), f"{kind} has {kept}, and no rows")
    _check_order(kind, values, "_training_rows")
    rows, n_clips = values["_training_rows"], len(values["training_score_samples_"])
    fine = rows[0] >= 0 and rows[-1] < n_clips
    _require(fine, f"{kind}._training_rows are not rows of {n_clips} clips")


def _check_network(kind: str, values: dict[str, Any]) -> None:
    """Check what all detectors with a network have."""
    fitted_on, history = values["_frames_fitted_on"], values["history_"]
    known = {"n_mels", "segment_frames", "sample_rate", "hop_length", "view_names"}
    fine = known <= set(fitted_on) <= known | {"band_scale", "n_spectrum"}
    _require(fine, f"{kind}._frames_fitted_on lacks some of {sorted(known)}")
    n_mels = values["n_features_in_"]
    fine = fitted_on["n_mels"] == n_mels
    _require(fine, f"{kind}.n_features_in_ is {n_mels}, and not n_mels")
    for name, value in fitted_on.items():
        if name != "view_names":
            fine = isinstance(value, int | float | str | None)
            _require(fine, f"{kind} was fitted on {name}={value!r:.40}")
    views = fitted_on["view_names"]
    fine = type(views) is tuple and len(views) > 0
    fine = fine and all(type(one) is str for one in views)
    _require(fine, f"{kind} was fitted on the views {views!r:.80}")
    fine = {"epoch", "train_loss", "kept"} <= set(history) and history["kept"].any()
    _require(fine, f"{kind}.history_ has no epoch that was kept")


def _check_classes(kind: str, values: dict[str, Any]) -> None:
    _check_order(kind, values, "machines_")
    n_machines = 1 if values["machines_"] is None else len(values["machines_"])
    n_classes = n_machines * len(values["_frames_fitted_on"]["view_names"])
    fine = len(values["classes_"]) == n_classes
    _require(fine, f"{kind}.classes_ does not name {n_classes} classes")


def _check_statistics(kind: str, values: dict[str, Any]) -> None:
    n_mels = values.get("n_features_in_", 1)
    for n_values in values.get("n_values_", {}).values():
        fine = type(n_values) is int and 0 < n_values <= n_mels**2
        _require(fine, f"{kind}.n_values_ holds {n_values!r:.40}")
    scale = values.get("band_scale_", "mel")
    _require(scale in BAND_NAMES, f"{kind}.band_scale_ is {scale!r:.40}")


def _check_inputs(kind: str, values: dict[str, Any]) -> None:
    n_inputs = values.get("n_features_in_", 1)
    _require(n_inputs > 0, f"{kind}.n_features_in_ is {n_inputs}")


def _check_features(kind: str, values: dict[str, Any]) -> None:
    _require(values["n_features_"] > 0, f"{kind}.n_features_ is not above 0")


def _check_per_machine(kind: str, values: dict[str, Any]) -> None:
    _check_order(kind, values, "classes_")
    names = values["classes_"].tolist()
    for name in ("estimators_", "offsets_"):
        fine = list(values.get(name, names)) == names
        _require(fine, f"{kind}.{name} is not of the machines of classes_")
    for detector in values["estimators_"].values():
        _check_detector(kind, "estimators_", detector)
    _check_offsets(kind, values)


def _check_number(kind: str, name: str, value: Any) -> None:
    fine = isinstance(value, Real) and not isinstance(value, bool)
    _require(fine, f"{kind}.{name} holds {value!r:.40}, which is no number")


def _list_kept(values: dict[str, Any]) -> list[str]:
    return [name for name, member in values["estimators"] if member != "drop"]


def _check_fitted_members(kind: str, values: dict[str, Any]) -> None:
    fine = 0 < len(values["estimators_"]) == len(_list_kept(values))
    _require(fine, f"{kind}.estimators_ are not the members of estimators")
    for member in values["estimators_"]:
        _check_detector(kind, "estimators_", member)


def _check_gammas(kind: str, values: dict[str, Any]) -> None:
    scales, n_members = values["scales_"], len(values["estimators_"])
    fine = (values["scaling"] is None) == (not scales)
    _require(fine, f"{kind}.scales_ does not suit scaling={values['scaling']!r}")
    for group, of_group in scales.items():
        fine = group is None if values["group_by"] is None else type(group) is str
        _require(fine, f"{kind}.scales_ is of {group!r:.40}, which is no group")
        # A group that a member does not score has no scales.
        _check_scales(kind, of_group, {0, n_members}, GammaScale)


def _check_scales(kind: str, scales: Any, lengths: set[int], of: type) -> None:
    fine = type(scales) is list and len(scales) in lengths
    fine = fine and all(isinstance(scale, of) for scale in scales)
    _require(fine, f"{kind}.scales_ holds {scales!r:.80}; each member has a scale")


def _check_zscores(kind: str, values: dict[str, Any]) -> None:
    chosen, names = values["selected_"], set(_list_kept(values))
    groups = set(chosen)
    fine = groups == {None} or {type(one) for one in groups} == {str}
    _require(fine, f"{kind}.selected_ is of {list(groups)!r:.80}")
    for name in ("scales_", "total_scales_"):
        fine = set(values[name]) == groups
        _require(fine, f"{kind}.{name} is not of the groups of selected_")
    for group, members in chosen.items():
        fine = type(members) is list and len(members) > 0
        fine = fine and set(members) <= names
        _require(fine, f"{kind}.selected_ holds {members!r:.80}, which are no members")
        _check_scales(kind, values["scales_"][group], {len(members)}, ZScale)
        _check_scales(kind, [values["total_scales_"][group]], {1}, ZScale)
    types = values.get(
        "_group_types", {} if values["group_by"] else dict.fromkeys(groups)
    )
    fine = set(types) == groups
    fine = fine and {type(one) for one in types.values()} in ({str}, {type(None)})
    _require(fine, f"{kind}._group_types is not of the groups of selected_")


def _check_threshold(kind: str, values: dict[str, Any]) -> None:
    _check_detector(kind, "detector_", values["detector_"])
    counts = [v for name, v in values.items() if name.startswith("n_validation_")]
    _require(min(counts) >= 0, f"{kind} counts {min(counts)} validation clips")
    if "offsets_" in values:
        _check_machine_thresholds(kind, values)
    else:
        fine = {"offset_", "_rank"} <= set(values)
        _require(fine, f"{kind} has no threshold")
        _check_rank(kind, values["_rank"], values["n_validation_normal_"])


def _check_machine_thresholds(kind: str, values: dict[str, Any]) -> None:
    _require("offset_" not in values, f"{kind} has one threshold and several")
    _check_offsets(kind, values)
    ranks = values.get("_ranks", {})
    fine = len(values["offsets_"]) > 0 and list(ranks) == list(values["offsets_"])
    _require(fine, f"{kind}._ranks is not of the machines of offsets_")
    for pair in ranks.values():
        fine = type(pair) in (list, tuple) and len(pair) == 2
        fine = fine and all(type(n) is int or n is None for n in pair)
        _require(fine and pair[1] is not None, f"{kind}._ranks holds {pair!r:.40}")
        _check_rank(kind, *pair)


def _check_rank(kind: str, rank: int | None, n_normal: int) -> None:
    fine = rank is None or 0 <= rank <= n_normal
    _require(fine, f"{kind} has a threshold of rank {rank} of {n_normal} clips")


def _check_offsets(kind: str, values: dict[str, Any]) -> None:
    for name, offset in values.get("offsets_", {}).items():
        _require(type(name) is str, f"{kind}.offsets_ is of {name!r:.40}")
        _check_number(kind, "offsets_", offset)


def _check_inner(kind: str, values: dict[str, Any]) -> None:
    _check_detector(kind, "estimator_", values["estimator_"])
    _check_offsets(kind, values)


_RULES: dict[str, tuple[Callable[[str, dict[str, Any]], None], ...]] = {
    "AugmentConfidenceDetector": (_check_network, _check_classes),
    "AutoencoderDetector": (_check_network,),
    "EmbeddingNeighborDetector": (_check_inputs, _check_neighbors),
    "EncoderEmbedding": (_check_features,),
    "GammaProbabilityEnsemble": (_check_fitted_members, _check_gammas),
    "GaussianDetector": (_check_gaussian,),
    "IDConfidenceDetector": (_check_network, _check_classes),
    "LedoitWolf": (_check_covariance,),
    "MahalanobisDetector": (_check_mahalanobis,),
    "OnlyMachineTypes": (_check_inner,),
    "PerMachine": (_check_per_machine,),
    "PerMachineType": (_check_fitted_members,),
    "RecordingCheck": (_check_limits,),
    "SpectrumStatistics": (_check_inputs, _check_statistics),
    "StandardScaler": (_check_scaler,),
    "ThresholdTuner": (_check_threshold,),
    "ZScoreEnsemble": (_check_fitted_members, _check_zscores),
}
