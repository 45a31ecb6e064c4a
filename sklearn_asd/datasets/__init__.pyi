from .dcase import fetch_dcase, load_dcase
from .dcase2020 import fetch_dcase2020_task2, load_dcase2020_task2
from .machine_sounds import make_machine_sounds

__all__ = [
    "fetch_dcase",
    "fetch_dcase2020_task2",
    "load_dcase",
    "load_dcase2020_task2",
    "make_machine_sounds",
]
