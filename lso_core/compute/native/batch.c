/* What becomes of a batch once all its events are read. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

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
    free(events->all);
    free(events->kinds);
    names_free(&events->stages);
    names_free(&events->event_types);
    names_free(&events->runs);
}

static void settle_times(const struct events *events, struct batch *batch)
{
    for (size_t at = 0; at < events->count; at++) {
        const struct event *event = &events->all[at];
        if ((event->flags & EVENT_HAS_TS) && (!batch->has_ts || event->ts_ms > batch->latest_ts_ms)) {
            batch->latest_ts_ms = event->ts_ms;
            batch->has_ts = 1;
        }
    }
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
