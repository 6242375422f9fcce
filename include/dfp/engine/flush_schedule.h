/* How many products fit INT32: the overflow proof in code.
 *
 * Let A be the operand that is broadcast and B the packed one. A run of products k0 <= k < k1 summed
 * in one INT32 cannot overflow, whatever A holds and whatever the order of the sum, if
 *
 *     max|A| * sum_{k0 <= k < k1} |B[k]|  <=  2^31 - 1,
 *
 * because every partial sum of the run is bounded by the left side. With |q| <= 32767 one pair is
 * always safe: 2 * 32767^2 = 2147352578. The schedule lists where runs end. It is found greedily
 * and depends only on the data of B and on max|A|, so it is the same for every instruction set,
 * number of threads and tile shape.
 */
#ifndef DFP_FLUSH_SCHEDULE_H
#define DFP_FLUSH_SCHEDULE_H

#include <string.h>

#include "threads.h"
#include "types.h"

/* Pairs that enter or leave a run together; a step that is not safe by itself is cut pair by pair. */
#define DFP_SCHEDULE_STEP 8

/* The largest sum of |B| that a run may hold. */
static inline uint32_t dfp_run_limit(int32_t max_a) {
    return max_a > 0 ? (uint32_t)(INT32_MAX / max_a) : UINT32_MAX / 2;
}

/* Sums of |B| in each column of a block, over the open run or over one step. */
typedef struct {
    uint32_t column[DFP_BLOCK];
} dfp_magnitudes;

static inline uint32_t dfp_largest_lane(dfp_vi v) {
    uint32_t lane[DFP_LANES], largest = 0;
    dfp_store_sums(lane, v);
    for (int i = 0; i < DFP_LANES; ++i) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

/* Sums |B| over the pairs [first, last) of one block of panels; returns the largest sum, and in
 * `joined` the largest sum together with those of the open run. */
static inline uint32_t dfp_sum_magnitudes(const int16_t *block, int64_t pairs, int64_t panels,
                                          int64_t first, int64_t last, const dfp_magnitudes *run,
                                          dfp_magnitudes *step, uint32_t *joined) {
    const int16_t one_and_one[2] = {1, 1};
    dfp_vi ones = dfp_broadcast_pair(one_and_one), most = dfp_zero(), most_joined = dfp_zero();
    for (int64_t v = 0; v < panels * DFP_PANEL / DFP_LANES; ++v) {
        int64_t column = v * DFP_LANES;
        const int16_t *b = block + column / DFP_PANEL * pairs * 2 * DFP_PANEL +
                           first * 2 * DFP_PANEL + column % DFP_PANEL * 2;
        dfp_vi sum = dfp_zero();
        for (int64_t k = first; k < last; ++k, b += 2 * DFP_PANEL)
            sum = dfp_multiply_add(sum, dfp_absolute(dfp_load(b)), ones);
        dfp_store_sums(step->column + column, sum);
        most = dfp_largest(most, sum);
        most_joined = dfp_largest(most_joined, dfp_add(sum, dfp_load_sums(run->column + column)));
    }
    *joined = dfp_largest_lane(most_joined);
    return dfp_largest_lane(most);
}

typedef struct {
    dfp_magnitudes sums;
    int32_t start;
    int64_t runs;
} dfp_run;

/* Appends pairs [first, last) to the open run, or closes that run before `first` and begins a new
 * one. Returns 0, with an empty run, if these pairs alone exceed the limit and can be cut further.
 * */
static inline int dfp_extend_run(dfp_run *run, const int16_t *block, int64_t pairs, int64_t panels,
                                 int64_t first, int64_t last, uint32_t limit, int32_t *ends) {
    dfp_magnitudes step;
    uint32_t joined;
    uint32_t alone =
        dfp_sum_magnitudes(block, pairs, panels, first, last, &run->sums, &step, &joined);
    if (joined > limit) {
        if (first > run->start) ends[run->runs++] = (int32_t)first;
        run->start = (int32_t)first;
        memset(&run->sums, 0, sizeof run->sums);
        if (alone > limit && last - first > 1) return 0;
    }
    for (int64_t c = 0; c < panels * DFP_PANEL; ++c) run->sums.column[c] += step.column[c];
    return 1;
}

/* Appends one step of pairs [first, last), pair by pair where it is not safe by itself. */
static inline void dfp_extend_step(dfp_run *run, const int16_t *block, int64_t pairs,
                                   int64_t panels, int64_t first, int64_t last, uint32_t limit,
                                   int32_t *ends) {
    if (dfp_extend_run(run, block, pairs, panels, first, last, limit, ends)) return;
    for (int64_t k = first; k < last; ++k)
        dfp_extend_run(run, block, pairs, panels, k, k + 1, limit, ends);
}

/* Writes the pair index at which each run ends, ascending, the last one being `pairs`; returns their
 * number. `block` holds `panels` panels of `pairs` pairs; `ends` has room for `pairs` entries. */
static inline int64_t dfp_schedule(const int16_t *block, int64_t pairs, int64_t panels,
                                   int32_t max_a, int32_t *ends) {
    uint32_t limit = dfp_run_limit(max_a);
    dfp_run run = {{{0}}, 0, 0};
    for (int64_t first = 0; first < pairs; first += DFP_SCHEDULE_STEP) {
        int64_t last = first + DFP_SCHEDULE_STEP < pairs ? first + DFP_SCHEDULE_STEP : pairs;
        dfp_extend_step(&run, block, pairs, panels, first, last, limit, ends);
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

typedef struct {
    int32_t max_a;
    int64_t flush_every;
    /* Whether these products are added to those of an earlier schedule. */
    int continues;
} dfp_flush_rule;

/* The schedule of one packed block as spans, whose number it returns. `segments` ends with an empty
 * one; `ends` has room for `pairs` entries. */
static int64_t dfp_plan_block(const int16_t *block, int64_t pairs, int64_t panels,
                              dfp_flush_rule rule, const dfp_segment *segments, int64_t row_step,
                              int32_t *ends, dfp_span *spans) {
    int64_t runs = rule.flush_every ? dfp_schedule_fixed(pairs, rule.flush_every, ends)
                                    : dfp_schedule(block, pairs, panels, rule.max_a, ends);
    dfp_count_runs((dfp_run_counts){!rule.continues, runs, pairs});
    return dfp_make_spans(segments, row_step, ends, spans);
}

#endif
