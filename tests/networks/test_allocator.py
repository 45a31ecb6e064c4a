import json
import platform
import subprocess
import sys

import pytest

from sklearn_asd.networks.allocator import reuse_large_blocks

# In a process of its own, whose heap holds nothing else.
MEASURE = """
import json, resource, torch
from sklearn_asd.networks.allocator import reuse_large_blocks

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):  # as training does: several blocks at once, then all freed
        blocks = [torch.ones(25_000_000) for _ in range(4)]  # 100 MB each
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20

faults, before = page_faults(), resident_megabytes()
with reuse_large_blocks():
    faults_inside, inside = page_faults(), resident_megabytes()
print(json.dumps([faults, faults_inside, before, inside, resident_megabytes()]))
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is adjusted"
)
def test_large_blocks_are_reused_inside_and_given_back_after():
    process = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True
    )
    faults, faults_inside, before, inside, after = json.loads(process.stdout)
    assert faults_inside < faults / 2
    assert inside > before + 300  # the four blocks are kept
    assert after < before + 50


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with reuse_large_blocks():
        pass
