"""Samples from bytes, in blocks of any size."""

import os
import struct
from io import BytesIO

import numpy as np
import pytest
import soundfile

from sklearn_asd.monitoring.pcm import FORMATS, ByteReader, PcmDecoder, StreamError

SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
SOUND = np.random.default_rng(0).uniform(-0.9, 0.9, (1000, 2))


def encode(subtype, format_, samples=SOUND):
    file = BytesIO()
    soundfile.write(file, samples, 16000, subtype, "LITTLE", format=format_)
    return file.getvalue()


def decode(decoder, content, size):
    blocks = [
        decoder.decode(content[at : at + size]) for at in range(0, len(content), size)
    ]
    return np.concatenate([block for block in blocks if len(block)])


@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize(("form", "subtype"), [*zip(FORMATS, SUBTYPES, strict=True)])
def test_raw_samples_are_those_of_soundfile(form, subtype, size):
    raw = encode(subtype, "RAW")
    options = {"samplerate": 16000, "channels": 2, "format": "RAW", "subtype": subtype}
    expected, _ = soundfile.read(BytesIO(raw), dtype="float32", **options)
    samples = decode(PcmDecoder(form, 16000, 2), raw, size)
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
@pytest.mark.parametrize("size", [1, 7, 1000, 10**6])
@pytest.mark.parametrize("promised", [None, 0, 0x7FFFFFFF - 36, 0xFFFFFFFF])
def test_a_wav_tells_its_format_and_perhaps_its_length(kind, size, promised):
    content = encode("PCM_16", kind)
    at = content.index(b"data") + 4
    expected, _ = soundfile.read(BytesIO(content), dtype="float32")
    if promised is None:
        content += b"LIST" + struct.pack("<I", 4) + b"none"  # no sound
    else:
        content = content[:at] + struct.pack("<I", promised) + content[at + 4 :]
    decoder = PcmDecoder(None, None)
    np.testing.assert_array_equal(decode(decoder, content, size), expected)
    assert (decoder.sample_rate, decoder.n_channels) == (16000, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"fLaC" + bytes(50), "does not begin like a WAV"),
        (bytes(50), "does not begin like a WAV"),
        (b"RIFF1234AVI " + bytes(50), "does not begin like a WAV"),
        (b"RIFF1234WAVEdata" + bytes(50), "precede their format"),
        (encode("MS_ADPCM", "WAV"), "kind 2 with 4 bits in 2 channels"),
        (b"RIFF1234WAVE" + bytes(2**17), "no samples after its header"),
    ],
)  # fmt: skip
def test_what_is_no_wav_is_refused(content, message):
    with pytest.raises(StreamError, match=message):
        PcmDecoder(None, None).decode(content)


def test_raw_samples_need_a_rate():
    with pytest.raises(StreamError, match="rate of raw s16le samples is not known"):
        PcmDecoder("s16le", None)


def test_a_reader_waits_only_as_long_as_it_should():
    source, sink = os.pipe()
    reader = ByteReader(source)
    assert reader.get(0.01) is None
    os.write(sink, b"abc")
    assert reader.get(60) == b"abc"
    os.close(sink)
    assert reader.get(60) == b""
    os.close(source)
