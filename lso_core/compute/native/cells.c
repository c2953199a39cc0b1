#include "cells.h"

#include <stdlib.h>
#include <string.h>

enum { DIGIT_BITS = 12, DIGITS = 1 << DIGIT_BITS, HEAD = LSO_TABLE_HEAD };

static void insert_sorted(struct lso_item *items, size_t count)
{
    for (size_t at = 1; at < count; at++) {
        struct lso_item one = items[at];
        size_t to = at;
        for (; to > 0 && items[to - 1].key > one.key; to--)
            items[to] = items[to - 1];
        items[to] = one;
    }
}

/* Moves items to where their digit says. */
static void scatter(const struct lso_item *items, size_t count, int shift, int bits, struct lso_item *into)
{
    size_t starts[DIGITS], start = 0, digits = (size_t)1 << bits;
    memset(starts, 0, digits * sizeof *starts);
    for (size_t at = 0; at < count; at++)
        starts[items[at].key >> shift & (digits - 1)]++;
    for (size_t digit = 0; digit < digits; digit++) {
        size_t many = starts[digit];
        starts[digit] = start;
        start += many;
    }
    for (size_t at = 0; at < count; at++)
        into[starts[items[at].key >> shift & (digits - 1)]++] = items[at];
}

struct lso_item *lso_sort(struct lso_item *items, struct lso_item *spare, size_t count)
{
    if (count <= LSO_FEW) {
        insert_sorted(items, count);
        return items;
    }
    uint64_t varying = 0;
    for (size_t at = 1; at < count; at++)
        varying |= items[at].key ^ items[0].key;
    int all = varying ? 64 - __builtin_clzll(varying) : 0, rounds = (all + DIGIT_BITS - 1) / DIGIT_BITS;
    int bits = rounds ? (all + rounds - 1) / rounds : 0; /* as few rounds as there must be, none larger than need be */
    for (int shift = 0; shift < all; shift += bits) {
        if (!(varying >> shift & (((uint64_t)1 << bits) - 1)))
            continue; /* all have the same digit */
        scatter(items, count, shift, bits, spare);
        struct lso_item *sorted = spare;
        spare = items;
        items = sorted;
    }
    return items;
}

static const uint64_t SIGN = (uint64_t)1 << 63; /* turned over, so that negative keys come first */

/* Room for so many items and as many spare ones; NULL without memory. */
static struct lso_item *room_for(size_t count)
{
    return count > SIZE_MAX / (2 * sizeof(struct lso_item)) ? NULL : malloc(2 * count * sizeof(struct lso_item));
}

LSO_EXPORT int64_t lso_sum_cells(const int64_t *keys, const int64_t *counts, int64_t count, int64_t *out_keys,
                                 int64_t *out_counts)
{
    if (count <= 0)
        return 0;
    size_t many = (size_t)count;
    struct lso_item *items = room_for(many);
    if (!items)
        return -1;
    for (size_t at = 0; at < many; at++)
        items[at] = (struct lso_item){(uint64_t)keys[at] ^ SIGN, (uint64_t)counts[at]};
    const struct lso_item *sorted = lso_sort(items, items + many, many);
    int64_t found = 0;
    for (size_t at = 0; at < many;) {
        uint64_t key = sorted[at].key, sum = 0;
        for (; at < many && sorted[at].key == key; at++)
            sum += sorted[at].value;
        out_keys[found] = (int64_t)(key ^ SIGN);
        out_counts[found] = (int64_t)sum;
        found += sum != 0;
    }
    free(items);
    return found;
}

LSO_EXPORT int64_t lso_sum_pairs(const int64_t *keys, const int64_t *ones, const int64_t *others, int64_t count,
                                 int64_t *out_keys, int64_t *out_ones, int64_t *out_others)
{
    if (count <= 0)
        return 0;
    size_t many = (size_t)count;
    struct lso_item *items = room_for(many);
    if (!items)
        return -1;
    for (size_t at = 0; at < many; at++)
        items[at] = (struct lso_item){(uint64_t)keys[at] ^ SIGN, at};
    const struct lso_item *sorted = lso_sort(items, items + many, many);
    int64_t found = 0;
    for (size_t at = 0; at < many; found++) {
        uint64_t key = sorted[at].key, one = 0, other = 0;
        for (; at < many && sorted[at].key == key; at++) {
            one += (uint64_t)ones[sorted[at].value];
            other += (uint64_t)others[sorted[at].value];
        }
        out_keys[found] = (int64_t)(key ^ SIGN);
        out_ones[found] = (int64_t)one;
        out_others[found] = (int64_t)other;
    }
    free(items);
    return found;
}

