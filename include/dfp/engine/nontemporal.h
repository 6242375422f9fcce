/* Large results go past the caches, which would not hold them until they are read: an ordinary store first
 * reads the line that it overwrites (docs/design/kernels.md). Pool threads wait for such stores before
 * their tasks count as done. */

/* Bytes from which a result is large; tests define it as 1. */
#ifndef DFP_LARGE_RESULT
#define DFP_LARGE_RESULT (1 << 20)
#endif

static int dfp_is_large(int64_t elements) {
    return elements * (int64_t)sizeof(int16_t) >= DFP_LARGE_RESULT;
}

/* `large` says whether the result that `to` belongs to is. */
DFP_INLINE void dfp_store_result(int16_t *to, dfp_vi v, int large) {
    if (large && (uintptr_t)to % sizeof v == 0)
        dfp_store_nontemporal(to, v);
    else
        dfp_store(to, v);
}
