/* Every instruction set that kernels are written for, slowest first: the only list of them, read by
 * the build, by dispatch.c, by Python and by the tests. One line each:
 *
 *   DFP_ISA(name, condition, "compiler flags", "model of an emulated CPU that has just this one")
 *
 * Its primitives are in isa/<name>.h and formats/<format>/<name>.h. The condition is what the CPU and
 * the operating system must support: DFP_CPU(leaf, subleaf, register, bit) of CPUID, DFP_OS(registers). */
/* clang-format off */
DFP_ISA(scalar, 1, "", "corei7_sandy_bridge_2600k")
DFP_ISA(avx2, DFP_OS(YMM) && DFP_CPU(7, 0, EBX, 5), "-mavx2", "corei7_haswell_4770")
DFP_ISA(avxvnni, DFP_OS(YMM) && DFP_CPU(7, 0, EBX, 5) && DFP_CPU(7, 1, EAX, 4), "-mavx2 -mavxvnni", "arrow_lake")
DFP_ISA(avx512bw, DFP_OS(ZMM) && DFP_CPU(7, 0, EBX, 5) && DFP_CPU(7, 0, EBX, 16) && DFP_CPU(7, 0, EBX, 17) && DFP_CPU(7, 0, EBX, 30) && DFP_CPU(7, 0, EBX, 31), "-mavx512f -mavx512dq -mavx512bw -mavx512vl", "corei7_skylake_x")
DFP_ISA(avx512vnni, DFP_OS(ZMM) && DFP_CPU(7, 0, EBX, 5) && DFP_CPU(7, 0, EBX, 16) && DFP_CPU(7, 0, EBX, 17) && DFP_CPU(7, 0, EBX, 30) && DFP_CPU(7, 0, EBX, 31) && DFP_CPU(7, 0, ECX, 11), "-mavx512f -mavx512dq -mavx512bw -mavx512vl -mavx512vnni", "corei7_icelake_u")
/* clang-format on */