LSO_EXPORT int64_t lso_add_cells(const int64_t *keys, const int64_t *counts, int64_t count, const int64_t *more_keys,
                                 const int64_t *more_counts, int64_t more, int64_t *out_keys, int64_t *out_counts)
{
    int64_t at = 0, found = 0;
    for (int64_t other = 0; other < more; other++) {
        int64_t key = more_keys[other];
        uint64_t sum = (uint64_t)more_counts[other];
        for (; at < count && keys[at] < key; at++, found++) {
            out_keys[found] = keys[at];
            out_counts[found] = counts[at];
        }
        if (at < count && keys[at] == key)
            sum += (uint64_t)counts[at++];
        out_keys[found] = key;
        out_counts[found] = (int64_t)sum;
        found += sum != 0;
    }
    for (; at < count; at++, found++) {
        out_keys[found] = keys[at];
        out_counts[found] = counts[at];
    }
    return found;
}

/* A table under way. */
struct table {
    uint64_t *keys, *counts;
    size_t count;
};

void lso_widen(const uint8_t *from, int width, size_t count, uint64_t *into)
{
    switch (width) {
    case 1:
        for (size_t at = 0; at < count; at++)
            into[at] = from[at];
        break;
    case 2:
        for (size_t at = 0; at < count; at++) {
            uint16_t one;
            memcpy(&one, from + at * sizeof one, sizeof one);
            into[at] = one;
        }
        break;
    case 4:
        for (size_t at = 0; at < count; at++) {
            uint32_t one;
            memcpy(&one, from + at * sizeof one, sizeof one);
            into[at] = one;
        }
        break;
    default:
        memcpy(into, from, count * sizeof *into);
    }
}

static void narrow(const uint64_t *from, int width, size_t count, uint8_t *into)
{
    switch (width) {
    case 1:
        for (size_t at = 0; at < count; at++)
            into[at] = (uint8_t)from[at];
        break;
    case 2:
        for (size_t at = 0; at < count; at++) {
            uint16_t one = (uint16_t)from[at];
            memcpy(into + at * sizeof one, &one, sizeof one);
        }
        break;
    case 4:
        for (size_t at = 0; at < count; at++) {
            uint32_t one = (uint32_t)from[at];
            memcpy(into + at * sizeof one, &one, sizeof one);
        }
        break;
    default:
        memcpy(into, from, count * sizeof *from);
    }
}

int lso_is_width(int64_t width)
{
    return width == 1 || width == 2 || width == 4 || width == 8;
}

static int width_of(uint64_t most)
{
    return most >> 8 == 0 ? 1 : most >> 16 == 0 ? 2 : most >> 32 == 0 ? 4 : 8;
}

int64_t lso_table_size(const uint8_t *packed, int64_t size)
{
    uint32_t count;
    if (size < HEAD || !lso_is_width(packed[4]) || !lso_is_width(packed[5]))
        return -1;
    memcpy(&count, packed, sizeof count);
    uint64_t needed = (uint64_t)count * (packed[4] + packed[5]) + HEAD;
    return needed <= (uint64_t)size ? (int64_t)needed : -1;
}

int64_t lso_cells_in(const uint8_t *packed, int64_t size)
{
    uint32_t count;
    if (size == 0)
        return 0;
    if (lso_table_size(packed, size) != size)
        return -1;
    memcpy(&count, packed, sizeof count);
    return count;
}

void lso_unpack(const uint8_t *packed, size_t count, uint64_t *keys, uint64_t *counts)
{
    if (!count)
        return;
    lso_widen(packed + HEAD, packed[4], count, keys);
    lso_widen(packed + HEAD + count * packed[4], packed[5], count, counts);
    for (size_t at = 1; at < count; at++)
        keys[at] += keys[at - 1];
}

