/* The five transforms of F(m x m, 3 x 3), both axes, on vectors of channels. Included after axis_<m>.h,
 * once for each m. */
#define POINTS (OUTPUTS + 2)
#define AREA (POINTS * POINTS)

/* From a patch of `size` x `size` pixels to the points: along the first axis, then along the second. */
#define EXPAND(axis, size)                                                                         \
    do {                                                                                           \
        DFP_UNROLL for (int j = 0; j < (size); ++j) WG(axis)(v + j, POINTS);                       \
        DFP_UNROLL for (int i = 0; i < POINTS; ++i) WG(axis)(v + i * POINTS, 1);                   \
    } while (0)

DFP_INLINE void WG(load)(const int16_t *const *pixels, int size, int64_t channel, int half,
                         dfp_vf *v) {
    for (int i = 0; i < size; ++i)
        for (int j = 0; j < size; ++j)
            v[i * POINTS + j] =
                dfp_to_float(dfp_load_widen(pixels[i * size + j] + channel + half * DFP_LANES));
}

/* The points of DFP_STEP channels. */
DFP_INLINE void WG(expand)(const int16_t *const *pixels, dfp_winograd_role role, int64_t channel,
                           dfp_vf points[2][AREA]) {
    DFP_UNROLL for (int half = 0; half < 2; ++half) {
        dfp_vf *v = points[half];
        if (role == DFP_WINOGRAD_INPUT) {
            WG(load)(pixels, POINTS, channel, half, v);
            EXPAND(input_axis, POINTS);
        } else if (role == DFP_WINOGRAD_WEIGHTS) {
            WG(load)(pixels, 3, channel, half, v);
            EXPAND(weights_axis, 3);
        } else {
            WG(load)(pixels, OUTPUTS, channel, half, v);
            EXPAND(gradient_axis, OUTPUTS);
        }
    }
}

/* The same where fewer than DFP_STEP channels are left; zeros for those that are not there. */
DFP_INLINE void WG(expand_rest)(const int16_t *const *pixels, dfp_winograd_role role,
                                int64_t channel, int64_t count, dfp_vf points[2][AREA]) {
    int16_t copies[AREA][DFP_STEP];
    const int16_t *rest[AREA];
    int area = dfp_winograd_patch(role, OUTPUTS) * dfp_winograd_patch(role, OUTPUTS);
    for (int i = 0; i < area; ++i) {
        memset(copies[i], 0, sizeof copies[i]);
        memcpy(copies[i], pixels[i] + channel, (size_t)count * sizeof(int16_t));
        rest[i] = copies[i];
    }
    WG(expand)(rest, role, 0, points);
}

DFP_INLINE void WG(widen)(dfp_vf points[2][AREA], float *largest) {
    for (int p = 0; p < AREA; ++p) {
        dfp_vf most =
            dfp_max_float(dfp_absolute_float(points[0][p]), dfp_absolute_float(points[1][p]));
        float *lanes = largest + p * DFP_LANES;
        dfp_store_float(lanes, dfp_max_float(most, dfp_load_float(lanes)));
    }
}

DFP_INLINE void WG(measure_role)(const int16_t *const *pixels, dfp_winograd_role role,
                                 int64_t channels, float *largest) {
    dfp_vf points[2][AREA];
    int64_t c = 0;
    for (; c + DFP_STEP <= channels; c += DFP_STEP) {
        WG(expand)(pixels, role, c, points);
        WG(widen)(points, largest);
    }
    if (c == channels) return;
    WG(expand_rest)(pixels, role, c, channels - c, points);
    WG(widen)(points, largest);
}

DFP_INLINE void WG(write)(dfp_vf points[2][AREA], const float *factors, int16_t *to,
                          int64_t stride) {
    for (int p = 0; p < AREA; ++p, to += stride) {
        dfp_vf factor = dfp_broadcast_float(factors[p]);
        dfp_store_narrow(to, dfp_round(dfp_multiply_float(points[0][p], factor)),
                         dfp_round(dfp_multiply_float(points[1][p], factor)));
    }
}

DFP_INLINE void WG(emit_role)(const int16_t *const *pixels, dfp_winograd_role role,
                              int64_t channels, const float *factors, int16_t *to, int64_t stride) {
    dfp_vf points[2][AREA];
    int64_t c = 0;
    for (; c + DFP_STEP <= channels; c += DFP_STEP) {
        WG(expand)(pixels, role, c, points);
        WG(write)(points, factors, to + c, stride);
    }
    if (c == channels) return;
    WG(expand_rest)(pixels, role, c, channels - c, points);
    WG(write)(points, factors, to + c, stride);
}

