/* Which kernels run here: CPUID says what the CPU can do, XGETBV which registers the operating system
 * (or a hypervisor) lets it use. */
#include <string.h>

#include "dfp.h"

extern const dfp_kernels dfp_kernels_scalar;

#if defined(DFP_X86_ISAS)
#include <cpuid.h>

extern const dfp_kernels dfp_kernels_avx2;
extern const dfp_kernels dfp_kernels_avx512bw;
#if defined(DFP_HAVE_AVXVNNI)
extern const dfp_kernels dfp_kernels_avxvnni;
#endif
#if defined(DFP_HAVE_AVX512VNNI)
extern const dfp_kernels dfp_kernels_avx512vnni;
#endif

/* State components of XCR0: SSE and AVX registers; opmask and the zmm registers as well. */
#define DFP_YMM_STATE 0x06u
#define DFP_ZMM_STATE 0xe6u

typedef struct {
    int avx2, avxvnni, avx512bw, avx512vnni;
} features;

static unsigned int read_xcr0(void) {
    unsigned int low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static features read_features(void) {
    features f = {0, 0, 0, 0};
    unsigned int a, b, c, d, osxsave;
    if (!__get_cpuid_count(1, 0, &a, &b, &c, &d)) return f;
    osxsave = c >> 27 & 1;
    if (!osxsave || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
    unsigned int xcr0 = read_xcr0(), subleaves = a;
    int ymm = (xcr0 & DFP_YMM_STATE) == DFP_YMM_STATE;
    int zmm = (xcr0 & DFP_ZMM_STATE) == DFP_ZMM_STATE;
    f.avx2 = ymm && (b >> 5 & 1);
    /* F, DQ, BW and VL: what the compiler may use in these files. */
    f.avx512bw = zmm && f.avx2 && (b >> 16 & 1) && (b >> 17 & 1) && (b >> 30 & 1) && (b >> 31 & 1);
    f.avx512vnni = f.avx512bw && (c >> 11 & 1);
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d))
        f.avxvnni = f.avx2 && (a >> 4 & 1);
    return f;
}
#endif

int dfp_list_isas(const dfp_isa **isas) {
    static dfp_isa list[DFP_MAX_ISAS];
    int n = 0;
    list[n++] = (dfp_isa){&dfp_kernels_scalar, 1};
#if defined(DFP_X86_ISAS)
    features f = read_features();
    list[n++] = (dfp_isa){&dfp_kernels_avx2, f.avx2};
#if defined(DFP_HAVE_AVXVNNI)
    list[n++] = (dfp_isa){&dfp_kernels_avxvnni, f.avxvnni};
#endif
    list[n++] = (dfp_isa){&dfp_kernels_avx512bw, f.avx512bw};
#if defined(DFP_HAVE_AVX512VNNI)
    list[n++] = (dfp_isa){&dfp_kernels_avx512vnni, f.avx512vnni};
#endif
#endif
    *isas = list;
    return n;
}

static int rank_of(const char *name) {
    static const char *const order[] = {"scalar", "avx2", "avxvnni", "avx512bw", "avx512vnni"};
    for (int i = 0; i < DFP_MAX_ISAS; ++i)
        if (!strcmp(name, order[i])) return i;
    return -1;
}

const dfp_kernels *dfp_best_isa(const char *most) {
    const dfp_isa *isas;
    const dfp_kernels *best = NULL;
    int n = dfp_list_isas(&isas), limit = most ? rank_of(most) : DFP_MAX_ISAS;
    for (int i = 0; i < n; ++i)
        if (isas[i].runs && rank_of(isas[i].kernels->name) <= limit) best = isas[i].kernels;
    return best;
}

void dfp_cpu_name(char name[49]) {
    memset(name, 0, 49);
#if defined(DFP_X86_ISAS)
    unsigned int words[4];
    for (unsigned int i = 0; i < 3; ++i) {
        if (!__get_cpuid(0x80000002u + i, &words[0], &words[1], &words[2], &words[3])) return;
        memcpy(name + 16 * i, words, 16);
    }
#endif
}
