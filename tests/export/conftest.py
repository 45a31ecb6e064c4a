"""What the many exports of these tests can share."""

import functools

import pytest


@pytest.fixture(scope="session", autouse=True)
def operators_of_torch():
    """Torch's table of operators, which it would compile anew for each export."""
    registration = pytest.importorskip("torch.onnx._internal.exporter._registration")
    registry = registration.ONNXRegistry
    with pytest.MonkeyPatch.context() as patch:
        once = staticmethod(functools.cache(registry.from_torchlib))
        patch.setattr(registry, "from_torchlib", once)
        yield
