"""Which files of a folder are complete."""

import itertools
import os
import struct
from io import BytesIO

import numpy as np
import pytest
import soundfile

from sklearn_asd.audio.unfinished import describe_unfinished
from sklearn_asd.monitoring.folder import FolderSource, Stamp


def encode(format_, samples=np.zeros(1000), **more):  # noqa: B008
    file = BytesIO()
    soundfile.write(file, samples, 16000, format=format_, **more)
    return file.getvalue()


def promise(wav, n_bytes):
    at = wav.index(b"data") + 4
    return wav[:at] + struct.pack("<I", n_bytes) + wav[at + 4 :]


WAV, FLAC, RF64 = encode("WAV"), encode("FLAC"), encode("RF64")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WAV, ""),
        (encode("WAVEX"), ""),
        (RF64, ""),
        (FLAC, ""),
        (encode("OGG"), ""),
        (encode("WAV", np.zeros(0)), ""),  # empty, and complete
        (promise(WAV, 0) + b"LIST\4\0\0\0none", "promises 0 bytes of samples, and"),
        (b"text", ""),
        (b"", "is an empty file of 0 bytes"),
        (WAV[:-1], "promises 2,000 bytes of samples, and 1,999 are there"),
        (WAV[:44], "promises 2,000 bytes of samples, and 0 are there"),
        (promise(WAV, 0), "promises 0 bytes of samples, and 2,000 are there"),
        (promise(WAV, 0xFFFFFFFF), "promises 4,294,967,295 bytes"),  # ffmpeg to a pipe
        (WAV[:20], "its header ends before the samples"),
        (RF64[:-1], "promises 2,000 bytes of samples, and 1,999 are there"),
        (FLAC[:21] + bytes(5) + FLAC[26:], "does not say how long it is"),
        (FLAC[:20], "does not say how long it is"),
    ],
    ids=itertools.count(),  # an Ogg stream has a number drawn at random
)
def test_a_header_tells_whether_the_recorder_has_finished(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    found = describe_unfinished(path)
    assert reason in found
    assert bool(found) == bool(reason)


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""

    class Clock:
        now = 0.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


def test_a_file_is_found_once_it_settles(tmp_path, clock):
    source = FolderSource(tmp_path, settle=5, give_up=3600)
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    os.utime(path, (1e9, 1e9))  # an old time says nothing, as clocks differ
    assert source.find({}) == []
    clock.now = 4.9
    assert source.find({}) == []
    with open(path, "ab") as file:
        file.write(b"x")
    clock.now = 9
    assert source.find({}) == []
    clock.now = 14
    (found,) = source.find({})
    assert (found.path, found.reason) == (str(path), "")
    assert source.find({found.path: found.stamp}) == []
    changed = {found.path: Stamp(1, 1)}
    assert source.find(changed) == []
    clock.now = 19
    assert source.find(changed) == [found]


def test_the_oldest_file_comes_first(tmp_path):
    for name, time in (("a", 3), ("b", 1), ("c", 2), ("d", 2)):
        (tmp_path / f"{name}.wav").write_bytes(WAV)
        os.utime(tmp_path / f"{name}.wav", (time, time))
    names = [one.path[-5] for one in FolderSource(tmp_path, 0, 3600).find({})]
    assert names == ["b", "c", "d", "a"]


def test_an_unfinished_file_is_given_up_after_its_time(tmp_path, clock):
    source = FolderSource(tmp_path, settle=0, give_up=3600)
    (tmp_path / "a.wav").write_bytes(WAV[:-1])
    assert source.find({}) == []
    clock.now = 3599
    assert source.find({}) == []
    clock.now = 3600
    (found,) = source.find({})
    assert found.reason.endswith("1,999 are there: look at its recorder")


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    source = FolderSource(tmp_path / "new", 0, 1)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        source.find({})
    (tmp_path / "new").mkdir()
    assert source.find({}) == []
