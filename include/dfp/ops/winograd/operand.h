/* An operand of a Winograd convolution: patches of pixels, transformed to points. Each point has a
 * shared exponent, of all patches or, where each patch is a row of a product, of its own patch. */

#define DFP_WINOGRAD_MOST_POINTS 36
#define WG(name) DFP_JOIN(DFP_JOIN(dfp_winograd_, name), DFP_JOIN(_, OUTPUTS))

/* What is transformed: pixels that a kernel reads, a kernel, or gradients of pixels that it wrote. */
typedef enum { DFP_WINOGRAD_INPUT, DFP_WINOGRAD_WEIGHTS, DFP_WINOGRAD_GRADIENT } dfp_winograd_role;

/* Rows of a patch of F(outputs x outputs, 3 x 3). */
DFP_INLINE int dfp_winograd_patch(dfp_winograd_role role, int outputs) {
    return role == DFP_WINOGRAD_WEIGHTS ? 3 : role == DFP_WINOGRAD_INPUT ? outputs + 2 : outputs;
}

/* Patches that are transformed together: neighbours share what the first axis gives. */
#define DFP_WINOGRAD_STRIP 8

/* Some patches side by side: pixels[column][row of the patch], `advance` columns from one patch to the
 * next. */
typedef struct {
    const int16_t *const *pixels;
    int columns, patches, advance;
    int64_t channels;
} dfp_winograd_strip;

/* What becomes of the points of a strip, in whole steps of channels. One of three: their largest
 * magnitudes are found, they are kept in FP32, or they are rounded to INT16. */
typedef struct {
    float *largest;       /* [point][lane] */
    float *unrounded;     /* [patch][point][channel] */
    int16_t *rounded;     /* the same */
    const float *factors; /* [point], before rounding */
    int64_t patch_stride, point_stride;
} dfp_winograd_target;

/* The transforms of one F(m x m, 3 x 3), described where they are defined (transforms.h). */
typedef struct {
    int outputs, points;         /* along one axis */
    int image_bits, weight_bits; /* magnitude bits of the points of images and of weights */
    float factor;                /* what every result is multiplied by at the end */
    double image_cost;           /* multiply-adds as long as a point of an image takes */
    const int *weight_shift;     /* along one axis: what 2^-shift the weights' points lack */
    void (*transform)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                      const dfp_winograd_target *to);
    void (*output)(const float *sums, const float *factors, const dfp_epilogue *f, int64_t columns,
                   float *const *pixels);
    void (*weights_gradient)(const float *sums, int64_t sums_stride, const float *factors,
                             int64_t columns, float *dw, int64_t stride);
} dfp_winograd_transforms;

DFP_INLINE dfp_vf dfp_load_part(const float *from, int64_t count) {
    float part[DFP_LANES] = {0};
    if (count == DFP_LANES) return dfp_load_float(from);
    memcpy(part, from, (size_t)count * sizeof *part);
    return dfp_load_float(part);
}

DFP_INLINE void dfp_store_part(float *to, int64_t count, dfp_vf v) {
    float part[DFP_LANES];
    if (count == DFP_LANES) {
        dfp_store_float(to, v);
        return;
    }
    dfp_store_float(part, v);
    memcpy(to, part, (size_t)count * sizeof *part);
}

/* The last channels of a strip, fewer than DFP_STEP, with zeros after them. */
static void dfp_winograd_copy_rest(const dfp_winograd_strip *strip, int size, int64_t channel,
                                   int16_t *copies, const int16_t **pixels) {
    size_t count = (size_t)(strip->channels - channel);
    for (int i = 0; i < strip->columns * size; ++i, copies += DFP_STEP) {
        memset(copies, 0, DFP_STEP * sizeof *copies);
        memcpy(copies, strip->pixels[i] + channel, count * sizeof *copies);
        pixels[i] = copies;
    }
}

