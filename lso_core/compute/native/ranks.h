/* The values at ranks of sparse histograms, as compute/histogram.py has them. */
#ifndef LSO_RANKS_H
#define LSO_RANKS_H

#include "cells.h"

/* The values in µs at `many` ascending percentiles, told in hundred-thousandths, first of all cells of a packed table
   together, then of each stage in the cells' order; a key is stage << 15 | index. Returns how many rows of values these are:
   at most `room`, or -2, as for what is no table; -1 without memory. */
int64_t lso_percentiles(const uint8_t *packed, int64_t size, const int64_t *parts, int64_t many, int64_t *values,
                        int64_t room);

/* Rows of cells one after another: row i from `edges[i]` up to `edges[i + 1]`, by ascending index. Numbers are unsigned,
   little-endian, and as wide as is told. */
struct lso_rows {
    const uint8_t *index, *counts;
    int64_t index_width, count_width;
    const int64_t *edges;
    int64_t count;
};

/* The values in µs at `many` ascending percentiles, told in hundred-thousandths, of each point: of its rows together,
   which are those of `order` from `bounds[point]` up to `bounds[point + 1]`. 0 of a point with nothing in it. Returns 0;
   -1 without memory, -2 where the rows are none. */
int lso_point_percentiles(const struct lso_rows *rows, const int64_t *order, const int64_t *bounds, int64_t points,
                          const int64_t *parts, int64_t many, int64_t *values);

#endif
