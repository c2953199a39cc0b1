#include "rows.h"

#include <stdlib.h>

enum { STAGE_BITS = 10 };

/* How many cells a share has; -1 where a table is none. */
static int64_t cells_of(const struct lso_share *share)
{
    int64_t all = 0;
    for (int64_t table = 0; table < share->tables && all >= 0; table++) {
        int64_t count = lso_cells_in(share->packed[table], share->sizes[table]);
        all = count < 0 ? -1 : all + count;
    }
    return all;
}

/* A key of a state as one of a row: by index first. 0 where its stage has no place. */
static int place(int64_t *key, const struct lso_places *of)
{
    int64_t number = *key >> LSO_INDEX_BITS, index = *key & ((1 << LSO_INDEX_BITS) - 1);
    if (number < 0 || number >= of->count)
        return 0;
    *key = index << STAGE_BITS | of->places[number];
    return 1;
}

/* The cells of a share one after another. 0 where a stage has no place. */
static int take(const struct lso_share *share, int64_t held, const struct lso_places *of_held,
                const struct lso_places *of_others, int64_t *keys, int64_t *counts)
{
    int64_t done = 0;
    for (int64_t table = 0; table < share->tables; table++) {
        int64_t count = lso_cells_in(share->packed[table], share->sizes[table]);
        lso_unpack(share->packed[table], (size_t)count, (uint64_t *)keys + done, (uint64_t *)counts + done);
        for (int64_t end = done + count; done < end; done++)
            if (!place(keys + done, table < held ? of_held : of_others))
                return 0;
    }
    return 1;
}

LSO_EXPORT int64_t lso_row_cells(const struct lso_share *all, const struct lso_share *errors, int64_t held,
                                 const struct lso_places *of_held, const struct lso_places *of_others, int64_t *out,
                                 int64_t room)
{
    int64_t some = cells_of(all), wrong = cells_of(errors);
    if (some < 0 || wrong < 0 || some > room || wrong > room - some)
        return -2;
    int64_t count = some + wrong;
    int64_t *keys = calloc(3 * (size_t)count + 1, sizeof *keys), *counts = keys + count, *failed = counts + count;
    if (!keys)
        return -1;
    int64_t found = -2;
    if (take(all, held, of_held, of_others, keys, counts) &&
        take(errors, held, of_held, of_others, keys + some, failed + some))
        found = lso_sum_pairs(keys, counts, failed, count, out, out + 2 * room, out + 3 * room);
    for (int64_t at = 0; at < found; at++) {
        out[room + at] = out[at] & ((1 << STAGE_BITS) - 1);
        out[at] >>= STAGE_BITS;
    }
    free(keys);
    return found;
}
