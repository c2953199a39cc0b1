/* Reads the events of a stream, column by column, each value by the rules that events.c has for JSON's. */
#include "batch.h"
#include "stream.h"
#include "times.h"

#include <stdlib.h>
#include <string.h>

/* The events of one record batch. */
struct reader {
    const struct rules *rules;
    const struct post *post;
    struct events *events;
    struct event *rows; /* among `events` */
    int64_t count;
    const uint8_t *end; /* of the body, where a zero stands */
    int64_t *numbers;   /* of each row, for any use */
    int64_t containers;
};

static inline int is_valid(const uint8_t *bits, int64_t at)
{
    return bits == NULL || (bits[at >> 3] >> (at & 7) & 1);
}

/* Columns. */

/* The text at a position. One too long for a span is none of any use. */
static inline int text_at(const struct texts *texts, int64_t position, struct span *text)
{
    int64_t begin = stream_place(texts, position), length = stream_place(texts, position + 1) - begin;
    if (length <= 0 || length > UINT32_MAX)
        return 0;
    *text = (struct span){texts->data + begin, (uint32_t)length};
    return 1;
}

/* The rows of a column whose format is this letter, each as what `numbers` hold. */
#define CASE(letter, type)                                                                                             \
    case letter:                                                                                                       \
        for (int64_t at = 0; at < count; at++) {                                                                       \
            type value;                                                                                                \
            memcpy(&value, column->values + at * (int64_t)sizeof value, sizeof value);               \
            numbers[at] = value;                                                                                       \
        }                                                                                                              \
        return 1;
#define CASES_OF_INTEGERS                                                                                              \
    CASE('c', int8_t)                                                                                                  \
    CASE('C', uint8_t)                                                                                                 \
    CASE('s', int16_t)                                                                                                 \
    CASE('S', uint16_t)                                                                                                \
    CASE('i', int32_t)                                                                                                 \
    CASE('I', uint32_t)                                                                                                \
    CASE('l', int64_t)                                                                                                 \
    CASE('L', uint64_t)

/* Whole numbers; those beyond an int64 become negative. */
static int read_integers(const struct column *column, int64_t count, int64_t *numbers)
{
    switch (column->field->format) {
        CASES_OF_INTEGERS
        CASE('t', int64_t) /* the units of a timestamp */
    default:
        return 0;
    }
}

static int read_doubles(const struct column *column, int64_t count, double *numbers)
{
    switch (column->field->format) {
        CASES_OF_INTEGERS
        CASE('f', float)
        CASE('g', double)
    default:
        return 0;
    }
}

/* Of each row the position of its text; -1 where it is null. */
static int read_positions(struct reader *reader, const struct column *column)
{
    int64_t *numbers = reader->numbers;
    const struct texts *texts = &column->texts;
    if (column->values == NULL)
        for (int64_t at = 0; at < reader->count; at++)
            numbers[at] = at;
    else if (!read_integers(column, reader->count, numbers))
        return 0;
    if (column->valid == NULL && texts->valid == NULL && column->values == NULL)
        return reader->count <= texts->count;
    for (int64_t at = 0; at < reader->count; at++) {
        if (!is_valid(column->valid, at))
            numbers[at] = -1;
        else if (numbers[at] < 0 || numbers[at] >= texts->count)
            return 0;
        else if (!is_valid(texts->valid, numbers[at]))
            numbers[at] = -1;
    }
    return 1;
}

/* Names. */

/* Numbers of a column's texts, each looked up when it is first met: 0 for none, else 1 + position among `names`. Every
   row gets its own in `reader->numbers`. */
static int number_rows(struct reader *reader, const struct column *column, struct names *names)
{
    struct span name;
    if (!stream_is_text(column->field) || !read_positions(reader, column))
        return 0;
    uint32_t *known = calloc((size_t)column->texts.count + 1, sizeof *known);
    if (known == NULL)
        return 0;
    int64_t at = 0;
    for (; at < reader->count; at++) {
        int64_t position = reader->numbers[at];
        if (position >= 0 && !known[position]) {
            if (!text_at(&column->texts, position, &name) || name.length > reader->rules->name_bytes)
                break;
            known[position] = names_number(names, name) + 1; /* back to 0 where it is none */
            if (!known[position])
                break;
        }
        reader->numbers[at] = position < 0 ? 0 : known[position];
    }
    free(known);
    return at == reader->count;
}

static int take_stages(struct reader *reader, const struct column *column)
{
    if (!number_rows(reader, column, &reader->events->stages))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        reader->rows[at].stage = (uint32_t)reader->numbers[at];
    return 1;
}

static int take_runs(struct reader *reader, const struct column *column)
{
    if (!number_rows(reader, column, &reader->events->runs))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        reader->rows[at].run = (uint32_t)reader->numbers[at];
    return 1;
}

