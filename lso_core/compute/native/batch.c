/* What becomes of a batch once all its events are read. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

/* The column of so many bytes each, which begins where the last one ends; what was in the old one goes into it. */
static void *move_column(uint8_t **place, const void *old, size_t count, size_t room, size_t width)
{
    uint8_t *column = *place;
    if (count > 0)
        memcpy(column, old, count * width);
    *place += room * width;
    return column;
}

int events_make_room(struct events *events, size_t room)
{
    const size_t widths = sizeof *events->ts_ms + sizeof *events->latency_ms + sizeof *events->payload +
                          sizeof *events->stage + sizeof *events->run + sizeof *events->event_type +
                          sizeof *events->flags;
    uint8_t *memory = calloc(room, widths), *place = memory;
    if (memory == NULL)
        return 0;
#define MOVE(column) events->column = move_column(&place, events->column, events->count, room, sizeof *events->column)
    MOVE(ts_ms);
    MOVE(latency_ms);
    MOVE(payload);
    MOVE(stage);
    MOVE(run);
    MOVE(event_type);
    MOVE(flags);
    free(events->memory);
    events->memory = memory;
    events->room = room;
    return 1;
}

static uint8_t kinds_of(const struct rules *rules, struct span name)
{
    for (int64_t at = 0; at < rules->word_count; at++) {
        const struct word *word = &rules->words[at];
        if (word->length == name.length && memcmp(word->text, name.at, name.length) == 0)
            return word->kinds;
    }
    return 0;
}

/* What a type means is looked up when it is first met. */
int events_number_type(struct events *events, const struct rules *rules, uint32_t position)
{
    if (position < events->kind_count)
        return 1;
    if (position >= events->kind_room) {
        uint8_t *kinds = realloc(events->kinds, events->event_types.room);
        if (kinds == NULL)
            return 0;
        events->kinds = kinds;
        events->kind_room = events->event_types.room;
    }
    events->kinds[position] = kinds_of(rules, events->event_types.all[position]);
    events->kind_count = position + 1;
    return 1;
}

void events_free(struct events *events)
{
    free(events->memory);
    free(events->kinds);
    names_free(&events->stages);
    names_free(&events->event_types);
    names_free(&events->runs);
}

static void settle_times(const struct events *events, struct batch *batch)
{
    int64_t latest = INT64_MIN;
    uint8_t any = 0;
    for (size_t at = 0; at < events->count; at++) {
        int64_t ts_ms = events->flags[at] & EVENT_HAS_TS ? events->ts_ms[at] : INT64_MIN;
        latest = ts_ms > latest ? ts_ms : latest;
        any |= events->flags[at];
    }
    batch->has_ts = (any & EVENT_HAS_TS) != 0;
    batch->latest_ts_ms = batch->has_ts ? latest : 0;
}

LSO_EXPORT void lso_free(struct batch *batch)
{
    free(batch->block.data);
    free(batch->parts.data);
    memset(batch, 0, sizeof *batch);
}

int batch_write(const struct events *events, const struct rules *rules, size_t most_parts, struct batch *batch)
{
    batch->events = (int64_t)events->count;
    settle_times(events, batch);
    block_write(events, rules, &batch->block);
    batch->told_latencies = parts_write(events, most_parts, &batch->parts);
    if (!batch->block.failed && !batch->parts.failed)
        return 1;
    lso_free(batch);
    return 0;
}
