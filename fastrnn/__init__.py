"""Recurrent neural networks for CPUs, trained and served with NumPy and SciPy alone."""

__version__ = "0.1.0"