/* The sum of two tables with ascending keys, which `into` has room for. Of the first there are many between two of the
   second, so the loop over them is the inner one. */
static void merge(const uint64_t *keys, const uint64_t *counts, size_t count, const int64_t *more_keys,
                  const int64_t *more_counts, size_t more, struct table *into)
{
    uint64_t *out_keys = into->keys, *out_counts = into->counts;
    size_t at = 0;
    for (size_t other = 0; other < more; other++) {
        uint64_t key = (uint64_t)more_keys[other], sum = (uint64_t)more_counts[other];
        for (; at < count && keys[at] < key; at++) {
            *out_keys++ = keys[at];
            *out_counts++ = counts[at];
        }
        if (at < count && keys[at] == key)
            sum += counts[at++];
        *out_keys++ = key;
        *out_counts++ = sum;
    }
    if (at < count) {
        memcpy(out_keys, keys + at, (count - at) * sizeof *keys);
        memcpy(out_counts, counts + at, (count - at) * sizeof *counts);
    }
    into->count = (size_t)(out_keys - into->keys) + (count - at);
}

/* Packs a table, whose keys it turns into steps, into `room` bytes. Returns how many it took; -2 where they are too few, or a
   count is below 0, as it is where more leaves a table than is in it. */
static int64_t pack(struct table *table, uint8_t *out, int64_t room)
{
    uint64_t all_steps = 0, all_counts = 0, before = 0;
    for (size_t at = 0; at < table->count; at++) {
        uint64_t key = table->keys[at];
        table->keys[at] = key - before;
        before = key;
        all_steps |= table->keys[at];
        all_counts |= table->counts[at];
    }
    int step_width = width_of(all_steps), count_width = width_of(all_counts);
    uint64_t size = HEAD + (uint64_t)table->count * (unsigned)(step_width + count_width);
    if (table->count > UINT32_MAX || all_counts > INT64_MAX || room < 0 || size > (uint64_t)room)
        return -2;
    uint32_t count = (uint32_t)table->count;
    memcpy(out, &count, sizeof count);
    out[4] = (uint8_t)step_width;
    out[5] = (uint8_t)count_width;
    narrow(table->keys, step_width, count, out + HEAD);
    narrow(table->counts, count_width, count, out + HEAD + (size_t)count * (unsigned)step_width);
    return (int64_t)size;
}

/* The quick way: packed cells stay as they are but for those that cells come to. It goes where the sum is as wide as the
   table was, which is nearly always. */

/* Where the cells that come go in: behind `at` of the table's, and whether that one is the same. */
struct place {
    size_t at;
    int same;
};

/* Steps of a width, with those of more keys between them. Returns how many there are then in `out`, which has room for
   all; 0 where they need another width. */
#define DEFINE_ADD_STEPS(NAME, TYPE)                                                                                   \
    static size_t NAME(const uint8_t *packed, size_t count, const int64_t *keys, size_t more, struct place *places,   \
                       uint8_t *out)                                                                                   \
    {                                                                                                                  \
        uint64_t old = 0, last = 0, all = 0; /* keys: of the table, and of the sum */                                  \
        size_t at = 0, found = 0;                                                                                      \
        TYPE step = 0;                                                                                                 \
        for (size_t other = 0; other <= more; other++) {                                                               \
            uint64_t key = other < more ? (uint64_t)keys[other] : UINT64_MAX, next = 0;                                \
            for (; at < count; at++, found++) {                                                                        \
                memcpy(&step, packed + at * sizeof step, sizeof step);                                                 \
                next = old + step;                                                                                     \
                if (next >= key)                                                                                       \
                    break;                                                                                             \
                step = (TYPE)(next - last);                                                                            \
                all |= step;                                                                                           \
                memcpy(out + found * sizeof step, &step, sizeof step);                                                 \
                old = last = next;                                                                                     \
            }                                                                                                          \
            if (other == more)                                                                                         \
                break;                                                                                                 \
            places[other] = (struct place){at, at < count && next == key};                                             \
            if (places[other].same) {                                                                                  \
                old = key;                                                                                             \
                at++;                                                                                                  \
            }                                                                                                          \
            all |= key - last;                                                                                         \
            step = (TYPE)(key - last);                                                                                 \
            memcpy(out + found++ * sizeof step, &step, sizeof step);                                                   \
            last = key;                                                                                                \
        }                                                                                                              \
        return width_of(all) == (int)sizeof step ? found : 0;                                                          \
    }

