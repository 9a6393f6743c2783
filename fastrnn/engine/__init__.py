"""From layers to kernels: batches as rows, the array twin, and which engine runs."""
