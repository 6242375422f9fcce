/* Normalisation over the pixels and channels of each image and group of channels, and its gradient: the
 * tasks of a batch norm, run on a context for each image.
 *
 *   y = x * scale + offset,  scale = gamma * rstd,  offset = beta - mean * scale
 *   dx = factor_dz * dy + factor_x * (x - mean) + constant
 *
 * Sums over an image are found for each channel as in a batch norm, and put together for a group in FP64,
 * channels ascending; gradients of gamma and beta are sums over the images, ascending, in FP64. */

typedef struct {
    const dfp_group_norm *n;
    dfp_rows rows; /* of one image */
    int64_t image; /* elements */
    dfp_task task;
    char *contexts; /* of each image: with, at an offset, what the task takes */
    size_t context_bytes, offset;
} dfp_images;

static dfp_images dfp_plan_images(const dfp_group_norm *n) {
    dfp_images m = {.n = n, .rows = dfp_cut_rows(n->pixels, n->channels)};
    m.image = m.rows.elements;
    m.rows.large = dfp_is_large(n->images * m.image);
    return m;
}

static void *dfp_context_of(const dfp_images *m, int64_t image) {
    return m->contexts + (size_t)image * m->context_bytes;
}

static void dfp_image_task(void *context, int64_t task, int worker) {
    const dfp_images *m = context;
    char *of_image = dfp_context_of(m, task / m->rows.parts);
    m->task(of_image + m->offset, task % m->rows.parts, worker);
}

/* Runs a task of batch norms for each part of each image. */
static void dfp_run_images(dfp_images *m, dfp_task task, size_t offset) {
    m->task = task;
    m->offset = offset;
    dfp_parallel(m->n->images * m->rows.parts, dfp_image_task, m);
}

/* One image of an operand. */
static dfp_operand dfp_image_of(const dfp_operand *o, int64_t first) {
    dfp_operand image = *o;
    if (o->floats) image.floats += first;
    if (o->integers.data) image.integers.data += first;
    if (o->block_shift != DFP_ONE_BLOCK) image.scales += first >> o->block_shift;
    return image;
}

/* mean and rstd of the groups of an image, and the range of its channels, from merged moments. */
static void dfp_write_group_statistics(const dfp_group_norm *n, const dfp_moments *m,
                                       int64_t image) {
    int64_t size = n->channels / n->groups;
    double unit = dfp_operand_unit(m->x), pixels = dfp_merge_all_moments(m);
    float *low = n->minimum + image * n->channels, *high = n->maximum + image * n->channels;
    for (int64_t c = 0; c < n->channels; ++c) {
        low[c] = (float)(-m->low[c] * unit);
        high[c] = (float)(m->high[c] * unit);
    }
    for (int64_t g = 0; g < n->groups; ++g) {
        const double *means = m->mean + g * size, *squares = m->squares + g * size;
        double mean = 0.0, sum = 0.0;
        int finite = 1;
        for (int64_t c = 0; c < size; ++c) mean += means[c];
        mean /= (double)size;
        for (int64_t c = 0; c < size; ++c) {
            double d = means[c] - mean;
            sum += (squares[c] > 0 ? squares[c] : 0.0) + pixels * d * d;
            finite &= isfinite(low[g * size + c]) && isfinite(high[g * size + c]);
        }
        double variance = sum / (pixels * (double)size) * unit * unit;
        finite &= isfinite(variance) && isfinite(mean);
        n->mean[image * n->groups + g] = finite ? (float)(mean * unit) : NAN;
        n->rstd[image * n->groups + g] = finite ? (float)(1.0 / sqrt(variance + n->epsilon)) : NAN;
    }
}

