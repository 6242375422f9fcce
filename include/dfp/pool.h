/* Memory for results, 64-byte aligned and reused.
 *
 * A fresh large allocation costs a page fault for every 4 KiB, more than a kernel spends writing
 * the page. Freed memory is therefore kept, large blocks in an arena, others by size; what is in use
 * and what is kept are together never more than 3/2 of the peak in use since the last release. */
#ifndef DFP_POOL_H
#define DFP_POOL_H

#include <stddef.h>

/* NULL if out of memory. The block has at least `bytes` bytes, with arbitrary content. */
void *dfp_pool_take(size_t bytes);
void dfp_pool_give(void *memory);
/* Frees all blocks that are not in use, and restarts the measurement of the peak in use. */
void dfp_pool_release(void);

typedef struct {
    size_t in_use, cached, peak_in_use; /* bytes */
} dfp_pool_statistics;
dfp_pool_statistics dfp_pool_read(void);

/* For tests: whether blocks that are new or given back are filled with a pattern (NaN as float32),
 * so that reading a freed or unwritten result is detected. */
void dfp_pool_poison(int on);

#endif
