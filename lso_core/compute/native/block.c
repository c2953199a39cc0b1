/* Writes a batch's columns as `compute.columns.encode` and `compute.run_ids` do, to the byte; there it says what they are. */
#include "batch.h"
#include "crc.h"

#include <stdlib.h>
#include <string.h>

/* Which runs are told of, and for which events. */
struct told {
    struct names ids;
    const struct span *id_list;
    uint32_t id_count;
    uint64_t *makers;
    size_t maker_count;
    uint64_t *numbers; /* of every maker; not used where all events are told */
    int is_whole;
    int failed;
};

static void add_names(struct bytes *to, const struct names *names)
{
    bytes_add_array(to, names->count);
    for (uint32_t at = 0; at < names->count; at++)
        bytes_add_text(to, names->all[at].at, names->all[at].length);
}

static int is_maker(const struct events *events, size_t at)
{
    uint8_t kinds = events->kinds[events->event_type[at]];
    return (kinds & KIND_ALWAYS) || ((kinds & KIND_OUTCOME) && events->stage[at] == 0);
}

static int must_tell(const struct events *events)
{
    for (uint32_t at = 0; at < events->event_types.count; at++)
        if (events->kinds[at] & KIND_LIFE)
            return 1;
    return 0;
}

/* Marks a run among the sample; 1 where it is new there. */
static int64_t is_new(uint8_t *seen, uint32_t run)
{
    uint8_t before = seen[run];
    seen[run] = 1;
    return !before;
}

/* Whether nearly every event of a sample has an id of its own: the first ones, and some from all over the batch. */
static int each_has_its_own(const struct events *events, const struct rules *rules, int *failed)
{
    size_t half = (size_t)rules->runs_sample / 2, count = events->count;
    if (count <= (size_t)rules->runs_few || half == 0 || count < half)
        return 0;
    uint8_t *seen = calloc((size_t)events->runs.count + 1, 1);
    if (seen == NULL) {
        *failed = 1;
        return 0;
    }
    int64_t size = 0, distinct = 0;
    for (size_t at = 0; at < half; at++, size++)
        distinct += is_new(seen, events->run[at]);
    for (size_t at = half; at < count; at += count / half, size++)
        distinct += is_new(seen, events->run[at]);
    free(seen);
    return (double)distinct > rules->runs_own * (double)size;
}

static int do_repeat(const struct events *events, const struct rules *rules)
{
    int64_t distinct = events->runs.count;
    return distinct <= rules->runs_few || distinct * rules->runs_repeated <= (int64_t)events->count;
}

static void find_makers(const struct events *events, struct told *told)
{
    told->makers = malloc(events->count * sizeof *told->makers);
    if (told->makers == NULL) {
        told->failed = 1;
        return;
    }
    for (size_t at = 0; at < events->count; at++)
        if (is_maker(events, at))
            told->makers[told->maker_count++] = at;
}

/* Leaves only makers that have an id. */
static void keep_named(const struct events *events, struct told *told)
{
    size_t kept = 0;
    for (size_t at = 0; at < told->maker_count; at++)
        if (events->run[told->makers[at]])
            told->makers[kept++] = told->makers[at];
    told->maker_count = kept;
}

static void tell_all(const struct events *events, struct told *told)
{
    told->is_whole = 1;
    told->id_list = events->runs.all;
    told->id_count = events->runs.count;
    keep_named(events, told);
}

/* The last makers alone, their ids numbered anew. */
static void tell_makers(const struct events *events, const struct rules *rules, struct told *told)
{
    size_t most = (size_t)rules->runs_most_outcomes;
    if (told->maker_count > most) {
        memmove(told->makers, told->makers + told->maker_count - most, most * sizeof *told->makers);
        told->maker_count = most;
    }
    keep_named(events, told);
    told->numbers = malloc((told->maker_count + 1) * sizeof *told->numbers);
    if (told->numbers == NULL) {
        told->failed = 1;
        return;
    }
    for (size_t at = 0; at < told->maker_count; at++) {
        uint32_t position = names_number(&told->ids, events->runs.all[events->run[told->makers[at]] - 1]);
        told->failed |= position == UINT32_MAX;
        told->numbers[at] = (uint64_t)position + 1;
    }
    told->id_list = told->ids.all;
    told->id_count = told->ids.count;
}

static void find_told(const struct events *events, const struct rules *rules, struct told *told)
{
    if (!events->runs.count)
        return;
    find_makers(events, told);
    if (told->failed)
        return;
    if (must_tell(events) || (!each_has_its_own(events, rules, &told->failed) && do_repeat(events, rules)))
        tell_all(events, told);
    else
        tell_makers(events, rules, told);
}

static void add_little(struct bytes *to, uint64_t value, int width)
{
    bytes_add(to, &value, (size_t)width);
}

/* A column of all events, gathered from them before it is written. */
struct column {
    uint64_t *numbers;
    size_t count;
    uint64_t most; /* a number as wide as the widest */
};

static void gather_offsets(const struct events *events, int64_t base, struct column *column)
{
    uint64_t all = 0;
    for (size_t at = 0; at < column->count; at++) {
        uint64_t offset = events->flags[at] & EVENT_HAS_TS ? (uint64_t)(events->ts_ms[at] - base) : 0;
        column->numbers[at] = offset;
        all |= offset;
    }
    column->most = all;
}

static void gather_latencies(const struct events *events, struct column *column)
{
    uint64_t all = 0;
    for (size_t at = 0; at < column->count; at++) {
        uint64_t us = events_us(events->latency_ms[at]);
        column->numbers[at] = us;
        all |= us;
    }
    column->most = all;
}