/* Fills the statistics; 0 if there is no memory. */
static int dfp_measure_groups(dfp_images *m) {
    const dfp_group_norm *n = m->n;
    size_t numbers = (size_t)(m->rows.parts * n->channels), contexts, bytes;
    m->context_bytes = dfp_round_up(sizeof(dfp_moments) + sizeof(dfp_operand), 64);
    contexts = (size_t)n->images * m->context_bytes;
    bytes = 2 * dfp_round_up(numbers * sizeof(double), 64) +
            2 * dfp_round_up(numbers * sizeof(float), 64);
    size_t worker_bytes = 9 * dfp_row_bytes(&m->rows);
    char *workers = dfp_worker_workspace(worker_bytes);
    char *memory = dfp_shared_workspace(contexts + (size_t)n->images * bytes);
    if (!workers || !memory) return 0;
    m->contexts = dfp_take(&memory, contexts);
    for (int64_t i = 0; i < n->images; ++i) {
        dfp_moments *of_image = dfp_context_of(m, i);
        dfp_operand *x = (dfp_operand *)(of_image + 1);
        *x = dfp_image_of(&n->x, i * m->image);
        *of_image = (dfp_moments){
            .rows = m->rows, .x = x, .workers = workers, .worker_bytes = worker_bytes};
        of_image->mean = dfp_take(&memory, numbers * sizeof(double));
        of_image->squares = dfp_take(&memory, numbers * sizeof(double));
        of_image->low = dfp_take(&memory, numbers * sizeof(float));
        of_image->high = dfp_take(&memory, numbers * sizeof(float));
    }
    dfp_run_images(m, dfp_moments_task, 0);
    for (int64_t i = 0; i < n->images; ++i) dfp_write_group_statistics(n, dfp_context_of(m, i), i);
    return 1;
}

/* Writing y. */
typedef struct {
    dfp_forward forward;
    dfp_normalization normalization;
} dfp_group_forward;

/* Scale and offset of an image's channels. */
static void dfp_fold_groups(const dfp_group_norm *n, int64_t image, float *scale, float *offset) {
    int64_t size = n->channels / n->groups;
    for (int64_t c = 0; c < n->channels; ++c) {
        int64_t group = image * n->groups + c / size;
        double factor = (n->gamma ? n->gamma[c] : 1.0) * n->rstd[group];
        scale[c] = (float)factor;
        offset[c] = (float)((n->beta ? n->beta[c] : 0.0) - n->mean[group] * factor);
    }
}

static void dfp_begin_group_forward(const dfp_images *m, int64_t image, char **memory) {
    const dfp_group_norm *n = m->n;
    dfp_group_forward *g = dfp_context_of(m, image);
    size_t row = dfp_row_bytes(&m->rows), channels = (size_t)n->channels * sizeof(float);
    size_t maxima = (size_t)m->rows.parts * sizeof(int32_t);
    float *scale = dfp_take(memory, channels), *offset = dfp_take(memory, channels);
    dfp_fold_groups(n, image, scale, offset);
    g->normalization = (dfp_normalization){.pixels = n->pixels,
                                           .channels = n->channels,
                                           .x = dfp_image_of(&n->x, image * m->image),
                                           .scale = scale,
                                           .offset = offset,
                                           .minimum = n->minimum + image * n->channels,
                                           .maximum = n->maximum + image * n->channels,
                                           .bits = n->bits};
    g->forward = (dfp_forward){.n = &g->normalization, .rows = m->rows};
    g->forward.scale = dfp_take(memory, row);
    g->forward.offset = dfp_take(memory, row);
    g->forward.largest = dfp_take(memory, maxima);
    g->forward.largest_normalized = dfp_take(memory, maxima);
}

/* The larger of a number and those of an image's parts. */
static int32_t dfp_largest_so_far(int32_t largest, const int32_t *first, int64_t parts) {
    int32_t of_image = dfp_largest_of(first, parts);
    return of_image > largest ? of_image : largest;
}

static void dfp_write_groups(dfp_images *m, dfp_result *y) {
    int64_t images = m->n->images;
    dfp_range range = {.finite = 1};
    for (int64_t i = 0; i < images; ++i) {
        const dfp_group_forward *g = dfp_context_of(m, i);
        range = dfp_join_ranges(range, dfp_forward_range(&g->normalization, 0, 0));
    }
    int32_t e = dfp_range_exponent(&range, m->n->bits);
    int16_t *data = dfp_begin_result(y, e, images * m->image);
    if (!data) return;
    for (int64_t i = 0; i < images; ++i) {
        dfp_group_forward *g = dfp_context_of(m, i);
        g->forward.y = data + i * m->image;
        dfp_scale_y(&g->forward, e);
    }
    dfp_run_images(m, dfp_forward_task, offsetof(dfp_group_forward, forward));
    for (int64_t i = 0; i < images; ++i) {
        const dfp_group_forward *g = dfp_context_of(m, i);
        y->scale.max_abs = dfp_largest_so_far(y->scale.max_abs, g->forward.largest, m->rows.parts);
    }
}

