/* Times as text. */
#ifndef LSO_TIMES_H
#define LSO_TIMES_H

#include "kernel.h"

/* No time at all. */
#define TIMES_NONE INT64_MIN

/* Length of 2025-12-14T14:33:10.529Z. */
enum { TIMES_USUAL = 24 };

/* Milliseconds since the epoch of an RFC 3339 date-time, as `model.times.from_text` has it; TIMES_NONE for any other text. */
int64_t times_ms(const uint8_t *text, size_t length);

#endif
