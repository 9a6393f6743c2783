"""Compile a C test for every instruction set and element type, and run what this processor has.

    python tests/c/run.py test_vec                      everything
    python tests/c/run.py test_vec slow                 the words after the name go to the test
    python tests/c/run.py test_vec --compiler clang --isa avx2 --dtype double --sanitize

Needs nothing but Python and a C compiler.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The flags of setup.py, which cannot be imported.
FLAGS = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"]
ISAS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "baseline": [],
        "avx2": ["-mavx2", "-mfma"],
        "avx512": ["-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mavx2", "-mfma"],
    },
    "aarch64": {"baseline": [], "neon": []},
}
DTYPES = ("float", "double")
SANITIZE = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# What the processor has, asked of the compiler's own runtime.
PROBE = """
#include <stdio.h>
int main(void)
{
    printf("baseline neon ");
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) printf("avx2 ");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw")) printf("avx512");
#endif
    return 0;
}
"""


def compilers() -> list[str]:
    """The C compilers to test with: $CC if set, else those of gcc and clang that are installed."""
    if os.environ.get("CC"):
        return [os.environ["CC"]]
    return [name for name in ("gcc", "clang") if shutil.which(name)]


def isas() -> dict[str, list[str]]:
    """The instruction sets of this architecture, each with its flags."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return ISAS.get(machine, {"baseline": []})


def supported(compiler: str, folder: Path) -> list[str]:
    """The instruction sets that this processor has."""
    source, program = folder / "probe.c", folder / "probe"
    source.write_text(PROBE)
    subprocess.run([*compiler.split(), source, "-o", program], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()


def build(
    name: str, compiler: str, isa: str, dtype: str, program: Path, extra: list[str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Compile tests/c/<name>.c; warnings are errors."""
    macros = [f"-DFRN_DOUBLE={DTYPES.index(dtype)}", f"-DFRN_ISA_{isa.upper()}"]
    command = [*compiler.split(), *FLAGS, *(extra or []), *isas()[isa], *macros]
    command += [f"-I{HERE.parent.parent / 'src'}", str(HERE / f"{name}.c")]
    command += ["-o", str(program), "-lm", "-pthread"]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def main() -> int:
    """Build and run; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="a file of this folder, without .c")
    parser.add_argument("arguments", nargs="*", help="for the test")
    parser.add_argument("--compiler", action="append", help="default: gcc and clang")
    parser.add_argument("--isa", action="append", choices=list(isas()))
    parser.add_argument("--dtype", action="append", choices=DTYPES)
    parser.add_argument(
        "--sanitize", action="store_true", help="with the address and undefined-behavior sanitizers"
    )
    options = parser.parse_args()
    extra = SANITIZE if options.sanitize else []
    chosen = options.compiler or compilers()
    if not chosen:
        parser.error("no C compiler found: set CC")
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / options.name
        for compiler in chosen:
            here = supported(compiler, Path(folder))
            for isa in options.isa or isas():
                for dtype in options.dtype or DTYPES:
                    title = f"{options.name} {compiler} {isa} {dtype}"
                    made = build(options.name, compiler, isa, dtype, program, extra)
                    if made.returncode:
                        print(f"{title}: does not compile\n{made.stdout}")
                        failed += 1
                    elif isa not in here:
                        print(f"{title}: built, not run: this processor lacks {isa}")
                    else:
                        print(f"{title}:", flush=True)
                        failed += subprocess.run([program, *options.arguments]).returncode != 0
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
