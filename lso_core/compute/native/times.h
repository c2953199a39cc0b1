/* Times as text. */
#ifndef LSO_TIMES_H
#define LSO_TIMES_H

#include "kernel.h"

/* No time at all. */
#define TIMES_NONE INT64_MIN

/* 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z */
static const int64_t TIMES_EARLIEST_MS = -62135596800000, TIMES_LATEST_MS = 253402300799999;

/* Length of 2025-12-14T14:33:10.529Z. */
enum { TIMES_USUAL = 24 };

/* Milliseconds since the epoch of an RFC 3339 date-time, as `model.times.from_text` has it; TIMES_NONE for any other text. */
int64_t times_ms(const uint8_t *text, size_t length);

/* A minute that was read before, if it is known: what stands before its seconds, and when it began. */
struct minute {
    uint8_t text[16];
    int64_t ms;
    int is_known;
};

/* As `times_ms`, of a text of TIMES_USUAL bytes that ends with Z. Those of a batch are most often of the same minute or two,
   so the last even and the last odd one are kept. */
int64_t times_usual_ms(const uint8_t *text, struct minute minutes[2]);

#endif
