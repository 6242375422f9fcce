/* Transposition of INT16 matrices in blocks of 8x8. */

/* to[j * to_stride + i] = from[i * from_stride + j] for 0 <= i < rows, 0 <= j < columns. If the
 * last block is not whole, it is moved back and rewrites some elements. */
static void dfp_transpose(const int16_t *from, int64_t from_stride, int16_t *to, int64_t to_stride,
                          int64_t rows, int64_t columns) {
    if (rows < 8 || columns < 8) {
        for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < columns; ++j) to[j * to_stride + i] = from[i * from_stride + j];
        return;
    }
    for (int64_t next_i = 0; next_i < rows; next_i += 8) {
        int64_t i = next_i < rows - 8 ? next_i : rows - 8;
        for (int64_t next_j = 0; next_j < columns; next_j += 8) {
            int64_t j = next_j < columns - 8 ? next_j : columns - 8;
            dfp_transpose_8x8(from + i * from_stride + j, from_stride, to + j * to_stride + i,
                              to_stride);
        }
    }
}
