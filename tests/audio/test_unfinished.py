"""Files whose header lacks what was known only at the end of the recording."""

import os
import struct
import tracemalloc
from inspect import signature
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sklearn_asd import BadClipError
from sklearn_asd.audio import read_file
from sklearn_asd.audio.reading import open_file

RATE = 16000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000)


def decode_file(content, sample_rate, channel="mix"):
    return open_file(content, sample_rate, channel).samples


def encode(samples=NOISE, format_="FLAC", subtype="PCM_16", **more):
    file = BytesIO()
    soundfile.write(file, samples, RATE, format=format_, subtype=subtype, **more)
    return file.getvalue()


def without_length(flac, md5=True):
    """What an encoder leaves that cannot go back to its header."""
    end = flac[26:42] if md5 else bytes(16)
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + end + flac[42:]


def frame_starts(flac):
    """Where the frames of a short FLAC start: they count from 0."""
    starts, at = [], flac.index(b"\xff\xf8")
    begin = flac[at : at + 2]
    while at >= 0:
        starts.append(at)
        at = flac.find(begin, at + 6)
        while at >= 0 and flac[at + 4] != len(starts):
            at = flac.find(begin, at + 2)
    return starts


STEREO = np.stack([NOISE, NOISE[::-1]], axis=1)
FLACS = {
    "16 bits": encode(),
    "8 bits": encode(subtype="PCM_S8"),
    "24 bits": encode(subtype="PCM_24"),
    "stereo": encode(STEREO),
    "24 bits in 5 channels": encode(np.outer(NOISE, np.eye(5)[0]), subtype="PCM_24"),
    **{
        f"compression {level}": encode(compression_level=level)
        for level in (0.0, 1.0)
        if "compression_level" in signature(soundfile.write).parameters  # since 0.13
    },
    "silence": encode(0 * NOISE),
    "less than a block": encode(NOISE[:100]),
    "whole blocks": encode(NOISE[: 4 * 4096]),
    "one sample": encode(NOISE[:1]),
}


@pytest.mark.parametrize("md5", [True, False])
@pytest.mark.parametrize("kind", FLACS)
def test_a_flac_of_unknown_length_is_read_to_the_bit(tmp_path, kind, md5):
    unknown = without_length(FLACS[kind], md5)
    (tmp_path / "a.flac").write_bytes(unknown)
    for channel in ("mix", 0):
        expected = decode_file(FLACS[kind], RATE, channel)
        assert expected.size in (20_000, 100, 4 * 4096, 1)
        for samples in (
            read_file(tmp_path / "a.flac", RATE, channel),
            decode_file(unknown, RATE, channel),
        ):
            np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("md5", [True, False])
@pytest.mark.parametrize("kind", ["16 bits", "24 bits", "stereo", "less than a block"])
def test_a_flac_of_unknown_length_that_was_cut_short_is_refused(kind, md5):
    whole = without_length(FLACS[kind], md5)
    starts = frame_starts(whole)
    cuts = set(np.linspace(43, len(whole) - 1, 60).astype(int)) - set(starts)
    near = {start + step for start in starts for step in (-1, *range(1, 9))}
    for cut in sorted(cuts | near | {len(whole) - n for n in (1, 2, 3)}):
        with pytest.raises(BadClipError, match="cannot be decoded|holds no samples"):
            decode_file(whole[:cut], RATE)


def test_a_cut_between_two_frames_is_noticed_where_the_header_has_an_md5():
    flac = FLACS["16 bits"]
    starts = frame_starts(flac)
    assert len(starts) == 5
    for number, start in enumerate(starts[1:], 1):
        with pytest.raises(BadClipError, match="was cut short or is damaged"):
            decode_file(without_length(flac)[:start], RATE)
        without_md5 = without_length(flac, md5=False)[:start]  # a file like any other
        assert len(decode_file(without_md5, RATE)) == number * 4096


def test_a_segment_of_a_stream_is_read_whose_frames_do_not_count_from_zero():
    flac = without_length(FLACS["16 bits"], md5=False)
    first, second, *_ = frame_starts(flac)
    samples = decode_file(flac[:first] + flac[second:], RATE)
    np.testing.assert_array_equal(samples, decode_file(FLACS["16 bits"], RATE)[4096:])


def test_another_sound_than_that_of_the_md5_is_refused():
    other = without_length(encode(-NOISE))
    with pytest.raises(BadClipError, match="was cut short or is damaged"):
        decode_file(other[:26] + FLACS["16 bits"][26:42] + other[42:], RATE)


def test_a_whole_flac_is_read_whatever_its_last_byte_is():
    last = set()
    for n in range(1, 2000):
        flac = encode(NOISE[:n])
        if flac[-1] == 0xFF or n < 20:
            last.add(flac[-1])
            assert len(decode_file(without_length(flac, md5=False), RATE)) == n
    assert 0xFF in last


