"""Reads damaged sound files in child processes, and counts what happens.

Run by hand as ``python tests/helpers/fuzz_audio.py 20000``; the tests
run a few hundred. Each
file is a small good one of some format with its header, or all of it, damaged: bytes
changed, numbers in it made extreme, cut, lengthened, or joined with another. A child
reads some hundred of them under limits of memory and time. It may read a file or raise
BadClipError, and nothing else.
"""

import io
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile

from sklearn_asd import BadClipError, LogMelSegmenter
from sklearn_asd.audio import read_file

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_U8"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAV", "MS_ADPCM"),
    ("WAV", "ULAW"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
    ("AIFF", "PCM_16"),
    ("OGG", "VORBIS"),
    ("MP3", "MPEG_LAYER_III"),
    ("CAF", "PCM_16"),
    ("W64", "PCM_16"),
    ("RF64", "PCM_16"),
]
EXTREMES = [0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]
MEMORY = 3 * 2**30  # address space of a child; torch and libraries take most of it
SECONDS = 20  # for one file


def make_good_files():
    """Bytes of 0.2 s of noise in each format that this libsndfile writes."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (3200, 2))
    files = []
    for format_, subtype in FORMATS:
        if soundfile.check_format(format_, subtype):
            buffer = io.BytesIO()
            soundfile.write(buffer, samples, 16000, format=format_, subtype=subtype)
            files.append(buffer.getvalue())
    return files


def damage(good, rng):
    """One good file, damaged in one to three ways."""
    data = bytearray(good[rng.integers(len(good))])
    for _ in range(rng.integers(1, 4)):
        end = min(len(data), 128 if rng.random() < 0.8 else len(data))
        if end < 8:
            break
        at = int(rng.integers(end - 4))
        kind = rng.integers(6)
        if kind == 0:
            data[at] = rng.integers(256)
        elif kind == 1:
            order = "<>"[rng.integers(2)]
            value = EXTREMES[rng.integers(len(EXTREMES))]
            data[at : at + 4] = struct.pack(f"{order}I", value)
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 9))]
        elif kind == 3:
            del data[int(rng.integers(len(data))) :]
        elif kind == 4:
            data[at:at] = rng.bytes(int(rng.integers(1, 33)))
        else:
            other = good[rng.integers(len(good))]
            data[at:] = other[int(rng.integers(len(other))) :]
    return bytes(data)


def read_all(folder):
    """Read each file of a folder; prints a line before and after each."""
    for path in sorted(Path(folder).iterdir(), key=lambda path: int(path.stem)):
        print("begin", path.stem, flush=True)
        start = time.monotonic()
        try:
            samples = read_file(path, 8000)
            outcome = "read" if np.isfinite(samples).all() else "not finite"
            LogMelSegmenter(sample_rate=8000, segment_duration=None).transform([path])
        except BadClipError:
            outcome = "refused"
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        if time.monotonic() - start > SECONDS:
            outcome = "slow"
        print("end", path.stem, outcome, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("peak", peak, flush=True)


def fuzz(n_files, seed=0, n_per_child=500):
    """Number of files by outcome, those that went wrong, and the largest memory, MB.

    "read" and "refused" are right. All else is wrong, such as "child died".
    """
    rng, good = np.random.default_rng(seed), make_good_files()
    outcomes, wrong, peak = Counter(), {}, 0
    waiting = [damage(good, rng) for _ in range(n_files)]
    while waiting:
        batch, waiting = waiting[:n_per_child], waiting[n_per_child:]
        lines = _run_child(batch)
        n_done = 0
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "end":
                _, _, outcome = rest.partition(" ")
                outcomes[outcome] += 1
                if outcome not in ("read", "refused"):
                    wrong[outcome] = batch[n_done]
                n_done += 1
            elif word == "peak":
                peak = max(peak, int(rest))
        if n_done < len(batch):  # the child did not survive the next one
            outcomes["child died"] += 1
            wrong["child died"] = batch[n_done]
            waiting = batch[n_done + 1 :] + waiting
    return outcomes, wrong, peak


def _run_child(batch):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(batch):
            (Path(folder) / f"{number}.wav").write_bytes(data)
        command = [sys.executable, __file__, "--child", folder]
        try:
            return subprocess.run(
                command,
                preexec_fn=limit,
                capture_output=True,
                text=True,
                timeout=60 + SECONDS * len(batch) / 10,
            ).stdout.splitlines()
        except subprocess.TimeoutExpired as error:
            return (error.stdout or b"").decode().splitlines()


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        read_all(sys.argv[2])
    else:
        start = time.monotonic()
        outcomes, wrong, peak = fuzz(int(sys.argv[1]))
        print(dict(outcomes), f"peak {peak} MB, {time.monotonic() - start:.0f} s")
        for outcome, data in wrong.items():
            print(f"{outcome!r}: {data[:100]!r} ... of {len(data)} bytes")
        sys.exit(bool(wrong))
