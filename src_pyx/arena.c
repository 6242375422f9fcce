#include "arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

/* Addresses cost nothing, but a system may limit them: half as many are tried until it agrees. */
#define MOST_ADDRESSES ((size_t)1 << 44)
#define LEAST_ADDRESSES ((size_t)1 << 30)
/* The range becomes usable in steps, whole huge pages. */
#define STEP ((size_t)4 << 20)

typedef struct {
    size_t first, bytes;
    int dropped; /* whether none of its pages is committed */
} piece;

static char *range;
static size_t addresses, usable, end; /* bytes: reserved, allowed, in blocks or pieces */
static piece *pieces;                 /* free ones, ascending, none next to another */
static size_t count, room;

static void *reserve(size_t bytes) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, bytes, PROT_NONE, flags, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* Where a process may have only so many addresses, they are not to be held in reserve. */
static int has_range(void) {
    static int tried;
    struct rlimit limit;
    if (tried) return range != NULL;
    tried = 1;
    if (getrlimit(RLIMIT_AS, &limit) || limit.rlim_cur != RLIM_INFINITY) return 0;
    for (addresses = MOST_ADDRESSES; addresses >= LEAST_ADDRESSES; addresses /= 2)
        if ((range = reserve(addresses + STEP))) break;
    if (!range) return 0;
    range += STEP - (uintptr_t)range % STEP;
    return 1;
}

/* Room for one more piece than there are. */
static int has_room(void) {
    if (count < room) return 1;
    piece *more = realloc(pieces, (2 * room + 16) * sizeof *pieces);
    if (!more) return 0;
    pieces = more;
    room = 2 * room + 16;
    return 1;
}

/* Lets the first `bytes` of the range be used. Huge pages take fewer faults and fewer entries of the
 * address cache. */
static int allow(size_t bytes) {
    if (bytes <= usable) return 1;
    if (bytes > addresses) return 0;
    size_t more = (bytes - usable + STEP - 1) / STEP * STEP;
    if (mprotect(range + usable, more, PROT_READ | PROT_WRITE)) return 0;
#ifdef MADV_HUGEPAGE
    madvise(range + usable, more, MADV_HUGEPAGE);
#endif
    usable += more;
    return 1;
}

static void remove_piece(size_t i) {
    memmove(pieces + i, pieces + i + 1, (--count - i) * sizeof *pieces);
}

static size_t smallest_piece(size_t bytes) {
    size_t best = count;
    for (size_t i = 0; i < count; ++i)
        if (pieces[i].bytes >= bytes && (best == count || pieces[i].bytes < pieces[best].bytes))
            best = i;
    return best;
}

/* At the end of what is in use, where the last piece may already be a part of it. */
static void *take_at_end(size_t bytes) {
    int joins = count && pieces[count - 1].first + pieces[count - 1].bytes == end;
    size_t first = joins ? pieces[count - 1].first : end;
    if (!allow(first + bytes)) return NULL;
    if (joins) --count;
    end = first + bytes;
    return range + first;
}

void *dfp_arena_take(size_t bytes) {
    if (!has_range() || bytes > addresses) return NULL;
    size_t i = smallest_piece(bytes);
    if (i == count) return take_at_end(bytes);
    void *memory = range + pieces[i].first;
    pieces[i].first += bytes;
    pieces[i].bytes -= bytes;
    if (!pieces[i].bytes) remove_piece(i);
    return memory;
}

static int touches(size_t i) { return pieces[i].first + pieces[i].bytes == pieces[i + 1].first; }

static void join_with_next(size_t i) {
    pieces[i].bytes += pieces[i + 1].bytes;
    pieces[i].dropped &= pieces[i + 1].dropped;
    remove_piece(i + 1);
}

void dfp_arena_give(void *memory, size_t bytes) {
    size_t first = (size_t)((char *)memory - range), i = count;
    if (!has_room()) return; /* lost, but nothing else */
    while (i > 0 && pieces[i - 1].first > first) --i;
    memmove(pieces + i + 1, pieces + i, (count++ - i) * sizeof *pieces);
    pieces[i] = (piece){first, bytes, 0};
    if (i + 1 < count && touches(i)) join_with_next(i);
    if (i > 0 && touches(i - 1)) join_with_next(i - 1);
}

size_t dfp_arena_cached(void) {
    size_t bytes = 0;
    for (size_t i = 0; i < count; ++i)
        if (!pieces[i].dropped) bytes += pieces[i].bytes;
    return bytes;
}

void dfp_arena_drop(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t i = 0; i < count; ++i) {
        size_t first = (pieces[i].first + page - 1) / page * page;
        size_t last = (pieces[i].first + pieces[i].bytes) / page * page;
        if (last > first) madvise(range + first, last - first, MADV_DONTNEED);
        pieces[i].dropped = 1;
    }
    if (count && pieces[count - 1].first + pieces[count - 1].bytes == end)
        end = pieces[--count].first;
}
