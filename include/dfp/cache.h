/* Sizes of this machine's caches. */
#ifndef DFP_CACHE_H
#define DFP_CACHE_H

#include <stdint.h>

/* Bytes of one core's second-level cache; 512 KiB if unknown. */
int64_t dfp_second_level_cache(void);

#endif
