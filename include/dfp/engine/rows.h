/* A tensor [pixels][channels] cut into rows of whole pixels and rows into rectangular parts.
 *
 * A row is about 512 elements and, where a few pixels suffice for that, a multiple of every vector.
 * Values per channel are repeated along one row, so that the kernels loop over rows and do not
 * depend on the number of channels: they are as fast for one as for a thousand. Rows and parts
 * depend only on the shape; parts are the tasks of every kernel. */

#define DFP_ROW 512
/* A multiple of the vectors of every instruction set, in INT16. */
#define DFP_ROW_MULTIPLE 32
/* Elements of a part, unless its rows become too few or its FP32 sums too long. */
#define DFP_PART (64 << 10)
#define DFP_LEAST_PART_ROWS 64
#define DFP_MOST_PART_ROWS 128

typedef struct {
    int64_t channels, elements;
    int64_t length; /* elements of a row; the last one may be shorter */
    int64_t part_rows, parts;
    int large; /* see dfp_is_large */
} dfp_rows;

/* `rows` rows of `length` elements, side by side from element `first` on. */
typedef struct {
    int64_t first, rows, length;
} dfp_part;

static int64_t dfp_row_pixels(int64_t channels) {
    int64_t factor = channels & -channels;
    int64_t pixels = factor < DFP_ROW_MULTIPLE ? DFP_ROW_MULTIPLE / factor : 1;
    if (pixels * channels > DFP_ROW) pixels = 1;
    pixels *= DFP_ROW / (pixels * channels);
    return pixels > 0 ? pixels : 1;
}

static dfp_rows dfp_cut_rows(int64_t pixels, int64_t channels) {
    dfp_rows r = {.channels = channels, .elements = pixels * channels};
    r.large = dfp_is_large(r.elements);
    r.length = dfp_row_pixels(channels) * channels;
    r.part_rows = DFP_PART / r.length;
    if (r.part_rows < DFP_LEAST_PART_ROWS) r.part_rows = DFP_LEAST_PART_ROWS;
    if (r.part_rows > DFP_MOST_PART_ROWS) r.part_rows = DFP_MOST_PART_ROWS;
    r.parts = dfp_ceil_div(r.elements / r.length, r.part_rows) + (r.elements % r.length > 0);
    return r;
}

/* A shorter last row is a separate part. */
static dfp_part dfp_part_at(const dfp_rows *r, int64_t index) {
    int64_t whole = r->elements / r->length, first = index * r->part_rows;
    if (first >= whole) return (dfp_part){whole * r->length, 1, r->elements - whole * r->length};
    int64_t rows = whole - first < r->part_rows ? whole - first : r->part_rows;
    return (dfp_part){first * r->length, rows, r->length};
}

static int64_t dfp_padded_row(const dfp_rows *r) {
    return dfp_ceil_div(r->length, DFP_ROW_MULTIPLE) * DFP_ROW_MULTIPLE;
}

static size_t dfp_row_bytes(const dfp_rows *r) { return (size_t)dfp_padded_row(r) * sizeof(float); }

/* row[pixel][c] = numbers[c] * factor for a whole row, zeros after it. */
static void dfp_repeat(const dfp_rows *r, const float *numbers, double factor, float *row) {
    for (int64_t c = 0; c < r->channels; ++c) row[c] = (float)(numbers[c] * factor);
    for (int64_t i = r->channels; i < r->length; ++i) row[i] = row[i - r->channels];
    for (int64_t i = r->length; i < dfp_padded_row(r); ++i) row[i] = 0.0f;
}

static void dfp_widen_lanes(const float *lanes, int64_t n, double *wide) {
    for (int64_t i = 0; i < n; ++i) wide[i] = lanes[i];
}

/* lanes[c] = sum over the pixels of a row, pairwise: half the pixels onto the other half. */
static void dfp_add_pixels(double *lanes, int64_t pixels, int64_t channels) {
    while (pixels > 1) {
        int64_t kept = pixels - pixels / 2;
        for (int64_t i = 0; i < (pixels - kept) * channels; ++i)
            lanes[i] += lanes[kept * channels + i];
        pixels = kept;
    }
}

static void dfp_largest_pixels(float *lanes, int64_t pixels, int64_t channels) {
    while (pixels > 1) {
        int64_t kept = pixels - pixels / 2;
        for (int64_t i = 0; i < (pixels - kept) * channels; ++i) {
            float other = lanes[kept * channels + i];
            lanes[i] = other > lanes[i] ? other : lanes[i];
        }
        pixels = kept;
    }
}

/* DFP_INTEGERS is both DFP16 and blocks. */
typedef enum { DFP_ABSENT, DFP_INTEGERS, DFP_FLOATS } dfp_kind;

static dfp_kind dfp_kind_of(const dfp_operand *o) {
    return o->floats ? DFP_FLOATS : o->integers.data ? DFP_INTEGERS : DFP_ABSENT;
}

/* `kind` is a constant where this is called: the choice is made when compiling. */
DFP_INLINE dfp_vf dfp_load_operand(const dfp_operand *o, dfp_kind kind, int64_t i) {
    if (kind == DFP_FLOATS) return dfp_load_float(o->floats + i);
    dfp_vf v = dfp_to_float(dfp_load_widen(o->integers.data + i));
    return dfp_multiply_float(v, dfp_broadcast_float(o->scales[i >> o->block_shift]));
}

