"""An HTML page about scored clips: verdicts, reasons, sounds."""

from sklearn_asd.report.writing import write_report

__all__ = ["write_report"]
