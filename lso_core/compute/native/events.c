/* Reads a body: every byte once, and every event by itself, so that none need be written like another. */
#include "batch.h"
#include "times.h"

#include <stdlib.h>
#include <string.h>

/* Guessed before it is known; events of pipelines are that long. */
enum { EVENT_BYTES = 160 };

enum field {
    FIELD_NONE = 0,
    FIELD_EVENT_TYPE = 1,
    FIELD_STATUS = 2,
    FIELD_LATENCY = 4,
    FIELD_TS = 8,
    FIELD_RUN = 16,
    FIELD_STAGE = 32,
    FIELD_SYSTEM = 64,
    FIELD_PAYLOAD = 128,
};

/* What stands before a value of an event: a comma but before the first, and the member's name with its colon. */
enum { BEFORE_ROOM = 24 };
struct before {
    uint64_t bytes[3], masks[3];
    uint32_t length;
    enum field field;
};

/* How the last event was written. Most often the next one is written like it, so it is told by a few comparisons. */
enum { MOST_MEMBERS = 8 };
struct shape {
    struct before members[MOST_MEMBERS];
    int count;
};

struct reader {
    struct text text;
    const struct rules *rules;
    const struct post *post;
    struct events *events;
    int64_t containers;
    struct shape shape;
    struct minute minutes[2];
};

static int is_word(struct span name, const char *word)
{
    return memcmp(name.at, word, name.length) == 0;
}

/* Room for the longest name with its quotes. */
enum { FIELD_ROOM = 12 };

#define IS(name) (memcmp(quoted, "\"" name "\"", sizeof name + 1) == 0 ? sizeof name + 1 : 0)

/* The field whose name the FIELD_ROOM bytes begin with, and the length of that name with its quotes. */
static inline enum field field_of(const uint8_t *quoted, size_t *length)
{
    switch (quoted[1]) {
    case 'e':
        return (*length = IS("event_type")) ? FIELD_EVENT_TYPE : FIELD_NONE;
    case 'l':
        return (*length = IS("latency_ms")) ? FIELD_LATENCY : FIELD_NONE;
    case 'p':
        return (*length = IS("payload")) ? FIELD_PAYLOAD : FIELD_NONE;
    case 'r':
        return (*length = IS("run_id")) ? FIELD_RUN : FIELD_NONE;
    case 't':
        return (*length = IS("ts")) ? FIELD_TS : FIELD_NONE;
    case 's':
        return (*length = IS("stage"))       ? FIELD_STAGE
               : (*length = IS("status"))    ? FIELD_STATUS
               : (*length = IS("system_id")) ? FIELD_SYSTEM
                                             : FIELD_NONE;
    default:
        return FIELD_NONE;
    }
}

static int take_name(struct reader *reader, struct names *names, uint32_t *position)
{
    struct text *text = &reader->text;
    struct span name;
    if (names_find_next(names, text, position)) { /* good once, good again */
        text->at += names->all[*position].length + 2;
        return 1;
    }
    if (!json_take_string(text, &name) || name.length == 0 || name.length > reader->rules->name_bytes)
        return 0;
    *position = names_number(names, name);
    return *position != UINT32_MAX;
}

/* The number of a name that may be absent. */
static int take_number(struct reader *reader, struct names *names, uint32_t *number)
{
    uint32_t position;
    if (!take_name(reader, names, &position))
        return 0;
    *number = position + 1;
    return 1;
}

static int take_event_type(struct reader *reader, struct event *event)
{
    return take_name(reader, &reader->events->event_types, &event->event_type) &&
           events_number_type(reader->events, reader->rules, event->event_type);
}

static int take_status(struct reader *reader, struct event *event)
{
    if (json_take_word(&reader->text, "\"ok\"", 4))
        return 1;
    event->flags |= EVENT_ERROR;
    return json_take_word(&reader->text, "\"error\"", 7);
}

static int take_latency(struct reader *reader, struct event *event)
{
    if (!json_take_decimal(&reader->text, &event->latency_ms) || event->latency_ms > reader->rules->latency_ms_max)
        return 0;
    event->flags |= EVENT_HAS_LATENCY;
    return 1;
}

