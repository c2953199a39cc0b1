/* The events of a request's body, and what is made of them. */
#ifndef LSO_BATCH_H
#define LSO_BATCH_H

#include "bytes.h"
#include "names.h"

/* Flags of an event as they are stored. */
enum { EVENT_ERROR = 1, EVENT_HAS_TS = 2, EVENT_HAS_LATENCY = 4 };

/* What an event type may mean. */
enum {
    KIND_UNTIMED = 1, /* needs no latency */
    KIND_LIFE = 2,    /* a batch with one tells the run of every event */
    KIND_ALWAYS = 4,  /* makes a run */
    KIND_OUTCOME = 8, /* makes a run where it has no stage */
};

enum { WORD_ROOM = 14, MOST_WORDS = 16 };

struct word {
    uint8_t text[WORD_ROOM];
    uint8_t length;
    uint8_t kinds;
};

/* The rules that do not change, from whoever loads the library: there they are written once. */
struct rules {
    double latency_ms_max;
    int64_t name_bytes, payload_bytes, payload_depth;
    /* Of run ids, as `compute.run_ids` has them. */
    double runs_own;
    int64_t runs_few, runs_repeated, runs_sample, runs_most_outcomes;
    int64_t columns_format;
    int64_t word_count;
    struct word words[MOST_WORDS];
};

/* One request. */
struct post {
    int64_t system_id, most_events, most_containers, most_parts;
    int64_t lines;
};

/* One event, as it is read. */
struct event {
    int64_t ts_ms;
    double latency_ms;
    struct span payload; /* of no bytes where there is none */
    uint32_t stage, run; /* 0 for none, else 1 + position */
    uint32_t event_type;
    uint8_t flags;
};

/* All events, one column beside the other: what looks at all of them looks at few columns at a time. */
struct events {
    size_t count, room;
    void *memory; /* of the columns */
    int64_t *ts_ms;
    double *latency_ms;
    struct span *payload;
    uint32_t *stage, *run, *event_type;
    uint8_t *flags;
    struct names stages, event_types, runs;
    uint8_t *kinds; /* of each event type */
    uint32_t kind_count, kind_room;
};

/* What the caller gets, and gives back to lso_free. */
struct batch {
    int64_t events;
    int64_t latest_ts_ms;
    int64_t has_ts;
    int64_t told_latencies; /* whether whole microseconds tell every latency exactly */
    struct bytes block; /* `compute.columns` */
    struct bytes parts; /* `compute.parts`; nothing where they cannot tell these events, or not in so few bytes as asked */
};

/* The latency in whole microseconds, to the nearest, ties to even: added to the shift, a double below 2^51 has no bits left
   behind its point. */
static inline uint64_t events_us(double latency_ms)
{
    const double shift = 6755399441055744.0;
    double sum = latency_ms * 1000.0 + shift;
    uint64_t bits, zero;
    memcpy(&bits, &sum, sizeof bits);
    memcpy(&zero, &shift, sizeof zero);
    return bits - zero;
}

/* Whether every event has a run id. */
static inline int events_have_runs(const struct events *events)
{
    uint32_t least = UINT32_MAX;
    for (size_t at = 0; at < events->count; at++)
        least = events->run[at] < least ? events->run[at] : least;
    return least > 0;
}

void block_write(const struct events *events, const struct rules *rules, struct bytes *block);

/* Parts of about `most` bytes at most. Whether latencies need not be among them. */
int parts_write(const struct events *events, size_t most, struct bytes *parts);

/* Room for so many events, the new ones zero; 0 where memory is short. */
int events_make_room(struct events *events, size_t room);

/* Adds one to those for which there is room. */
static inline void events_add(struct events *events, const struct event *event)
{
    size_t at = events->count++;
    events->ts_ms[at] = event->ts_ms;
    events->latency_ms[at] = event->latency_ms;
    events->payload[at] = event->payload;
    events->stage[at] = event->stage;
    events->run[at] = event->run;
    events->event_type[at] = event->event_type;
    events->flags[at] = event->flags;
}

/* 0 where memory is short. */
int events_number_type(struct events *events, const struct rules *rules, uint32_t position);

void events_free(struct events *events);

/* 0 where memory is short; then there is nothing to free. */
int batch_write(const struct events *events, const struct rules *rules, size_t most_parts, struct batch *batch);

#endif
