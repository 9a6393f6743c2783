"""Build what needs a compiler: kernels, once per instruction set and dtype, and Cython over them.

Switches, from the environment (rebuild with --force after changing one):

FASTRNN_DEBUG=1        hardly optimized, debug symbols, assertions, bounds checks, NaN in new memory
FASTRNN_SANITIZE=LIST  -fsanitize=LIST, e.g. address,undefined (LD_PRELOAD the runtime to import it)
FASTRNN_COVERAGE=1     gcov counters in C, line tracing in Cython
"""

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

DEBUG = bool(os.environ.get("FASTRNN_DEBUG"))
SANITIZE = os.environ.get("FASTRNN_SANITIZE", "")
COVERAGE = bool(os.environ.get("FASTRNN_COVERAGE"))

# Flags per instruction set; src/vec.h refuses to compile where they do not fit the file's set.
ISAS = {
    "x86_64": {
        "baseline": [],
        "avx2": ["-mavx2", "-mfma"],
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx2", "-mfma"],
    },
    "aarch64": {"baseline": [], "neon": []},
}
MACHINE = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
CHOSEN = ISAS.get(MACHINE, {"baseline": []})
KERNELS = {
    f"src/isa/{isa}_{dtype}.c": flags for isa, flags in CHOSEN.items() for dtype in ("f32", "f64")
}
HEADERS = [str(path) for path in Path("src").glob("*.h")] + ["src/kernels.c"]
HEADERS += ["fastrnn/cuda/formulas.h"]  # which GPUs compile, too
INTERFACES = [str(path) for path in Path("fastrnn").glob("*.pxd")]  # layouts that modules share

# No -ffast-math, which would change the floating-point mode of the whole process, and no
# contraction: a product is fused where the source says so, and nowhere else.
CFLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden"]
CFLAGS += ["-pthread", "-Wall"]
if not (DEBUG or SANITIZE):
    CFLAGS += [
        "-g0"
    ]  # Python was often built with -g, which makes the modules several times larger
LDFLAGS = ["-pthread", "-lm"]
if sys.platform == "darwin":
    # A Python built for two architectures asks for both at once, whose kernels need other flags.
    CFLAGS += ["-arch", platform.machine()]
    LDFLAGS += ["-arch", platform.machine()]
MACROS = [(f"FRN_HAVE_{isa.upper()}", "1") for isa in CHOSEN]
if DEBUG:
    CFLAGS += ["-Og", "-g3", "-UNDEBUG"]  # with -O0, GCC inlines no formula into its loop
    MACROS += [("FRN_DEBUG", "1")]
if SANITIZE:
    CFLAGS += [f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]
    CFLAGS += ["-fno-omit-frame-pointer", "-g"]
    LDFLAGS += [f"-fsanitize={SANITIZE}"]
if COVERAGE:
    CFLAGS += ["--coverage"]
    LDFLAGS += ["--coverage"]
    MACROS += [("CYTHON_TRACE_NOGIL", "1")]


class BuildKernels(build_ext):
    """Compile each kernel with the flags of its instruction set and link all into `_native`."""

    def build_extension(self, ext):
        stale = self.force or newer_group(ext.depends, self.get_ext_fullpath(ext.name), "newer")
        if ext.name == "fastrnn._native" and stale:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(self.compile_kernel, KERNELS, KERNELS.values())
                ext.extra_objects = [name for names in objects for name in names]
        super().build_extension(ext)

    def compile_kernel(self, source, flags):
        return self.compiler.compile(
            [source], output_dir=self.build_temp, macros=MACROS, extra_postargs=CFLAGS + flags
        )


def extension(name, *sources):
    return Extension(
        f"fastrnn.{name}",
        [f"src/{name}.pyx", *sources],
        include_dirs=["src"],
        define_macros=MACROS,
        extra_compile_args=CFLAGS,
        extra_link_args=LDFLAGS,
        depends=[f"src/{name}.pyx", *sources, *HEADERS, *INTERFACES, *KERNELS],
    )


if sys.byteorder != "little":
    raise SystemExit("fastrnn: expected a little-endian machine")

EXTENSIONS = [
    extension("_native", "src/count.c", "src/dispatch.c", "src/hash.c", "src/pool.c"),
    extension("_memory"),
    extension("_weights"),
    extension("_walk"),
    extension("_recurrence"),
    extension("_steps"),
    extension("_products"),
    extension("_elementwise"),
    extension("_attention"),
    extension("_blas"),
]

setup(
    cmdclass={"build_ext": BuildKernels},
    ext_modules=cythonize(
        [module for module in EXTENSIONS if Path(module.sources[0]).exists()],
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