static int take_ts(struct reader *reader, struct event *event)
{
    struct text *text = &reader->text;
    struct span ts = {text->at + 1, TIMES_USUAL};
    event->flags |= EVENT_HAS_TS;
    if (text->end - text->at > TIMES_USUAL + 1 && text->at[0] == '"' && text->at[TIMES_USUAL] == 'Z' &&
        text->at[TIMES_USUAL + 1] == '"') {
        text->at += TIMES_USUAL + 2; /* with a quote or a backslash in it, it would be no time */
        event->ts_ms = times_usual_ms(ts.at, reader->minutes);
    } else {
        if (!json_take_string(text, &ts))
            return 0;
        event->ts_ms = times_ms(ts.at, ts.length);
    }
    return event->ts_ms != TIMES_NONE;
}

static int take_system(struct reader *reader)
{
    int64_t system_id;
    return json_take_whole(&reader->text, &system_id) && system_id == reader->post->system_id;
}

static int take_payload(struct reader *reader, struct event *event)
{
    const uint8_t *start = reader->text.at;
    if (!json_skip_object(&reader->text, (int)reader->rules->payload_depth, &reader->containers))
        return 0;
    event->payload = (struct span){start, (uint32_t)(reader->text.at - start)};
    return event->payload.length <= reader->rules->payload_bytes;
}

static int take_value(struct reader *reader, enum field field, struct event *event)
{
    if (json_is_at(&reader->text, 'n'))
        return field != FIELD_EVENT_TYPE && field != FIELD_STATUS && json_take_null(&reader->text);
    switch (field) {
    case FIELD_EVENT_TYPE:
        return take_event_type(reader, event);
    case FIELD_STATUS:
        return take_status(reader, event);
    case FIELD_LATENCY:
        return take_latency(reader, event);
    case FIELD_TS:
        return take_ts(reader, event);
    case FIELD_RUN:
        return take_number(reader, &reader->events->runs, &event->run);
    case FIELD_STAGE:
        return take_number(reader, &reader->events->stages, &event->stage);
    case FIELD_SYSTEM:
        return take_system(reader);
    case FIELD_PAYLOAD:
        return take_payload(reader, event);
    default:
        return 0;
    }
}

/* A member's name, up to its value. */
static inline enum field take_field(struct text *text)
{
    uint8_t last[FIELD_ROOM] = {0};
    const uint8_t *quoted = text->at;
    size_t left = (size_t)(text->end - text->at), length = 0;
    if (left < FIELD_ROOM)
        quoted = memcpy(last, text->at, left);
    enum field field = field_of(quoted, &length);
    if (field == FIELD_NONE)
        return FIELD_NONE;
    text->at += length;
    json_skip_space(text);
    if (!json_take(text, ':'))
        return FIELD_NONE;
    json_skip_space(text);
    return field;
}

/* Remembers what stood before a value, where it is no longer than usual and the members before it are remembered, too. */
static void remember(struct shape *shape, int number, const uint8_t *begin, const uint8_t *value, enum field field)
{
    size_t length = (size_t)(value - begin);
    if (number != shape->count || number == MOST_MEMBERS || length > BEFORE_ROOM)
        return;
    struct before *before = &shape->members[shape->count++];
    *before = (struct before){{0}, {0}, (uint32_t)length, field};
    memcpy(before->bytes, begin, length);
    memset(before->masks, 0xFF, length);
}

static inline uint64_t differ(const struct before *before, const uint8_t *at, size_t word)
{
    uint64_t bytes;
    memcpy(&bytes, at + word * sizeof bytes, sizeof bytes);
    return (bytes ^ before->bytes[word]) & before->masks[word];
}

static inline int is_before(const struct before *before, const uint8_t *at)
{
    return !(differ(before, at, 0) | differ(before, at, 1) | differ(before, at, 2));
}

