#include "ranks.h"

#include <stdlib.h>
#include <string.h>

enum { INDEXES = 1 << LSO_INDEX_BITS, HALF_BITS = 10 }; /* as in compute/histogram.py */

/* The highest value, in µs, that falls on an index. */
static int64_t highest_at(uint64_t index)
{
    uint64_t sub = index & ((1 << HALF_BITS) - 1);
    uint64_t bucket = index >> HALF_BITS;
    return (int64_t)(bucket ? ((sub + (1 << HALF_BITS) + 1) << (bucket - 1)) - 1 : sub);
}

/* The rank, from 1, at so many hundred-thousandths of a percent of a total. */
static uint64_t rank_of(uint64_t total, uint64_t parts)
{
    const uint64_t whole = 100 * 100000;
    return (total * parts + whole - 1) / whole;
}

enum { BLOCK = 32 };

static uint64_t sum_of(const int64_t *counts, int64_t count)
{
    uint64_t sum = 0;
    for (int64_t at = 0; at < count; at++)
        sum += (uint64_t)counts[at];
    return sum;
}

/* Which of the cells, at least one, the values at ascending percentiles are in; -1 where there are no values. */
static void find(const int64_t *counts, int64_t count, const int64_t *parts, int64_t many, int64_t *found)
{
    uint64_t total = sum_of(counts, count), before = 0, block;
    for (int64_t one = 0, at = 0; one < many; one++) {
        uint64_t rank = rank_of(total, (uint64_t)parts[one]);
        /* Whole blocks first: they are added up several cells at a time. */
        for (; at < count - BLOCK && before + (block = sum_of(counts + at, BLOCK)) < rank; at += BLOCK)
            before += block;
        for (; at < count - 1 && before + (uint64_t)counts[at] < rank; at++)
            before += (uint64_t)counts[at];
        found[one] = total ? at : -1;
    }
}

/* The values at ascending percentiles, 0 where there are none; without keys the indexes go on one by one from `low`. */
static void values_at(const int64_t *keys, int64_t low, const int64_t *counts, int64_t count, const int64_t *parts,
                      int64_t many, int64_t *values)
{
    find(counts, count, parts, many, values);
    for (int64_t one = 0; one < many; one++) {
        int64_t at = values[one];
        values[one] = at < 0 ? 0 : highest_at((uint64_t)(keys ? keys[at] & (INDEXES - 1) : low + at));
    }
}

/* The same over the cells of all stages together, where they are few: sorted by index. */
static void values_of_few(const int64_t *keys, const int64_t *counts, int64_t count, const int64_t *parts,
                          int64_t many, int64_t *values)
{
    struct lso_item items[LSO_FEW];
    int64_t indexes[LSO_FEW], sums[LSO_FEW];
    for (int64_t at = 0; at < count; at++)
        items[at] = (struct lso_item){(uint64_t)keys[at] & (INDEXES - 1), (uint64_t)counts[at]};
    lso_sort(items, NULL, (size_t)count);
    for (int64_t at = 0; at < count; at++) {
        indexes[at] = (int64_t)items[at].key;
        sums[at] = (int64_t)items[at].value;
    }
    values_at(indexes, 0, sums, count, parts, many, values);
}

/* Where they are many: counted by index, from the lowest that there is. */
static int values_of_many(const int64_t *keys, const int64_t *counts, int64_t count, const int64_t *parts, int64_t many,
                         int64_t *values)
{
    int64_t low = INDEXES - 1, high = 0;
    for (int64_t at = 0; at < count; at++) {
        int64_t index = keys[at] & (INDEXES - 1);
        low = index < low ? index : low;
        high = index > high ? index : high;
    }
    uint64_t *sums = calloc((size_t)(high - low + 1), sizeof *sums); /* as what is stored may be anything */
    if (!sums)
        return -1;
    for (int64_t at = 0; at < count; at++)
        sums[(keys[at] & (INDEXES - 1)) - low] += (uint64_t)counts[at];
    values_at(NULL, low, (const int64_t *)sums, high - low + 1, parts, many, values);
    free(sums);
    return 0;
}

static int64_t values_of_stages(const int64_t *keys, const int64_t *counts, int64_t count, const int64_t *parts,
                                int64_t many, int64_t *values, int64_t room)
{
    if (count <= LSO_FEW)
        values_of_few(keys, counts, count, parts, many, values);
    else if (values_of_many(keys, counts, count, parts, many, values))
        return -1;
    int64_t rows = 1;
    for (int64_t start = 0, end; start < count; start = end, rows++) {
        for (end = start + 1; end < count && keys[end] >> LSO_INDEX_BITS == keys[start] >> LSO_INDEX_BITS;)
            end++;
        if (rows >= room)
            return -2;
        values_at(keys + start, 0, counts + start, end - start, parts, many, values + rows * many);
    }
    return rows;
}

