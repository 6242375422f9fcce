/* Selects the kernels that run here, and the algorithm of a convolution. CPUID says what the CPU can
 * do, XGETBV which registers the operating system (or a hypervisor) lets it use. */
#include <string.h>

#include "dfp.h"

#define DFP_JOIN_(a, b) a##b
#define DFP_JOIN(a, b) DFP_JOIN_(a, b)
/* What was compiled: the build defines DFP_HAVE_<name> as 1 or 0 for every name in the list. */
#define DFP_ONLY_1(...) __VA_ARGS__
#define DFP_ONLY_0(...)
#define DFP_IF_COMPILED(name, ...) DFP_JOIN(DFP_ONLY_, DFP_HAVE_##name)(__VA_ARGS__)

#define DFP_ISA(name, condition, flags, model)                                                     \
    DFP_IF_COMPILED(name, extern const dfp_kernels dfp_kernels_##name;)
#include "isa/list.h"
#undef DFP_ISA

static const char *const known[] = {
#define DFP_ISA(name, condition, flags, model) #name,
#include "isa/list.h"
#undef DFP_ISA
};

#define KNOWN ((int)(sizeof known / sizeof *known))

#if defined(__x86_64__)
#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };
/* State components of XCR0: SSE and AVX registers; opmask and the zmm registers as well. */
enum { YMM = 0x06, ZMM = 0xe6 };

static int cpu_has(unsigned int leaf, unsigned int subleaf, int name, int bit) {
    unsigned int r[4];
    if (!__get_cpuid_count(leaf, 0, &r[EAX], &r[EBX], &r[ECX], &r[EDX]) || subleaf > r[EAX])
        return 0;
    __get_cpuid_count(leaf, subleaf, &r[EAX], &r[EBX], &r[ECX], &r[EDX]);
    return r[name] >> bit & 1;
}

static int os_enables(unsigned int registers) {
    unsigned int a, b, c, d;
    int has_xgetbv = __get_cpuid_count(1, 0, &a, &b, &c, &d) && (c >> 27 & 1);
    if (!has_xgetbv) return 0;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & registers) == registers;
}

#define DFP_CPU(leaf, subleaf, name, bit) cpu_has(leaf, subleaf, name, bit)
#define DFP_OS(registers) os_enables(registers)
#endif

int dfp_list_known_isas(const char *const **names) {
    *names = known;
    return KNOWN;
}

int dfp_list_functions(const char *const **names) {
#define DFP_NAME(name) #name,
    static const char *const functions[] = {DFP_ACTIVATIONS(DFP_NAME)};
#undef DFP_NAME
    *names = functions;
    return sizeof functions / sizeof *functions;
}

int dfp_list_isas(const dfp_isa **isas) {
    static dfp_isa list[sizeof known / sizeof *known];
    int n = 0;
#define DFP_ISA(name, condition, flags, model)                                                     \
    DFP_IF_COMPILED(name, list[n++] = (dfp_isa){&dfp_kernels_##name, condition};)
#include "isa/list.h"
#undef DFP_ISA
    *isas = list;
    return n;
}

static int rank_of(const char *name) {
    for (int i = 0; i < KNOWN; ++i)
        if (!strcmp(name, known[i])) return i;
    return -1;
}

const dfp_kernels *dfp_best_isa(const char *most) {
    const dfp_isa *isas;
    const dfp_kernels *best = NULL;
    int n = dfp_list_isas(&isas), limit = most ? rank_of(most) : KNOWN;
    for (int i = 0; i < n; ++i)
        if (isas[i].runs && rank_of(isas[i].kernels->name) <= limit) best = isas[i].kernels;
    return best;
}

static const dfp_conv_algorithm *cheapest(const dfp_conv_algorithms *algorithms, const dfp_conv *c,
                                          unsigned int classes) {
    const dfp_conv_algorithm *best = NULL, *end = algorithms->list + algorithms->count;
    for (const dfp_conv_algorithm *a = algorithms->list; a < end; ++a)
        if (classes >> a->numerics & 1 && a->accepts(c) && (!best || a->cost(c) < best->cost(c)))
            best = a;
    return best;
}

const dfp_conv_algorithm *dfp_choose_conv(const dfp_kernels *kernels, dfp_direction direction,
                                          const dfp_conv *c, unsigned int classes) {
    const dfp_conv_algorithm *best = cheapest(&kernels->conv[direction], c, classes);
    return best ? best : cheapest(&kernels->conv[direction], c, 1u << DFP_DIRECT);
}

void dfp_cpu_name(char name[49]) {
    memset(name, 0, 49);
#if defined(__x86_64__)
    unsigned int words[4];
    for (unsigned int i = 0; i < 3; ++i) {
        if (!__get_cpuid(0x80000002u + i, &words[0], &words[1], &words[2], &words[3])) return;
        memcpy(name + 16 * i, words, 16);
    }
#endif
}
