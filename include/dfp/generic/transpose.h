/* Transposition of INT16 matrices in blocks of 8x8. */

/* to[j * to_stride + i] = from[i * from_stride + j] for 0 <= i < rows, 0 <= j < columns. */
static void dfp_transpose(const int16_t *from, int64_t from_stride, int16_t *to, int64_t to_stride,
                          int64_t rows, int64_t columns) {
    int64_t whole_rows = rows & ~(int64_t)7, whole_columns = columns & ~(int64_t)7;
    for (int64_t i = 0; i < whole_rows; i += 8)
        for (int64_t j = 0; j < whole_columns; j += 8)
            dfp_transpose_8x8(from + i * from_stride + j, from_stride, to + j * to_stride + i,
                              to_stride);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = i < whole_rows ? whole_columns : 0; j < columns; ++j)
            to[j * to_stride + i] = from[i * from_stride + j];
}
