import json
import platform
import subprocess
import sys

import pytest

from sklearn_asd.networks.memory import reuse_large_blocks

# In a process of its own, whose heap holds nothing else.
MEASURE = """
import json, resource, torch
from sklearn_asd.networks.memory import reuse_large_blocks

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)  # 100 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

before = page_faults(), resident_megabytes()
with reuse_large_blocks():
    inside = page_faults(), resident_megabytes()
after = resident_megabytes(), page_faults()
print(json.dumps([*before, *inside, *after]))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is adjusted"
)
def test_large_blocks_are_reused_inside_and_given_back_after():
    process = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    faults, resident, faults_inside, _, resident_after, faults_after = json.loads(
        process.stdout
    )
    assert faults_inside < faults / 2
    assert resident_after < resident + 50
    assert faults_after > faults / 2  # the allocator's habits are back


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with reuse_large_blocks():
        pass
