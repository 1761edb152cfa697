"""The program of `fixtures/train_marks.py`, imported when a test asks: it needs torch."""

from importlib import import_module


def program():
    """The module."""
    return import_module("train_marks")
