/* The gradient of a bias: the sum over all pixels, exact in integers. */

/* Pixels that one task sums: 65536 * 32767 fits INT32, and fewer make more tasks. */
#define DFP_SUM_PIXELS 1024

typedef struct {
    const int16_t *q;
    int64_t pixels, channels;
    int32_t *sums; /* [task][channels] */
} dfp_channel_sums;

static void dfp_channel_sums_task(void *context, int64_t task, int worker) {
    const dfp_channel_sums *s = context;
    int64_t first = task * DFP_SUM_PIXELS, last = first + DFP_SUM_PIXELS, channels = s->channels;
    int32_t *sums = s->sums + task * channels;
    (void)worker;
    if (last > s->pixels) last = s->pixels;
    memset(sums, 0, (size_t)channels * sizeof *sums);
    for (int64_t p = first; p < last; ++p) {
        const int16_t *q = s->q + p * channels;
        for (int64_t c = 0; c < channels; ++c) sums[c] += q[c];
    }
}

static dfp_status dfp_sum_channels(const dfp_tensor *q, int64_t pixels, int64_t channels,
                                   float *sums) {
    int64_t tasks = dfp_ceil_div(pixels, DFP_SUM_PIXELS);
    dfp_channel_sums s = {q->data, pixels, channels, NULL};
    dfp_power scale = dfp_power_of_two(q->exponent);
    dfp_begin();
    s.sums = dfp_shared_workspace((size_t)(tasks * channels) * sizeof *s.sums);
    if (s.sums) {
        dfp_parallel(tasks, dfp_channel_sums_task, &s);
        for (int64_t c = 0; c < channels; ++c) {
            int64_t sum = 0;
            for (int64_t task = 0; task < tasks; ++task) sum += s.sums[task * channels + c];
            sums[c] = (float)sum * scale.first * scale.second;
        }
    }
    dfp_end();
    return s.sums ? DFP_OK : DFP_OUT_OF_MEMORY;
}
