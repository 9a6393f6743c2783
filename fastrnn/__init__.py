"""Recurrent neural networks for CPUs, trained and served with NumPy and SciPy alone."""

from fastrnn import cells, losses, metrics, optim
from fastrnn._native import get_gemm, isas, set_gemm
from fastrnn.files import FormatError, load
from fastrnn.gradient_check import gradient_check
from fastrnn.gradient_flow import gradient_flow
from fastrnn.language_model import LanguageModel
from fastrnn.layers import GRU, LSTM, RNN, register_cell
from fastrnn.modules import Dropout, Embedding, LayerNorm, Linear
from fastrnn.optim import clip_grad_norm
from fastrnn.sequential import Sequential
from fastrnn.thread_count import get_num_threads, set_num_threads, threads

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Dropout",
    "Embedding",
    "FormatError",
    "LanguageModel",
    "LayerNorm",
    "Linear",
    "Sequential",
    "cells",
    "clip_grad_norm",
    "get_gemm",
    "get_num_threads",
    "gradient_check",
    "gradient_flow",
    "isas",
    "load",
    "losses",
    "metrics",
    "optim",
    "register_cell",
    "set_gemm",
    "set_num_threads",
    "threads",
]

__version__ = "0.1.0"
