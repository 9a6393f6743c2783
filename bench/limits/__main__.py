"""Print the machine's limits; `python -m bench.limits`."""

from __future__ import annotations

from bench.common import clean_process

clean_process()

from bench.common import cores, environment, machine  # noqa: E402
from bench.limits import cache_sizes, fma_peak, read_bandwidth, read_sizes  # noqa: E402
from bench.table import print_table  # noqa: E402
from fastrnn._native import chosen_isa, isas  # noqa: E402


def main() -> None:
    """Fused multiply-adds for each instruction set and dtype, and read bandwidth for each level."""
    counts = sorted({1, cores()})
    heads = ["limit", *(f"{count} threads" for count in counts)]
    print(machine(environment(chosen_isa())))
    rows = []
    for isa in isas():
        for dtype in ("float32", "float64"):
            rates = (fma_peak(count, dtype, isa, 0.3) for count in counts)
            rows.append([f"{dtype} FMA, {isa}, GFLOP/s", *(f"{rate / 1e9:.0f}" for rate in rates)])
    caches = cache_sizes()
    for level, size in read_sizes().items():
        rates = (read_bandwidth(count, size, seconds=0.3) for count in counts)
        of = f" of {caches[level] >> 10} KiB" if level in caches else ""
        rows.append([f"read {level}{of}, GB/s", *(f"{rate / 1e9:.0f}" for rate in rates)])
    print_table(heads, rows)


if __name__ == "__main__":
    main()