static dfp_status dfp_group_norm_forward(const dfp_group_norm *n, dfp_result *y) {
    dfp_images m = dfp_plan_images(n);
    size_t of_image = 2 * dfp_round_up((size_t)n->channels * sizeof(float), 64) +
                      2 * dfp_round_up(dfp_row_bytes(&m.rows), 64) +
                      2 * dfp_round_up((size_t)m.rows.parts * sizeof(int32_t), 64);
    dfp_begin();
    int enough = dfp_measure_groups(&m);
    m.context_bytes = dfp_round_up(sizeof(dfp_group_forward), 64);
    size_t contexts = (size_t)n->images * m.context_bytes;
    char *memory = dfp_shared_workspace(contexts + (size_t)n->images * of_image);
    enough &= memory != NULL;
    if (enough) {
        m.contexts = dfp_take(&memory, contexts);
        for (int64_t i = 0; i < n->images; ++i) dfp_begin_group_forward(&m, i, &memory);
        dfp_write_groups(&m, y);
    }
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}

/* The gradient. Arrays of an image have a number for each channel. */
typedef struct {
    dfp_reduction reduction;
    dfp_backward backward;
    dfp_normalization_gradient gradient;
    float *mean, *factor_dz, *factor_x, *constant, *max_dz;
    double *sum_dz, *sum_dz_x;
} dfp_group_gradient;

static size_t dfp_group_gradient_bytes(const dfp_images *m) {
    size_t channels = (size_t)m->n->channels, numbers = (size_t)m->rows.parts * channels;
    return 5 * dfp_round_up(channels * sizeof(float), 64) +
           2 * dfp_round_up(channels * sizeof(double), 64) +
           2 * dfp_round_up(numbers * sizeof(double), 64) +
           dfp_round_up(numbers * sizeof(float), 64) +
           4 * dfp_round_up(dfp_row_bytes(&m->rows), 64) +
           2 * dfp_round_up((size_t)m->rows.parts * sizeof(int32_t), 64);
}

/* Takes memory for an image, and describes its reduction. */
static void dfp_begin_group_gradient(const dfp_images *m, int64_t image, char *workers,
                                     size_t worker_bytes, char **memory) {
    const dfp_group_norm *n = m->n;
    dfp_group_gradient *g = dfp_context_of(m, image);
    size_t channels = (size_t)n->channels, numbers = (size_t)m->rows.parts * channels;
    float **floats[] = {&g->mean, &g->factor_dz, &g->factor_x, &g->constant, &g->max_dz};
    memset(g, 0, sizeof *g);
    for (int k = 0; k < 5; ++k) *floats[k] = dfp_take(memory, channels * sizeof(float));
    g->sum_dz = dfp_take(memory, channels * sizeof(double));
    g->sum_dz_x = dfp_take(memory, channels * sizeof(double));
    for (int64_t c = 0; c < n->channels; ++c)
        g->mean[c] = n->mean[image * n->groups + c / (n->channels / n->groups)];
    g->gradient.pixels = n->pixels;
    g->gradient.channels = n->channels;
    g->gradient.x = dfp_image_of(&n->x, image * m->image);
    g->gradient.dy = dfp_image_of(&n->dy, image * m->image);
    g->gradient.mean = g->mean;
    g->gradient.minimum = n->minimum + image * n->channels;
    g->gradient.maximum = n->maximum + image * n->channels;
    g->gradient.bits = n->bits;
    g->reduction.rows = m->rows;
    g->reduction.source = dfp_source_of(&g->gradient);
    g->reduction.mean = g->mean;
    g->reduction.workers = workers;
    g->reduction.worker_bytes = worker_bytes;
    g->reduction.sum_dz = dfp_take(memory, numbers * sizeof(double));
    g->reduction.sum_dz_x = dfp_take(memory, numbers * sizeof(double));
    g->reduction.max_dz = dfp_take(memory, numbers * sizeof(float));
    g->backward.factor_dz = dfp_take(memory, dfp_row_bytes(&m->rows));
    g->backward.factor_x = dfp_take(memory, dfp_row_bytes(&m->rows));
    g->backward.minus_mean = dfp_take(memory, dfp_row_bytes(&m->rows));
    g->backward.constant = dfp_take(memory, dfp_row_bytes(&m->rows));
    g->backward.largest_dx = dfp_take(memory, (size_t)m->rows.parts * sizeof(int32_t));
    g->backward.largest_dz = dfp_take(memory, (size_t)m->rows.parts * sizeof(int32_t));
}

