"""Recurrent neural networks for CPUs, trained and served with NumPy and SciPy alone."""

from fastrnn import cells
from fastrnn.gradient_check import gradient_check
from fastrnn.gradient_flow import gradient_flow
from fastrnn.layers import GRU, LSTM, RNN, register_cell

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "cells",
    "gradient_check",
    "gradient_flow",
    "register_cell",
]

__version__ = "0.1.0"
