"""X of numbers as people have it: arrays, tables, lists of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array, validate_data

from fastrnn.checks import check_bool, check_option
from fastrnn.estimators.fitting import Entrance, SupervisedEstimator
from fastrnn.sequences.data import LAYOUTS, MISSING, Channels, Samples, form_of, read_samples

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
        if not reset:
            dtype = self._dtype
        form = form_of(X)
        if form == "table":
            X = self._read_table(X, reset, name)
        elif reset:
            for attribute in ("feature_names_in_", "_table_columns"):
                self.__dict__.pop(attribute, None)
        samples = read_samples(X, lengths, dtype, self.input_layout, missing, name)
        if reset:
            self._width, self._dtype = samples.width, samples.items[0].dtype
            if form != "table":
                self.n_features_in_ = samples.width
        elif samples.width != self._width:
            raise ValueError(
                f"{name}: expected sequences of {self._width} channels, as fit has seen, "
                f"got {samples.width}"
            )
        return samples

    def _read_table(self, X: Any, reset: bool, name: str) -> Array:
        """A table (n, T) as an array, its columns compared with those of fit."""
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

    def _items(self, samples: Samples) -> list[Any]:
        return (samples if self.channels_ is None else self.channels_.scaled(samples)).items

    def _entrance(self, samples: Samples) -> Entrance:
        return Entrance(samples.width, samples.items[0].dtype)
