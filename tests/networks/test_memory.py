import platform
import resource

import pytest
import torch

from sklearn_asd.networks.memory import reuse_large_blocks

only_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is adjusted"
)


def page_faults_of_large_tensors():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)  # 100 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


@only_glibc
def test_large_blocks_are_reused_inside_and_given_back_after():
    outside = page_faults_of_large_tensors()
    before = resident_megabytes()
    with reuse_large_blocks():
        inside = page_faults_of_large_tensors()
    assert inside < outside / 2
    assert resident_megabytes() < before + 50
    assert page_faults_of_large_tensors() > outside / 2  # habits are back


def test_nothing_happens_without_glibc(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with reuse_large_blocks():
        pass
