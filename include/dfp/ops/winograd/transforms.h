/* The five transforms of F(m x m, 3 x 3), both axes, on vectors of channels. Included after axis_<m>.h,
 * once for each m. */
#define POINTS (OUTPUTS + 2)
#define AREA (POINTS * POINTS)

/* One channel step of a strip after the first axis: [column][point][half]. */
typedef struct {
    dfp_vf v[DFP_WINOGRAD_STRIP * 6][POINTS][2];
} WG(strip);

DFP_INLINE void WG(axis)(dfp_winograd_role role, dfp_vf *v, int s) {
    if (role == DFP_WINOGRAD_INPUT)
        WG(input_axis)(v, s);
    else if (role == DFP_WINOGRAD_WEIGHTS)
        WG(weights_axis)(v, s);
    else
        WG(gradient_axis)(v, s);
}

/* The first axis: DFP_STEP channels from `channel` on of every column of a strip. */
DFP_INLINE void WG(first_axis)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                               int64_t channel, WG(strip) * to) {
    int size = dfp_winograd_patch(role, OUTPUTS);
    for (int column = 0; column < strip->columns; ++column) {
        const int16_t *const *pixels = strip->pixels + column * size;
        DFP_UNROLL for (int half = 0; half < 2; ++half) {
            dfp_vf v[POINTS];
            DFP_UNROLL for (int i = 0; i < size; ++i) v[i] =
                dfp_to_float(dfp_load_widen(pixels[i] + channel + half * DFP_LANES));
            WG(axis)(role, v, 1);
            DFP_UNROLL for (int i = 0; i < POINTS; ++i) to->v[column][i][half] = v[i];
        }
    }
}

/* The second axis: the points (i, 0), (i, 1) ... of one patch, of both halves. */
DFP_INLINE void WG(second_axis)(const WG(strip) * from, dfp_winograd_role role, int first, int i,
                                dfp_vf v[2][POINTS]) {
    int size = dfp_winograd_patch(role, OUTPUTS);
    DFP_UNROLL for (int half = 0; half < 2; ++half) {
        DFP_UNROLL for (int j = 0; j < size; ++j) v[half][j] = from->v[first + j][i][half];
        WG(axis)(role, v[half], 1);
    }
}

/* What follows is called with a constant role and inlined. */
DFP_INLINE void WG(widen)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                          const WG(strip) * from, float *largest) {
    DFP_UNROLL for (int i = 0; i < POINTS; ++i) {
        dfp_vf most[POINTS], v[2][POINTS];
        float *lanes = largest + i * POINTS * DFP_LANES;
        DFP_UNROLL for (int j = 0; j < POINTS; ++j) most[j] = dfp_load_float(lanes + j * DFP_LANES);
        for (int patch = 0; patch < strip->patches; ++patch) {
            WG(second_axis)(from, role, patch * strip->advance, i, v);
            DFP_UNROLL for (int j = 0; j < POINTS; ++j) {
                most[j] = dfp_max_float(dfp_absolute_float(v[0][j]), most[j]);
                most[j] = dfp_max_float(dfp_absolute_float(v[1][j]), most[j]);
            }
        }
        DFP_UNROLL for (int j = 0; j < POINTS; ++j) dfp_store_float(lanes + j * DFP_LANES, most[j]);
    }
}

DFP_INLINE void WG(write)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                          const WG(strip) * from, const dfp_winograd_target *to, int64_t channel) {
    for (int patch = 0; patch < strip->patches; ++patch) {
        int16_t *point = to->rounded + patch * to->patch_stride + channel;
        const float *factor = to->factors;
        DFP_UNROLL for (int i = 0; i < POINTS; ++i) {
            dfp_vf v[2][POINTS];
            WG(second_axis)(from, role, patch * strip->advance, i, v);
            DFP_UNROLL for (int j = 0; j < POINTS; ++j, point += to->point_stride, ++factor) {
                dfp_vf f = dfp_broadcast_float(*factor);
                dfp_store_narrow(point, dfp_round(dfp_multiply_float(v[0][j], f)),
                                 dfp_round(dfp_multiply_float(v[1][j], f)));
            }
        }
    }
}

/* FP32 points, unrounded. */
DFP_INLINE void WG(keep)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                         const WG(strip) * from, const dfp_winograd_target *to, int64_t channel) {
    for (int patch = 0; patch < strip->patches; ++patch) {
        float *point = to->unrounded + patch * to->patch_stride + channel;
        DFP_UNROLL for (int i = 0; i < POINTS; ++i) {
            dfp_vf v[2][POINTS];
            WG(second_axis)(from, role, patch * strip->advance, i, v);
            DFP_UNROLL for (int j = 0; j < POINTS; ++j, point += to->point_stride) {
                dfp_store_float(point, v[0][j]);
                dfp_store_float(point + DFP_LANES, v[1][j]);
            }
        }
    }
}

DFP_INLINE void WG(transform_role)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                                   const dfp_winograd_target *to) {
    WG(strip) first;
    int16_t copies[DFP_WINOGRAD_STRIP * 36 * DFP_STEP];
    const int16_t *rest[DFP_WINOGRAD_STRIP * 36];
    dfp_winograd_strip last = *strip;
    int64_t c = 0;
    for (; c < strip->channels; c += DFP_STEP) {
        const dfp_winograd_strip *now = strip;
        int64_t at = c;
        if (c + DFP_STEP > strip->channels) {
            dfp_winograd_copy_rest(strip, dfp_winograd_patch(role, OUTPUTS), c, copies, rest);
            last.pixels = rest;
            now = &last;
            at = 0;
        }
        WG(first_axis)(now, role, at, &first);
        if (to->largest)
            WG(widen)(strip, role, &first, to->largest);
        else if (to->unrounded)
            WG(keep)(strip, role, &first, to, c);
        else
            WG(write)(strip, role, &first, to, c);
    }
}

static void WG(transform)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                          const dfp_winograd_target *to) {
    switch (role) {
        case DFP_WINOGRAD_INPUT: WG(transform_role)(strip, DFP_WINOGRAD_INPUT, to); return;
        case DFP_WINOGRAD_WEIGHTS: WG(transform_role)(strip, DFP_WINOGRAD_WEIGHTS, to); return;
        case DFP_WINOGRAD_GRADIENT: WG(transform_role)(strip, DFP_WINOGRAD_GRADIENT, to);
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

static void WG(output)(const float *sums, const float *factors, const dfp_epilogue *f,
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
    .outputs = OUTPUTS,
    .points = POINTS,
    .image_bits = IMAGE_BITS,
    .weight_bits = WEIGHT_BITS,
    .factor = FACTOR,
    .image_cost = IMAGE_COST,
    .weight_shift = WG(weight_shift),
    .transform = WG(transform),
    .output = WG(output),
    .weights_gradient = WG(weights_gradient),
};

#undef OUTPUTS
#undef POINTS
#undef AREA
#undef FACTOR
#undef IMAGE_BITS
#undef WEIGHT_BITS
#undef IMAGE_COST
#undef CONTRACT
