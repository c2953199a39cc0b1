/* Names, numbered in the order in which they are first met. */
#ifndef LSO_NAMES_H
#define LSO_NAMES_H

#include <string.h>

#include "json.h"

/* Of the first few names: what their first bytes are, with the quote behind a name that ends before. */
enum { NAMES_FEW = 4 };
struct start {
    uint64_t bytes, mask;
};

struct names {
    struct span *all;
    struct start starts[NAMES_FEW];
    uint32_t *hashes;
    uint32_t count, room;
    uint32_t *slots; /* 1 + position in `all`, 0 where free; always a power of two, half of them free */
    uint32_t slot_count;
    uint32_t last;   /* position of the name that was met last */
};

/* Position of a name that stays where it is; UINT32_MAX where memory is short, or names are made to collide. */
uint32_t names_number(struct names *names, struct span name);

/* Whether this name comes next, in quotes. */
static inline int names_is_next(struct span name, const struct text *text)
{
    return text->end - text->at > (ptrdiff_t)name.length + 1 && text->at[0] == '"' && text->at[name.length + 1] == '"' &&
           memcmp(text->at + 1, name.at, name.length) == 0;
}

/* Whether a name comes next, in quotes, that is easily found to be known: one of a few, or the one that was met last. */
static inline int names_find_next(const struct names *names, const struct text *text, uint32_t *position)
{
    uint64_t bytes;
    if (names->count == 0)
        return 0;
    if (names->count > NAMES_FEW || text->end - text->at < 1 + (ptrdiff_t)sizeof bytes) {
        *position = names->last;
        return names_is_next(names->all[names->last], text);
    }
    memcpy(&bytes, text->at + 1, sizeof bytes);
    for (*position = 0; *position < names->count; ++*position)
        if (!((bytes ^ names->starts[*position].bytes) & names->starts[*position].mask))
            return names->all[*position].length < sizeof bytes ? text->at[0] == '"'
                                                               : names_is_next(names->all[*position], text);
    return 0;
}

void names_free(struct names *names);

#endif
