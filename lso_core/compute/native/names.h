/* Names, numbered in the order in which they are first met. */
#ifndef LSO_NAMES_H
#define LSO_NAMES_H

#include "json.h"

struct names {
    struct span *all;
    uint32_t *hashes;
    uint32_t count, room;
    uint32_t *slots; /* 1 + position in `all`, 0 where free; always a power of two, half of them free */
    uint32_t slot_count;
    uint32_t last;   /* position of the name that was met last */
};

/* Position of a name that stays where it is; UINT32_MAX where memory is short, or names are made to collide. */
uint32_t names_number(struct names *names, struct span name);

void names_free(struct names *names);

#endif
