/* Exact sums over events: of a slot, or of the slots of a window. */
#ifndef LSO_SUMS_H
#define LSO_SUMS_H

#include "bytes.h"

/* As `state.Tally`. */
struct lso_tally {
    uint64_t total, errors, timed, sum, low, high; /* of latencies, in µs: `sum` is full at 2^64 - 1 */
};

enum { LSO_TALLY_FIELDS = 6 };

struct lso_stage {
    uint64_t number;
    struct lso_tally tally;
};

struct lso_type {
    uint64_t number, count;
};

enum { LSO_MOST_NUMBERS = 256 };

/* In the order in which the numbers came. */
struct lso_sums {
    struct lso_stage stages[LSO_MOST_NUMBERS];
    struct lso_type types[LSO_MOST_NUMBERS];
    uint32_t stage_count, type_count;
    uint64_t late, skewed;
    int failed; /* a count is beyond 64 bits, or there are too many numbers */
};

/* The sums over both, as Tally.plus has them. False where a count is beyond 64 bits. */
int lso_join_tally(struct lso_tally *own, const struct lso_tally *more);

void lso_no_sums(struct lso_sums *sums);

/* From MessagePack: [stage to tally, type to count, late, skewed]. False where it is anything else. */
int lso_read_sums(const uint8_t *data, int64_t size, struct lso_sums *sums);

void lso_write_sums(const struct lso_sums *sums, struct bytes *into);

/* NULL where there is none. */
struct lso_stage *lso_stage_of(struct lso_sums *sums, uint64_t number);
struct lso_type *lso_type_of(struct lso_sums *sums, uint64_t number);

void lso_drop_stage(struct lso_sums *sums, struct lso_stage *stage);
void lso_drop_type(struct lso_sums *sums, struct lso_type *type);

void lso_add_tally(struct lso_sums *sums, uint64_t number, const struct lso_tally *tally);
void lso_add_type(struct lso_sums *sums, uint64_t number, uint64_t count);
void lso_add_sums(struct lso_sums *sums, const struct lso_sums *more);

/* Takes `less`, a part of it, away from a number. False where it is no part. */
int lso_take_away(uint64_t *number, uint64_t less);

#endif
