/* Checksums. */
#ifndef LSO_CRC_H
#define LSO_CRC_H

#include "kernel.h"

/* Whether this machine has what makes `lso_crc32` several times as fast as zlib: a multiplication without carries. */
int lso_has_crc32(void);

/* zlib's crc32(data, before). */
uint32_t lso_crc32(const uint8_t *data, int64_t size, uint32_t before);

#endif