/* From an image's sums the factors of its dx; adds to the parameters' gradients. */
static void dfp_finish_group_sums(const dfp_images *m, int64_t image, double *dgamma,
                                  double *dbeta) {
    const dfp_group_norm *n = m->n;
    dfp_group_gradient *g = dfp_context_of(m, image);
    int64_t size = n->channels / n->groups;
    double count = (double)(n->pixels * size);
    dfp_gradient_sums sums = {g->sum_dz, g->sum_dz_x, g->max_dz};
    dfp_write_gradient_sums(&g->reduction, &sums);
    for (int64_t group = 0; group < n->groups; ++group) {
        double r = n->rstd[image * n->groups + group], sum = 0.0, sum_x = 0.0;
        for (int64_t c = group * size; c < (group + 1) * size; ++c) {
            double gamma = n->gamma ? n->gamma[c] : 1.0;
            sum += gamma * g->sum_dz[c];
            sum_x += gamma * g->sum_dz_x[c];
            g->factor_dz[c] = (float)(gamma * r);
            dgamma[c] += r * g->sum_dz_x[c];
            dbeta[c] += g->sum_dz[c];
        }
        for (int64_t c = group * size; c < (group + 1) * size; ++c) {
            g->factor_x[c] = (float)(-r * r * r * sum_x / count);
            g->constant[c] = (float)(-r * sum / count);
        }
    }
    g->gradient.factor_dz = g->factor_dz;
    g->gradient.factor_x = g->factor_x;
    g->gradient.constant = g->constant;
    g->gradient.max_dz = g->max_dz;
}

static void dfp_write_group_gradients(dfp_images *m, dfp_result *dx) {
    int64_t images = m->n->images;
    dfp_range range = {.finite = 1};
    for (int64_t i = 0; i < images; ++i) {
        const dfp_group_gradient *g = dfp_context_of(m, i);
        range = dfp_join_ranges(range, dfp_backward_range(&g->gradient, 0));
    }
    int32_t e = dfp_range_exponent(&range, m->n->bits);
    int16_t *data = dfp_begin_result(dx, e, images * m->image);
    if (!data) return;
    for (int64_t i = 0; i < images; ++i) {
        dfp_group_gradient *g = dfp_context_of(m, i);
        dfp_backward *b = &g->backward;
        b->g = &g->gradient;
        b->rows = m->rows;
        b->source = dfp_source_of(b->g);
        b->dx = data + i * m->image;
        b->dx_limit = (float)((1 << m->n->bits) - 1);
        dfp_repeat_factors(b, e);
    }
    dfp_run_images(m, dfp_backward_task, offsetof(dfp_group_gradient, backward));
    for (int64_t i = 0; i < images; ++i) {
        const dfp_group_gradient *g = dfp_context_of(m, i);
        const int32_t *largest = g->backward.largest_dx;
        dx->scale.max_abs = dfp_largest_so_far(dx->scale.max_abs, largest, m->rows.parts);
    }
}

static void dfp_run_group_gradient(dfp_images *m, double *parameters, dfp_result *dx, float *dgamma,
                                   float *dbeta) {
    int64_t channels = m->n->channels;
    memset(parameters, 0, (size_t)(2 * channels) * sizeof *parameters);
    dfp_run_images(m, dfp_reduce_task, offsetof(dfp_group_gradient, reduction));
    for (int64_t i = 0; i < m->n->images; ++i)
        dfp_finish_group_sums(m, i, parameters, parameters + channels);
    for (int64_t c = 0; c < channels; ++c) {
        dgamma[c] = (float)parameters[c];
        dbeta[c] = (float)parameters[channels + c];
    }
    dfp_write_group_gradients(m, dx);
}

static dfp_status dfp_group_norm_backward(const dfp_group_norm *n, dfp_result *dx, float *dgamma,
                                          float *dbeta) {
    dfp_images m = dfp_plan_images(n);
    size_t worker_bytes = 6 * dfp_row_bytes(&m.rows);
    m.context_bytes = dfp_round_up(sizeof(dfp_group_gradient), 64);
    size_t contexts = (size_t)n->images * m.context_bytes;
    size_t parameters = (size_t)(2 * n->channels) * sizeof(double);
    dfp_begin();
    char *workers = dfp_worker_workspace(worker_bytes);
    char *memory = dfp_shared_workspace(contexts + dfp_round_up(parameters, 64) +
                                        (size_t)n->images * dfp_group_gradient_bytes(&m));
    int enough = workers && memory;
    if (enough) {
        m.contexts = dfp_take(&memory, contexts);
        double *sums = dfp_take(&memory, parameters);
        for (int64_t i = 0; i < n->images; ++i)
            dfp_begin_group_gradient(&m, i, workers, worker_bytes, &memory);
        dfp_run_group_gradient(&m, sums, dx, dgamma, dbeta);
    }
    dfp_end();
    return enough ? DFP_OK : DFP_OUT_OF_MEMORY;
}