/* The members up to one that does not come as the last event had it; how many. -1 where a value is not certain to be good. */
static int take_as_before(struct reader *reader, struct event *event, unsigned *seen)
{
    struct text *text = &reader->text;
    int number = 0;
    for (; number < reader->shape.count; number++) {
        const struct before *before = &reader->shape.members[number];
        if (text->end - text->at < BEFORE_ROOM || !is_before(before, text->at))
            break;
        text->at += before->length;
        json_skip_space(text);
        if (!take_value(reader, before->field, event))
            return -1;
        *seen |= before->field;
    }
    return number;
}

static int take_event(struct reader *reader, struct event *event)
{
    struct text *text = &reader->text;
    unsigned seen = 0;
    if (!json_take(text, '{'))
        return 0;
    reader->containers++;
    int number = take_as_before(reader, event, &seen);
    if (number < 0)
        return 0;
    for (const uint8_t *begin = text->at;; begin = text->at, number++) {
        json_skip_space(text);
        if (number > 0 && !json_take(text, ','))
            break;
        json_skip_space(text);
        enum field field = take_field(text);
        if (field == FIELD_NONE || (seen & field))
            return 0;
        reader->shape.count = number < reader->shape.count ? number : reader->shape.count;
        remember(&reader->shape, number, begin, text->at, field);
        if (!take_value(reader, field, event))
            return 0;
        seen |= field;
    }
    if (!json_take(text, '}') || !(seen & FIELD_EVENT_TYPE) || !(seen & FIELD_STATUS))
        return 0;
    return (event->flags & EVENT_HAS_LATENCY) || (reader->events->kinds[event->event_type] & KIND_UNTIMED);
}

static int make_room(struct reader *reader)
{
    struct events *events = reader->events;
    if ((int64_t)events->count >= reader->post->most_events)
        return 0;
    if (events->count < events->room)
        return 1;
    size_t length = (size_t)(reader->text.end - reader->text.at);
    return events_make_room(events, events->room ? events->room * 2 : length / EVENT_BYTES + 8);
}

static int take_next(struct reader *reader)
{
    struct event event = {0};
    if (!make_room(reader) || !take_event(reader, &event))
        return 0;
    events_add(reader->events, &event);
    return 1;
}

/* One event a line; what stands behind the last line end may be missing, and no line is blank. */
static int take_lines(struct reader *reader)
{
    struct text *text = &reader->text;
    while (text->at < text->end) {
        json_skip_space(text);
        if (!take_next(reader))
            return 0;
        json_skip_space(text);
        if (text->at < text->end && !json_take(text, '\n'))
            return 0;
    }
    return 1;
}

static int take_envelope(struct reader *reader)
{
    struct text *text = &reader->text;
    struct span name;
    json_skip_space(text);
    if (!json_take(text, '{'))
        return 0;
    json_skip_space(text);
    if (!json_take_string(text, &name) || name.length != 6 || !is_word(name, "events"))
        return 0;
    json_skip_space(text);
    if (!json_take(text, ':'))
        return 0;
    json_skip_space(text);
    if (!json_take(text, '['))
        return 0;
    do {
        json_skip_space(text);
        if (!take_next(reader))
            return 0;
        json_skip_space(text);
    } while (json_take(text, ','));
    if (!json_take(text, ']'))
        return 0;
    json_skip_space(text);
    if (!json_take(text, '}'))
        return 0;
    json_skip_space(text);
    reader->containers += 2;
    return text->at == text->end;
}

/* The batch of a body behind which there is a zero, or 0 where it is not certain that every event is good; then there is
   nothing to free. */
LSO_EXPORT int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                        struct batch *batch)
{
    struct events events = {0};
    struct reader reader = {
        .text = {body, body + length, post->lines != 0}, .rules = rules, .post = post, .events = &events};
    memset(batch, 0, sizeof *batch);
    int is_good = length <= UINT32_MAX && (post->lines ? take_lines(&reader) : take_envelope(&reader)) &&
                  events.count > 0 && reader.containers <= post->most_containers &&
                  batch_write(&events, rules, (size_t)post->most_parts, batch);
    events_free(&events);
    return is_good;
}
