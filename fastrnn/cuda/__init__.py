"""The CUDA engine: passes over CuPy arrays.

It gives what :mod:`fastrnn.engine.twin` gives, from the same arguments. Products are cuBLAS's
(:mod:`fastrnn.cuda.cublas`); what a step computes of them is one kernel for each stage of a cell
(``steps.cu``), whose formulas are the processor's own (``formulas.h``). A batch without padding
that comes again is one launch of a CUDA graph (:mod:`fastrnn.cuda.plans`).
"""
