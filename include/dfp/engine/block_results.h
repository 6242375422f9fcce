/* Results in blocks: INT16 with an FP32 scale, a power of two, for 16 to 64 channels of a pixel
 * (docs/numerics.md). They hold half the bytes of FP32 and, where a block is large, as much as
 * quantisation keeps of it. */

typedef struct {
    int16_t *integers; /* NULL if the result is FP32 */
    float *scales;
    int32_t shift; /* of the number of channels of a block */
    int large;     /* see dfp_is_large */
} dfp_block_result;

static dfp_block_result dfp_blocks_of(const dfp_conv *c, int64_t elements, int64_t group_channels) {
    return (dfp_block_result){c->block_integers, c->block_scales, dfp_block_shift(group_channels),
                              dfp_is_large(elements)};
}

/* The results of forward and of backward_data. */
static dfp_block_result dfp_output_blocks(const dfp_conv *c, int64_t group_channels) {
    return dfp_blocks_of(c, c->batch * c->out_h * c->out_w * c->out_channels, group_channels);
}

static dfp_block_result dfp_input_blocks(const dfp_conv *c, int64_t group_channels) {
    return dfp_blocks_of(c, c->batch * c->in_h * c->in_w * c->in_channels, group_channels);
}

/* The bits of max|x|. Without their signs, FP32 numbers are ordered like their bits, and NaN and
 * Inf are the largest. */
DFP_INLINE int32_t dfp_largest_bits(const float *x, int64_t n) {
    uint32_t lanes[DFP_LANES], largest = 0;
    dfp_vi most = dfp_zero();
    int64_t i = 0;
    for (; i + DFP_LANES <= n; i += DFP_LANES) {
        dfp_vf magnitude = dfp_absolute_float(dfp_load_float(x + i));
        most = dfp_largest(most, dfp_float_bits(magnitude));
    }
    dfp_store_sums(lanes, most);
    for (int lane = 0; lane < DFP_LANES; ++lane)
        largest = lanes[lane] > largest ? lanes[lane] : largest;
    for (const uint32_t *bits = (const uint32_t *)x; i < n; ++i) {
        uint32_t magnitude = bits[i] & 0x7fffffff;
        largest = magnitude > largest ? magnitude : largest;
    }
    return (int32_t)largest;
}

/* numbers[i] / scale, rounded, to the integers from element `at` on; and, if `keep`, what that stands
 * for to `numbers`. */
DFP_INLINE void dfp_round_block(const dfp_block_result *r, float *numbers, int64_t width,
                                float inverse, float scale, int keep, int64_t at) {
    dfp_vf factor = dfp_broadcast_float(inverse), unit = dfp_broadcast_float(scale);
    int16_t *to = r->integers + at;
    for (int64_t i = 0; i < width; i += DFP_STEP) {
        dfp_vi v[2] = {dfp_zero(), dfp_zero()};
        for (int h = 0; h < 2 && i + h * DFP_LANES < width; ++h) {
            float *number = numbers + i + h * DFP_LANES;
            v[h] = dfp_round(dfp_multiply_float(dfp_load_float(number), factor));
            if (!keep) continue;
            dfp_vf kept = dfp_to_float(dfp_clamp(v[h], INT16_MAX));
            dfp_store_float(number, dfp_multiply_float(kept, unit));
        }
        dfp_vi q = dfp_narrow_symmetric(v[0], v[1]);
        if (i + DFP_STEP <= width) {
            dfp_store_result(to + i, q, r->large);
        } else {
            int16_t step[DFP_STEP];
            dfp_store(step, q);
            memcpy(to + i, step, DFP_LANES * sizeof *step);
        }
    }
}

/* One block; NaN as its scale if it holds NaN or Inf. */
DFP_INLINE void dfp_write_block(const dfp_block_result *r, float *numbers, int64_t width, int keep,
                                int64_t at) {
    int32_t largest = dfp_largest_bits(numbers, width);
    int32_t field = (largest >> 23) - (DFP_MAX_BITS - 1);
    float *scale = r->scales + (at >> r->shift);
    if (largest >= 0x7f800000) {
        *scale = NAN;
        memset(r->integers + at, 0, (size_t)width * sizeof *r->integers);
        for (int64_t i = 0; i < width && keep; ++i) numbers[i] = NAN;
        return;
    }
    if (field < 1) field = 1;
    *scale = dfp_exp2(field - 127);
    dfp_round_block(r, numbers, width, dfp_exp2(127 - field), *scale, keep, at);
}

/* `count` numbers, whole blocks, which are the result's from element `at` on; what is written
 * replaces them if `keep`. */
static void dfp_write_blocks(const dfp_block_result *r, float *numbers, int64_t count, int keep,
                             int64_t at) {
    int64_t width = (int64_t)1 << r->shift;
    for (int64_t i = 0; i < count; i += width) dfp_write_block(r, numbers + i, width, keep, at + i);
}

/* The same for `columns` numbers of each pixel of a list, which are the result's from element
 * places[i] + column on, unless that place is negative. Most are one block of 64. */
static void dfp_write_pixels(const dfp_block_result *r, float *const *pixels, const int64_t *places,
                             int64_t count, int64_t column, int64_t columns, int keep) {
    int one = columns == 64 && r->shift == 6 && !keep;
    for (int64_t i = 0; i < count; ++i) {
        if (places[i] < 0) continue;
        if (one)
            dfp_write_block(r, pixels[i], 64, 0, places[i] + column);
        else
            dfp_write_blocks(r, pixels[i], columns, keep, places[i] + column);
    }
}

static void dfp_write_zero_blocks(const dfp_block_result *r, int64_t at, int64_t count) {
    memset(r->integers + at, 0, (size_t)count * sizeof *r->integers);
    for (int64_t i = at >> r->shift; i < (at + count) >> r->shift; ++i)
        r->scales[i] = dfp_exp2(-126);
}
