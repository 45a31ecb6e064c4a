"""An HTML page about scored clips: verdicts, reasons, sounds.

`verdicts` scores the clips, `evidence` finds the reasons, and `findings` gathers what
the page shows, in `sentences` and with `media`. Its sections are in
templates/report.html, which `page` renders.
"""

from sklearn_asd.report.page import write_report

__all__ = ["write_report"]
