#include "bytes.h"

#include <stdlib.h>
#include <string.h>

enum { LEAST_ROOM = 256 };

uint8_t *bytes_extend(struct bytes *bytes, size_t length)
{
    if (bytes->failed || length > SIZE_MAX / 4 || bytes->used > SIZE_MAX / 4) {
        bytes->failed = 1;
        return NULL;
    }
    if (bytes->room - bytes->used < length) {
        size_t room = bytes->room + bytes->room / 2 + length + LEAST_ROOM;
        uint8_t *data = realloc(bytes->data, room);
        if (data == NULL) {
            bytes->failed = 1;
            return NULL;
        }
        bytes->data = data;
        bytes->room = room;
    }
    bytes->used += length;
    return bytes->data + bytes->used - length;
}

void bytes_add(struct bytes *bytes, const void *data, size_t length)
{
    uint8_t *to = bytes_extend(bytes, length);
    if (to != NULL && length > 0)
        memcpy(to, data, length);
}

int bytes_width(uint64_t most)
{
    return most < 1u << 8 ? 1 : most < 1u << 16 ? 2 : most < (uint64_t)1 << 32 ? 4 : 8;
}

/* A loop for each width, so that each is one that the compiler knows. */
#define NARROW(type)                                                                                                   \
    for (size_t at = 0; at < count; at++) {                                                                            \
        type narrow = (type)numbers[at];                                                                               \
        memcpy(to + at * sizeof narrow, &narrow, sizeof narrow);                                                       \
    }

void bytes_add_narrow(struct bytes *bytes, const uint64_t *numbers, size_t count, uint64_t most)
{
    int width = bytes_width(most);
    uint8_t *to = bytes_extend(bytes, count * (size_t)width);
    if (to == NULL)
        return;
    switch (width) {
    case 1:
        NARROW(uint8_t)
        break;
    case 2:
        NARROW(uint16_t)
        break;
    case 4:
        NARROW(uint32_t)
        break;
    default:
        NARROW(uint64_t)
    }
}

int bytes_tight_width(uint64_t most)
{
    return most >= 1u << 16 && most < 1u << 24 ? 3 : bytes_width(most);
}

void bytes_add_tight(struct bytes *bytes, const uint64_t *numbers, size_t count, uint64_t most)
{
    if (bytes_tight_width(most) != 3) {
        bytes_add_narrow(bytes, numbers, count, most);
        return;
    }
    uint8_t *to = bytes_extend(bytes, 3 * count);
    for (size_t at = 0; to != NULL && at < count; at++, to += 3) {
        uint32_t number = (uint32_t)numbers[at];
        if (at + 1 < count) {
            memcpy(to, &number, sizeof number); /* the fourth byte is the next one's */
        } else {
            to[0] = (uint8_t)number;
            to[1] = (uint8_t)(number >> 8);
            to[2] = (uint8_t)(number >> 16);
        }
    }
}

static void add_tagged(struct bytes *bytes, uint8_t tag, uint64_t value, int width)
{
    uint8_t *to = bytes_extend(bytes, 1 + (size_t)width);
    if (to == NULL)
        return;
    *to++ = tag;
    while (width-- > 0)
        *to++ = (uint8_t)(value >> (8 * width));
}

/* The head of a container: `few` for fewer than sixteen, else `many` with two bytes of count, and the tag after it with four. */
static void add_count(struct bytes *bytes, uint8_t few, uint8_t many, uint32_t count)
{
    if (count < 16)
        add_tagged(bytes, (uint8_t)(few | count), 0, 0);
    else if (count < 1u << 16)
        add_tagged(bytes, many, count, 2);
    else
        add_tagged(bytes, many + 1, count, 4);
}

void bytes_add_array(struct bytes *bytes, uint32_t count)
{
    add_count(bytes, 0x90, 0xDC, count);
}

void bytes_add_map(struct bytes *bytes, uint32_t count)
{
    add_count(bytes, 0x80, 0xDE, count);
}

void bytes_add_text(struct bytes *bytes, const uint8_t *text, uint32_t length)
{
    if (length < 32)
        add_tagged(bytes, (uint8_t)(0xA0 | length), 0, 0);
    else if (length < 1u << 8)
        add_tagged(bytes, 0xD9, length, 1);
    else if (length < 1u << 16)
        add_tagged(bytes, 0xDA, length, 2);
    else
        add_tagged(bytes, 0xDB, length, 4);
    bytes_add(bytes, text, length);
}

void bytes_add_number(struct bytes *bytes, uint32_t number)
{
    if (number < 128)
        add_tagged(bytes, (uint8_t)number, 0, 0);
    else if (number < 1u << 8)
        add_tagged(bytes, 0xCC, number, 1);
    else if (number < 1u << 16)
        add_tagged(bytes, 0xCD, number, 2);
    else
        add_tagged(bytes, 0xCE, number, 4);
}

void bytes_add_unsigned(struct bytes *bytes, uint64_t number)
{
    if (number <= UINT32_MAX)
        bytes_add_number(bytes, (uint32_t)number);
    else
        add_tagged(bytes, 0xCF, number, 8);
}

void bytes_add_integer(struct bytes *bytes, int64_t number)
{
    if (number >= 0)
        bytes_add_unsigned(bytes, (uint64_t)number);
    else
        add_tagged(bytes, 0xD3, (uint64_t)number, 8);
}

void bytes_add_nil(struct bytes *bytes)
{
    add_tagged(bytes, 0xC0, 0, 0);
}

void bytes_add_head(struct bytes *bytes, uint32_t length)
{
    if (length < 1u << 8)
        add_tagged(bytes, 0xC4, length, 1);
    else if (length < 1u << 16)
        add_tagged(bytes, 0xC5, length, 2);
    else
        add_tagged(bytes, 0xC6, length, 4);
}
