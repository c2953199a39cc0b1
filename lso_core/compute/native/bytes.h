/* Bytes in the making. Whoever writes need not look whether there was memory: `failed` tells at the end. */
#ifndef LSO_BYTES_H
#define LSO_BYTES_H

#include "kernel.h"

struct bytes {
    uint8_t *data;
    size_t used, room;
    int failed;
};

/* Room for so many bytes more, to be filled by the caller; NULL where there is no memory. */
uint8_t *bytes_extend(struct bytes *bytes, size_t length);

void bytes_add(struct bytes *bytes, const void *data, size_t length);

/* Numbers in the smallest width that holds `most`. */
void bytes_add_narrow(struct bytes *bytes, const uint64_t *numbers, size_t count, uint64_t most);

int bytes_width(uint64_t most);

/* The same, also in three bytes. */
void bytes_add_tight(struct bytes *bytes, const uint64_t *numbers, size_t count, uint64_t most);

int bytes_tight_width(uint64_t most);

/* MessagePack. */
void bytes_add_array(struct bytes *bytes, uint32_t count);
void bytes_add_text(struct bytes *bytes, const uint8_t *text, uint32_t length);
void bytes_add_map(struct bytes *bytes, uint32_t count);
void bytes_add_number(struct bytes *bytes, uint32_t number);
void bytes_add_unsigned(struct bytes *bytes, uint64_t number);
void bytes_add_integer(struct bytes *bytes, int64_t number);
void bytes_add_nil(struct bytes *bytes);

/* The head of `length` bytes that follow. */
void bytes_add_head(struct bytes *bytes, uint32_t length);

#endif
