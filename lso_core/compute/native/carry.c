#include "carry.h"

#include <stdlib.h>
#include <string.h>

#include "cells.h"
#include "crc.h"
#include "fold.h"
#include "ranks.h"
#include "sums.h"

enum { SEAL = 5 };                         /* a slot begins with its format and its checksum */
enum { NO_MEMORY = -1, NOT_AS_TOLD = -2 }; /* what may be wrong */
enum { CARRIED_FIELDS = 11 };

struct text {
    const uint8_t *data;
    int64_t size;
};

/* A slot as it is stored. */
struct slot {
    struct text cells, errors;
};

struct system {
    int64_t first, over;
    struct lso_blocks blocks;
    const uint8_t *const *texts; /* of its slots, `sizes` and `starts` as well */
    const int64_t *sizes, *starts;
    int64_t slot_count;
    struct text cells, sums; /* of its window */
};

/* What is at work on one system after another. */
struct desk {
    const struct lso_windows *windows;
    struct lso_sums window, leaving, slot;
    struct bytes value; /* something under way whose length is not known yet */
    struct bytes *into;
};

static int cut_table(struct text *rest, struct text *table)
{
    int64_t size = lso_table_size(rest->data, rest->size);
    if (size < 0)
        return 0;
    *table = (struct text){rest->data, size};
    *rest = (struct text){rest->data + size, rest->size - size};
    return 1;
}

/* One of the slots, and its sums at hand. What is wrong; then there is nothing in them. */
static int open_slot(struct desk *desk, const struct system *system, int64_t at, struct slot *slot)
{
    struct text rest = {system->texts[at] + SEAL, system->sizes[at] - SEAL};
    if (rest.size >= 0 && system->texts[at][0] == desk->windows->format && cut_table(&rest, &slot->cells) &&
        cut_table(&rest, &slot->errors) && lso_read_sums(rest.data, rest.size, &desk->slot))
        return 0;
    *slot = (struct slot){0};
    lso_no_sums(&desk->slot);
    return NOT_AS_TOLD;
}

static int is_gone(const struct system *system, int64_t at)
{
    return system->starts[at] / LSO_SLOT_MS < system->first;
}

/* What is kept of a number from which something leaves, as far as it is asked for. */
struct kept {
    int goes, asked, seen; /* whether all of it leaves, what is kept matters, and there is some */
    struct lso_tally tally;
};

static int keep(struct kept *kept, const struct lso_tally *tally)
{
    if (kept->seen)
        return lso_join_tally(&kept->tally, tally);
    kept->tally = *tally;
    return kept->seen = 1;
}

/* Looks through the slots that stay for the numbers that are asked for. */
static int look_through(struct desk *desk, const struct system *system, struct kept *stages, struct kept *types)
{
    struct lso_sums *sums = &desk->slot, *window = &desk->window;
    for (int64_t at = 0; at < system->slot_count; at++) {
        struct slot slot;
        if (is_gone(system, at))
            continue;
        int wrong = open_slot(desk, system, at, &slot);
        if (wrong)
            return wrong;
        for (uint32_t one = 0; one < sums->stage_count; one++) {
            struct lso_stage *own = lso_stage_of(window, sums->stages[one].number);
            if (own && stages[own - window->stages].asked && !keep(stages + (own - window->stages), &sums->stages[one].tally))
                return NOT_AS_TOLD;
        }
        for (uint32_t one = 0; one < sums->type_count; one++) {
            struct lso_type *own = lso_type_of(window, sums->types[one].number);
            if (own)
                types[own - window->types].seen = 1;
        }
    }
    return 0;
}

/* Takes a tally away from the window's. Asks for what is kept where an extreme leaves with it, or the sum was full; 0 where it
   is no part of it. */
static int take_tally(struct lso_tally *own, const struct lso_tally *less, struct kept *kept)
{
    kept->asked = own->sum == UINT64_MAX || (less->timed && (less->low <= own->low || less->high >= own->high));
    return lso_take_away(&own->total, less->total) && lso_take_away(&own->errors, less->errors) &&
           lso_take_away(&own->timed, less->timed) && lso_take_away(&own->sum, less->sum);
}

/* Takes the sums of what leaves away from the window's. Only where an extreme goes with them, or a number's last event, or
   a sum was full, the slots that stay are looked at. */
