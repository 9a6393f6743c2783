"""Series in time, and forecasts of them."""