#include "ops/winograd/axis_2.h"
#include "ops/winograd/transforms.h"
#include "ops/winograd/axis_4.h"
#include "ops/winograd/transforms.h"

/* An operand is `patches` patches of `channels` channels. Of images they are the tiles, image by image
 * and row by row, whose origins are `outputs` pixels apart; of weights each is the 3 x 3 kernel of one
 * row of the matrices. */
typedef struct {
    const dfp_winograd_transforms *transforms;
    dfp_winograd_role role;
    const int16_t *data;
    int64_t patches, channels;
    int64_t height, width, pad_top, pad_left, tiles_h, tiles_w; /* of images */
    int64_t tap_stride, patch_stride;                           /* of weights */
    int rotated;          /* weights are read from their last tap to their first */
    const int16_t *zeros; /* channels of a pixel outside of an image */
    int bits;             /* magnitude bits of the transformed integers */

    /* Found by dfp_winograd_measure: the exponents of all patches. */
    float factors[DFP_WINOGRAD_MOST_POINTS], scales[DFP_WINOGRAD_MOST_POINTS];
    float *largest; /* of each worker: [point][lane] */
} dfp_winograd_operand;

static int dfp_winograd_area(const dfp_winograd_operand *o) {
    return o->transforms->points * o->transforms->points;
}

static int64_t dfp_winograd_padded(int64_t channels) {
    return dfp_ceil_div(channels, DFP_STEP) * DFP_STEP;
}

/* Where the pixels of up to `most` patches from `patch` on lie, as far as they are neighbours. */
static dfp_winograd_strip dfp_winograd_list(const dfp_winograd_operand *o, int64_t patch,
                                            int64_t most, int64_t channel, const int16_t **pixels) {
    int outputs = o->transforms->outputs, size = dfp_winograd_patch(o->role, outputs);
    dfp_winograd_strip strip = {.pixels = pixels, .advance = size, .channels = o->channels};
    if (most > DFP_WINOGRAD_STRIP) most = DFP_WINOGRAD_STRIP;
    if (o->role == DFP_WINOGRAD_WEIGHTS) {
        strip.patches = (int)most;
        strip.columns = 3 * strip.patches;
        for (int i = 0; i < 9 * strip.patches; ++i) {
            int tap = i % 3 * 3 + i / 3 % 3;
            *pixels++ = o->data + (patch + i / 9) * o->patch_stride + channel +
                        (o->rotated ? 8 - tap : tap) * o->tap_stride;
        }
        return strip;
    }
    int64_t image = patch / (o->tiles_h * o->tiles_w), tile = patch % o->tiles_w;
    int64_t top = patch / o->tiles_w % o->tiles_h * outputs - o->pad_top;
    int64_t left = tile * outputs - o->pad_left;
    if (most > o->tiles_w - tile) most = o->tiles_w - tile;
    strip.patches = (int)most;
    strip.advance = outputs;
    strip.columns = outputs * (strip.patches - 1) + size;
    for (int64_t column = left; column < left + strip.columns; ++column) {
        for (int64_t row = top; row < top + size; ++row) {
            int inside = row >= 0 && row < o->height && column >= 0 && column < o->width;
            int64_t pixel = (image * o->height + row) * o->width + column;
            *pixels++ = inside ? o->data + pixel * o->channels + channel : o->zeros;
        }
    }
    return strip;
}

/* Patches that one task measures. */
#define DFP_WINOGRAD_PATCHES 64

static void dfp_winograd_measure_task(void *context, int64_t task, int worker) {
    const dfp_winograd_operand *o = context;
    const int16_t *pixels[DFP_WINOGRAD_STRIP * DFP_WINOGRAD_MOST_POINTS];
    dfp_winograd_target to = {.largest = o->largest + worker * dfp_winograd_area(o) * DFP_LANES};
    int64_t first = task * DFP_WINOGRAD_PATCHES, end = first + DFP_WINOGRAD_PATCHES;
    if (end > o->patches) end = o->patches;
    while (first < end) {
        dfp_winograd_strip strip = dfp_winograd_list(o, first, end - first, 0, pixels);
        o->transforms->transform(&strip, o->role, &to);
        first += strip.patches;
    }
}

