"""Recurrent neural networks for CPUs: RNN, LSTM and GRU, trained and served with NumPy and SciPy alone."""

__version__ = "0.1.0"
