/* An operand of a Winograd convolution: patches of pixels, transformed to points, one shared exponent
 * for each point. */

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

/* Where the points of a strip go: whole steps of channels are written. */
typedef struct {
    int16_t *data;
    int64_t patch_stride, point_stride;
    const float *factors;
} dfp_winograd_target;

/* The transforms of one F(m x m, 3 x 3), described where they are defined (transforms.h). */
typedef struct {
    int outputs, points;     /* along one axis */
    float factor;            /* what every result is multiplied by at the end */
    double image_cost;       /* multiply-adds as long as a point of an image takes */
    const int *weight_shift; /* along one axis: what 2^-shift the weights' points lack */
    void (*measure)(const dfp_winograd_strip *strip, dfp_winograd_role role, float *largest);
    void (*emit)(const dfp_winograd_strip *strip, dfp_winograd_role role,
                 const dfp_winograd_target *to);
    void (*output)(const float *sums, const float *factors, const dfp_finish *f, int64_t columns,
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

    /* Found by dfp_winograd_measure. */
    float factors[DFP_WINOGRAD_MOST_POINTS]; /* 2^-shift */
    int shift[DFP_WINOGRAD_MOST_POINTS];
    int32_t max_abs[DFP_WINOGRAD_MOST_POINTS]; /* of the transformed integers */
    float *largest;                            /* of each worker: [point][lane] */
} dfp_winograd_operand;

static int dfp_winograd_area(const dfp_winograd_operand *o) {
    return o->transforms->points * o->transforms->points;
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
    float *largest = o->largest + worker * dfp_winograd_area(o) * DFP_LANES;
    int64_t first = task * DFP_WINOGRAD_PATCHES, end = first + DFP_WINOGRAD_PATCHES;
    if (end > o->patches) end = o->patches;
    while (first < end) {
        dfp_winograd_strip strip = dfp_winograd_list(o, first, end - first, 0, pixels);
        o->transforms->measure(&strip, o->role, largest);
        first += strip.patches;
    }
}

/* The least shift after which numbers of this magnitude have `bits` bits. */
static int dfp_winograd_shift(float largest, int bits) {
    int shift = 0;
    while (rintf(largest * dfp_exp2(-shift)) > (float)((1 << bits) - 1)) ++shift;
    return shift;
}

static size_t dfp_winograd_measure_bytes(const dfp_winograd_operand *o) {
    size_t floats = (size_t)(dfp_get_num_threads() * dfp_winograd_area(o) * DFP_LANES);
    return dfp_round_up(floats * sizeof(float), 64);
}

/* The largest magnitude of one point that any worker found. */
static float dfp_winograd_largest(const dfp_winograd_operand *o, int point) {
    float largest = 0;
    for (int worker = 0; worker < dfp_get_num_threads(); ++worker) {
        const float *lanes = o->largest + (worker * dfp_winograd_area(o) + point) * DFP_LANES;
        for (int i = 0; i < DFP_LANES; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
    }
    return largest;
}

/* Finds the exponent of each point; `memory` holds dfp_winograd_measure_bytes. */
static void dfp_winograd_measure(dfp_winograd_operand *o, float *memory) {
    o->largest = memory;
    memset(memory, 0, dfp_winograd_measure_bytes(o));
    dfp_parallel(dfp_ceil_div(o->patches, DFP_WINOGRAD_PATCHES), dfp_winograd_measure_task, o);
    for (int p = 0; p < dfp_winograd_area(o); ++p) {
        float largest = dfp_winograd_largest(o, p);
        o->shift[p] = dfp_winograd_shift(largest, o->bits);
        o->factors[p] = dfp_exp2(-o->shift[p]);
        o->max_abs[p] = (int32_t)rintf(largest * o->factors[p]);
    }
}

/* The points of the channels [channel, channel + channels) of the patches [first, end). */
static void dfp_winograd_emit(const dfp_winograd_operand *o, int64_t first, int64_t end,
                              int64_t channel, int64_t channels, dfp_winograd_target to) {
    const int16_t *pixels[DFP_WINOGRAD_STRIP * DFP_WINOGRAD_MOST_POINTS];
    to.factors = o->factors;
    while (first < end) {
        dfp_winograd_strip strip = dfp_winograd_list(o, first, end - first, channel, pixels);
        strip.channels = channels;
        o->transforms->emit(&strip, o->role, &to);
        to.data += strip.patches * to.patch_stride;
        first += strip.patches;
    }
}

static int64_t dfp_winograd_padded(int64_t channels) {
    return dfp_ceil_div(channels, DFP_STEP) * DFP_STEP;
}

/* What the sums of products of each point of two operands are multiplied by, besides the operands' own
 * exponents. */
static void dfp_winograd_scales(const dfp_winograd_operand *a, const dfp_winograd_operand *b,
                                float *scales) {
    const dfp_winograd_transforms *t = a->transforms;
    for (int p = 0; p < dfp_winograd_area(a); ++p) {
        int weights = t->weight_shift[p / t->points] + t->weight_shift[p % t->points];
        scales[p] = dfp_exp2(a->shift[p] + b->shift[p] - weights);
    }
}