static void gather_numbers(const uint32_t *numbers, uint64_t most, struct column *column)
{
    for (size_t at = 0; at < column->count; at++)
        column->numbers[at] = numbers[at];
    column->most = most;
}

static void add_column(struct bytes *block, const struct column *column)
{
    bytes_add_narrow(block, column->numbers, column->count, column->most);
}

/* The bits that numbers up to this one take. */
static int bits_of(uint64_t most)
{
    return most ? 64 - __builtin_clzll(most) : 0;
}

enum { FLAG_BITS = 3, MARK_BITS = 8, IN_MARKS = 0x80 };

/* From which bit on a byte of flags holds the stage, too, behind the type; 0 where there is no room for both. */
static int stage_shift(const struct events *events)
{
    int shift = FLAG_BITS + bits_of(events->event_types.count - 1);
    return shift + bits_of(events->stages.count) <= MARK_BITS ? shift : 0;
}

static void add_marks(const struct events *events, int shift, struct bytes *block)
{
    uint8_t *marks = bytes_extend(block, events->count);
    for (size_t at = 0; marks != NULL && at < events->count; at++)
        marks[at] = (uint8_t)(events->flags[at] | events->event_type[at] << FLAG_BITS | events->stage[at] << shift);
}

static void add_runs(const struct events *events, const struct told *told, struct column *column, struct bytes *block)
{
    struct bytes ids = {0};
    bytes_add_array(&ids, told->id_count);
    for (uint32_t at = 0; at < told->id_count; at++)
        bytes_add_text(&ids, told->id_list[at].at, told->id_list[at].length);
    uint64_t last = told->maker_count ? told->makers[told->maker_count - 1] : 0;
    int is_alike = told->id_count == 1 && (!told->is_whole || events_have_runs(events));
    add_little(block, ids.used, 4);
    add_little(block, told->maker_count, 4);
    add_little(block, (uint64_t)bytes_width(last), 1);
    add_little(block, is_alike ? 0 : (uint64_t)bytes_width(told->id_count), 1);
    add_little(block, (uint64_t)told->is_whole, 1);
    bytes_add(block, ids.data, ids.used);
    bytes_add_narrow(block, told->makers, told->maker_count, last);
    if (!is_alike && told->is_whole) {
        gather_numbers(events->run, told->id_count, column);
        add_column(block, column);
    } else if (!is_alike) {
        bytes_add_narrow(block, told->numbers, told->maker_count, told->id_count);
    }
    block->failed |= ids.failed;
    free(ids.data);
}

static int64_t earliest(const struct events *events)
{
    int64_t first = INT64_MAX;
    for (size_t at = 0; at < events->count; at++)
        first = (events->flags[at] & EVENT_HAS_TS) && events->ts_ms[at] < first ? events->ts_ms[at] : first;
    return first == INT64_MAX ? 0 : first;
}

/* All columns; their widths go into the head, which is written before them. */
static void add_columns(const struct events *events, int64_t base, size_t head, struct column *column,
                        struct bytes *block)
{
    int shift = stage_shift(events);
    uint8_t widths[4] = {0, 0, (uint8_t)(IN_MARKS | shift), IN_MARKS | FLAG_BITS};
    if (shift)
        add_marks(events, shift, block);
    else
        bytes_add(block, events->flags, events->count);
    gather_offsets(events, base, column);
    widths[0] = (uint8_t)bytes_tight_width(column->most);
    bytes_add_tight(block, column->numbers, column->count, column->most);
    gather_latencies(events, column);
    widths[1] = (uint8_t)bytes_tight_width(column->most);
    bytes_add_tight(block, column->numbers, column->count, column->most);
    if (!shift) {
        gather_numbers(events->stage, events->stages.count, column);
        widths[2] = (uint8_t)bytes_width(column->most);
        add_column(block, column);
        gather_numbers(events->event_type, events->event_types.count - 1, column);
        widths[3] = (uint8_t)bytes_width(column->most);
        add_column(block, column);
    }
    if (!block->failed)
        memcpy(block->data + head, widths, sizeof widths);
}

static void write(const struct events *events, const struct rules *rules, const struct told *told, struct column *column,
                  struct bytes *block)
{
    int64_t base = earliest(events);
    struct bytes names = {0};
    bytes_add_array(&names, 2);
    add_names(&names, &events->stages);
    add_names(&names, &events->event_types);
    bytes_add(block, "LSO", 3);
    add_little(block, (uint64_t)rules->columns_format, 1);
    add_little(block, events->count, 4);
    add_little(block, (uint64_t)base, 8);
    size_t widths = block->used;
    add_little(block, 0, 4);
    add_little(block, names.used, 4);
    bytes_add(block, names.data, names.used);
    add_columns(events, base, widths, column, block);
    if (told->id_count)
        add_runs(events, told, column, block);
    block->failed |= names.failed;
    free(names.data);
    if (!block->failed)
        add_little(block, lso_crc32(block->data, (int64_t)block->used, 0), 4);
}

void block_write(const struct events *events, const struct rules *rules, struct bytes *block)
{
    struct told told = {0};
    struct column column = {malloc(events->count * sizeof *column.numbers), events->count, 0};
    find_told(events, rules, &told);
    if (told.failed || column.numbers == NULL)
        block->failed = 1;
    else
        write(events, rules, &told, &column, block);
    free(column.numbers);
    names_free(&told.ids);
    free(told.makers);
    free(told.numbers);
}
