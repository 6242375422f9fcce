/* Depthwise convolution: every channel has its own kernel. Channels are the lanes.
 *
 * Two INT16 of one channel, of two taps or of two pixels, make a pair for the multiply-add. Pixels
 * are read in place through lists of pointers, which point to zeros for the padding; the channels
 * after the last whole vector are copied, followed by zeros. */

/* Rows of pixels, and columns [first, first + width), some of which may be outside. */
typedef struct {
    const int16_t *data;
    int64_t rows, columns, channels; /* of one image */
    int64_t first, width;
    const int16_t *zeros; /* as many as channels */
} dfp_pixel_source;

/* Pointers to the pixels of several rows, and to copies of their last channels. */
typedef struct {
    const int16_t **whole, **tail; /* [row][width] */
    int16_t *copies;               /* [row][width][DFP_STEP] */
} dfp_pixel_list;

static int64_t dfp_whole_channels(int64_t channels) { return channels - channels % DFP_STEP; }

static size_t dfp_pixel_list_bytes(int64_t pixels) {
    size_t pointers = dfp_round_up((size_t)pixels * sizeof(int16_t *), 64);
    return 2 * pointers + dfp_round_up((size_t)pixels * DFP_STEP * sizeof(int16_t), 64);
}

static dfp_pixel_list dfp_take_pixel_list(char **memory, int64_t pixels) {
    dfp_pixel_list l;
    l.whole = dfp_take(memory, (size_t)pixels * sizeof(int16_t *));
    l.tail = dfp_take(memory, (size_t)pixels * sizeof(int16_t *));
    l.copies = dfp_take(memory, (size_t)pixels * DFP_STEP * sizeof(int16_t));
    return l;
}

/* Lists one row of an image as row `at` of the list. */
static void dfp_list_row_pixels(const dfp_pixel_source *s, int64_t image, int64_t row,
                                const dfp_pixel_list *l, int64_t at) {
    const int16_t **whole = l->whole + at * s->width, **tail = l->tail + at * s->width;
    int16_t *copy = l->copies + at * s->width * DFP_STEP;
    int64_t from = dfp_whole_channels(s->channels), count = s->channels - from;
    int inside = row >= 0 && row < s->rows;
    const int16_t *begin =
        inside ? s->data + (image * s->rows + row) * s->columns * s->channels : s->zeros;
    for (int64_t w = 0; w < s->width; ++w) {
        int64_t column = s->first + w;
        int exists = inside && column >= 0 && column < s->columns;
        whole[w] = exists ? begin + column * s->channels : s->zeros;
    }
    if (!count) return;
    memset(copy, 0, (size_t)(s->width * DFP_STEP) * sizeof *copy);
    for (int64_t w = 0; w < s->width; ++w, copy += DFP_STEP) {
        memcpy(copy, whole[w] + from, (size_t)count * sizeof *copy);
        tail[w] = copy;
    }
}
