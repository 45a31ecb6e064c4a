"""An HTML page about scored clips: verdicts, reasons, sounds.

`verdicts` scores the clips, `evidence` finds the reasons, `machines` sums up each
machine, and `findings` gathers what the page shows, in `sentences` and with `media`.
Its `head` says which model judged what. The sections are in templates/report.html,
which `page` renders.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
