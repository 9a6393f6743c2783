"""Builds what needs a compiler: the kernels, once per instruction set and dtype, and the Cython modules over them.

Switches, from the environment:

FASTRNN_DEBUG=1            no optimization, debug symbols, assertions
FASTRNN_SANITIZE=LIST      -fsanitize=LIST, e.g. address,undefined (set LD_PRELOAD to the runtime to import it)
FASTRNN_COVERAGE=1         gcov counters in C, line tracing in Cython
"""

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

DEBUG = bool(os.environ.get("FASTRNN_DEBUG"))
COVERAGE = bool(os.environ.get("FASTRNN_COVERAGE"))
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "")

# Flags per instruction set; src/vec.h refuses to compile where they do not fit the set a file names.
ISAS = {
    "x86_64": {
        "baseline": [],
        "avx2": ["-mavx2", "-mfma"],
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx2", "-mfma"],
    },
    "aarch64": {"baseline": [], "neon": []},
}
MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
KERNELS = {
    f"src/isa/{isa}_{dtype}.c": flags
    for isa, flags in ISAS.get(MACHINE, {"baseline": []}).items()
    for dtype in ("f32", "f64")
}

# No -ffast-math, which would change the floating-point mode of the whole process, and no contraction:
# a product is fused where the source says so, and nowhere else.
CFLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-pthread", "-Wall"]
LDFLAGS = ["-pthread"]
MACROS = [(f"FRN_HAVE_{isa.upper()}", "1") for isa in ISAS.get(MACHINE, {"baseline": []})]
if DEBUG:
    CFLAGS += ["-O0", "-g", "-UNDEBUG"]
    MACROS += [("FRN_DEBUG", "1")]
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
    LDFLAGS += [f"-fsanitize={SANITIZE}"]
if COVERAGE:
    CFLAGS += ["--coverage"]
    LDFLAGS += ["--coverage"]
    MACROS += [("CYTHON_TRACE_NOGIL", "1")]


class BuildKernels(build_ext):
    """Compile each kernel with the flags of its instruction set and link them into ``_native``."""

    def build_extension(self, ext):
        if ext.name == "fastrnn._native":
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                ext.extra_objects = [name for names in pool.map(self.compile_kernel, KERNELS.items()) for name in names]
        super().build_extension(ext)

    def compile_kernel(self, item):
        source, flags = item
        depends = [str(path) for path in Path("src").glob("*.[ch]")]
        return self.compiler.compile(
            [source], output_dir=self.build_temp, macros=MACROS, extra_postargs=CFLAGS + flags, depends=depends
        )


def extension(name, *sources):
    return Extension(
        f"fastrnn.{name}",
        [f"src/{name}.pyx", *sources],
        include_dirs=["src"],
        define_macros=MACROS,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        depends=[str(path) for path in Path("src").glob("*.h")] + list(KERNELS),
    )


if sys.byteorder != "little":
    raise SystemExit("fastrnn: expected a little-endian machine")

setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=cythonize(
        [
            extension(name, *sources)
            for name, *sources in (
                ("_native", "src/pool.c", "src/hash.c"),
                ("_recurrence",),
                ("_products",),
                ("_elementwise",),
                ("_blas",),
            )
            if Path(f"src/{name}.pyx").exists()
        ],
        include_path=["."],
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "embedsignature": True,
            "freethreading_compatible": True,
            "linetrace": COVERAGE,
        },
    ),
)
