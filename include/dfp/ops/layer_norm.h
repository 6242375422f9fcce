/* Layer normalisation over the channels of each pixel, and its gradient.
 *
 *   y = (x - mean) * rstd * gamma + beta
 *   dx = rstd * (g - mean(g) - n * mean(g * n)),  g = dy * gamma,  n = (x - mean) * rstd
 *
 * Sums over the channels of a pixel: 16 FP32 sums, channel c to sum c % 16, ascending, then added up in
 * FP64. A first pass finds the largest result and so the exponent, a second one writes. Sums over pixels
 * (of the parameters' gradients) are in FP32 within a task, in FP64 over tasks, ascending. */

#define DFP_NORM_SUMS 16
#define DFP_NORM_VECTORS (DFP_NORM_SUMS / DFP_LANES)
/* Pixels of a task, whose FP32 sums do not become too long. */
#define DFP_NORM_MOST_PIXELS 128

typedef struct {
    const dfp_layer_norm *n;
    int64_t padded; /* channels of a row, in whole sums */
    int64_t task_pixels, tasks;
    float *gamma, *beta; /* padded with zeros; 1 and 0 if there are none */
    float *means;        /* backward: [pixel][2], of g and of g * n */
    float *largest;      /* of each task */
    float *sums;         /* backward: [task][2][padded], of dy * n and of dy */
    char *workers;       /* of each: two rows */
    size_t worker_bytes;
    float unit, limit;
    int large;
    int16_t *to;
    int32_t *largest_int;
} dfp_norm_run;

/* The values of elements [first, first + channels), then zeros. */
static void dfp_load_row(const dfp_operand *o, int64_t first, int64_t channels, int64_t padded,
                         float *numbers) {
    float unit = (float)dfp_operand_unit(o);
    if (o->floats)
        dfp_add_scaled(o, DFP_FLOATS, 1.0f, 1, first, channels, numbers);
    else
        dfp_add_scaled(o, DFP_INTEGERS, unit, 1, first, channels, numbers);
    memset(numbers + channels, 0, (size_t)(padded - channels) * sizeof *numbers);
}

DFP_INLINE double dfp_add_norm_sums(const dfp_vf sums[DFP_NORM_VECTORS]) {
    float lanes[DFP_NORM_SUMS];
    double sum = 0.0;
    for (int v = 0; v < DFP_NORM_VECTORS; ++v) dfp_store_float(lanes + v * DFP_LANES, sums[v]);
    for (int i = 0; i < DFP_NORM_SUMS; ++i) sum += lanes[i];
    return sum;
}

static double dfp_sum_of_row(const float *numbers, int64_t padded) {
    dfp_vf sums[DFP_NORM_VECTORS];
    for (int v = 0; v < DFP_NORM_VECTORS; ++v) sums[v] = dfp_broadcast_float(0.0f);
    for (int64_t c = 0; c < padded; c += DFP_NORM_SUMS)
        DFP_UNROLL for (int v = 0; v < DFP_NORM_VECTORS; ++v) sums[v] =
            sums[v] + dfp_load_float(numbers + c + v * DFP_LANES);
    return dfp_add_norm_sums(sums);
}

static double dfp_sum_of_products(const float *a, const float *b, int64_t padded) {
    dfp_vf sums[DFP_NORM_VECTORS];
    for (int v = 0; v < DFP_NORM_VECTORS; ++v) sums[v] = dfp_broadcast_float(0.0f);
    for (int64_t c = 0; c < padded; c += DFP_NORM_SUMS)
        DFP_UNROLL for (int v = 0; v < DFP_NORM_VECTORS; ++v) sums[v] =
            sums[v] + dfp_load_float(a + c + v * DFP_LANES) * dfp_load_float(b + c + v * DFP_LANES);
    return dfp_add_norm_sums(sums);
}