DFP_INLINE float dfp_element(const dfp_operand *o, dfp_kind kind, int64_t i) {
    if (kind == DFP_FLOATS) return o->floats[i];
    return (float)o->integers.data[i] * o->scales[i >> o->block_shift];
}

/* sum = (fresh ? 0 : sum) + scale * operand, for `count` elements from `at` on. */
DFP_INLINE void dfp_add_scaled(const dfp_operand *operand, dfp_kind kind, float scale, int fresh,
                               int64_t at, int64_t count, float *sum) {
    dfp_vf factor = dfp_broadcast_float(scale);
    int64_t i = 0;
    for (; i + DFP_LANES <= count; i += DFP_LANES) {
        dfp_vf term = dfp_multiply_float(dfp_load_operand(operand, kind, at + i), factor);
        dfp_store_float(sum + i, fresh ? term : dfp_add_float(dfp_load_float(sum + i), term));
    }
    for (; i < count; ++i) {
        float term = dfp_element(operand, kind, at + i) * scale;
        sum[i] = fresh ? term : sum[i] + term;
    }
}

/* Reductions fetch the next row: their few operations leave hardware prefetchers too little time. */
DFP_INLINE void dfp_prefetch(const dfp_operand *o, dfp_kind kind, int64_t i) {
    if (kind == DFP_FLOATS) __builtin_prefetch(o->floats + i);
    if (kind == DFP_INTEGERS) __builtin_prefetch(o->integers.data + i);
}

/* The end of a row that does not fill a step. */
typedef union {
    float floats[DFP_STEP];
    struct {
        int16_t integers[DFP_STEP];
        float scale;
    };
} dfp_tail;

/* The operand that is `count` elements of `o` from `first` on, then zeros. Elements in blocks are of one
 * block: rows end within a step only where blocks have 16 channels. */
static dfp_operand dfp_copy_tail(const dfp_operand *o, dfp_kind kind, int64_t first, int64_t count,
                                 dfp_tail *tail) {
    dfp_operand copy = *o;
    memset(tail, 0, sizeof *tail);
    if (kind == DFP_FLOATS) {
        memcpy(tail->floats, o->floats + first, (size_t)count * sizeof(float));
        copy.floats = tail->floats;
    }
    if (kind == DFP_INTEGERS) {
        memcpy(tail->integers, o->integers.data + first, (size_t)count * sizeof(int16_t));
        tail->scale = o->scales[first >> o->block_shift];
        copy.integers.data = tail->integers;
        copy.scales = &tail->scale;
        copy.block_shift = DFP_ONE_BLOCK;
    }
    return copy;
}

/* To the nearest integers, ties to even, within [low, high]. */
DFP_INLINE dfp_vi dfp_round_between(const dfp_vf v[2], float low, float high) {
    dfp_vf least = dfp_broadcast_float(low), most = dfp_broadcast_float(high);
    return dfp_narrow(dfp_round(dfp_max_float(dfp_min_float(v[0], most), least)),
                      dfp_round(dfp_max_float(dfp_min_float(v[1], most), least)));
}

/* Stores `count` elements of a step of a result, which may be large; returns their magnitudes or
 * `largest`, the larger by lanes. */
DFP_INLINE dfp_vi dfp_emit(int16_t *to, dfp_vi q, int64_t count, int large, dfp_vi largest) {
    if (count == DFP_STEP) {
        dfp_store_result(to, q, large);
    } else {
        int16_t step[DFP_STEP];
        dfp_store(step, q);
        memset(step + count, 0, (size_t)(DFP_STEP - count) * sizeof *step);
        memcpy(to, step, (size_t)count * sizeof *step);
        q = dfp_load(step);
    }
    return dfp_max_int16(largest, dfp_absolute(q));
}

static int32_t dfp_largest_int_lane(dfp_vi largest) {
    int16_t lanes[DFP_STEP];
    dfp_store(lanes, largest);
    return dfp_largest_int16(lanes, DFP_STEP);
}

/* Whether an operand is DFP16. */
static int dfp_shares_exponent(const dfp_operand *o) {
    return !o->floats && o->integers.data && o->block_shift == DFP_ONE_BLOCK;
}

/* The value of 1 in an operand's numbers. 0 for zeros, whose exponent means nothing. */
static double dfp_operand_unit(const dfp_operand *o) {
    if (o->floats || (o->integers.data && !dfp_shares_exponent(o))) return 1.0;
    return o->integers.max_abs ? dfp_exp2_double(o->integers.exponent) : 0.0;
}

/* The largest magnitude of an operand's values, 0 if it is absent; Inf or NaN if it holds any.
 * `chunk_max` has room for DFP_CHUNKS(n) numbers. */
static double dfp_operand_largest(const dfp_operand *o, int64_t n, int32_t *chunk_max) {
    if (!o->floats && !o->integers.data) return 0.0;
    if (dfp_shares_exponent(o)) return o->integers.max_abs * dfp_operand_unit(o);
    dfp_quantization scan = {.x = *o, .n = n, .chunk_max = chunk_max};
    dfp_parallel(DFP_CHUNKS(n), dfp_largest_task, &scan);
    union {
        int32_t bits;
        float value;
    } largest = {dfp_largest_of(chunk_max, DFP_CHUNKS(n))};
    return largest.value;
}
