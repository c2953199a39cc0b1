/* The events of many blocks of columns, grouped and counted. */
#ifndef LSO_FOLD_H
#define LSO_FOLD_H

#include "bytes.h"

/* What is found of a block of columns (`compute.columns`). */
enum {
    LSO_HEAD_AT, /* where its columns begin; 0 where the block is not whole, or of another format */
    LSO_HEAD_COUNT,
    LSO_HEAD_BASE,
    LSO_HEAD_WIDTHS, /* as LSO_BLOCK_WIDTHS */
    LSO_HEAD_MOST_STAGE,
    LSO_HEAD_MOST_TYPE,
    LSO_HEAD_END, /* of the columns */
    LSO_HEAD_WORDS
};

/* Looks at blocks of some formats: every length, the checksum, and what is in the columns of stages and types. */
void lso_heads(int64_t blocks, const uint8_t *const *data, const int64_t *sizes, int oldest, int newest,
               int64_t *results);

/* What is told of each block. */
enum {
    LSO_BLOCK_AT,      /* where its columns begin */
    LSO_BLOCK_COUNT,   /* its events */
    LSO_BLOCK_BASE,    /* of its times */
    LSO_BLOCK_WIDTHS,  /* one byte each of ts, latency, stage and type, the lowest first */
    LSO_BLOCK_ARRIVED, /* in ms */
    LSO_BLOCK_START,   /* of the window at its arrival: what is before that is late */
    LSO_BLOCK_STAGES,  /* where its table of stages begins, and how long it is */
    LSO_BLOCK_STAGES_COUNT,
    LSO_BLOCK_TYPES,
    LSO_BLOCK_TYPES_COUNT,
    LSO_BLOCK_FIELDS
};

enum { LSO_SLOT_MS = 5000 };
enum { LSO_LIFECYCLE = 1 }; /* in the table of types, below the number */

/* What is written before the rest of the results. */
enum {
    LSO_TOLD_BYTES,
    LSO_CELLS,
    LSO_ERROR_CELLS,
    LSO_PASSED, /* events that are in no slot */
    LSO_LATEST, /* time of all events; INT64_MIN where there is none */
    LSO_LATEST_COUNTED,
    LSO_LATEST_OK,
    LSO_HEAD_FIELDS
};

/* Of each number: number, tallies by stage, shown events by type, late ones, skewed ones, late ones by stage, and up to where
   its cells and those of its errors are. */
enum { LSO_TOLD_FIELDS = 8, LSO_TOLD_WORDS = 10 };

/* Of the counted events of a number and a stage; the fields from TOTAL to MAX are those of a Tally. */
enum {
    LSO_GROUP_NUMBER,
    LSO_GROUP_STAGE,
    LSO_GROUP_TOTAL,
    LSO_GROUP_ERRORS,
    LSO_GROUP_TIMED,
    LSO_GROUP_SUM,
    LSO_GROUP_MIN,
    LSO_GROUP_MAX,
    LSO_GROUP_LATE,
    LSO_GROUP_CELLS, /* up to where they are */
    LSO_GROUP_ERROR_CELLS,
    LSO_GROUP_FIELDS
};

/* Of the events of a number and a type. */
enum { LSO_KIND_NUMBER, LSO_KIND_TYPE, LSO_KIND_SHOWN, LSO_KIND_LATE, LSO_KIND_SKEWED, LSO_KIND_FIELDS };

/* Some rows of fields, which begin with a number. */
struct lso_rows_of {
    const int64_t *at;
    size_t count, width;
};

/* How many rows are of the first one's number, if that is `number`. */
size_t lso_rows_of_number(const struct lso_rows_of *rows, int64_t number);

/* How many numbers they have below one. */
uint32_t lso_numbers_before(const struct lso_rows_of *rows, int64_t before);

void lso_skip_rows(struct lso_rows_of *rows, size_t count);

/* The sum of a field over the first rows. */
int64_t lso_sum_of_rows(const struct lso_rows_of *rows, size_t count, int field);

/* The blocks of some events, one after another, and the tables of all of them. */
struct lso_blocks {
    const uint8_t *data;
    int64_t size;
    const int64_t *told;
    int64_t count;
    const uint8_t *tables;
    int64_t tables_size;
    int name_bits; /* as lso_bits_of(tables, tables_size) */
};

int lso_bits_of(const uint8_t *numbers, int64_t size);

/* How many events they have; -1 where something is beyond its bounds. */
int64_t lso_events_in(const struct lso_blocks *blocks);

/* What was counted; everything is in ascending order. Each column has room for all events. */
struct lso_grouped {
    int64_t *keys, *counts, *error_keys, *error_counts;
    int64_t cells, error_cells;
    struct bytes groups, kinds; /* rows, which whoever asked for them frees */
};

struct lso_rows_of lso_groups_in(const struct lso_grouped *grouped);
struct lso_rows_of lso_kinds_in(const struct lso_grouped *grouped);

/* As lso_fold, of so many events at most; `head` is filled from LSO_PASSED on. */
int lso_group(const struct lso_blocks *blocks, int minutes, int64_t first, int64_t before_ms, int64_t events,
              int64_t *head, struct lso_grouped *into);

/* Groups events by slot (`minutes` 0): those of slots from `first` on; late ones only as such, in the slot of their
   arrival. Or (`minutes` 1) by minute those that are in no slot thereby: late ones and those of slots before `first`, as
   far as they happened before `before_ms`.

   `tables` holds the tables of stages and types. Results: the head, then for `events` (at least all events of all
   blocks) of each: keys of cells, their counts, keys of error cells, their counts, and LSO_TOLD_WORDS (one more in all) for
   what is told of numbers, in MessagePack. All are ascending by number, a key is stage << 15 | index of the histogram. Returns 0; -1
   without memory, -2 where something is beyond its bounds. */
int lso_fold(const uint8_t *data, int64_t size, const int64_t *blocks, int64_t block_count, const uint8_t *tables,
             int64_t tables_size, int minutes, int64_t first, int64_t before_ms, int64_t events, int64_t *results);

#endif
