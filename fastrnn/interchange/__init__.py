"""Layers from elsewhere and for elsewhere: PyTorch, Keras and ONNX."""