/* The counts of a width, in the same way. */
#define DEFINE_ADD_COUNTS(NAME, TYPE)                                                                                  \
    static size_t NAME(const uint8_t *packed, size_t count, const int64_t *counts, size_t more,                        \
                       const struct place *places, uint8_t *out)                                                       \
    {                                                                                                                  \
        uint64_t all = 0;                                                                                              \
        size_t at = 0, found = 0;                                                                                      \
        TYPE one = 0;                                                                                                  \
        for (size_t other = 0; other <= more; other++) {                                                               \
            for (size_t end = other < more ? places[other].at : count; at < end; at++, found++) {                      \
                memcpy(&one, packed + at * sizeof one, sizeof one);                                                    \
                all |= one;                                                                                            \
                memcpy(out + found * sizeof one, &one, sizeof one);                                                    \
            }                                                                                                          \
            if (other == more)                                                                                         \
                break;                                                                                                 \
            uint64_t sum = (uint64_t)counts[other];                                                                    \
            if (places[other].same) {                                                                                  \
                memcpy(&one, packed + at++ * sizeof one, sizeof one);                                                  \
                sum += one;                                                                                            \
            }                                                                                                          \
            all |= sum;                                                                                                \
            one = (TYPE)sum;                                                                                           \
            memcpy(out + found++ * sizeof one, &one, sizeof one);                                                      \
        }                                                                                                              \
        return width_of(all) == (int)sizeof one ? found : 0;                                                           \
    }

DEFINE_ADD_STEPS(add_steps_1, uint8_t)
DEFINE_ADD_STEPS(add_steps_2, uint16_t)
DEFINE_ADD_COUNTS(add_counts_1, uint8_t)
DEFINE_ADD_COUNTS(add_counts_2, uint16_t)

/* The sum of a packed table and others, packed again, in at most `room` bytes; how many, 0 where this is no way. */
static int64_t add_in_place(const uint8_t *packed, size_t count, const int64_t *keys, const int64_t *counts,
                            size_t more, struct place *places, uint8_t *out, int64_t room)
{
    if (!count || packed[4] > 2 || packed[5] > 2 || count + more > UINT32_MAX || room < HEAD ||
        (uint64_t)(room - HEAD) < (uint64_t)(count + more) * (packed[4] + packed[5]))
        return 0;
    size_t found = (packed[4] == 1 ? add_steps_1 : add_steps_2)(packed + HEAD, count, keys, more, places, out + HEAD);
    if (!found)
        return 0;
    uint32_t cells = (uint32_t)found;
    memcpy(out, &cells, sizeof cells);
    out[4] = packed[4];
    out[5] = packed[5];
    uint8_t *behind = out + HEAD + found * packed[4];
    const uint8_t *old = packed + HEAD + count * packed[4];
    if (!(packed[5] == 1 ? add_counts_1 : add_counts_2)(old, count, counts, more, places, behind))
        return 0;
    return HEAD + (int64_t)found * (packed[4] + packed[5]);
}

/* The same however wide they are: unpacked, added, packed. */
static int64_t add_anew(const uint8_t *packed, size_t count, const int64_t *keys, const int64_t *counts, size_t more,
                        uint64_t *scratch, uint8_t *out, int64_t room)
{
    uint64_t *old_keys = scratch, *old_counts = scratch + count;
    struct table sum = {old_counts + count, old_counts + count + (count + more), 0};
    lso_unpack(packed, count, old_keys, old_counts);
    merge(old_keys, old_counts, count, keys, counts, more, &sum);
    return pack(&sum, out, room);
}

int64_t lso_add_packed(const uint8_t *packed, int64_t size, const int64_t *keys, const int64_t *counts, int64_t more,
                       uint8_t *out, int64_t room)
{
    int64_t count = lso_cells_in(packed, size);
    if (count < 0 || more < 0 || more > INT64_MAX / 128)
        return -2;
    size_t old = (size_t)count, new = (size_t)more;
    uint64_t *scratch = malloc((4 * old + 2 * new + 1) * sizeof *scratch);
    if (!scratch)
        return -1;
    int64_t used = add_in_place(packed, old, keys, counts, new, (struct place *)scratch, out, room);
    if (!used)
        used = add_anew(packed, old, keys, counts, new, scratch, out, room);
    free(scratch);
    return used;
}

