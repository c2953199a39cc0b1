/* The cells of rollup rows, as compute/rollups.py has them. */
#ifndef LSO_ROWS_H
#define LSO_ROWS_H

#include "cells.h"

/* Cells of one kind that go into a row, packed: all of them, or those of errors. */
struct lso_share {
    int64_t tables;
    const uint8_t *const *packed;
    const int64_t *sizes;
};

/* Where the stages are that a key's number stands for, in the row. */
struct lso_places {
    const int64_t *places;
    int64_t count;
};

/* The cells of a row, equal ones added up, by ascending index and then stage: at `out` four columns with room for `room`
   numbers each, index, stage, count, and how many are errors. `of_held` is for the first `held` tables, `of_others` for the others.
   Returns how many cells there are; -1 without memory, -2 where something is not as it should be. */
int64_t lso_row_cells(const struct lso_share *all, const struct lso_share *errors, int64_t held,
                      const struct lso_places *of_held, const struct lso_places *of_others, int64_t *out, int64_t room);

#endif
