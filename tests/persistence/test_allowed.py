"""What a model file may hold is listed by name, and imported when it is needed."""

from sklearn_asd import detectors
from sklearn_asd.networks import architectures, losses
from sklearn_asd.persistence import allowed


def test_every_network_and_loss_with_a_name_can_be_saved():
    assert {*allowed.NETWORKS.values()} == {*architectures.NETWORKS.values()}
    assert {*allowed.LOSSES.values()} == {*losses.LOSSES.values()}


def test_a_class_of_an_allowed_name_is_not_the_allowed_class():
    class GaussianDetector(detectors.GaussianDetector):
        pass

    assert allowed.ESTIMATORS.has(detectors.GaussianDetector)
    assert not allowed.ESTIMATORS.has(GaussianDetector)
    assert not allowed.ESTIMATORS.has("GaussianDetector")
    assert "IsolationForest" not in allowed.ESTIMATORS