static int take_away(struct desk *desk, const struct system *system)
{
    struct lso_sums *window = &desk->window, *leaving = &desk->leaving;
    struct kept stages[LSO_MOST_NUMBERS] = {0}, types[LSO_MOST_NUMBERS] = {0};
    int asked = 0;
    for (uint32_t at = 0; at < leaving->stage_count; at++) {
        const struct lso_stage *less = leaving->stages + at;
        struct lso_stage *own = lso_stage_of(window, less->number);
        if (!own)
            return NOT_AS_TOLD;
        struct kept *kept = stages + (own - window->stages);
        kept->goes = less->tally.total >= own->tally.total;
        if (!kept->goes && !take_tally(&own->tally, &less->tally, kept))
            return NOT_AS_TOLD;
        asked |= kept->asked;
    }
    for (uint32_t at = 0; at < leaving->type_count; at++) {
        struct lso_type *own = lso_type_of(window, leaving->types[at].number);
        if (!own || !lso_take_away(&own->count, leaving->types[at].count))
            return NOT_AS_TOLD;
        types[own - window->types].asked = own->count == 0;
        asked |= own->count == 0;
    }
    if (!lso_take_away(&window->late, leaving->late) || !lso_take_away(&window->skewed, leaving->skewed))
        return NOT_AS_TOLD;
    int wrong = asked ? look_through(desk, system, stages, types) : 0;
    for (uint32_t at = window->stage_count; at-- > 0 && !wrong;) { /* from the end, so that places stay what they are */
        if (stages[at].goes) {
            lso_drop_stage(window, window->stages + at);
        } else if (stages[at].asked) {
            window->stages[at].tally.sum = stages[at].tally.sum;
            window->stages[at].tally.low = stages[at].tally.low;
            window->stages[at].tally.high = stages[at].tally.high;
            wrong = stages[at].seen ? 0 : NOT_AS_TOLD;
        }
    }
    for (uint32_t at = window->type_count; at-- > 0 && !wrong;)
        if (types[at].asked && !types[at].seen)
            lso_drop_type(window, window->types + at);
    return wrong;
}

/* The bytes that a table with more cells may take. */
static size_t room_for(const struct text *table, int64_t more)
{
    int64_t cells = lso_cells_in(table->data, table->size); /* below 0 where there is none, as is found out later */
    return (size_t)((cells > 0 ? cells : 0) + more) * LSO_CELL_BYTES + LSO_TABLE_HEAD;
}

/* The window's cells without those that leave and with those that come, and its sums without what leaves. */
static int carry_window(struct desk *desk, const struct system *system, int64_t gone, const struct lso_grouped *grouped,
                        struct bytes *cells)
{
    const uint8_t **packed = malloc((size_t)(gone + 1) * (sizeof *packed + sizeof(int64_t)));
    if (!packed)
        return NO_MEMORY;
    int64_t *sizes = (int64_t *)(void *)(packed + gone + 1), found = 0;
    packed[found] = system->cells.data;
    sizes[found++] = system->cells.size;
    lso_no_sums(&desk->leaving);
    int wrong = 0;
    for (int64_t at = 0; at < system->slot_count && !wrong; at++) {
        struct slot slot;
        if (!is_gone(system, at))
            continue;
        wrong = open_slot(desk, system, at, &slot);
        lso_add_sums(&desk->leaving, &desk->slot);
        packed[found] = slot.cells.data;
        sizes[found++] = slot.cells.size;
    }
    if (!wrong && gone)
        wrong = desk->leaving.failed ? NOT_AS_TOLD : take_away(desk, system);
    if (!wrong) {
        size_t room = room_for(&system->cells, grouped->cells);
        cells->used = 0;
        uint8_t *out = bytes_extend(cells, room);
        int64_t used = out ? lso_carry_packed(gone, packed, sizes, grouped->keys, grouped->counts, grouped->cells, out,
                                              (int64_t)room)
                           : NO_MEMORY;
        if (used < 0)
            wrong = (int)used;
        else
            cells->used = (size_t)used;
    }
    free(packed);
    return wrong;
}

/* A table with more cells. */
static int write_table(struct bytes *into, const struct text *table, const int64_t *keys, const int64_t *counts,
                       int64_t more)
{
    size_t room = room_for(table, more);
    uint8_t *out = bytes_extend(into, room);
    int64_t used = out ? lso_add_packed(table->data, table->size, keys, counts, more, out, (int64_t)room) : NO_MEMORY;
    if (used < 0)
        return (int)used;
    into->used -= room - (size_t)used;
    return 0;
}

