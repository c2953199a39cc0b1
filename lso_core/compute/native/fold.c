#include "fold.h"

#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "crc.h"

enum { MINUTE_MS = 60000 };
enum { ERROR = 1, HAS_TS = 2, HAS_LATENCY = 4 }; /* flags of an event in its block */
enum { SUB_BITS = 11, HALF = 1 << (SUB_BITS - 1) };
enum { IS_ERROR = 1, IS_TIMED = 2, IS_LATE = 4, VALUE_FLAGS = 3 }; /* beside a latency */
enum { SHOWN = 1, LATE = 2, SKEWED = 4 };                           /* of a kind */

static const int64_t HIGHEST_US = 7 * INT64_C(86400000000);

static int64_t floored(int64_t time, int minutes)
{
    /* Constants divide as multiplications; a variable would take longer than all the rest. */
    int64_t whole = minutes ? time / MINUTE_MS : time / LSO_SLOT_MS;
    int64_t back = minutes ? whole * MINUTE_MS : whole * LSO_SLOT_MS;
    return whole - (back > time);
}

static uint64_t index_of(uint64_t value_us)
{
    int bucket = 64 - __builtin_clzll(value_us | (2 * HALF - 1)) - SUB_BITS;
    return ((uint64_t)(bucket + 1) << (SUB_BITS - 1)) + (value_us >> bucket) - HALF;
}

static uint64_t number_at(const uint8_t *column, int width, int64_t at)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    switch (width) {
    case 1:
        return column[at];
    case 2:
        memcpy(&two, column + 2 * at, sizeof two);
        return two;
    case 3:
        memcpy(&two, column + 3 * at, sizeof two);
        return two | (uint64_t)column[3 * at + 2] << 16;
    case 4:
        memcpy(&four, column + 4 * at, sizeof four);
        return four;
    default:
        memcpy(&eight, column + 8 * at, sizeof eight);
        return eight;
    }
}

/* A column of numbers, alone or in some bits of bytes that hold others, too. */
struct numbers {
    const uint8_t *at;
    int width, shift;
    uint64_t mask;
};

static inline uint64_t number_of(const struct numbers *numbers, int64_t at)
{
    return number_at(numbers->at, numbers->width, at) >> numbers->shift & numbers->mask;
}

static uint64_t most_of(const struct numbers *numbers, int64_t count)
{
    uint64_t most = 0;
    if (numbers->width == 1) { /* as good as always, and worth a loop that goes sixteen at a time */
        uint8_t small = 0, mask = (uint8_t)numbers->mask;
        for (int64_t at = 0; at < count; at++) {
            uint8_t one = (uint8_t)(numbers->at[at] >> numbers->shift) & mask;
            small = one > small ? one : small;
        }
        return small;
    }
    for (int64_t at = 0; at < count; at++) {
        uint64_t one = number_of(numbers, at);
        most = one > most ? one : most;
    }
    return most;
}

