"""Recurrent neural networks for CPUs, trained and served with NumPy and SciPy alone."""

from typing import TYPE_CHECKING

from fastrnn._native import get_gemm, isas, set_gemm
from fastrnn.thread_count import get_num_threads, set_num_threads, threads

if TYPE_CHECKING:
    from fastrnn import cells, losses, metrics, optim
    from fastrnn.estimators import Forecaster as Forecaster
    from fastrnn.estimators import RNNClassifier as RNNClassifier
    from fastrnn.estimators import RNNRegressor as RNNRegressor
    from fastrnn.estimators import SequenceTagger as SequenceTagger
    from fastrnn.estimators import TextClassifier as TextClassifier
    from fastrnn.files import FormatError, load
    from fastrnn.finite_differences import gradient_check
    from fastrnn.gradient_norms import gradient_flow
    from fastrnn.interchange.from_keras import from_keras
    from fastrnn.interchange.from_onnx import from_onnx
    from fastrnn.interchange.from_torch import from_torch
    from fastrnn.interchange.onnx_backend import onnx_backend as onnx_backend
    from fastrnn.interchange.onnx_recurrent import OnnxRecurrent
    from fastrnn.language.model import LanguageModel
    from fastrnn.layers.activation import Activation
    from fastrnn.layers.attention import Attention
    from fastrnn.layers.embedding import Embedding
    from fastrnn.layers.final import Final
    from fastrnn.layers.modules import Dropout, LayerNorm, Linear
    from fastrnn.layers.reversed import Reversed
    from fastrnn.layers.rnn import GRU, LSTM, RNN, register_cell
    from fastrnn.layers.sequential import Sequential
    from fastrnn.layers.stream_pool import StreamPool
    from fastrnn.optim import clip_grad_norm
    from fastrnn.seq2seq.model import Seq2Seq
    from fastrnn.serving.predictor import Predictor

# The names that NumPy and SciPy are enough for; the estimators, which need scikit-learn, and the
# backend, which needs onnx, are not among them, or `from fastrnn import *` would need it too.
__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Attention",
    "Dropout",
    "Embedding",
    "Final",
    "FormatError",
    "LanguageModel",
    "LayerNorm",
    "Linear",
    "OnnxRecurrent",
    "Predictor",
    "Reversed",
    "Seq2Seq",
    "Sequential",
    "StreamPool",
    "cells",
    "clip_grad_norm",
    "from_keras",
    "from_onnx",
    "from_torch",
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

# The imports above that only a type checker makes, made when a name is first asked for: a program
# that serves one layer need not wait for estimators and training. No module has a function's name,
# or importing the module would put it in the function's place.
_MODULES = {
    "GRU": "layers.rnn",
    "LSTM": "layers.rnn",
    "RNN": "layers.rnn",
    "Activation": "layers.activation",
    "Attention": "layers.attention",
    "Dropout": "layers.modules",
    "Embedding": "layers.embedding",
    "Final": "layers.final",
    "Forecaster": "estimators",
    "FormatError": "files",
    "LanguageModel": "language.model",
    "LayerNorm": "layers.modules",
    "Linear": "layers.modules",
    "OnnxRecurrent": "interchange.onnx_recurrent",
    "Predictor": "serving.predictor",
    "RNNClassifier": "estimators",
    "RNNRegressor": "estimators",
    "Reversed": "layers.reversed",
    "Seq2Seq": "seq2seq.model",
    "SequenceTagger": "estimators",
    "Sequential": "layers.sequential",
    "StreamPool": "layers.stream_pool",
    "TextClassifier": "estimators",
    "cells": "cells",
    "clip_grad_norm": "optim",
    "from_keras": "interchange.from_keras",
    "from_onnx": "interchange.from_onnx",
    "from_torch": "interchange.from_torch",
    "gradient_check": "finite_differences",
    "gradient_flow": "gradient_norms",
    "load": "files",
    "losses": "losses",
    "metrics": "metrics",
    "onnx_backend": "interchange.onnx_backend",
    "optim": "optim",
    "register_cell": "layers.rnn",
}

if not TYPE_CHECKING:  # a checker that saw a __getattr__ would take any name for one of ours

    def __getattr__(name):
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module = import_module(f"{__name__}.{_MODULES[name]}")
        found = globals()[name] = module if name == _MODULES[name] else getattr(module, name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
