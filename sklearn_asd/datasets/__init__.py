"""Clips to try things on."""

from sklearn_asd.datasets.machine_sounds import make_machine_sounds

__all__ = ["make_machine_sounds"]