/* largest[point][lane] becomes at least the magnitudes of this patch. */
static void WG(measure)(const int16_t *const *pixels, dfp_winograd_role role, int64_t channels,
                        float *largest) {
    switch (role) {
        case DFP_WINOGRAD_INPUT:
            WG(measure_role)(pixels, DFP_WINOGRAD_INPUT, channels, largest);
            return;
        case DFP_WINOGRAD_WEIGHTS:
            WG(measure_role)(pixels, DFP_WINOGRAD_WEIGHTS, channels, largest);
            return;
        case DFP_WINOGRAD_GRADIENT:
            WG(measure_role)(pixels, DFP_WINOGRAD_GRADIENT, channels, largest);
    }
}

/* to[point * stride + c] = the integer nearest to the point's value times its factor; whole steps of
 * channels are written. */
static void WG(emit)(const int16_t *const *pixels, dfp_winograd_role role, int64_t channels,
                     const float *factors, int16_t *to, int64_t stride) {
    switch (role) {
        case DFP_WINOGRAD_INPUT:
            WG(emit_role)(pixels, DFP_WINOGRAD_INPUT, channels, factors, to, stride);
            return;
        case DFP_WINOGRAD_WEIGHTS:
            WG(emit_role)(pixels, DFP_WINOGRAD_WEIGHTS, channels, factors, to, stride);
            return;
        case DFP_WINOGRAD_GRADIENT:
            WG(emit_role)(pixels, DFP_WINOGRAD_GRADIENT, channels, factors, to, stride);
    }
}

/* The points of DFP_LANES columns, each times its factor. */
DFP_INLINE void WG(load_sums)(const float *sums, int64_t stride, const float *factors, dfp_vf *v) {
    DFP_UNROLL for (int p = 0; p < AREA; ++p) v[p] =
        dfp_multiply_float(dfp_load_float(sums + p * stride), dfp_broadcast_float(factors[p]));
}

/* From the points to a patch of size x size. */
#define CONTRACT(axis, size)                                                                       \
    do {                                                                                           \
        DFP_UNROLL for (int j = 0; j < POINTS; ++j) WG(axis)(v + j, POINTS);                       \
        DFP_UNROLL for (int i = 0; i < (size); ++i) WG(axis)(v + i * POINTS, 1);                   \
    } while (0)

static void WG(output)(const float *sums, const float *factors, const dfp_winograd_finish *f,
                       int64_t columns, float *const *pixels) {
    dfp_vf v[AREA], factor = dfp_broadcast_float(FACTOR);
    dfp_vf first = dfp_broadcast_float(f->scale.first),
           second = dfp_broadcast_float(f->scale.second);
    for (int64_t c = 0; c < columns; c += DFP_LANES) {
        int64_t count = columns - c < DFP_LANES ? columns - c : DFP_LANES;
        WG(load_sums)(sums + c, DFP_BLOCK, factors, v);
        CONTRACT(output_axis, OUTPUTS);
        DFP_UNROLL for (int i = 0; i < OUTPUTS * OUTPUTS; ++i) {
            if (!pixels[i]) continue;
            dfp_vf y = v[i / OUTPUTS * POINTS + i % OUTPUTS];
            if (OUTPUTS > 2) y = dfp_multiply_float(y, factor);
            y = dfp_multiply_float(dfp_multiply_float(y, first), second);
            if (f->bias) y = dfp_add_float(y, dfp_load_part(f->bias + c, count));
            dfp_store_part(pixels[i] + c, count, y);
        }
    }
}

/* dw[tap * stride + c], c < columns, without the constant factor and the scale. */
static void WG(weights_gradient)(const float *sums, int64_t sums_stride, const float *factors,
                                 int64_t columns, float *dw, int64_t stride) {
    dfp_vf v[AREA];
    for (int64_t c = 0; c < columns; c += DFP_LANES) {
        int64_t count = columns - c < DFP_LANES ? columns - c : DFP_LANES;
        WG(load_sums)(sums + c, sums_stride, factors, v);
        CONTRACT(weights_gradient_axis, 3);
        DFP_UNROLL for (int tap = 0; tap < 9; ++tap)
            dfp_store_part(dw + tap * stride + c, count, v[tap / 3 * POINTS + tap % 3]);
    }
}

static const dfp_winograd_transforms WG(transforms) = {
    OUTPUTS,     POINTS,   FACTOR,     WG(weight_shift),
    WG(measure), WG(emit), WG(output), WG(weights_gradient),
};

#undef OUTPUTS
#undef POINTS
#undef AREA
#undef FACTOR
#undef EXPAND
#undef CONTRACT
