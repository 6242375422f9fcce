/* Results in blocks: INT16 with an FP32 scale, a power of two, for 16 to 64 channels of a pixel
 * (docs/numerics.md). They hold half the bytes of FP32 and, where a block is large, as much as
 * quantisation keeps of it. */

typedef struct {
    int16_t *integers; /* NULL if the result is FP32 */
    float *scales;
    int32_t shift; /* of the number of channels of a block */
} dfp_block_result;

static dfp_block_result dfp_blocks_of(const dfp_conv *c, int64_t group_channels) {
    return (dfp_block_result){c->block_integers, c->block_scales, dfp_block_shift(group_channels)};
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

/* numbers[i] / scale, rounded, to q; and, if `keep`, what that stands for to `numbers`. */
DFP_INLINE void dfp_round_block(float *numbers, int64_t width, float inverse, float scale, int keep,
                                int16_t *q) {
    dfp_vf factor = dfp_broadcast_float(inverse), unit = dfp_broadcast_float(scale);
    for (int64_t i = 0; i < width; i += DFP_STEP) {
        int16_t step[DFP_STEP];
        dfp_vi v[2] = {dfp_zero(), dfp_zero()};
        for (int h = 0; h < 2 && i + h * DFP_LANES < width; ++h) {
            float *at = numbers + i + h * DFP_LANES;
            v[h] = dfp_round(dfp_multiply_float(dfp_load_float(at), factor));
            v[h] = dfp_clamp(v[h], INT16_MAX);
            if (keep) dfp_store_float(at, dfp_multiply_float(dfp_to_float(v[h]), unit));
        }
        if (i + DFP_STEP <= width) {
            dfp_store_narrow(q + i, v[0], v[1]);
        } else {
            dfp_store_narrow(step, v[0], v[1]);
            memcpy(q + i, step, DFP_LANES * sizeof *step);
        }
    }
}

/* One block; NaN in `scale` if it holds NaN or Inf. */
DFP_INLINE void dfp_write_block(float *numbers, int64_t width, int keep, int16_t *q, float *scale) {
    int32_t largest = dfp_largest_bits(numbers, width);
    int32_t field = (largest >> 23) - (DFP_MAX_BITS - 1);
    if (largest >= 0x7f800000) {
        *scale = NAN;
        memset(q, 0, (size_t)width * sizeof *q);
        for (int64_t i = 0; i < width && keep; ++i) numbers[i] = NAN;
        return;
    }
    if (field < 1) field = 1;
    *scale = dfp_exp2(field - 127);
    dfp_round_block(numbers, width, dfp_exp2(127 - field), *scale, keep, q);
}

/* `count` numbers, whole blocks, which are the result's from element `at` on; what is written
 * replaces them if `keep`. */
static void dfp_write_blocks(const dfp_block_result *r, float *numbers, int64_t count, int keep,
                             int64_t at) {
    int64_t width = (int64_t)1 << r->shift;
    float *scale = r->scales + (at >> r->shift);
    for (int64_t i = 0; i < count; i += width, ++scale) {
        if (width == 64)
            dfp_write_block(numbers + i, 64, keep, r->integers + at + i, scale);
        else
            dfp_write_block(numbers + i, width, keep, r->integers + at + i, scale);
    }
}

static void dfp_write_zero_blocks(const dfp_block_result *r, int64_t at, int64_t count) {
    memset(r->integers + at, 0, (size_t)count * sizeof *r->integers);
    for (int64_t i = at >> r->shift; i < (at + count) >> r->shift; ++i)
        r->scales[i] = dfp_exp2(-126);
}
