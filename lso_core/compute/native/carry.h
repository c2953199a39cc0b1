/* The windows of many systems, carried on by what arrived and what leaves. */
#ifndef LSO_CARRY_H
#define LSO_CARRY_H

#include "bytes.h"

/* What is told of each system. */
enum {
    LSO_SYSTEM_FIRST,  /* number of the first slot of its window */
    LSO_SYSTEM_OVER,   /* and of the first of which nothing goes into history yet */
    LSO_SYSTEM_BLOCKS, /* how many blocks are its own, behind those of the systems before it */
    LSO_SYSTEM_SLOTS,  /* and how many slots */
    LSO_SYSTEM_FIELDS
};

/* What is told of what arrived: blocks and tables as lso_fold takes them. */
struct lso_arrived {
    const uint8_t *data;
    int64_t size;
    const int64_t *blocks;
    const uint8_t *tables;
    int64_t tables_size;
};

/* What is told of the systems. `texts` are, of each system, the packed cells of its window, its sums in MessagePack, and its
   slots as they are stored; `starts` are when these begin, in ms. `parts` are the percentiles that are wanted. */
struct lso_windows {
    const int64_t *systems;
    int64_t count;
    const uint8_t *const *texts;
    const int64_t *sizes, *starts, *parts;
    int64_t part_count;
    int64_t format; /* of slots */
};

/* Writes, in MessagePack, what comes of each system: an array of `carrying.Carried`. Returns 0, or -1 without memory. */
int lso_carry(const struct lso_arrived *arrived, const struct lso_windows *windows, struct bytes *into);

void lso_free_bytes(struct bytes *bytes);

#endif
