/* How many products fit INT32: the overflow proof in code.
 *
 * Let A be the operand that is broadcast and B the packed one. A run of products k0 <= k < k1 summed
 * in one INT32 cannot overflow, whatever A holds and in whatever order it is summed, if
 *
 *     max|A| * sum_{k0 <= k < k1} |B[k]|  <=  2^31 - 1,
 *
 * because every partial sum of the run is bounded by the left side. With |q| <= 32767 one pair is
 * always safe: 2 * 32767^2 = 2147352578. The schedule lists where runs end. It is found greedily
 * from the data of B and max|A| alone, so that it is the same for every instruction set, number of
 * threads and tile shape.
 */
#ifndef DFP_ACCUMULATE_H
#define DFP_ACCUMULATE_H

#include <string.h>

#include "types.h"

/* Pairs that enter or leave a run together; a step that is not safe by itself is cut pair by pair. */
#define DFP_SCHEDULE_STEP 8

/* The largest sum of |B| that a run may hold. */
static inline uint32_t dfp_run_limit(int32_t max_a) {
    return max_a > 0 ? (uint32_t)(INT32_MAX / max_a) : UINT32_MAX / 2;
}

/* sums[c] += |B| over the pairs [first, last) of one block of panels; returns the largest sum. */
static inline uint32_t dfp_add_magnitudes(const int16_t *block, int64_t pairs, int64_t panels,
                                          int64_t first, int64_t last, uint32_t *sums) {
    uint32_t largest = 0;
    for (int64_t panel = 0; panel < panels; ++panel) {
        const int16_t *b = block + panel * pairs * 2 * DFP_PANEL + first * 2 * DFP_PANEL;
        uint32_t *s = sums + panel * DFP_PANEL;
        for (int64_t k = first; k < last; ++k, b += 2 * DFP_PANEL) {
            for (int c = 0; c < DFP_PANEL; ++c) {
                int32_t even = b[2 * c], odd = b[2 * c + 1];
                s[c] += (uint32_t)(even < 0 ? -even : even) + (uint32_t)(odd < 0 ? -odd : odd);
            }
        }
        for (int c = 0; c < DFP_PANEL; ++c) largest = s[c] > largest ? s[c] : largest;
    }
    return largest;
}

typedef struct {
    uint32_t sums[DFP_BLOCK];
    int32_t start;
    int64_t runs;
} dfp_run;

/* Appends pairs [first, last) to the open run, or closes that run before `first` and begins anew.
 * Returns 0, with an empty run, if these pairs alone exceed the limit and can be cut further. */
static inline int dfp_extend_run(dfp_run *run, const int16_t *block, int64_t pairs, int64_t panels,
                                 int64_t first, int64_t last, uint32_t limit, int32_t *ends) {
    uint32_t sums[DFP_BLOCK] = {0};
    uint32_t alone = dfp_add_magnitudes(block, pairs, panels, first, last, sums);
    uint32_t joined = 0;
    for (int c = 0; c < DFP_BLOCK; ++c) {
        uint32_t s = run->sums[c] + sums[c];
        joined = s > joined ? s : joined;
    }
    if (joined > limit) {
        if (first > run->start) ends[run->runs++] = (int32_t)first;
        run->start = (int32_t)first;
        memset(run->sums, 0, sizeof run->sums);
        if (alone > limit && last - first > 1) return 0;
    }
    for (int c = 0; c < DFP_BLOCK; ++c) run->sums[c] += sums[c];
    return 1;
}

/* Writes the pair index at which each run ends, ascending, the last one being `pairs`; returns their
 * number. `block` holds `panels` panels of `pairs` pairs; `ends` has room for `pairs` entries. */
static inline int64_t dfp_schedule(const int16_t *block, int64_t pairs, int64_t panels,
                                   int32_t max_a, int32_t *ends) {
    uint32_t limit = dfp_run_limit(max_a);
    dfp_run run = {.start = 0, .runs = 0};
    for (int64_t first = 0; first < pairs; first += DFP_SCHEDULE_STEP) {
        int64_t last = first + DFP_SCHEDULE_STEP < pairs ? first + DFP_SCHEDULE_STEP : pairs;
        if (dfp_extend_run(&run, block, pairs, panels, first, last, limit, ends)) continue;
        for (int64_t k = first; k < last; ++k)
            dfp_extend_run(&run, block, pairs, panels, k, k + 1, limit, ends);
    }
    ends[run.runs++] = (int32_t)pairs;
    return run.runs;
}

/* The same for a fixed interval of `flush_every` products, whose safety the caller has proven. */
static inline int64_t dfp_schedule_fixed(int64_t pairs, int64_t flush_every, int32_t *ends) {
    int64_t runs = 0;
    for (int64_t k = flush_every / 2; k < pairs; k += flush_every / 2) ends[runs++] = (int32_t)k;
    ends[runs++] = (int32_t)pairs;
    return runs;
}

#endif