/* The cells of one number among all that were counted. */
struct share {
    int64_t cells, errors; /* from where they are… */
    int64_t cells_end, errors_end;
};

static void add_groups(struct lso_sums *sums, const struct lso_rows_of *groups, size_t count)
{
    for (size_t at = 0; at < count; at++) {
        const int64_t *row = groups->at + at * groups->width;
        struct lso_tally tally = {(uint64_t)row[LSO_GROUP_TOTAL], (uint64_t)row[LSO_GROUP_ERRORS],
                                  (uint64_t)row[LSO_GROUP_TIMED], (uint64_t)row[LSO_GROUP_SUM],
                                  (uint64_t)row[LSO_GROUP_MIN],   (uint64_t)row[LSO_GROUP_MAX]};
        lso_add_tally(sums, (uint64_t)row[LSO_GROUP_STAGE], &tally);
    }
}

static void add_kinds(struct lso_sums *sums, const struct lso_rows_of *kinds, size_t count)
{
    for (size_t at = 0; at < count; at++) {
        const int64_t *row = kinds->at + at * kinds->width;
        if (row[LSO_KIND_SHOWN])
            lso_add_type(sums, (uint64_t)row[LSO_KIND_TYPE], (uint64_t)row[LSO_KIND_SHOWN]);
    }
    sums->failed |= __builtin_add_overflow(sums->late, (uint64_t)lso_sum_of_rows(kinds, count, LSO_KIND_LATE), &sums->late);
    sums->failed |=
        __builtin_add_overflow(sums->skewed, (uint64_t)lso_sum_of_rows(kinds, count, LSO_KIND_SKEWED), &sums->skewed);
}

/* A slot with what comes to it, as it is stored. */
static int write_slot(struct desk *desk, const struct slot *slot, const struct lso_grouped *grouped,
                      const struct share *share)
{
    struct bytes *value = &desk->value;
    value->used = 0;
    bytes_extend(value, SEAL);
    int wrong = write_table(value, &slot->cells, grouped->keys + share->cells, grouped->counts + share->cells,
                            share->cells_end - share->cells);
    if (!wrong)
        wrong = write_table(value, &slot->errors, grouped->error_keys + share->errors,
                            grouped->error_counts + share->errors, share->errors_end - share->errors);
    if (wrong)
        return wrong;
    lso_write_sums(&desk->slot, value);
    if (value->failed)
        return NO_MEMORY;
    uint8_t format = (uint8_t)desk->windows->format;
    uint32_t checksum = lso_crc32(value->data + SEAL, (int64_t)value->used - SEAL, format);
    value->data[0] = format;
    memcpy(value->data + 1, &checksum, sizeof checksum);
    return 0;
}

static void tell_bytes(struct bytes *into, const struct bytes *bytes)
{
    if (bytes->used > UINT32_MAX) {
        into->failed = 1;
        return;
    }
    bytes_add_head(into, (uint32_t)bytes->used);
    bytes_add(into, bytes->data, bytes->used);
}

/* The slot of a number as it was, and its sums; an empty one where there is none. */
static int find_slot(struct desk *desk, const struct system *system, int64_t number, struct slot *slot)
{
    *slot = (struct slot){0};
    lso_no_sums(&desk->slot);
    for (int64_t at = system->slot_count; at-- > 0;) /* what comes is mostly for the latest */
        if (system->starts[at] == number * LSO_SLOT_MS)
            return open_slot(desk, system, at, slot);
    return 0;
}

/* What comes to one number. */
struct coming {
    int64_t number;
    const struct lso_grouped *grouped;
    struct lso_rows_of groups, kinds; /* its own come first */
    size_t of_groups, of_kinds;
    struct share share;
};

static int next_number(struct coming *coming)
{
    lso_skip_rows(&coming->groups, coming->of_groups);
    lso_skip_rows(&coming->kinds, coming->of_kinds);
    if (!coming->kinds.count)
        return 0;
    struct share *share = &coming->share;
    share->cells = share->cells_end;
    share->errors = share->errors_end;
    coming->number = coming->kinds.at[0]; /* every event has a kind, also those that are in no group */
    coming->of_kinds = lso_rows_of_number(&coming->kinds, coming->number);
    coming->of_groups = lso_rows_of_number(&coming->groups, coming->number);
    if (coming->of_groups) {
        const int64_t *last = coming->groups.at + (coming->of_groups - 1) * coming->groups.width;
        share->cells_end = last[LSO_GROUP_CELLS];
        share->errors_end = last[LSO_GROUP_ERROR_CELLS];
    }
    return 1;
}

