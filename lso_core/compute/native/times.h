/* Times as text. */
#ifndef LSO_TIMES_H
#define LSO_TIMES_H

#include "kernel.h"

enum { LSO_TIME_LENGTH = 24 };

/* Milliseconds since the epoch of 24 bytes such as 2025-12-14T14:33:10.529Z; INT64_MIN where they are no such time. */
int64_t lso_time_ms(const uint8_t *text);

#endif
