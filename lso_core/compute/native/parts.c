/* Writes what the columns do not tell of a batch, as `compute.parts` has it: a MessagePack array of four; and reads the
   payloads of it again. */
#include "parts.h"

#include "batch.h"

#include <string.h>

enum { MEMBERS = 4 };

/* How the run ids of a batch can be told. */
enum runs { RUNS_NONE, RUNS_ONE, RUNS_EVEN, RUNS_ODD };

static enum runs runs_of(const struct events *events)
{
    if (!events->runs.count)
        return RUNS_NONE;
    if (!events_have_runs(events))
        return RUNS_ODD;
    for (uint32_t at = 1; at < events->runs.count; at++)
        if (events->runs.all[at].length != events->runs.all[0].length)
            return RUNS_ODD;
    return events->runs.count == 1 ? RUNS_ONE : RUNS_EVEN;
}

/* Room for bytes that are told beside their length. NULL where there is no memory, or they are too many for that. */
static uint8_t *add_room(struct bytes *parts, size_t length)
{
    if (length > UINT32_MAX) {
        parts->failed = 1;
        return NULL;
    }
    bytes_add_head(parts, (uint32_t)length);
    return bytes_extend(parts, length);
}

static void add_run_ids(const struct events *events, enum runs runs, struct bytes *parts)
{
    const struct span *ids = events->runs.all;
    if (runs != RUNS_EVEN) {
        uint8_t *to = add_room(parts, runs == RUNS_NONE ? 0 : ids->length);
        if (to != NULL && runs == RUNS_ONE)
            memcpy(to, ids->at, ids->length);
        bytes_add_number(parts, 0);
        return;
    }
    uint8_t *to = add_room(parts, events->count * ids->length);
    for (size_t at = 0; to != NULL && at < events->count; at++, to += ids->length)
        memcpy(to, ids[events->run[at] - 1].at, ids->length);
    bytes_add_number(parts, ids->length);
}

static const struct span NONE = {(const uint8_t *)"null", 4};

/* Bytes of the array of payloads; 0 where no event has one. */
static size_t payloads_length(const struct events *events)
{
    size_t length = 1, given = 0; /* each has a bracket or a comma before it, and there is a bracket at the end */
    for (size_t at = 0; at < events->count; at++) {
        uint32_t own = events->payload[at].length;
        length += 1 + (own ? own : NONE.length);
        given += own > 0;
    }
    return given ? length : 0;
}

static void add_payloads(const struct events *events, size_t length, struct bytes *parts)
{
    uint8_t *to = add_room(parts, length);
    if (to == NULL || !length)
        return;
    for (size_t at = 0; at < events->count; at++) {
        const struct span *payload = events->payload[at].length ? &events->payload[at] : &NONE;
        *to++ = at ? ',' : '[';
        memcpy(to, payload->at, payload->length);
        to += payload->length;
    }
    *to = ']';
}

static int are_told_by_columns(const struct events *events)
{
    int are_told = 1;
    for (size_t at = 0; at < events->count; at++)
        are_told &= (double)(int64_t)events_us(events->latency_ms[at]) / 1000.0 == events->latency_ms[at];
    return are_told;
}

static void add_latencies(const struct events *events, int are_told, struct bytes *parts)
{
    static const uint64_t NOT_A_NUMBER = 0x7FF8000000000000u;
    size_t count = are_told ? 0 : events->count;
    uint8_t *to = add_room(parts, count * sizeof(double));
    for (size_t at = 0; to != NULL && at < count; at++, to += sizeof(double)) {
        int has_latency = events->flags[at] & EVENT_HAS_LATENCY;
        memcpy(to, has_latency ? (const void *)&events->latency_ms[at] : &NOT_A_NUMBER, sizeof(double));
    }
}

int parts_write(const struct events *events, size_t most, struct bytes *parts)
{
    enum runs runs = runs_of(events);
    int are_told = are_told_by_columns(events);
    size_t payloads = payloads_length(events);
    size_t ids = runs == RUNS_EVEN ? events->count * events->runs.all[0].length : 0;
    if (runs == RUNS_ODD || payloads > most || ids > most - payloads)
        return are_told;
    bytes_add_array(parts, MEMBERS);
    add_run_ids(events, runs, parts);
    add_payloads(events, payloads, parts);
    add_latencies(events, are_told, parts);
    return are_told;
}

/* Takes the value before a comma or the bracket at the end: an object, or null, for which `length` is 0. */
static int take_payload(struct text *text, int depth, struct span *payload)
{
    int64_t containers = 0;
    *payload = (struct span){text->at, 0};
    if (json_take_null(text))
        return 1;
    if (!json_skip_object(text, depth, &containers))
        return 0;
    payload->length = (uint32_t)(text->at - payload->at);
    return 1;
}

LSO_EXPORT int64_t lso_split_payloads(const uint8_t *payloads, int64_t size, int64_t count, int depth, uint8_t *packed,
                                      int32_t *ends, uint8_t *given)
{
    struct text text = {payloads, payloads + size, 0};
    int64_t used = 0;
    if (size > INT32_MAX || !json_take(&text, '['))
        return -1;
    for (int64_t at = 0; at < count; at++) {
        struct span payload;
        if (at && !json_take(&text, ','))
            return -1;
        json_skip_space(&text);
        if (!take_payload(&text, depth, &payload))
            return -1;
        json_skip_space(&text);
        memcpy(packed + used, payload.at, payload.length);
        used += payload.length;
        ends[at] = (int32_t)used;
        given[at] = payload.length > 0;
    }
    return json_take(&text, ']') && text.at == text.end ? used : -1;
}
