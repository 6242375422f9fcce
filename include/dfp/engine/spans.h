/* How a micro-kernel loops over the reduction. */

#define DFP_TILE_ROWS 6
#define DFP_UNROLL _Pragma("GCC unroll 16")

/* `groups` groups of every row, `offset` elements after the row's start. The INT32 sums go to the
 * epilogue after a span that has `flush` set, and stay in registers otherwise. The last span has it
 * set. */
typedef struct {
    int64_t offset;
    int32_t groups;
    int32_t flush;
} dfp_span;

/* A stretch of the reduction in which the rows of A are contiguous. */
typedef struct {
    int64_t offset;
    int64_t groups;
} dfp_segment;

/* Pairs of a run, on average, up to which it is short; see docs/design/kernels.md. */
#define DFP_SHORT_RUN 24

/* Whether sums go to FP32 so often that they had better stay in registers (resident_kernel.h). */
static int dfp_has_short_runs(const dfp_span *spans, const dfp_span *end) {
    int64_t groups = 0, runs = 0;
    for (; DFP_RESIDENT_PANELS && spans < end; ++spans) {
        groups += spans->groups;
        runs += spans->flush;
    }
    return runs > 1 && groups <= runs * DFP_SHORT_RUN;
}

/* Cuts the segments at the ends of the runs; `spans` has room for segments + runs entries. */
static int64_t dfp_make_spans(const dfp_segment *segments, int64_t row_step, const int32_t *ends,
                              dfp_span *spans) {
    int64_t count = 0, at = 0;
    for (const dfp_segment *segment = segments; segment->groups > 0; ++segment) {
        int64_t offset = segment->offset, left = segment->groups;
        while (left > 0) {
            int64_t groups = *ends - at < left ? *ends - at : left;
            int flush = at + groups == *ends;
            spans[count++] = (dfp_span){offset, (int32_t)groups, flush};
            offset += row_step * groups;
            at += groups;
            left -= groups;
            ends += flush;
        }
    }
    return count;
}
