"""Fitted networks that answer, in files and in services, with NumPy and SciPy alone."""
