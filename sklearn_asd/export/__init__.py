"""Fitted models as graphs that run without Python."""

from sklearn_asd.export.graphs import export_onnx

__all__ = ["export_onnx"]