/* The least shift s >= 0 with which an integer of this magnitude, times 2^-s and rounded, has `bits`
 * bits: 2^-s and 2^s. Adding half of the last of these bits carries into the FP32 number's exponent
 * where rounding does. */
DFP_INLINE void dfp_winograd_shift(float largest, int bits, float *factor, float *scale) {
    int32_t pattern, shift;
    memcpy(&pattern, &largest, sizeof pattern);
    shift = ((pattern + (1 << (23 - bits))) >> 23) - 126 - bits;
    if (shift < 0) shift = 0;
    pattern = (127 - shift) << 23;
    memcpy(factor, &pattern, sizeof pattern);
    pattern = (127 + shift) << 23;
    memcpy(scale, &pattern, sizeof pattern);
}

static size_t dfp_winograd_measure_bytes(const dfp_winograd_operand *o) {
    size_t floats = (size_t)(dfp_get_num_threads() * dfp_winograd_area(o) * DFP_LANES);
    return dfp_round_up(floats * sizeof(float), 64);
}

/* to[point] = the largest of lanes[point]. */
static void dfp_winograd_fold(const float *lanes, int points, float *to) {
    for (int p = 0; p < points; p += 4) {
        dfp_vf v[4];
        DFP_UNROLL for (int i = 0; i < 4; ++i) v[i] = dfp_load_float(lanes + (p + i) * DFP_LANES);
        dfp_largest_lanes(v, to + p);
    }
}

/* Finds the exponent of each point; `memory` holds dfp_winograd_measure_bytes. */
static void dfp_winograd_measure(dfp_winograd_operand *o, float *memory) {
    int area = dfp_winograd_area(o);
    float largest[DFP_WINOGRAD_MOST_POINTS] = {0}, of_worker[DFP_WINOGRAD_MOST_POINTS];
    o->largest = memory;
    memset(memory, 0, dfp_winograd_measure_bytes(o));
    dfp_parallel(dfp_ceil_div(o->patches, DFP_WINOGRAD_PATCHES), dfp_winograd_measure_task, o);
    for (int worker = 0; worker < dfp_get_num_threads(); ++worker) {
        dfp_winograd_fold(memory + worker * area * DFP_LANES, area, of_worker);
        for (int p = 0; p < area; ++p)
            largest[p] = of_worker[p] > largest[p] ? of_worker[p] : largest[p];
    }
    for (int p = 0; p < area; ++p)
        dfp_winograd_shift(largest[p], o->bits, &o->factors[p], &o->scales[p]);
}

/* The points of the channels [channel, channel + channels) of the patches [first, end), with the
 * exponents that dfp_winograd_measure found. */
static void dfp_winograd_emit(const dfp_winograd_operand *o, int64_t first, int64_t end,
                              int64_t channel, int64_t channels, dfp_winograd_target to) {
    const int16_t *pixels[DFP_WINOGRAD_STRIP * DFP_WINOGRAD_MOST_POINTS];
    to.factors = o->factors;
    while (first < end) {
        dfp_winograd_strip strip = dfp_winograd_list(o, first, end - first, channel, pixels);
        strip.channels = channels;
        o->transforms->transform(&strip, o->role, &to);
        to.rounded += strip.patches * to.patch_stride;
        first += strip.patches;
    }
}

/* Bytes of the FP32 points that a worker keeps: a part of the first-level cache. */
#define DFP_WINOGRAD_UNROUNDED_BYTES (24 << 10)

/* FP32 numbers from one point to the next: an odd number of cache lines, as what is written together
 * would compete for the same cache sets. */
static int64_t dfp_winograd_kept_channels(const dfp_winograd_operand *o) {
    return dfp_odd_lines(2 * dfp_winograd_padded(o->channels)) / 2;
}

