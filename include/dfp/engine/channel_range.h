/* The smallest and the largest number of each channel. NaN is neither. */

static void dfp_clear_channel_range(int64_t channels, float *minimum, float *maximum) {
    for (int64_t c = 0; c < channels; ++c) {
        minimum[c] = INFINITY;
        maximum[c] = -INFINITY;
    }
}

/* Takes in the channels [first, end) of `count` pixels. */
static void dfp_widen_channel_range(float *const *pixels, int64_t count, int64_t first, int64_t end,
                                    float *minimum, float *maximum) {
    int64_t c = first;
    for (; c + DFP_LANES <= end; c += DFP_LANES) {
        dfp_vf low = dfp_load_float(minimum + c), high = dfp_load_float(maximum + c);
        for (int64_t i = 0; i < count; ++i) {
            dfp_vf v = dfp_load_float(pixels[i] + c);
            low = dfp_min_float(v, low);
            high = dfp_max_float(v, high);
        }
        dfp_store_float(minimum + c, low);
        dfp_store_float(maximum + c, high);
    }
    for (; c < end; ++c) {
        for (int64_t i = 0; i < count; ++i) {
            float v = pixels[i][c];
            minimum[c] = v < minimum[c] ? v : minimum[c];
            maximum[c] = v > maximum[c] ? v : maximum[c];
        }
    }
}
