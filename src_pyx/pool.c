#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "arena.h"

/* Sizes are rounded up to one of 8 steps between powers of two: at most 1/8 of a block is wasted. */
#define STEP_BITS 3
#define CLASSES (64 << STEP_BITS)
#define SMALLEST 256

/* A block may serve a request that is smaller by up to this many classes, a factor of 1.5. */
#define CLASSES_BELOW 4

#define POISON 0x7fc0

/* Blocks from so many bytes on come from the arena. */
#define LARGE (64 << 10)
#define IN_ARENA (-1)

/* Placed before the memory that is handed out. */
typedef struct block {
    _Alignas(64) struct block *next;
    int class;    /* or IN_ARENA */
    size_t bytes; /* in the arena with this header */
} block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;
static block *free_blocks[CLASSES];
static dfp_pool_statistics statistics;
static atomic_int poisons;

static void after_fork_in_child(void) { pthread_mutex_init(&lock, NULL); }

static void lock_for_fork(void) { pthread_mutex_lock(&lock); }

static void unlock_after_fork(void) { pthread_mutex_unlock(&lock); }

/* The lists are consistent when the child is created: nothing changes them during a fork. */
static void install_fork_handlers(void) {
    pthread_atfork(lock_for_fork, unlock_after_fork, after_fork_in_child);
}

static int class_of(size_t bytes) {
    if (bytes < SMALLEST) bytes = SMALLEST;
    int power = 63 - __builtin_clzll(bytes);
    size_t step = (size_t)1 << (power - STEP_BITS);
    size_t steps = (bytes - ((size_t)1 << power) + step - 1) / step;
    return (power << STEP_BITS) + (int)steps;
}

static size_t class_bytes(int class) {
    int power = class >> STEP_BITS, steps = class & ((1 << STEP_BITS) - 1);
    return ((size_t)1 << power) + ((size_t)steps << (power - STEP_BITS));
}

static void count_use(size_t bytes) {
    statistics.in_use += bytes;
    if (statistics.in_use > statistics.peak_in_use) statistics.peak_in_use = statistics.in_use;
}

static block *fresh(int class) {
    void *memory;
    if (posix_memalign(&memory, 64, sizeof(block) + class_bytes(class))) return NULL;
    block *b = memory;
    b->class = class;
    b->bytes = class_bytes(class);
    return b;
}

/* The smallest kept block that is large enough, taken off its list, or NULL. */
static block *find_kept(int class) {
    for (int i = class; i <= class + CLASSES_BELOW && i < CLASSES; ++i) {
        block *b = free_blocks[i];
        if (!b) continue;
        free_blocks[i] = b->next;
        statistics.cached -= b->bytes;
        return b;
    }
    return NULL;
}

/* Whether more is kept than allowed. */
static int keeps_too_much(void) {
    size_t most = statistics.peak_in_use + statistics.peak_in_use / 2;
    return statistics.in_use + statistics.cached + dfp_arena_cached() > most;
}

/* Drops the arena's free memory and takes kept blocks off the lists until no more is kept than
 * allowed: sizes that are no longer requested must not displace those that are. Called with the lock
 * held; the caller frees the blocks. */
static block *evict(void) {
    static int next_class;
    block *evicted = NULL;
    if (keeps_too_much()) dfp_arena_drop();
    for (int i = 0; i < CLASSES; ++i, next_class = (next_class + 1) % CLASSES) {
        while (free_blocks[next_class]) {
            if (!keeps_too_much()) return evicted;
            block *b = free_blocks[next_class];
            free_blocks[next_class] = b->next;
            statistics.cached -= b->bytes;
            b->next = evicted;
            evicted = b;
        }
    }
    return evicted;
}

static void free_all(block *blocks) {
    while (blocks) {
        block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

/* Read as float32 this is NaN, as INT16 or as an exponent a very large number. */
static void poison(block *b) {
    uint16_t *words = (uint16_t *)(b + 1);
    size_t bytes = b->class == IN_ARENA ? b->bytes - sizeof *b : b->bytes;
    for (size_t i = 0; i < bytes / sizeof *words; ++i) words[i] = POISON;
}

static block *take_kept(int class) {
    pthread_mutex_lock(&lock);
    block *b = find_kept(class);
    if (b) count_use(b->bytes);
    pthread_mutex_unlock(&lock);
    return b;
}

/* Only a new block increases the total, so its bound is enforced here. */
static block *take_fresh(int class) {
    block *b = fresh(class);
    if (!b) return NULL;
    if (atomic_load(&poisons)) poison(b);
    pthread_mutex_lock(&lock);
    count_use(b->bytes);
    block *evicted = evict();
    pthread_mutex_unlock(&lock);
    free_all(evicted);
    return b;
}

static block *take_from_arena(size_t bytes) {
    size_t size = (bytes + sizeof(block) + 63) / 64 * 64;
    pthread_mutex_lock(&lock);
    block *b = dfp_arena_take(size), *evicted = NULL;
    if (b) {
        *b = (block){NULL, IN_ARENA, size};
        count_use(size);
        evicted = evict();
    }
    pthread_mutex_unlock(&lock);
    free_all(evicted);
    if (b && atomic_load(&poisons)) poison(b);
    return b;
}

void *dfp_pool_take(size_t bytes) {
    if (bytes > SIZE_MAX / 4) return NULL;
    pthread_once(&fork_handlers, install_fork_handlers);
    block *b = bytes >= LARGE ? take_from_arena(bytes) : NULL;
    if (!b) b = take_kept(class_of(bytes));
    if (!b) b = take_fresh(class_of(bytes));
    return b ? b + 1 : NULL;
}

void dfp_pool_give(void *memory) {
    block *given = (block *)memory - 1;
    if (atomic_load(&poisons)) poison(given);
    pthread_mutex_lock(&lock);
    statistics.in_use -= given->bytes;
    if (given->class == IN_ARENA) {
        dfp_arena_give(given, given->bytes);
    } else {
        given->next = free_blocks[given->class];
        free_blocks[given->class] = given;
        statistics.cached += given->bytes;
    }
    pthread_mutex_unlock(&lock);
}

void dfp_pool_poison(int on) { atomic_store(&poisons, on); }

void dfp_pool_release(void) {
    block *all[CLASSES];
    pthread_mutex_lock(&lock);
    for (int i = 0; i < CLASSES; ++i) {
        all[i] = free_blocks[i];
        free_blocks[i] = NULL;
    }
    statistics.cached = 0;
    dfp_arena_drop();
    statistics.peak_in_use = statistics.in_use;
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < CLASSES; ++i) free_all(all[i]);
}

dfp_pool_statistics dfp_pool_read(void) {
    pthread_mutex_lock(&lock);
    dfp_pool_statistics copy = statistics;
    copy.cached += dfp_arena_cached();
    pthread_mutex_unlock(&lock);
    return copy;
}
