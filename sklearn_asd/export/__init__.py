"""Fitted models as graphs that run without Python."""

from sklearn_asd.export.onnx import export_onnx

__all__ = ["export_onnx"]
