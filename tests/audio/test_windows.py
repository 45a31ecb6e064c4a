"""The window of short-time spectra is SciPy's."""

import numpy as np
import pytest
from scipy.signal import get_window

from sklearn_asd.audio.windows import hann_window


@pytest.mark.parametrize("n_fft", [1, 2, 3, 512, 1023, 1024, 2048, 6000])
def test_the_window_is_that_of_scipy(n_fft):
    window = hann_window(n_fft)
    assert window.dtype == np.float64
    np.testing.assert_allclose(window, get_window("hann", n_fft), rtol=0, atol=1e-15)
