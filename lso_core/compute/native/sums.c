#include "sums.h"

#include <string.h>

/* MessagePack on its way to be read. */
struct reader {
    const uint8_t *at, *end;
    int failed;
};

static uint64_t read_big_endian(struct reader *reader, int width)
{
    uint64_t value = 0;
    if (reader->end - reader->at < width) {
        reader->failed = 1;
        return 0;
    }
    while (width-- > 0)
        value = value << 8 | *reader->at++;
    return value;
}

static uint8_t read_tag(struct reader *reader)
{
    return (uint8_t)read_big_endian(reader, 1);
}

static uint64_t read_number(struct reader *reader)
{
    uint8_t tag = read_tag(reader);
    if (tag < 0x80)
        return tag;
    if (tag >= 0xCC && tag <= 0xCF)
        return read_big_endian(reader, 1 << (tag - 0xCC));
    reader->failed = 1;
    return 0;
}

/* How many a container holds: its tag is `few` with the count in it, or `many` or the one after that before a count. */
static uint32_t read_count(struct reader *reader, uint8_t few, uint8_t many)
{
    uint8_t tag = read_tag(reader);
    if ((tag & 0xF0) == few)
        return tag & 0x0F;
    if (tag == many || tag == many + 1)
        return (uint32_t)read_big_endian(reader, tag == many ? 2 : 4);
    reader->failed = 1;
    return 0;
}

static uint32_t read_array(struct reader *reader)
{
    return read_count(reader, 0x90, 0xDC);
}

static uint32_t read_map(struct reader *reader)
{
    uint32_t count = read_count(reader, 0x80, 0xDE);
    reader->failed |= count > LSO_MOST_NUMBERS;
    return reader->failed ? 0 : count;
}

static void read_tally(struct reader *reader, struct lso_tally *tally)
{
    if (read_array(reader) != LSO_TALLY_FIELDS)
        reader->failed = 1;
    tally->total = read_number(reader);
    tally->errors = read_number(reader);
    tally->timed = read_number(reader);
    tally->sum = read_number(reader);
    tally->low = read_number(reader);
    tally->high = read_number(reader);
}

void lso_no_sums(struct lso_sums *sums)
{
    sums->stage_count = sums->type_count = 0;
    sums->late = sums->skewed = 0;
    sums->failed = 0;
}

int lso_read_sums(const uint8_t *data, int64_t size, struct lso_sums *sums)
{
    struct reader reader = {data, data + size, 0};
    lso_no_sums(sums);
    if (read_array(&reader) != 4)
        return 0;
    sums->stage_count = read_map(&reader);
    for (uint32_t at = 0; at < sums->stage_count && !reader.failed; at++) {
        sums->stages[at].number = read_number(&reader);
        read_tally(&reader, &sums->stages[at].tally);
    }
    sums->type_count = read_map(&reader);
    for (uint32_t at = 0; at < sums->type_count && !reader.failed; at++) {
        sums->types[at].number = read_number(&reader);
        sums->types[at].count = read_number(&reader);
    }
    sums->late = read_number(&reader);
    sums->skewed = read_number(&reader);
    return !reader.failed && reader.at == reader.end;
}

static void write_tally(const struct lso_tally *tally, struct bytes *into)
{
    bytes_add_array(into, LSO_TALLY_FIELDS);
    bytes_add_unsigned(into, tally->total);
    bytes_add_unsigned(into, tally->errors);
    bytes_add_unsigned(into, tally->timed);
    bytes_add_unsigned(into, tally->sum);
    bytes_add_unsigned(into, tally->low);
    bytes_add_unsigned(into, tally->high);
}

void lso_write_sums(const struct lso_sums *sums, struct bytes *into)
{
    bytes_add_array(into, 4);
    bytes_add_map(into, sums->stage_count);
    for (uint32_t at = 0; at < sums->stage_count; at++) {
        bytes_add_unsigned(into, sums->stages[at].number);
        write_tally(&sums->stages[at].tally, into);
    }
    bytes_add_map(into, sums->type_count);
    for (uint32_t at = 0; at < sums->type_count; at++) {
        bytes_add_unsigned(into, sums->types[at].number);
        bytes_add_unsigned(into, sums->types[at].count);
    }
    bytes_add_unsigned(into, sums->late);
    bytes_add_unsigned(into, sums->skewed);
}

struct lso_stage *lso_stage_of(struct lso_sums *sums, uint64_t number)
{
    for (uint32_t at = 0; at < sums->stage_count; at++)
        if (sums->stages[at].number == number)
            return sums->stages + at;
    return NULL;
}

struct lso_type *lso_type_of(struct lso_sums *sums, uint64_t number)
{
    for (uint32_t at = 0; at < sums->type_count; at++)
        if (sums->types[at].number == number)
            return sums->types + at;
    return NULL;
}

void lso_drop_stage(struct lso_sums *sums, struct lso_stage *stage)
{
    struct lso_stage *end = sums->stages + --sums->stage_count;
    memmove(stage, stage + 1, (size_t)(end - stage) * sizeof *stage);
}

void lso_drop_type(struct lso_sums *sums, struct lso_type *type)
{
    struct lso_type *end = sums->types + --sums->type_count;
    memmove(type, type + 1, (size_t)(end - type) * sizeof *type);
}

static void add(struct lso_sums *sums, uint64_t *number, uint64_t more)
{
    sums->failed |= __builtin_add_overflow(*number, more, number);
}

int lso_take_away(uint64_t *number, uint64_t less)
{
    return !__builtin_sub_overflow(*number, less, number);
}

int lso_join_tally(struct lso_tally *own, const struct lso_tally *more)
{
    if (!own->timed) {
        own->low = more->low;
        own->high = more->high;
    } else if (more->timed) {
        own->low = more->low < own->low ? more->low : own->low;
        own->high = more->high > own->high ? more->high : own->high;
    }
    own->sum = own->sum > UINT64_MAX - more->sum ? UINT64_MAX : own->sum + more->sum;
    return !(__builtin_add_overflow(own->total, more->total, &own->total) |
             __builtin_add_overflow(own->errors, more->errors, &own->errors) |
             __builtin_add_overflow(own->timed, more->timed, &own->timed));
}

void lso_add_tally(struct lso_sums *sums, uint64_t number, const struct lso_tally *tally)
{
    struct lso_stage *stage = lso_stage_of(sums, number);
    if (stage)
        sums->failed |= !lso_join_tally(&stage->tally, tally);
    else if (sums->stage_count == LSO_MOST_NUMBERS)
        sums->failed = 1;
    else
        sums->stages[sums->stage_count++] = (struct lso_stage){number, *tally};
}

void lso_add_type(struct lso_sums *sums, uint64_t number, uint64_t count)
{
    struct lso_type *type = lso_type_of(sums, number);
    if (type)
        add(sums, &type->count, count);
    else if (sums->type_count == LSO_MOST_NUMBERS)
        sums->failed = 1;
    else
        sums->types[sums->type_count++] = (struct lso_type){number, count};
}

void lso_add_sums(struct lso_sums *sums, const struct lso_sums *more)
{
    for (uint32_t at = 0; at < more->stage_count; at++)
        lso_add_tally(sums, more->stages[at].number, &more->stages[at].tally);
    for (uint32_t at = 0; at < more->type_count; at++)
        lso_add_type(sums, more->types[at].number, more->types[at].count);
    add(sums, &sums->late, more->late);
    add(sums, &sums->skewed, more->skewed);
}
