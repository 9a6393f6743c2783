"""The one training loop, and all it is made of."""
