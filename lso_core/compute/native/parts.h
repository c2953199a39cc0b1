/* The parts of a batch's events, read again. */
#ifndef LSO_PARTS_H
#define LSO_PARTS_H

#include "kernel.h"

/* Splits a JSON array of `count` objects, of at most `depth` levels, and nulls, with a zero behind its `size` bytes. Into
   `packed`, with room for as many bytes, go the objects one after another; `ends` tells where each ends there, `given` which
   are no null. Returns the bytes that were packed; -1 where the text is not certain to be such an array. */
int64_t lso_split_payloads(const uint8_t *payloads, int64_t size, int64_t count, int depth, uint8_t *packed, int32_t *ends,
                           uint8_t *given);

#endif
