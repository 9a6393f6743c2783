"""Recurrent neural networks for CPUs, trained and served with NumPy and SciPy alone."""

from fastrnn import cells, losses, metrics, optim
from fastrnn.files import FormatError, load
from fastrnn.gradient_check import gradient_check
from fastrnn.gradient_flow import gradient_flow
from fastrnn.layers import GRU, LSTM, RNN, register_cell
from fastrnn.modules import Dropout, Embedding, LayerNorm, Linear
from fastrnn.optim import clip_grad_norm
from fastrnn.sequential import Sequential

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dropout",
    "Embedding",
    "FormatError",
    "LayerNorm",
    "Linear",
    "Sequential",
    "cells",
    "clip_grad_norm",
    "gradient_check",
    "gradient_flow",
    "load",
    "losses",
    "metrics",
    "optim",
    "register_cell",
]

__version__ = "0.1.0"