static struct coming coming_of(const struct lso_grouped *grouped)
{
    return (struct coming){.grouped = grouped, .groups = lso_groups_in(grouped), .kinds = lso_kinds_in(grouped)};
}

static void add_coming(struct lso_sums *sums, const struct coming *coming)
{
    add_groups(sums, &coming->groups, coming->of_groups);
    add_kinds(sums, &coming->kinds, coming->of_kinds);
}

/* A number's slot: what it was, whose sums are at hand, with what comes to it. */
static int tell_slot(struct desk *desk, const struct slot *slot, const struct coming *coming)
{
    add_coming(&desk->slot, coming);
    int wrong = desk->slot.failed ? NOT_AS_TOLD : write_slot(desk, slot, coming->grouped, &coming->share);
    if (wrong)
        return wrong;
    bytes_add_integer(desk->into, coming->number * LSO_SLOT_MS);
    tell_bytes(desk->into, &desk->value);
    return 0;
}

/* All slots that something comes to, which is added to the window's sums, too; and then, of those that are over, what comes to
   them alone. */
static int tell_slots(struct desk *desk, const struct system *system, const struct lso_grouped *grouped)
{
    struct lso_rows_of kinds = lso_kinds_in(grouped);
    struct slot slot;
    bytes_add_map(desk->into, lso_numbers_before(&kinds, INT64_MAX));
    for (struct coming coming = coming_of(grouped); next_number(&coming);) {
        int wrong = find_slot(desk, system, coming.number, &slot);
        if (!wrong)
            wrong = tell_slot(desk, &slot, &coming);
        if (wrong)
            return wrong;
        add_coming(&desk->window, &coming);
    }
    bytes_add_map(desk->into, lso_numbers_before(&kinds, system->over));
    for (struct coming coming = coming_of(grouped); next_number(&coming) && coming.number < system->over;) {
        slot = (struct slot){0};
        lso_no_sums(&desk->slot);
        int wrong = tell_slot(desk, &slot, &coming);
        if (wrong)
            return wrong;
    }
    return desk->window.failed ? NOT_AS_TOLD : 0;
}

/* The values at the percentiles: of all stages together, then of each that has cells. */
static int tell_values(struct desk *desk, const struct bytes *cells)
{
    int64_t many = desk->windows->part_count, room = 1 + LSO_MOST_NUMBERS;
    int64_t *values = malloc((size_t)(room * many + 1) * sizeof *values);
    if (!values)
        return NO_MEMORY;
    int64_t rows = lso_percentiles(cells->data, (int64_t)cells->used, desk->windows->parts, many, values, room);
    if (rows >= 0)
        bytes_add_array(desk->into, (uint32_t)rows);
    for (int64_t row = 0; row < rows; row++) {
        bytes_add_array(desk->into, (uint32_t)many);
        for (int64_t at = 0; at < many; at++)
            bytes_add_integer(desk->into, values[row * many + at]);
    }
    free(values);
    return rows < 0 ? (int)rows : 0;
}

static void tell_time(struct bytes *into, int64_t time)
{
    if (time == INT64_MIN)
        bytes_add_nil(into);
    else
        bytes_add_integer(into, time);
}

static void tell_no_changes(struct bytes *into)
{
    bytes_add_nil(into);
    bytes_add_nil(into);
    bytes_add_array(into, 0);
    bytes_add_map(into, 0);
    bytes_add_map(into, 0);
    bytes_add_nil(into);
}

/* What changes: the window's cells and percentiles, which slots are gone, which are new, what came to
   those that are over, and the window's sums. */