LSO_EXPORT int64_t lso_percentiles(const uint8_t *packed, int64_t size, const int64_t *parts, int64_t many,
                                   int64_t *values, int64_t room)
{
    int64_t count = lso_cells_in(packed, size);
    if (count <= 0 || room < 1)
        return count < 0 ? -2 : 0;
    int64_t *cells = malloc(2 * (size_t)count * sizeof *cells);
    if (!cells)
        return -1;
    lso_unpack(packed, (size_t)count, (uint64_t *)cells, (uint64_t *)cells + count);
    int64_t rows = values_of_stages(cells, cells + count, count, parts, many, values, room);
    free(cells);
    return rows;
}

/* What is at work on the cells of one point after another. */
struct bench {
    uint64_t *index, *counts; /* of one row, as words */
    int64_t *sums;            /* by index; all zeros between two points */
};

static size_t cells_of(const struct lso_rows *rows, int64_t row)
{
    return (size_t)(rows->edges[row + 1] - rows->edges[row]);
}

/* So many of the rows' indexes, or counts, from a cell on. */
static void take_index(const struct lso_rows *rows, size_t cell, size_t count, uint64_t *into)
{
    lso_widen(rows->index + cell * (size_t)rows->index_width, (int)rows->index_width, count, into);
}

static void take_counts(const struct lso_rows *rows, size_t cell, size_t count, uint64_t *into)
{
    lso_widen(rows->counts + cell * (size_t)rows->count_width, (int)rows->count_width, count, into);
}

/* A point of one row that has cells. */
static void values_of_row(const struct lso_rows *rows, int64_t row, const int64_t *parts, int64_t many,
                          struct bench *bench, int64_t *values)
{
    size_t count = cells_of(rows, row), first = (size_t)rows->edges[row];
    take_counts(rows, first, count, bench->counts);
    find((const int64_t *)bench->counts, (int64_t)count, parts, many, values);
    for (int64_t one = 0; one < many; one++) {
        uint64_t index = 0;
        if (values[one] >= 0)
            take_index(rows, first + (size_t)values[one], 1, &index);
        values[one] = values[one] < 0 ? 0 : highest_at(index & (INDEXES - 1));
    }
}

/* A point of several rows, counted by index. */
static void values_of_rows(const struct lso_rows *rows, const int64_t *order, int64_t count, const int64_t *parts,
                           int64_t many, struct bench *bench, int64_t *values)
{
    uint64_t low = INDEXES - 1, high = 0;
    for (int64_t at = 0; at < count; at++) {
        size_t cells = cells_of(rows, order[at]), first = (size_t)rows->edges[order[at]];
        take_index(rows, first, cells, bench->index);
        take_counts(rows, first, cells, bench->counts);
        for (size_t cell = 0; cell < cells; cell++) {
            uint64_t index = bench->index[cell] & (INDEXES - 1);
            low = index < low ? index : low;
            high = index > high ? index : high;
            bench->sums[index] = (int64_t)((uint64_t)bench->sums[index] + bench->counts[cell]);
        }
    }
    if (low > high)
        return; /* there was no cell */
    values_at(NULL, (int64_t)low, bench->sums + low, (int64_t)(high - low + 1), parts, many, values);
    memset(bench->sums + low, 0, (size_t)(high - low + 1) * sizeof *bench->sums);
}

/* The most cells that a row has; -1 where the rows are none. */
static int64_t longest_of(const struct lso_rows *rows)
{
    int64_t longest = 0;
    if (!lso_is_width(rows->index_width) || !lso_is_width(rows->count_width) || rows->edges[0] < 0)
        return -1;
    for (int64_t row = 0; row < rows->count; row++) {
        int64_t cells = rows->edges[row + 1] - rows->edges[row];
        if (cells < 0)
            return -1;
        longest = cells > longest ? cells : longest;
    }
    return longest > INT64_MAX / 64 ? -1 : longest;
}

static void values_of_points(const struct lso_rows *rows, const int64_t *order, const int64_t *bounds, int64_t points,
                             const int64_t *parts, int64_t many, struct bench *bench, int64_t *values)
{
    for (int64_t point = 0; point < points; point++, values += many) {
        const int64_t *own = order + bounds[point];
        int64_t count = bounds[point + 1] - bounds[point];
        memset(values, 0, (size_t)many * sizeof *values);
        if (count == 1 && cells_of(rows, *own))
            values_of_row(rows, *own, parts, many, bench, values);
        else if (count > 1)
            values_of_rows(rows, own, count, parts, many, bench, values);
    }
}

LSO_EXPORT int lso_point_percentiles(const struct lso_rows *rows, const int64_t *order, const int64_t *bounds,
                                     int64_t points, const int64_t *parts, int64_t many, int64_t *values)
{
    int64_t longest = longest_of(rows);
    if (longest < 0)
        return -2;
    uint64_t *words = malloc((2 * (size_t)longest + 1) * sizeof *words);
    int64_t *sums = calloc(INDEXES, sizeof *sums);
    if (words && sums) {
        struct bench bench = {words, words + longest, sums};
        values_of_points(rows, order, bounds, points, parts, many, &bench, values);
    }
    int status = words && sums ? 0 : -1;
    free(words);
    free(sums);
    return status;
}