static int take_event_types(struct reader *reader, const struct column *column)
{
    struct events *events = reader->events;
    if (!number_rows(reader, column, &events->event_types))
        return 0;
    for (uint32_t position = events->kind_count; position < events->event_types.count; position++)
        if (!events_number_type(events, reader->rules, position))
            return 0;
    for (int64_t at = 0; at < reader->count; at++) {
        if (!reader->numbers[at])
            return 0;
        reader->rows[at].event_type = (uint32_t)reader->numbers[at] - 1;
    }
    return 1;
}

/* 1 for error, 0 for ok, -1 for anything else. */
static int status_of(struct span text)
{
    if (text.length == 2 && memcmp(text.at, "ok", 2) == 0)
        return 0;
    return text.length == 5 && memcmp(text.at, "error", 5) == 0 ? 1 : -1;
}

static int take_statuses(struct reader *reader, const struct column *column)
{
    struct names names = {0};
    int is_good = number_rows(reader, column, &names) && names.count <= 2;
    uint8_t flags[3] = {0};
    for (uint32_t at = 0; is_good && at < names.count; at++) {
        int status = status_of(names.all[at]);
        is_good = status >= 0;
        flags[at + 1] = status > 0 ? EVENT_ERROR : 0;
    }
    for (int64_t at = 0; is_good && at < reader->count; at++) {
        is_good = reader->numbers[at] > 0;
        reader->rows[at].flags |= flags[reader->numbers[at]];
    }
    names_free(&names);
    return is_good;
}

/* Numbers. */

static int take_systems(struct reader *reader, const struct column *column)
{
    if (stream_is_text(column->field) || column->field->format == 't' ||
        !read_integers(column, reader->count, reader->numbers))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        if (reader->numbers[at] != reader->post->system_id && is_valid(column->valid, at))
            return 0;
    return 1;
}

static int take_latencies(struct reader *reader, const struct column *column)
{
    double *numbers = malloc(((size_t)reader->count + 1) * sizeof *numbers);
    int is_good = numbers != NULL && !stream_is_text(column->field) && read_doubles(column, reader->count, numbers);
    for (int64_t at = 0; is_good && at < reader->count; at++) {
        if (!is_valid(column->valid, at))
            continue;
        reader->rows[at].latency_ms = numbers[at];
        reader->rows[at].flags |= EVENT_HAS_LATENCY;
        is_good = numbers[at] >= 0 && numbers[at] <= reader->rules->latency_ms_max; /* also no NaN */
    }
    free(numbers);
    return is_good;
}

/* Times. */

/* Milliseconds in units of so many a second, cut off towards the past; TIMES_NONE beyond the years that are read. */
static int64_t ms_of(int64_t units, int64_t per_s)
{
    int64_t ms;
    if (per_s == 1)
        ms = units < TIMES_EARLIEST_MS / 1000 - 1 || units > TIMES_LATEST_MS / 1000 + 1 ? TIMES_NONE : units * 1000;
    else
        ms = units / (per_s / 1000) - (units % (per_s / 1000) < 0);
    return ms < TIMES_EARLIEST_MS || ms > TIMES_LATEST_MS ? TIMES_NONE : ms;
}

static int take_time(struct event *event, int64_t ts_ms)
{
    event->ts_ms = ts_ms;
    event->flags |= EVENT_HAS_TS;
    return ts_ms != TIMES_NONE;
}

static int take_time_texts(struct reader *reader, const struct column *column)
{
    struct span text;
    if (!read_positions(reader, column))
        return 0;
    for (int64_t at = 0; at < reader->count; at++) {
        if (reader->numbers[at] < 0)
            continue;
        if (!text_at(&column->texts, reader->numbers[at], &text) ||
            !take_time(&reader->rows[at], times_ms(text.at, text.length)))
            return 0;
    }
    return 1;
}

static int take_times(struct reader *reader, const struct column *column)
{
    int64_t per_s = column->field->per_s;
    if (stream_is_text(column->field))
        return take_time_texts(reader, column);
    if (column->field->format != 't' || !read_integers(column, reader->count, reader->numbers))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        if (is_valid(column->valid, at) &&
            !take_time(&reader->rows[at], ms_of(reader->numbers[at], per_s)))
            return 0;
    return 1;
}

/* Payloads. */

/* A payload that was looked at; of no bytes before. */
struct seen {
    struct span payload;
    int64_t containers;
};

static int is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/* The object that a text is, without the white space around it. What goes on beyond its own end, as far as the zero behind the
   body, is noticed when it is through. */
static int see_payload(const struct reader *reader, struct span whole, struct seen *seen)
{
    struct text text = {whole.at, reader->end, 0};
    const uint8_t *end = whole.at + whole.length;
    json_skip_blanks(&text);
    const uint8_t *begin = text.at;
    if (!json_skip_object(&text, (int)reader->rules->payload_depth, &seen->containers) || text.at > end)
        return 0;
    ptrdiff_t length = text.at - begin;
    while (text.at < end)
        if (!is_blank(*text.at++))
            return 0;
    seen->payload = (struct span){begin, (uint32_t)length};
    return length <= reader->rules->payload_bytes;
}

