"""Predicts the speed of the AVX-512 inner loops on CPUs that are not available.

Compiles the kernels, takes the inner loop of each micro-kernel from the assembly and has llvm-mca
(Debian: `apt install llvm`) predict its cycles for several CPUs. The limit is what the same tool
predicts for the loop's multiply-add instructions alone, each on its own register. Usage::

    python benchmarks/static_speed.py [--llvm-mca llvm-mca-19] > benchmarks/results/static_speed.md
"""

import argparse
import os
import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADERS = ROOT / "include" / "dfp"
FLAGS = ["-O3", "-std=gnu11", "-fno-strict-aliasing", "-ffp-contract=off", "-S", "-o", "-"]
CPUS = ("icelake-server", "sapphirerapids", "znver4")
ITERATIONS = 1000
LANES = 16

# Per instruction set: the instructions of one multiply-add of pairs, in terms of register numbers.
MULTIPLY_ADDS = {
    "avx512bw": ("vpmaddwd %zmm30, %zmm31, %zmm29", "vpaddd %zmm29, %zmm{0}, %zmm{0}"),
    "avx512vnni": ("vpdpwssd %zmm30, %zmm31, %zmm{0}",),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--llvm-mca", default="llvm-mca-19", help="command to run")
    llvm_mca = parser.parse_args().llvm_mca
    print("| instruction set | tile | CPU | multiply-adds/cycle | bare loop | % of it | spills |")
    print("|---|---|---|---|---|---|---|")
    for isa in MULTIPLY_ADDS:
        for tile, loop in inner_loops(compile_kernels(isa), isa).items():
            for cpu in CPUS:
                print(table_row(llvm_mca, isa, tile, loop, cpu))


def compile_kernels(isa):
    """The assembly of all kernels of one instruction set."""
    known = (HEADERS / "isa" / "list.h").read_text()
    flags = re.search(rf'^DFP_ISA\({isa}, .*, "(.*)", ".*"\)$', known, re.M).group(1).split()
    names = [f"-DDFP_ISA={isa}", f'-DDFP_ISA_HEADER="isa/{isa}.h"', f"-I{HEADERS}"]
    compiler = os.environ.get("CC", "cc").split()
    command = [*compiler, *FLAGS, *flags, *names, str(ROOT / "src_pyx" / "kernels.c")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def inner_loops(assembly, isa):
    """{tile: instructions} of the loop with the most multiply-adds in each micro-kernel of INT16;
    tiles are named by their size, and "resident" if their FP32 sums stay in registers."""
    loops = {}
    micro_kernel = r"^dfp_(resident_)?tile_(\d):\n(.*?)\.cfi_endproc"
    for resident, panels, body in re.findall(micro_kernel, assembly, re.M | re.S):
        blocks = re.split(r"^(\.L\d+):\n", body, flags=re.M)
        candidates = [
            text[: text.index(label) + len(label)]
            for label, text in zip(blocks[1::2], blocks[2::2], strict=True)
            if re.search(rf"^\tj\w+\t{re.escape(label)}$", text, re.M)
        ]
        name = f"6x{16 * int(panels)}{', resident' if resident else ''}"
        loops[name] = max(candidates, key=lambda text: multiply_adds(text, isa))
    return dict(sorted(loops.items()))


def multiply_adds(loop, isa):
    return loop.count(MULTIPLY_ADDS[isa][0].split()[0])


def table_row(llvm_mca, isa, tile, loop, cpu):
    count = multiply_adds(loop, isa)
    products = count * LANES * 2 * ITERATIONS
    predicted = products / cycles(llvm_mca, loop, cpu)
    limit = products / cycles(llvm_mca, bare_loop(isa, count), cpu)
    return (
        f"| {isa} | {tile} | {cpu} | {predicted:.1f} | {limit:.1f} "
        f"| {100 * predicted / limit:.0f} | {spills(loop)} |"
    )


def spills(loop):
    """Instructions that access the stack."""
    return len(re.findall(r"%[re]?sp\)|%[re]?bp\)", loop))


def bare_loop(isa, count):
    return "\n".join(text.format(i) for i in range(count) for text in MULTIPLY_ADDS[isa])


def cycles(llvm_mca, loop, cpu):
    """Cycles of ITERATIONS iterations, as llvm-mca predicts them."""
    with tempfile.NamedTemporaryFile("w", suffix=".s") as source:
        source.write("\n".join(line for line in loop.splitlines() if not line.startswith("\t.")))
        source.write("\n")
        source.flush()
        command = [llvm_mca, f"-mcpu={cpu}", f"-iterations={ITERATIONS}", source.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report).group(1))


if __name__ == "__main__":
    main()
