"""Marks in weight files. Empty until the watermark schemes land; the package keeps its place in the layers."""