/* numbers = (numbers - mean) * factor, but zeros stay where there are no channels. */
static void dfp_shift_row(float *numbers, int64_t channels, int64_t padded, float mean,
                          float factor) {
    for (int64_t c = 0; c < padded; c += DFP_LANES)
        dfp_store_float(numbers + c, (dfp_load_float(numbers + c) - mean) * factor);
    for (int64_t c = channels; c < padded; ++c) numbers[c] = 0.0f;
}

static float dfp_largest_in_row(const float *numbers, int64_t padded) {
    float lanes[DFP_LANES], largest = 0.0f;
    dfp_vf most = dfp_broadcast_float(0.0f);
    for (int64_t c = 0; c < padded; c += DFP_LANES)
        most = dfp_max_float(dfp_absolute_float(dfp_load_float(numbers + c)), most);
    dfp_store_float(lanes, most);
    for (int i = 0; i < DFP_LANES; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
    return largest;
}

static void dfp_write_row(const dfp_norm_run *r, const float *numbers, int64_t first,
                          dfp_vi *largest) {
    int64_t channels = r->n->channels;
    for (int64_t c = 0; c < channels; c += DFP_STEP) {
        int64_t left = channels - c, count = left < DFP_STEP ? left : DFP_STEP;
        dfp_vf both[2] = {dfp_load_float(numbers + c) * r->unit,
                          dfp_load_float(numbers + c + DFP_LANES) * r->unit};
        *largest = dfp_emit(r->to + first + c, dfp_round_between(both, -r->limit, r->limit), count,
                            r->large, *largest);
    }
}

/* The normalised numbers of a pixel; finds mean and 1 / deviation if `measure`. */
static void dfp_normalize_pixel(const dfp_norm_run *r, int64_t pixel, int measure, float *row) {
    const dfp_layer_norm *n = r->n;
    dfp_load_row(&n->x, pixel * n->channels, n->channels, r->padded, row);
    if (measure) n->mean[pixel] = (float)(dfp_sum_of_row(row, r->padded) / (double)n->channels);
    dfp_shift_row(row, n->channels, r->padded, n->mean[pixel], 1.0f);
    if (measure) {
        double variance = dfp_sum_of_products(row, row, r->padded) / (double)n->channels;
        n->rstd[pixel] = isfinite(variance) ? (float)(1.0 / sqrt(variance + n->epsilon)) : NAN;
    }
    dfp_shift_row(row, n->channels, r->padded, 0.0f, n->rstd[pixel]);
}

static void dfp_apply_parameters(const dfp_norm_run *r, float *row) {
    for (int64_t c = 0; c < r->padded; c += DFP_LANES)
        dfp_store_float(row + c, dfp_load_float(row + c) * dfp_load_float(r->gamma + c) +
                                     dfp_load_float(r->beta + c));
}

static float *dfp_norm_rows(const dfp_norm_run *r, int worker) {
    return (float *)(r->workers + (size_t)worker * r->worker_bytes);
}

static int64_t dfp_norm_end(const dfp_norm_run *r, int64_t task) {
    int64_t end = (task + 1) * r->task_pixels;
    return end < r->n->pixels ? end : r->n->pixels;
}

/* The largest magnitude of each task's results; NaN if one is not finite. */
static void dfp_norm_measure_task(void *context, int64_t task, int worker) {
    const dfp_norm_run *r = context;
    float *row = dfp_norm_rows(r, worker), largest = 0.0f;
    for (int64_t p = task * r->task_pixels; p < dfp_norm_end(r, task); ++p) {
        dfp_normalize_pixel(r, p, 1, row);
        dfp_apply_parameters(r, row);
        float of_row = dfp_largest_in_row(row, r->padded);
        if (of_row > largest) largest = of_row;
        /* A maximum ignores NaN, a sum does not. */
        if (!isfinite(r->n->rstd[p]) || !isfinite(r->n->mean[p])) largest = NAN;
    }
    r->largest[task] = largest;
}

static void dfp_norm_write_task(void *context, int64_t task, int worker) {
    const dfp_norm_run *r = context;
    float *row = dfp_norm_rows(r, worker);
    dfp_vi largest = dfp_zero();
    for (int64_t p = task * r->task_pixels; p < dfp_norm_end(r, task); ++p) {
        dfp_normalize_pixel(r, p, 0, row);
        dfp_apply_parameters(r, row);
        dfp_write_row(r, row, p * r->n->channels, &largest);
    }
    r->largest_int[task] = dfp_largest_int_lane(largest);
}

/* dx of a pixel to `g`, which the other row follows; adds to the parameters' sums if there are any. */
static void dfp_norm_gradient(const dfp_norm_run *r, int64_t p, float *g, float *sums) {
    const dfp_layer_norm *n = r->n;
    float *normal = g + r->padded + DFP_NORM_SUMS, *means = r->means + 2 * p;
    double channels = (double)n->channels;
    dfp_normalize_pixel(r, p, 0, normal);
    dfp_load_row(&n->dy, p * n->channels, n->channels, r->padded, g);
    for (int64_t c = 0; c < r->padded; c += DFP_LANES) {
        dfp_vf dy = dfp_load_float(g + c), x = dfp_load_float(normal + c);
        if (sums) {
            float *to = sums + c, *beta = to + r->padded;
            dfp_store_float(to, dfp_load_float(to) + dy * x);
            dfp_store_float(beta, dfp_load_float(beta) + dy);
        }
        dfp_store_float(g + c, dy * dfp_load_float(r->gamma + c));
    }
    if (sums) {
        means[0] = (float)(dfp_sum_of_row(g, r->padded) / channels);
        means[1] = (float)(dfp_sum_of_products(g, normal, r->padded) / channels);
    }
    for (int64_t c = 0; c < r->padded; c += DFP_LANES) {
        dfp_vf rest = dfp_load_float(g + c) - means[0];
        rest = rest - dfp_load_float(normal + c) * means[1];
        dfp_store_float(g + c, rest * n->rstd[p]);
    }
    for (int64_t c = n->channels; c < r->padded; ++c) g[c] = 0.0f;
}

static void dfp_norm_reduce_task(void *context, int64_t task, int worker) {
    const dfp_norm_run *r = context;
    float *row = dfp_norm_rows(r, worker), *sums = r->sums + task * 2 * r->padded, largest = 0.0f;
    memset(sums, 0, (size_t)(2 * r->padded) * sizeof *sums);
    for (int64_t p = task * r->task_pixels; p < dfp_norm_end(r, task); ++p) {
        dfp_norm_gradient(r, p, row, sums);
        float of_row = dfp_largest_in_row(row, r->padded);
        if (of_row > largest) largest = of_row;
        if (!isfinite(r->means[2 * p]) || !isfinite(r->means[2 * p + 1])) largest = NAN;
    }
    r->largest[task] = largest;
}

static void dfp_norm_write_gradient_task(void *context, int64_t task, int worker) {
    const dfp_norm_run *r = context;
    float *row = dfp_norm_rows(r, worker);
    dfp_vi largest = dfp_zero();
    for (int64_t p = task * r->task_pixels; p < dfp_norm_end(r, task); ++p) {
        dfp_norm_gradient(r, p, row, NULL);
        dfp_write_row(r, row, p * r->n->channels, &largest);
    }
    r->largest_int[task] = dfp_largest_int_lane(largest);
}

/* Writes a result whose largest numbers are known. */
static void dfp_write_norm(dfp_norm_run *r, dfp_task task, dfp_result *result) {
    dfp_range range = {.finite = 1};
    for (int64_t i = 0; i < r->tasks; ++i) dfp_add_term(&range, r->largest[i]);
    range.bound = range.terms;
    int32_t e = dfp_range_exponent(&range, r->n->bits);
    r->to = dfp_begin_result(result, e, r->n->pixels * r->n->channels);
    if (!r->to) return;
    r->unit = (float)dfp_exp2_double(-e);
    r->limit = (float)((1 << r->n->bits) - 1);
    dfp_parallel(r->tasks, task, r);
    result->scale.max_abs = dfp_largest_of(r->largest_int, r->tasks);
}

static dfp_norm_run dfp_plan_norm(const dfp_layer_norm *n) {
    dfp_norm_run r = {.n = n, .task_pixels = DFP_PART / n->channels};
    r.padded = dfp_ceil_div(n->channels, DFP_NORM_SUMS) * DFP_NORM_SUMS;
    if (r.task_pixels < 1) r.task_pixels = 1;
    if (r.task_pixels > DFP_NORM_MOST_PIXELS) r.task_pixels = DFP_NORM_MOST_PIXELS;
    r.tasks = dfp_ceil_div(n->pixels, r.task_pixels);
    r.large = dfp_is_large(n->pixels * n->channels) && n->channels % DFP_ROW_MULTIPLE == 0;
    /* A step may end after the last sum. */
    r.worker_bytes = dfp_round_up((size_t)(2 * (r.padded + DFP_NORM_SUMS)) * sizeof(float), 64);
    return r;
}

/* Takes memory for everything but the gradient's; returns what is left, NULL if there is none. */
static char *dfp_take_norm(dfp_norm_run *r, size_t more) {
    size_t row = (size_t)r->padded * sizeof(float), tasks = (size_t)r->tasks * sizeof(float);
    r->workers = dfp_worker_workspace(r->worker_bytes);
    char *memory =
        dfp_shared_workspace(2 * dfp_round_up(row, 64) + 2 * dfp_round_up(tasks, 64) + more);
    if (!memory || !r->workers) return NULL;
    r->gamma = dfp_take(&memory, row);
    r->beta = dfp_take(&memory, row);
    r->largest = dfp_take(&memory, tasks);
    r->largest_int = dfp_take(&memory, tasks);
    memset(r->gamma, 0, row);
    memset(r->beta, 0, row);
    for (int64_t c = 0; c < r->n->channels; ++c) {
        r->gamma[c] = r->n->gamma ? r->n->gamma[c] : 1.0f;
        r->beta[c] = r->n->beta ? r->n->beta[c] : 0.0f;
    }
    return memory;
}

static dfp_status dfp_layer_norm_forward(const dfp_layer_norm *n, dfp_result *y) {
    dfp_norm_run r = dfp_plan_norm(n);
    dfp_begin();
    char *memory = dfp_take_norm(&r, 0);
    if (memory) {
        dfp_parallel(r.tasks, dfp_norm_measure_task, &r);
        dfp_write_norm(&r, dfp_norm_write_task, y);
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}

static dfp_status dfp_layer_norm_backward(const dfp_layer_norm *n, dfp_result *dx, float *dgamma,
                                          float *dbeta) {
    dfp_norm_run r = dfp_plan_norm(n);
    size_t means = dfp_round_up((size_t)(2 * n->pixels) * sizeof(float), 64);
    size_t sums = (size_t)(2 * r.tasks * r.padded) * sizeof(float);
    dfp_begin();
    char *memory = dfp_take_norm(&r, means + dfp_round_up(sums, 64));
    if (memory) {
        r.means = dfp_take(&memory, means);
        r.sums = dfp_take(&memory, sums);
        dfp_parallel(r.tasks, dfp_norm_reduce_task, &r);
        dfp_write_norm(&r, dfp_norm_write_gradient_task, dx);
        for (int64_t c = 0; c < n->channels; ++c) {
            double gamma = 0.0, beta = 0.0;
            for (int64_t task = 0; task < r.tasks; ++task) {
                gamma += r.sums[task * 2 * r.padded + c];
                beta += r.sums[(task * 2 + 1) * r.padded + c];
            }
            dgamma[c] = (float)gamma;
            dbeta[c] = (float)beta;
        }
    }
    dfp_end();
    return memory ? DFP_OK : DFP_OUT_OF_MEMORY;
}
