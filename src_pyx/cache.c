#include "cache.h"

#include <unistd.h>

int64_t dfp_second_level_cache(void) {
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? bytes : 512 << 10;
}
