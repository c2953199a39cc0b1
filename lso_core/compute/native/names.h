/* Names, numbered in the order in which they are first met. */
#ifndef LSO_NAMES_H
#define LSO_NAMES_H

#include <string.h>

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

/* Whether the name that was met last comes again, in quotes. */
static inline int names_follows(const struct names *names, const struct text *text)
{
    if (!names->count)
        return 0;
    struct span last = names->all[names->last];
    return text->end - text->at > (ptrdiff_t)last.length + 1 && text->at[0] == '"' && text->at[last.length + 1] == '"' &&
           memcmp(text->at + 1, last.at, last.length) == 0;
}

void names_free(struct names *names);

#endif