/* Looks at each text when it is first met: those of a dictionary, of which `seen` keeps all, are many events'. */
static int take_seen(struct reader *reader, const struct texts *texts, struct seen *seen)
{
    struct seen own, *one = &own;
    for (int64_t at = 0; at < reader->count; at++) {
        int64_t position = reader->numbers[at];
        struct span whole;
        if (position < 0)
            continue;
        if (seen != NULL)
            one = &seen[position];
        else
            own = (struct seen){0};
        if (!one->payload.length && (!text_at(texts, position, &whole) || !see_payload(reader, whole, one)))
            return 0;
        reader->rows[at].payload = one->payload;
        reader->containers += one->containers;
    }
    return 1;
}

static int take_payloads(struct reader *reader, const struct column *column)
{
    if (!stream_is_text(column->field) || !read_positions(reader, column))
        return 0;
    if (!column->field->has_dictionary)
        return take_seen(reader, &column->texts, NULL);
    struct seen *seen = calloc((size_t)column->texts.count + 1, sizeof *seen);
    int is_good = seen != NULL && take_seen(reader, &column->texts, seen);
    free(seen);
    return is_good;
}

/* Record batches. */

enum { EVENT_TYPES = 1, STATUSES = 2 };

static const struct {
    const char *name;
    int (*take)(struct reader *reader, const struct column *column);
} FIELDS[] = {
    {"event_type", take_event_types}, {"status", take_statuses}, {"latency_ms", take_latencies}, {"ts", take_times},
    {"run_id", take_runs},            {"stage", take_stages},    {"system_id", take_systems},    {"payload", take_payloads},
};
enum { FIELD_COUNT = sizeof FIELDS / sizeof *FIELDS, EVENT_TYPE = 0, STATUS = 1 };

/* Its position among them; FIELD_COUNT where an event has no such field. */
static size_t position_of(struct span name)
{
    size_t at = 0;
    while (at < FIELD_COUNT && (strlen(FIELDS[at].name) != name.length || memcmp(FIELDS[at].name, name.at, name.length)))
        at++;
    return at;
}

/* Whether no column is there twice, or of no event, and none is missing. Tells what each is. */
static int know_fields(const struct stream *stream, size_t *positions)
{
    unsigned seen = 0, must = 1u << EVENT_TYPE | 1u << STATUS;
    for (int64_t at = 0; at < stream->field_count; at++) {
        size_t position = positions[at] = position_of(stream->fields[at].name);
        if (position == FIELD_COUNT || seen >> position & 1)
            return 0;
        if (position <= STATUS && stream->fields[at].format == 'n')
            return 0;
        seen |= 1u << position;
    }
    return (seen & must) == must;
}

static int have_their_latencies(const struct reader *reader)
{
    for (int64_t at = 0; at < reader->count; at++) {
        const struct event *event = &reader->rows[at];
        if (!(event->flags & EVENT_HAS_LATENCY) && !(reader->events->kinds[event->event_type] & KIND_UNTIMED))
            return 0;
    }
    return 1;
}

static int take_records(struct reader *reader, const struct stream *stream, const struct records *records,
                        const size_t *positions)
{
    reader->count = records->rows;
    reader->rows = reader->events->all + reader->events->count;
    reader->events->count += (size_t)records->rows;
    for (int64_t at = 0; at < stream->field_count; at++)
        if (stream->fields[at].format != 'n' && !FIELDS[positions[at]].take(reader, &records->columns[at]))
            return 0;
    return have_their_latencies(reader);
}

static int take_all(struct reader *reader, const struct stream *stream)
{
    size_t positions[STREAM_COLUMNS];
    if (!stream->rows || !know_fields(stream, positions))
        return 0;
    reader->events->all = calloc((size_t)stream->rows, sizeof *reader->events->all);
    reader->numbers = malloc((size_t)stream->rows * sizeof *reader->numbers);
    if (reader->events->all == NULL || reader->numbers == NULL)
        return 0;
    for (size_t at = 0; at < stream->count; at++)
        if (!take_records(reader, stream, &stream->records[at], positions))
            return 0;
    return reader->containers <= reader->post->most_containers;
}

/* The batch of a stream, which a zero follows, or 0 where it is not certain that every event is good; then there is nothing to
   free. */
LSO_EXPORT int lso_read_arrow(const uint8_t *body, size_t length, const struct caps *caps, const struct rules *rules,
                              const struct post *post, struct batch *batch)
{
    struct events events = {0};
    struct stream stream = {0};
    struct reader reader = {.rules = rules, .post = post, .events = &events, .end = body + length};
    memset(batch, 0, sizeof *batch);
    int is_good = length <= UINT32_MAX && stream_read(body, length, caps, post->most_events, &stream) &&
                  take_all(&reader, &stream) && batch_write(&events, rules, length, batch);
    free(reader.numbers);
    events_free(&events);
    stream_free(&stream);
    return is_good;
}