def test_a_long_one_takes_little_more_memory_than_its_samples_twice(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.flac", "w", RATE, 1) as file:
        for _ in range(10):
            file.write(np.zeros(60 * RATE, dtype=np.int16))
    content = without_length((tmp_path / "a.flac").read_bytes())
    (tmp_path / "a.flac").write_bytes(content)
    tracemalloc.start()
    assert len(read_file(tmp_path / "a.flac", RATE)) == 600 * RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.3 * 4 * 600 * RATE


# -- recorders that were killed ----------------------------------------------------

LIST = b"LIST\x04\x00\x00\x00INFO"
PADS = {
    "none": b"",
    "JUNK": b"JUNK" + struct.pack("<I", 28) + bytes(28),
    "FLLR to 4096": b"FLLR" + struct.pack("<I", 4044) + bytes(4044),
    "odd": b"JUNK" + struct.pack("<I", 27) + bytes(28),
    "LIST": LIST,
}
SAMPLES = (NOISE[:8000] * 2**15).astype("<i2")
PAYLOAD = SAMPLES.tobytes()


def make_wav(data_size, riff_size=0, pad=b"", payload=PAYLOAD):
    form = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)
    chunks = b"fmt " + struct.pack("<I", 16) + form + pad + b"data"
    body = b"WAVE" + chunks + struct.pack("<I", data_size) + payload
    return b"RIFF" + struct.pack("<I", riff_size) + body


@pytest.mark.parametrize("pad", PADS)
@pytest.mark.parametrize("riff_size", [0, 36, 4088, 0xFFFFFFFF])
@pytest.mark.parametrize("data_size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 20_000])
def test_all_samples_of_an_unfinished_wav_are_read(data_size, riff_size, pad):
    wav = make_wav(data_size, riff_size, PADS[pad])
    np.testing.assert_array_equal(decode_file(wav, RATE), SAMPLES / np.float32(2**15))


def test_half_a_sample_at_the_end_is_left_out():
    wav = make_wav(0, payload=PAYLOAD + b"\x01")
    assert len(decode_file(wav, RATE)) == len(SAMPLES)


@pytest.mark.parametrize(
    ("format_", "subtype", "more"),
    [
        ("WAV", "PCM_U8", {}),
        ("WAV", "PCM_16", {"endian": "BIG"}),  # RIFX
        ("WAVEX", "PCM_24", {}),
        ("WAVEX", "FLOAT", {}),
    ],
)
def test_unfinished_wavs_of_other_kinds_are_read(format_, subtype, more):
    good = encode(STEREO, format_, subtype, **more)
    at = good.index(b"data")
    unfinished = good[: at + 4] + bytes(4) + good[at + 8 :]
    for channel in ("mix", 1):
        np.testing.assert_array_equal(
            decode_file(unfinished, RATE, channel), decode_file(good, RATE, channel)
        )


def test_an_unfinished_rf64_is_read():
    good = encode(format_="RF64")
    unfinished = good[:20] + bytes(28) + good[48:]
    assert good[12:16] == b"ds64"
    np.testing.assert_array_equal(
        decode_file(unfinished, RATE), decode_file(good, RATE)
    )


@pytest.mark.parametrize("rest", [b"", LIST, 3 * LIST])
def test_a_finished_wav_without_samples_stays_empty(rest):
    with pytest.raises(BadClipError, match="^holds no samples: leave it out"):
        decode_file(make_wav(0, payload=rest), RATE)


def test_other_files_with_bytes_and_no_samples_are_refused_for_what_they_are():
    sun = encode(format_="AU")
    for odd in (make_wav(1), sun[:8] + bytes(4) + sun[12:]):
        message = rf"according to its header, although it has {len(odd):,} bytes: if "
        with pytest.raises(BadClipError, match=message):
            decode_file(odd, RATE)


# -- files from the field -----------------------------------------------------------


@pytest.fixture(scope="module")
def field_cases():
    data = Path(os.environ.get("SKLEARN_ASD_TEST_DATA", "../shared/data"))
    if not (data / "field_cases").is_dir():
        pytest.skip("no recordings in SKLEARN_ASD_TEST_DATA")
    return data / "field_cases"


@pytest.mark.parametrize(
    "name",
    ["unknown_length.flac", "unknown_length_no_md5.flac", "avaudio_unfinished.wav"],
)
def test_unfinished_files_from_the_field_are_read(field_cases, name):
    samples = read_file(field_cases / name, RATE)
    np.testing.assert_array_equal(samples, read_file(field_cases / "plain.wav", RATE))
