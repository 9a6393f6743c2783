"""What the estimators' documentation has in common, written once."""

from __future__ import annotations

import inspect
from typing import TypeVar

__all__ = ["documented"]

Class = TypeVar("Class", bound=type)

PARAMETERS = {
    "cell": """cell : {"lstm", "gru", "rnn"}, default "lstm"
        The kind of recurrent layer. An LSTM's forget gates start with a bias of 1.""",
}


def documented(cls: Class) -> Class:
    """Put the texts of a class's shared parameters where its docstring says ``{parameters}``.

    They come in the order of the constructor; a parameter that the docstring itself describes is
    left out.
    """
    text = inspect.cleandoc(cls.__doc__ or "")
    own = {line.split(" : ")[0] for line in text.splitlines() if " : " in line}
    shared = [
        inspect.cleandoc(PARAMETERS[name])
        for name in inspect.signature(cls).parameters
        if name not in own and name in PARAMETERS
    ]
    cls.__doc__ = text.replace("{parameters}", "\n".join(shared))
    return cls