/* Patches whose points are kept in FP32 at a time. */
static int64_t dfp_winograd_kept_patches(const dfp_winograd_operand *o) {
    int64_t bytes = dfp_winograd_area(o) * dfp_winograd_kept_channels(o) * 4;
    int64_t most = DFP_WINOGRAD_UNROUNDED_BYTES / bytes;
    return most < 1 ? 1 : most < DFP_WINOGRAD_STRIP ? most : DFP_WINOGRAD_STRIP;
}

/* Rounds the points of a patch with a shift for each; scales[point] becomes 2^shift. */
static void dfp_winograd_round_patch(const float *points, int64_t stride, int area,
                                     int64_t channels, int bits, int16_t *to, float *scales) {
    float factors[DFP_WINOGRAD_MOST_POINTS];
    for (int p = 0; p < area; p += 4) {
        dfp_vf most[4];
        DFP_UNROLL for (int i = 0; i < 4; ++i) most[i] = dfp_broadcast_float(0.0f);
        for (int64_t c = 0; c < channels; c += DFP_LANES)
            DFP_UNROLL for (int i = 0; i < 4; ++i) most[i] = dfp_max_float(
                dfp_absolute_float(dfp_load_float(points + (p + i) * stride + c)), most[i]);
        dfp_largest_lanes(most, factors + p);
    }
    for (int p = 0; p < area; ++p) dfp_winograd_shift(factors[p], bits, &factors[p], &scales[p]);
    for (int p = 0; p < area; ++p) {
        dfp_vf factor = dfp_broadcast_float(factors[p]);
        const float *point = points + p * stride;
        for (int64_t c = 0; c < channels; c += DFP_STEP, to += DFP_STEP) {
            dfp_vf low = dfp_load_float(point + c), high = dfp_load_float(point + c + DFP_LANES);
            dfp_store_narrow(to, dfp_round(dfp_multiply_float(low, factor)),
                             dfp_round(dfp_multiply_float(high, factor)));
        }
    }
}

/* The points of the patches [first, end), patches `patch_stride` apart in `to`, with exponents of each
 * patch's own: scales[patch][point] are 2^shift. `memory` is for the FP32 points of
 * dfp_winograd_kept_patches. */
static void dfp_winograd_emit_each(const dfp_winograd_operand *o, int64_t first, int64_t end,
                                   int16_t *to, int64_t patch_stride, float *scales,
                                   float *memory) {
    const int16_t *pixels[DFP_WINOGRAD_STRIP * DFP_WINOGRAD_MOST_POINTS];
    int area = dfp_winograd_area(o);
    int64_t channels = dfp_winograd_padded(o->channels), most = dfp_winograd_kept_patches(o);
    int64_t stride = dfp_winograd_kept_channels(o);
    dfp_winograd_target keep = {
        .unrounded = memory, .patch_stride = area * stride, .point_stride = stride};
    while (first < end) {
        int64_t count = end - first < most ? end - first : most;
        dfp_winograd_strip strip = dfp_winograd_list(o, first, count, 0, pixels);
        o->transforms->transform(&strip, o->role, &keep);
        for (int i = 0; i < strip.patches; ++i, to += patch_stride, scales += area)
            dfp_winograd_round_patch(memory + i * keep.patch_stride, stride, area, channels,
                                     o->bits, to, scales);
        first += strip.patches;
    }
}

/* What each point of the weights' transforms lacks, and what the exponents of `o` are. */
static void dfp_winograd_scales(const dfp_winograd_operand *o, float *scales) {
    const dfp_winograd_transforms *t = o->transforms;
    for (int p = 0; p < dfp_winograd_area(o); ++p) {
        int weights = t->weight_shift[p / t->points] + t->weight_shift[p % t->points];
        scales[p] = o->scales[p] * dfp_exp2(-weights);
    }
}
