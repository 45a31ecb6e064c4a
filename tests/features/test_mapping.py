import pickle

import numpy as np
import pytest

from sklearn_asd import ClipSpectrograms
from sklearn_asd.features.mapping import maps_a_file

N_MELS = 4


@pytest.fixture
def mapped(tmp_path):
    """The second of two clips of 1000 frames in a file."""
    frames = np.random.default_rng(0).normal(size=(2000, N_MELS)).astype(np.float32)
    frames.tofile(tmp_path / "frames")
    frames = np.memmap(tmp_path / "frames", np.float32, "r", shape=(2000, N_MELS))
    return ClipSpectrograms(frames, np.array([0, 1000]), np.array([1000, 2000]))[1:]


def test_a_pickle_of_frames_in_a_file_says_where_they_are(mapped):
    data = pickle.dumps(mapped)
    assert len(data) < 1500
    again = pickle.loads(data)
    assert isinstance(again.frames, np.memmap)
    np.testing.assert_array_equal(again.log_mel(0), mapped.log_mel(0))
    assert pickle.dumps(again) == data
    with open(mapped.frames.filename, "ab") as file:  # as a cache grows
        file.write(bytes(100 * N_MELS * 4))
    grown = np.memmap(mapped.frames.filename, np.float32, "r", shape=(2100, N_MELS))
    assert pickle.dumps(mapped._with(frames=grown)) == data
    assert len(pickle.loads(pickle.dumps(mapped[:0]))) == 0
    part = ClipSpectrograms(mapped.frames[500:], np.array([0]), np.array([9]))
    again = pickle.loads(pickle.dumps(part))  # a part is not the file
    assert not isinstance(again.frames, np.memmap)
    np.testing.assert_array_equal(again.log_mel(0), part.log_mel(0))


def test_frames_that_are_gone_or_others_by_now_are_not_taken(mapped, tmp_path):
    data = pickle.dumps(mapped)
    frames = np.array(mapped.frames)
    frames[:1000] += 1
    frames.tofile(tmp_path / "frames")  # another clip changed
    pickle.loads(data)
    (frames + 1).tofile(tmp_path / "frames")
    with pytest.raises(ValueError, match="holds other frames than when .* pickled"):
        pickle.loads(data)
    frames[:1500].tofile(tmp_path / "frames")
    with pytest.raises(ValueError, match="frames, which cannot be read"):
        pickle.loads(data)
    (tmp_path / "frames").unlink()
    with pytest.raises(ValueError, match="run LogMelSegmenter again, with a cache_dir"):
        pickle.loads(data)


def test_only_a_whole_map_maps_a_file(mapped):
    assert maps_a_file(mapped.frames)
    assert not maps_a_file(mapped.frames[500:])
    assert not maps_a_file(np.array(mapped.frames))