/* How many cells tables have together; -1 where one is none. */
static int64_t cells_in_all(int64_t tables, const uint8_t *const *packed, const int64_t *sizes)
{
    int64_t all = 0;
    for (int64_t at = 0; at < tables; at++) {
        int64_t count = lso_cells_in(packed[at], sizes[at]);
        if (count < 0)
            return -1;
        all += count;
    }
    return all;
}

/* The cells of tables, taken away: negative counts. */
static void take_away(int64_t tables, const uint8_t *const *packed, const int64_t *sizes, int64_t *keys, int64_t *counts)
{
    for (int64_t table = 0; table < tables; table++) {
        size_t cells = (size_t)lso_cells_in(packed[table], sizes[table]);
        lso_unpack(packed[table], cells, (uint64_t *)keys, (uint64_t *)counts);
        for (size_t at = 0; at < cells; at++)
            counts[at] = (int64_t)(0 - (uint64_t)counts[at]);
        keys += cells;
        counts += cells;
    }
}

/* What leaves and what comes, added up as by lso_sum_cells. */
static int64_t sum_changes(int64_t gone, const uint8_t *const *packed, const int64_t *sizes, int64_t less,
                           const int64_t *keys, const int64_t *counts, int64_t more, int64_t *sums)
{
    int64_t changes = less + more;
    if (!less)
        return lso_sum_cells(keys, counts, more, sums, sums + changes);
    int64_t *all = malloc(2 * (size_t)changes * sizeof *all);
    if (!all)
        return -1;
    take_away(gone, packed, sizes, all, all + changes);
    if (more) {
        memcpy(all + less, keys, (size_t)more * sizeof *keys);
        memcpy(all + changes + less, counts, (size_t)more * sizeof *counts);
    }
    int64_t found = lso_sum_cells(all, all + changes, changes, sums, sums + changes);
    free(all);
    return found;
}

/* A packed table with changes, which may be negative. How many bytes it takes, or what is wrong. */
static int64_t change(const uint8_t *packed, int64_t held, const int64_t *keys, const int64_t *counts, int64_t changes,
                      uint8_t *out, int64_t room)
{
    size_t after = (size_t)(held + changes);
    int64_t *old = malloc((2 * (size_t)held + 2 * after + 1) * sizeof *old), *sum = old + 2 * held;
    if (!old)
        return -1;
    lso_unpack(packed, (size_t)held, (uint64_t *)old, (uint64_t *)old + held);
    struct table table = {(uint64_t *)sum, (uint64_t *)sum + after, 0};
    table.count = (size_t)lso_add_cells(old, old + held, held, keys, counts, changes, sum, sum + after);
    int64_t size = pack(&table, out, room);
    free(old);
    return size;
}

int64_t lso_carry_packed(int64_t gone, const uint8_t *const *packed, const int64_t *sizes, const int64_t *keys,
                         const int64_t *counts, int64_t more, uint8_t *out, int64_t room)
{
    int64_t held = lso_cells_in(packed[0], sizes[0]), less = cells_in_all(gone, packed + 1, sizes + 1);
    if (held < 0 || less < 0 || more < 0 || more > INT64_MAX / 128)
        return -2;
    size_t changes = (size_t)(less + more);
    int64_t *sums = malloc((4 * changes + 1) * sizeof *sums);
    if (!sums)
        return -1;
    struct place *places = (struct place *)(sums + 2 * changes);
    int64_t found = sum_changes(gone, packed + 1, sizes + 1, less, keys, counts, more, sums), size = 0;
    if (found >= 0 && !less)
        size = add_in_place(packed[0], (size_t)held, sums, sums + changes, (size_t)found, places, out, room);
    if (found >= 0 && !size)
        size = change(packed[0], held, sums, sums + changes, found, out, room);
    free(sums);
    return found < 0 ? -1 : size;
}