static int64_t clamped(uint64_t number)
{
    return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

enum { TS, LATENCY, STAGE, TYPE, COLUMNS };
enum { FLAG_BITS = 3, IN_MARKS = 0x80, SHIFT = 0x0F };

struct layout {
    struct numbers columns[COLUMNS];
    int64_t end;
};

static int is_width(uint8_t width)
{
    return (width >= 1 && width <= 4) || width == 8;
}

/* Stages and types in the bytes of flags, above those: first the type's bits. */
static int find_in_marks(const uint8_t *marks, uint8_t stage, uint8_t type, struct layout *layout)
{
    int shift = stage & SHIFT;
    if (type != (IN_MARKS | FLAG_BITS) || stage != (IN_MARKS | shift) || shift < FLAG_BITS || shift > 8)
        return 0;
    layout->columns[STAGE] = (struct numbers){marks, 1, shift, UINT8_MAX};
    layout->columns[TYPE] = (struct numbers){marks, 1, FLAG_BITS, (1u << (shift - FLAG_BITS)) - 1};
    return 1;
}

/* Where the columns are, of which those of flags begin at `at`. False where they are not within the data. */
static int find_columns(const uint8_t *data, int64_t size, int64_t at, int64_t count, const uint8_t widths[COLUMNS],
                        struct layout *layout)
{
    if (at < 0 || count < 0 || at > size || count > size - at)
        return 0;
    const uint8_t *marks = data + at;
    int own = widths[TYPE] & IN_MARKS ? STAGE : COLUMNS;
    at += count;
    for (int column = 0; column < own; column++) {
        int width = widths[column];
        if (!is_width(widths[column]) || count > (size - at) / width)
            return 0;
        layout->columns[column] = (struct numbers){data + at, width, 0, UINT64_MAX};
        at += count * width;
    }
    layout->end = at;
    return own == COLUMNS || find_in_marks(marks, widths[STAGE], widths[TYPE], layout);
}

enum { MAGIC = 3, VERSION = 3, COUNT = 4, BASE = 8, WIDTHS = 16, NAMES = 20, PREFIX = 24, CHECKSUM = 4 };

static void read_head(const uint8_t *data, int64_t size, int oldest, int newest, int64_t *told)
{
    struct layout layout;
    uint32_t count, names, checksum, widths;
    if (size < PREFIX + CHECKSUM || memcmp(data, "LSO", MAGIC) != 0 || data[VERSION] < oldest || data[VERSION] > newest)
        return;
    memcpy(&count, data + COUNT, sizeof count);
    memcpy(&names, data + NAMES, sizeof names);
    memcpy(&widths, data + WIDTHS, sizeof widths);
    int64_t at = PREFIX + (int64_t)names, end = size - CHECKSUM;
    if (!find_columns(data, end, at, count, data + WIDTHS, &layout))
        return;
    memcpy(&checksum, data + end, sizeof checksum);
    if (lso_crc32(data, end, 0) != checksum)
        return;
    told[LSO_HEAD_AT] = at;
    told[LSO_HEAD_COUNT] = count;
    memcpy(told + LSO_HEAD_BASE, data + BASE, sizeof *told);
    told[LSO_HEAD_WIDTHS] = widths;
    told[LSO_HEAD_MOST_STAGE] = clamped(most_of(&layout.columns[STAGE], count));
    told[LSO_HEAD_MOST_TYPE] = clamped(most_of(&layout.columns[TYPE], count));
    told[LSO_HEAD_END] = layout.end;
}

LSO_EXPORT void lso_heads(int64_t blocks, const uint8_t *const *data, const int64_t *sizes, int oldest, int newest,
                          int64_t *results)
{
    memset(results, 0, (size_t)blocks * LSO_HEAD_WORDS * sizeof *results);
    for (int64_t block = 0; block < blocks; block++)
        read_head(data[block], sizes[block], oldest, newest, results + block * LSO_HEAD_WORDS);
}

/* What is wanted, and what is found of it. Keys have as few bits as these events need, so that sorting is quick. */
struct work {
    int minutes;
    int64_t first, before_ms, base; /* numbers are counted from `base` */
    int name_bits; /* of stages and types */
    struct lso_item *counted, *kinds;
    size_t counted_count, kinds_count;
    int64_t *head;
};

struct block {
    const uint8_t *flags, *stages, *types;
    struct numbers ts, latency, stage, type;
    int64_t count, base, arrived, start, stages_count, types_count;
};

static int read_block(const struct lso_blocks *blocks, const int64_t *told, struct block *block)
{
    const uint8_t *data = blocks->data, *tables = blocks->tables;
    int64_t tables_size = blocks->tables_size;
    uint8_t widths[COLUMNS];
    struct layout layout;
    const struct numbers *columns = layout.columns;
    for (int at = 0; at < COLUMNS; at++)
        widths[at] = (uint8_t)(told[LSO_BLOCK_WIDTHS] >> (8 * at));
    if (!find_columns(data, blocks->size, told[LSO_BLOCK_AT], told[LSO_BLOCK_COUNT], widths, &layout))
        return 0;
    int64_t stages = told[LSO_BLOCK_STAGES], types = told[LSO_BLOCK_TYPES];
    int64_t stages_count = told[LSO_BLOCK_STAGES_COUNT], types_count = told[LSO_BLOCK_TYPES_COUNT];
    if (stages < 0 || stages > tables_size || stages_count < 0 || stages_count > tables_size - stages || types < 0 ||
        types > tables_size || types_count < 0 || types_count > tables_size - types)
        return 0;
    *block = (struct block){data + told[LSO_BLOCK_AT], tables + stages, tables + types, columns[TS], columns[LATENCY],
                            columns[STAGE], columns[TYPE], told[LSO_BLOCK_COUNT], told[LSO_BLOCK_BASE], told[LSO_BLOCK_ARRIVED],
                            told[LSO_BLOCK_START], stages_count, types_count};
    return 1;
}

/* When an event happened: min(ts, at). Sums of ours wrap as numpy's do. */
static int64_t time_of(const struct block *block, int64_t at, int *skewed)
{
    *skewed = 0;
    if (!(block->flags[at] & HAS_TS))
        return block->arrived;
    int64_t ts = (int64_t)((uint64_t)block->base + number_of(&block->ts, at));
    *skewed = ts > block->arrived;
    return *skewed ? block->arrived : ts;
}

static void see(int64_t *latest, int64_t time)
{
    if (time > *latest)
        *latest = time;
}

static void take(struct work *work, const struct block *block, int64_t at, uint64_t stage, uint64_t type, unsigned lifecycle)
{
    int skewed;
    int64_t time = time_of(block, at, &skewed);
    unsigned flags = block->flags[at];
    see(&work->head[LSO_LATEST], time);
    if (!lifecycle) {
        see(&work->head[LSO_LATEST_COUNTED], time);
        if (!(flags & ERROR))
            see(&work->head[LSO_LATEST_OK], time);
    }
    int late = time < block->start;
    int64_t number = floored(late ? block->arrived : time, 0);
    int passed = late || number < work->first;
    work->head[LSO_PASSED] += passed;
    if (work->minutes) {
        if (!passed || time >= work->before_ms)
            return;
        number = floored(time, 1);
    } else if (number < work->first) {
        return;
    }
    uint64_t shifted = (uint64_t)number - (uint64_t)work->base;
    int shown = work->minutes || !late;
    work->kinds[work->kinds_count++] = (struct lso_item){
        shifted << work->name_bits | type, (shown ? SHOWN : 0) | (late ? LATE : 0) | (skewed ? SKEWED : 0)};
    if (lifecycle || !shown)
        return;
    uint64_t latency = number_of(&block->latency, at);
    unsigned marks = (flags & ERROR ? IS_ERROR : 0) | (flags & HAS_LATENCY ? IS_TIMED : 0) | (late ? IS_LATE : 0);
    work->counted[work->counted_count++] =
        (struct lso_item){(shifted << work->name_bits | stage) << LSO_INDEX_BITS | index_of(latency),
                          latency << VALUE_FLAGS | marks};
}

static int take_block(struct work *work, const struct block *block)
{
    for (int64_t at = 0; at < block->count; at++) {
        uint64_t stage = number_of(&block->stage, at);
        uint64_t type = number_of(&block->type, at);
        if (stage >= (uint64_t)block->stages_count || type >= (uint64_t)block->types_count)
            return 0;
        unsigned known = block->types[type];
        take(work, block, at, block->stages[stage], known >> 1, known & LSO_LIFECYCLE);
    }
    return 1;
}

static void add_to_group(int64_t *group, uint64_t value)
{
    int64_t latency = (int64_t)(value >> VALUE_FLAGS);
    int timed = (value & IS_TIMED) != 0;
    group[LSO_GROUP_TOTAL]++;
    group[LSO_GROUP_ERRORS] += (value & IS_ERROR) != 0;
    group[LSO_GROUP_LATE] += (value & IS_LATE) != 0;
    group[LSO_GROUP_TIMED] += timed;
    group[LSO_GROUP_SUM] = (int64_t)((uint64_t)group[LSO_GROUP_SUM] + (timed ? (uint64_t)latency : 0));
    int64_t low = timed ? latency : HIGHEST_US, high = timed ? latency : 0;
    if (low < group[LSO_GROUP_MIN])
        group[LSO_GROUP_MIN] = low;
    if (high > group[LSO_GROUP_MAX])
        group[LSO_GROUP_MAX] = high;
}

static void end_group(struct lso_grouped *into, int64_t *group)
{
    group[LSO_GROUP_CELLS] = into->cells;
    group[LSO_GROUP_ERROR_CELLS] = into->error_cells;
    bytes_add(&into->groups, group, LSO_GROUP_FIELDS * sizeof *group);
}

static void count_cells(const struct work *work, const struct lso_item *items, struct lso_grouped *into)
{
    int64_t group[LSO_GROUP_FIELDS];
    for (size_t at = 0; at < work->counted_count;) {
        uint64_t key = items[at].key, packed = key >> LSO_INDEX_BITS;
        if (at == 0 || packed != items[at - 1].key >> LSO_INDEX_BITS) {
            if (at > 0)
                end_group(into, group);
            memset(group, 0, sizeof group);
            group[LSO_GROUP_NUMBER] = (int64_t)((packed >> work->name_bits) + (uint64_t)work->base);
            group[LSO_GROUP_STAGE] = (int64_t)(packed & ((UINT64_C(1) << work->name_bits) - 1));
            group[LSO_GROUP_MIN] = INT64_MAX;
        }
        int64_t timed = 0, errors = 0;
        for (; at < work->counted_count && items[at].key == key; at++) {
            uint64_t value = items[at].value;
            add_to_group(group, value);
            timed += (value & IS_TIMED) != 0;
            errors += (value & (IS_TIMED | IS_ERROR)) == (IS_TIMED | IS_ERROR);
        }
        int64_t cell = (int64_t)(key & ((UINT64_C(1) << (work->name_bits + LSO_INDEX_BITS)) - 1));
        if (timed) {
            into->keys[into->cells] = cell;
            into->counts[into->cells++] = timed;
        }
        if (errors) {
            into->error_keys[into->error_cells] = cell;
            into->error_counts[into->error_cells++] = errors;
        }
    }
    if (work->counted_count > 0)
        end_group(into, group);
}

static void count_kinds(const struct work *work, const struct lso_item *items, struct lso_grouped *into)
{
    for (size_t at = 0; at < work->kinds_count;) {
        uint64_t key = items[at].key;
        int64_t kind[LSO_KIND_FIELDS] = {(int64_t)((key >> work->name_bits) + (uint64_t)work->base),
                                     (int64_t)(key & ((UINT64_C(1) << work->name_bits) - 1))};
        for (; at < work->kinds_count && items[at].key == key; at++) {
            kind[LSO_KIND_SHOWN] += (items[at].value & SHOWN) != 0;
            kind[LSO_KIND_LATE] += (items[at].value & LATE) != 0;
            kind[LSO_KIND_SKEWED] += (items[at].value & SKEWED) != 0;
        }
        bytes_add(&into->kinds, kind, sizeof kind);
    }
}

size_t lso_rows_of_number(const struct lso_rows_of *rows, int64_t number)
{
    size_t found = 0;
    while (found < rows->count && rows->at[found * rows->width] == number)
        found++;
    return found;
}

uint32_t lso_numbers_before(const struct lso_rows_of *rows, int64_t before)
{
    uint32_t numbers = 0;
    for (size_t at = 0; at < rows->count && rows->at[at * rows->width] < before; at++)
        numbers += at == 0 || rows->at[at * rows->width] != rows->at[(at - 1) * rows->width];
    return numbers;
}

void lso_skip_rows(struct lso_rows_of *rows, size_t count)
{
    rows->at += count * rows->width;
    rows->count -= count;
}

int64_t lso_sum_of_rows(const struct lso_rows_of *rows, size_t count, int field)
{
    int64_t sum = 0;
    for (size_t at = 0; at < count; at++)
        sum += rows->at[at * rows->width + (size_t)field];
    return sum;
}

/* How many of the first rows have something in a field. */
static uint32_t with(const struct lso_rows_of *rows, size_t count, int field)
{
    uint32_t found = 0;
    for (size_t at = 0; at < count; at++)
        found += rows->at[at * rows->width + (size_t)field] != 0;
    return found;
}

/* A map from one field to another, where that is not 0. */
static void tell_map(struct bytes *told, const struct lso_rows_of *rows, size_t count, int key, int field)
{
    bytes_add_map(told, with(rows, count, field));
    for (size_t at = 0; at < count; at++) {
        const int64_t *row = rows->at + at * rows->width;
        if (row[field] == 0)
            continue;
        bytes_add_integer(told, row[key]);
        bytes_add_integer(told, row[field]);
    }
}

static void tell_tallies(struct bytes *told, const struct lso_rows_of *groups, size_t count)
{
    bytes_add_map(told, (uint32_t)count);
    for (size_t at = 0; at < count; at++) {
        const int64_t *group = groups->at + at * groups->width;
        bytes_add_integer(told, group[LSO_GROUP_STAGE]);
        bytes_add_array(told, LSO_GROUP_MAX - LSO_GROUP_TOTAL + 1);
        for (int field = LSO_GROUP_TOTAL; field <= LSO_GROUP_MAX; field++)
            bytes_add_integer(told, group[field]);
    }
}

struct lso_rows_of lso_groups_in(const struct lso_grouped *grouped)
{
    return (struct lso_rows_of){(const int64_t *)(const void *)grouped->groups.data,
                                grouped->groups.used / (LSO_GROUP_FIELDS * sizeof(int64_t)), LSO_GROUP_FIELDS};
}

struct lso_rows_of lso_kinds_in(const struct lso_grouped *grouped)
{
    return (struct lso_rows_of){(const int64_t *)(const void *)grouped->kinds.data,
                                grouped->kinds.used / (LSO_KIND_FIELDS * sizeof(int64_t)), LSO_KIND_FIELDS};
}

/* All that is known of each number, as `grouping.Told` has it: an array of arrays of eight. */
static void tell(const struct lso_grouped *grouped, struct bytes *told)
{
    struct lso_rows_of groups = lso_groups_in(grouped), kinds = lso_kinds_in(grouped);
    int64_t cells = 0, error_cells = 0;
    bytes_add_array(told, lso_numbers_before(&kinds, INT64_MAX)); /* every event has a kind, also those that are in no group */
    while (kinds.count > 0) {
        int64_t number = kinds.at[0];
        size_t of_kinds = lso_rows_of_number(&kinds, number), of_groups = lso_rows_of_number(&groups, number);
        if (of_groups) {
            const int64_t *last = groups.at + (of_groups - 1) * LSO_GROUP_FIELDS;
            cells = last[LSO_GROUP_CELLS];
            error_cells = last[LSO_GROUP_ERROR_CELLS];
        }
        bytes_add_array(told, LSO_TOLD_FIELDS);
        bytes_add_integer(told, number);
        tell_tallies(told, &groups, of_groups);
        tell_map(told, &kinds, of_kinds, LSO_KIND_TYPE, LSO_KIND_SHOWN);
        bytes_add_integer(told, lso_sum_of_rows(&kinds, of_kinds, LSO_KIND_LATE));
        bytes_add_integer(told, lso_sum_of_rows(&kinds, of_kinds, LSO_KIND_SKEWED));
        tell_map(told, &groups, of_groups, LSO_GROUP_STAGE, LSO_GROUP_LATE);
        bytes_add_integer(told, cells);
        bytes_add_integer(told, error_cells);
        lso_skip_rows(&groups, of_groups);
        lso_skip_rows(&kinds, of_kinds);
    }
}

/* The least number that an event of the blocks may have. */
static int64_t least_number(const struct lso_blocks *blocks, int minutes, int64_t first)
{
    int64_t least = INT64_MAX;
    if (!minutes)
        return first;
    for (int64_t at = 0; at < blocks->count; at++) {
        const int64_t *told = blocks->told + at * LSO_BLOCK_FIELDS;
        int64_t base = told[LSO_BLOCK_BASE], arrived = told[LSO_BLOCK_ARRIVED];
        int64_t own = base < arrived ? base : arrived;
        least = own < least ? own : least;
    }
    return floored(least, 1);
}

int lso_bits_of(const uint8_t *numbers, int64_t size)
{
    unsigned all = 1;
    for (int64_t at = 0; at < size; at++)
        all |= numbers[at];
    return 32 - __builtin_clz(all);
}

int64_t lso_events_in(const struct lso_blocks *blocks)
{
    int64_t events = 0;
    for (int64_t at = 0; at < blocks->count; at++) {
        int64_t count = blocks->told[at * LSO_BLOCK_FIELDS + LSO_BLOCK_COUNT];
        if (count < 0 || count > blocks->size) /* an event takes more than a byte */
            return -1;
        events += count;
    }
    return events;
}

static int gather(struct work *work, const struct lso_blocks *blocks, int64_t events)
{
    int64_t left = events;
    for (int64_t at = 0; at < blocks->count; at++) {
        struct block block;
        if (!read_block(blocks, blocks->told + at * LSO_BLOCK_FIELDS, &block) || block.count > left ||
            !take_block(work, &block))
            return -2;
        left -= block.count;
    }
    return 0;
}

int lso_group(const struct lso_blocks *blocks, int minutes, int64_t first, int64_t before_ms, int64_t events,
              int64_t *head, struct lso_grouped *into)
{
    if (events < 0 || (uint64_t)events > SIZE_MAX / (4 * sizeof(struct lso_item)))
        return -2;
    size_t room = (size_t)events;
    struct lso_item *items = malloc((3 * room + 1) * sizeof *items);
    if (!items)
        return -1;
    for (int field = LSO_PASSED; field < LSO_HEAD_FIELDS; field++)
        head[field] = field < LSO_LATEST ? 0 : INT64_MIN;
    int64_t base = least_number(blocks, minutes, first);
    struct work work = {minutes, first, before_ms, base, blocks->name_bits, items, items + room, 0, 0, head};
    int wrong = gather(&work, blocks, events);
    if (!wrong) {
        count_cells(&work, lso_sort(work.counted, items + 2 * room, work.counted_count), into);
        count_kinds(&work, lso_sort(work.kinds, items + 2 * room, work.kinds_count), into);
    }
    free(items);
    return wrong ? wrong : into->groups.failed || into->kinds.failed ? -1 : 0;
}

LSO_EXPORT int lso_fold(const uint8_t *data, int64_t size, const int64_t *blocks, int64_t block_count,
                        const uint8_t *tables, int64_t tables_size, int minutes, int64_t first, int64_t before_ms,
                        int64_t events, int64_t *results)
{
    int64_t *columns = results + LSO_HEAD_FIELDS;
    struct lso_blocks all = {data, size, blocks, block_count, tables, tables_size, lso_bits_of(tables, tables_size)};
    struct lso_grouped grouped = {.keys = columns, .counts = columns + events, .error_keys = columns + 2 * events,
                                  .error_counts = columns + 3 * events};
    struct bytes told = {0};
    int wrong = lso_group(&all, minutes, first, before_ms, events, results, &grouped);
    if (!wrong) {
        tell(&grouped, &told);
        if (told.failed || told.used > ((size_t)events * LSO_TOLD_WORDS + 1) * sizeof *results)
            wrong = -1;
        else
            memcpy(columns + 4 * events, told.data, told.used);
        results[LSO_TOLD_BYTES] = (int64_t)told.used;
        results[LSO_CELLS] = grouped.cells;
        results[LSO_ERROR_CELLS] = grouped.error_cells;
    }
    free(grouped.groups.data);
    free(grouped.kinds.data);
    free(told.data);
    return wrong;
}
