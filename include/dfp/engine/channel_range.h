/* The smallest and the largest number of each channel. NaN counts as neither. */

static void dfp_clear_channel_range(int64_t channels, float *minimum, float *maximum) {
    for (int64_t c = 0; c < channels; ++c) {
        minimum[c] = INFINITY;
        maximum[c] = -INFINITY;
    }
}

/* Widens the ranges of the channels [first, end) by `count` pixels. */
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

/* The ranges of a result; every worker first finds those of its own tasks. */
typedef struct {
    int64_t channels;
    float *minimum, *maximum; /* of each channel, or both NULL if nobody asks */
    char *workers;            /* where the first worker keeps its minima, then its maxima */
    size_t worker_bytes;      /* from one worker to the next */
} dfp_channel_ranges;

static size_t dfp_channel_ranges_bytes(const dfp_channel_ranges *r) {
    return r->minimum ? 2 * (size_t)r->channels * sizeof(float) : 0;
}

/* A worker's minima, followed by its maxima. */
static float *dfp_ranges_of_worker(const dfp_channel_ranges *r, int worker) {
    return (float *)(r->workers + (size_t)worker * r->worker_bytes);
}

static void dfp_clear_channel_ranges(const dfp_channel_ranges *r) {
    if (!r->minimum) return;
    dfp_clear_channel_range(r->channels, r->minimum, r->maximum);
    for (int worker = 0; worker < dfp_get_num_threads(); ++worker) {
        float *minimum = dfp_ranges_of_worker(r, worker);
        dfp_clear_channel_range(r->channels, minimum, minimum + r->channels);
    }
}

static void dfp_merge_channel_ranges(const dfp_channel_ranges *r) {
    for (int worker = 0; r->minimum && worker < dfp_get_num_threads(); ++worker) {
        const float *low = dfp_ranges_of_worker(r, worker), *high = low + r->channels;
        for (int64_t c = 0; c < r->channels; ++c) {
            r->minimum[c] = low[c] < r->minimum[c] ? low[c] : r->minimum[c];
            r->maximum[c] = high[c] > r->maximum[c] ? high[c] : r->maximum[c];
        }
    }
}