static int tell_changes(struct desk *desk, const struct system *system, const struct lso_grouped *grouped)
{
    int64_t gone = 0;
    for (int64_t at = 0; at < system->slot_count; at++)
        gone += is_gone(system, at);
    if (!gone && !grouped->kinds.used) {
        tell_no_changes(desk->into);
        return 0;
    }
    if (!lso_read_sums(system->sums.data, system->sums.size, &desk->window))
        return NOT_AS_TOLD;
    int wrong = carry_window(desk, system, gone, grouped, &desk->value);
    if (wrong)
        return wrong;
    tell_bytes(desk->into, &desk->value);
    wrong = tell_values(desk, &desk->value);
    if (wrong)
        return wrong;
    bytes_add_array(desk->into, (uint32_t)gone);
    for (int64_t at = 0; at < system->slot_count; at++)
        if (is_gone(system, at))
            bytes_add_integer(desk->into, system->starts[at]);
    wrong = tell_slots(desk, system, grouped);
    if (wrong)
        return wrong;
    desk->value.used = 0;
    lso_write_sums(&desk->window, &desk->value);
    tell_bytes(desk->into, &desk->value);
    return 0;
}

/* As `carrying.Carried` has it. */
static int tell_system(struct desk *desk, const struct system *system)
{
    int64_t events = lso_events_in(&system->blocks), head[LSO_HEAD_FIELDS];
    if (events < 0)
        return NOT_AS_TOLD;
    int64_t *columns = malloc((4 * (size_t)events + 1) * sizeof *columns);
    if (!columns)
        return NO_MEMORY;
    struct lso_grouped grouped = {.keys = columns, .counts = columns + events, .error_keys = columns + 2 * events,
                                  .error_counts = columns + 3 * events};
    int wrong = lso_group(&system->blocks, 0, system->first, 0, events, head, &grouped);
    if (!wrong) {
        bytes_add_array(desk->into, CARRIED_FIELDS);
        bytes_add_integer(desk->into, 0);
        bytes_add_integer(desk->into, head[LSO_PASSED]);
        for (int field = LSO_LATEST; field < LSO_HEAD_FIELDS; field++)
            tell_time(desk->into, head[field]);
        wrong = tell_changes(desk, system, &grouped);
    }
    free(columns);
    free(grouped.groups.data);
    free(grouped.kinds.data);
    return wrong;
}

static void tell_wrong(struct bytes *into, int wrong)
{
    bytes_add_array(into, CARRIED_FIELDS);
    bytes_add_integer(into, wrong);
    bytes_add_integer(into, 0);
    for (int field = LSO_LATEST; field < LSO_HEAD_FIELDS; field++)
        bytes_add_nil(into);
    tell_no_changes(into);
}

static int tell_all(struct desk *desk, const struct lso_arrived *arrived)
{
    const struct lso_windows *windows = desk->windows;
    const uint8_t *const *texts = windows->texts;
    const int64_t *sizes = windows->sizes, *starts = windows->starts, *blocks = arrived->blocks;
    int name_bits = lso_bits_of(arrived->tables, arrived->tables_size);
    bytes_add_array(desk->into, (uint32_t)windows->count);
    for (int64_t at = 0; at < windows->count; at++) {
        const int64_t *told = windows->systems + at * LSO_SYSTEM_FIELDS;
        struct system system = {
            told[LSO_SYSTEM_FIRST],
            told[LSO_SYSTEM_OVER],
            {arrived->data, arrived->size, blocks, told[LSO_SYSTEM_BLOCKS], arrived->tables, arrived->tables_size, name_bits},
            texts + 2,
            sizes + 2,
            starts,
            told[LSO_SYSTEM_SLOTS],
            {texts[0], sizes[0]},
            {texts[1], sizes[1]}};
        size_t before = desk->into->used;
        int wrong = tell_system(desk, &system);
        if (wrong == NO_MEMORY || desk->into->failed || desk->value.failed)
            return NO_MEMORY;
        if (wrong) {
            desk->into->used = before;
            tell_wrong(desk->into, wrong);
        }
        texts += 2 + system.slot_count;
        sizes += 2 + system.slot_count;
        starts += system.slot_count;
        blocks += system.blocks.count * LSO_BLOCK_FIELDS;
    }
    return desk->into->failed ? NO_MEMORY : 0;
}

LSO_EXPORT int lso_carry(const struct lso_arrived *arrived, const struct lso_windows *windows, struct bytes *into)
{
    struct desk *desk = malloc(sizeof *desk);
    if (!desk)
        return NO_MEMORY;
    desk->windows = windows;
    desk->value = (struct bytes){0};
    desk->into = into;
    int wrong = tell_all(desk, arrived);
    free(desk->value.data);
    free(desk);
    return wrong;
}

LSO_EXPORT void lso_free_bytes(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}
