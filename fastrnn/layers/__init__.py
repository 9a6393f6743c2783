"""Layers: parameters, forward and backward."""
