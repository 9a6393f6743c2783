"""X of numbers as people have it: arrays, tables, lists of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, validate_data

from fastrnn.checks import check_bool, check_option
from fastrnn.engine.devices import check_host
from fastrnn.estimators.fitting import Entrance, SupervisedEstimator
from fastrnn.files import FormatError
from fastrnn.sequences.data import LAYOUTS, MISSING, Channels, Samples, form_of, read_samples
from fastrnn.sequences.reading import NumberReader
from fastrnn.serving.judge import Judge, Reader
from fastrnn.text.reading import StepReader

__all__ = ["NumericSequences"]

Array = NDArray[Any]


class NumericSequences(SupervisedEstimator):
    """An estimator whose X are sequences of numbers: arrays, tables, lists.

    Fitted attributes: ``n_features_in_``, the number of columns of a table or the number of
    channels of whatever else, and ``channels_``, mean and scale of each channel (None without
    `standardize`).
    """

    def _check_parameters(self) -> Any:
        plan = super()._check_parameters()
        check_bool("standardize", self.standardize)
        check_option("input_layout", self.input_layout, LAYOUTS)
        check_option("missing", self.missing, MISSING)
        return plan

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = self.missing == "skip"
        return tags

    _dtype: np.dtype  # of the sequences that fit has seen
    _width: int

    # X

    def _read(self, X: Any, lengths: Any, *, reset: bool, name: str = "X") -> Samples:
        return self._read_numbers(X, lengths, self.missing, reset=reset, name=name)

    def _read_numbers(
        self, X: Any, lengths: Any, missing: str, *, reset: bool, name: str = "X"
    ) -> Samples:
        """The same with `missing` as here."""
        dtype = None if self.dtype is None else np.dtype(self.dtype)
        form = form_of(X)
        if form == "table":
            X = self._read_table(X, reset, name)
        elif reset:
            for attribute in ("feature_names_in_", "_table_columns"):
                self.__dict__.pop(attribute, None)
        if not reset:
            return self._number_reader.read(X, lengths, name, missing)
        samples = read_samples(X, lengths, dtype, self.input_layout, missing, name)
        self._width, self._dtype = samples.width, samples.items[0].dtype
        if form != "table":
            self.n_features_in_ = samples.width
        return samples

    @property
    def _number_reader(self) -> NumberReader:
        """How X is read that comes after fit's."""
        names = getattr(self, "feature_names_in_", None)
        return NumberReader(
            self._width,
            self._dtype,
            getattr(self, "channels_", None),
            self.input_layout,
            self.missing,
            getattr(self, "_table_columns", None),
            None if names is None else tuple(names),
        )

    @property
    def _reader(self) -> Reader:
        return self._number_reader

    def _read_table(self, X: Any, reset: bool, name: str) -> Array:
        """A table (n, T) as an array, its columns compared with those of fit."""
        check_host(name, X)
        checks = {
            "dtype": [np.float64, np.float32],
            "ensure_all_finite": "allow-nan" if self.missing == "skip" else True,
        }
        if reset:
            X = validate_data(self, X, **checks)
            self._table_columns = X.shape[1]
            return X
        if hasattr(self, "_table_columns"):
            return validate_data(self, X, reset=False, **checks)
        return check_array(X, **checks, input_name=name, estimator=self)

    def _learn_input(self, samples: Samples, weight: Any) -> None:
        self.channels_ = Channels.of(samples, weight) if self.standardize else None

    def _take_input(self, judge: Judge, counts: Array | None) -> None:
        reader = judge.reader.inner if isinstance(judge.reader, StepReader) else judge.reader
        if not isinstance(reader, NumberReader) or counts is not None:
            raise FormatError("reader: expected one of numbers, got one of texts")
        self.channels_, self._width, self._dtype = reader.channels, reader.width, reader.dtype
        self.n_features_in_ = reader.width
        if reader.columns is not None:
            self.n_features_in_ = self._table_columns = reader.columns
        if reader.names is not None:
            self.feature_names_in_ = np.array(reader.names, dtype=object)

    def _entrance(self, samples: Samples) -> Entrance:
        return Entrance(samples.width, samples.items[0].dtype)
