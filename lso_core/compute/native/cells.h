/* Cells of sparse histograms: ascending keys with counts. */
#ifndef LSO_CELLS_H
#define LSO_CELLS_H

#include "kernel.h"

/* A cell's key is the number of a stage above so many bits of an index of the histogram. */
enum { LSO_INDEX_BITS = 15 };

/* One thing to sort by its key, and what goes with it. */
struct lso_item {
    uint64_t key, value;
};

enum { LSO_FEW = 48 };

/* Orders items by key, equal ones as they came; `spare` has room for as many. Returns where they are then: in either,
   but where they were if there are no more than LSO_FEW, which need no spare. */
struct lso_item *lso_sort(struct lso_item *items, struct lso_item *spare, size_t count);

/* Whether numbers of so many bytes are stored: 1, 2, 4 or 8. */
int lso_is_width(int64_t width);

/* Numbers of a width, little-endian, as words. */
void lso_widen(const uint8_t *from, int width, size_t count, uint64_t *into);

/* Adds up cells that come in any order: ascending keys, none whose count is 0. Returns how many there are in `out_keys`
   and `out_counts`, which have room for as many as came; -1 without memory. */
int64_t lso_sum_cells(const int64_t *keys, const int64_t *counts, int64_t count, int64_t *out_keys,
                      int64_t *out_counts);

/* Adds up cells with two counts each, in the same way, but keeps those whose counts are 0. */
int64_t lso_sum_pairs(const int64_t *keys, const int64_t *ones, const int64_t *others, int64_t count, int64_t *out_keys,
                      int64_t *out_ones, int64_t *out_others);

/* The sum of two tables with ascending keys, in the same way; the results have room for both. */
int64_t lso_add_cells(const int64_t *keys, const int64_t *counts, int64_t count, const int64_t *more_keys,
                      const int64_t *more_counts, int64_t more, int64_t *out_keys, int64_t *out_counts);

/* How many cells a packed table has; -1 where it is none. */
int64_t lso_cells_in(const uint8_t *packed, int64_t size);

/* Its keys and counts. */
void lso_unpack(const uint8_t *packed, size_t count, uint64_t *keys, uint64_t *counts);

/* How many of `size` bytes the packed table takes that they begin with; -1 where they begin with none. */
int64_t lso_table_size(const uint8_t *packed, int64_t size);

/* What an added cell may take at most, and the head of a table. */
enum { LSO_CELL_BYTES = 16, LSO_TABLE_HEAD = 6 };

/* Adds cells to packed ones.

   Packed, little-endian: how many (4 bytes), width of a step, width of a count; the steps from each key to the next, and
   the counts. To the table of `size` bytes (0: it is empty) come `more` cells with ascending keys. The sum is packed into
   the `room` bytes at `out`. Returns how many it took; -1 without memory, -2 without room or for a table that is none. */
int64_t lso_add_packed(const uint8_t *packed, int64_t size, const int64_t *keys, const int64_t *counts, int64_t more,
                       uint8_t *out, int64_t room);

/* The same of a window: `packed[0]` is its table, from which `gone` tables behind it leave, and to which `more` cells come
   in any order. No cell of it has a count of 0, and -2 stands for one below 0, too. */
int64_t lso_carry_packed(int64_t gone, const uint8_t *const *packed, const int64_t *sizes, const int64_t *keys,
                         const int64_t *counts, int64_t more, uint8_t *out, int64_t room);

#endif
