"""Clips to try things on: built-in sounds, and recordings to fetch."""

from sklearn_asd.datasets.dcase2020 import fetch_dcase2020_task2, load_dcase2020_task2
from sklearn_asd.datasets.machine_sounds import make_machine_sounds

__all__ = ["fetch_dcase2020_task2", "load_dcase2020_task2", "make_machine_sounds"]
