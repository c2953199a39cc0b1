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
    int64_t first, count; /* among `events` */
    const uint8_t *end;   /* of the body, where a zero stands */
    int64_t *numbers;     /* of each row, for any use */
    uint32_t *codes;      /* as well */
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
            memcpy(&value, column->values + at * (int64_t)sizeof value, sizeof value);                                 \
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
    int is_good = 1;
    if (column->values == NULL)
        for (int64_t at = 0; at < reader->count; at++)
            numbers[at] = at;
    else if (!read_integers(column, reader->count, numbers))
        return 0;
    if (column->valid == NULL && texts->valid == NULL) {
        for (int64_t at = 0; at < reader->count; at++)
            is_good &= (uint64_t)numbers[at] < (uint64_t)texts->count;
        return is_good;
    }
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

/* Numbers of a column's texts, each looked up when it is first met: 0 for none, else 1 + position among `names`. */
static int number_rows(struct reader *reader, const struct column *column, struct names *names, uint32_t *to)
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
        to[at] = position < 0 ? 0 : known[position];
    }
    free(known);
    return at == reader->count;
}

static int take_stages(struct reader *reader, const struct column *column)
{
    return number_rows(reader, column, &reader->events->stages, reader->events->stage + reader->first);
}

static int take_runs(struct reader *reader, const struct column *column)
{
    return number_rows(reader, column, &reader->events->runs, reader->events->run + reader->first);
}

static int take_event_types(struct reader *reader, const struct column *column)
{
    struct events *events = reader->events;
    if (!number_rows(reader, column, &events->event_types, reader->codes))
        return 0;
    for (uint32_t position = events->kind_count; position < events->event_types.count; position++)
        if (!events_number_type(events, reader->rules, position))
            return 0;
    int is_good = 1;
    for (int64_t at = 0; at < reader->count; at++) {
        is_good &= reader->codes[at] > 0;
        events->event_type[reader->first + at] = reader->codes[at] - 1;
    }
    return is_good;
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
    int is_good = number_rows(reader, column, &names, reader->codes) && names.count <= 2;
    uint8_t flags[3] = {0}, *to = reader->events->flags + reader->first;
    for (uint32_t at = 0; is_good && at < names.count; at++) {
        int status = status_of(names.all[at]);
        is_good = status >= 0;
        flags[at + 1] = status > 0 ? EVENT_ERROR : 0;
    }
    for (int64_t at = 0; is_good && at < reader->count; at++) {
        is_good = reader->codes[at] > 0;
        to[at] |= flags[reader->codes[at]];
    }
    names_free(&names);
    return is_good;
}

/* Numbers. */

/* Sets a flag of every row that has a value. */
static void set_flags(struct reader *reader, const struct column *column, uint8_t flag)
{
    uint8_t *flags = reader->events->flags + reader->first;
    if (column->valid == NULL)
        for (int64_t at = 0; at < reader->count; at++)
            flags[at] |= flag;
    else
        for (int64_t at = 0; at < reader->count; at++)
            flags[at] |= is_valid(column->valid, at) ? flag : 0;
}

static int take_systems(struct reader *reader, const struct column *column)
{
    int is_good = 1;
    if (stream_is_text(column->field) || column->field->format == 't' ||
        !read_integers(column, reader->count, reader->numbers))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        is_good &= reader->numbers[at] == reader->post->system_id || !is_valid(column->valid, at);
    return is_good;
}

static int take_latencies(struct reader *reader, const struct column *column)
{
    double *to = reader->events->latency_ms + reader->first, most = reader->rules->latency_ms_max;
    int is_good = 1;
    if (stream_is_text(column->field) || !read_doubles(column, reader->count, to))
        return 0;
    set_flags(reader, column, EVENT_HAS_LATENCY);
    for (int64_t at = 0; column->valid != NULL && at < reader->count; at++)
        to[at] = is_valid(column->valid, at) ? to[at] : 0.0;
    for (int64_t at = 0; at < reader->count; at++)
        is_good &= to[at] >= 0 && to[at] <= most; /* also no NaN */
    return is_good;
}

/* Times. */

/* Milliseconds in units of which so many make a millisecond, cut off towards the past. */
#define CUT_TO_MS(per_ms)                                                                                                  for (int64_t at = 0; at < reader->count; at++)                                                                             to[at] = reader->numbers[at] / (per_ms) - (reader->numbers[at] % (per_ms) < 0);

static int cut_times(struct reader *reader, int64_t per_s, int64_t *to)
{
    switch (per_s) {
    case 1:
        for (int64_t at = 0; at < reader->count; at++) /* far beyond the years that are read it stays there */
            to[at] = reader->numbers[at] > TIMES_LATEST_MS || reader->numbers[at] < TIMES_EARLIEST_MS
                         ? TIMES_NONE
                         : reader->numbers[at] * 1000;
        return 1;
    case 1000:
        memcpy(to, reader->numbers, (size_t)reader->count * sizeof *to);
        return 1;
    case 1000000:
        CUT_TO_MS(1000)
        return 1;
    case 1000000000:
        CUT_TO_MS(1000000)
        return 1;
    default:
        return 0;
    }
}

static int take_time_texts(struct reader *reader, const struct column *column)
{
    struct events *events = reader->events;
    struct span text;
    if (!read_positions(reader, column))
        return 0;
    for (int64_t at = 0; at < reader->count; at++) {
        int64_t *to = &events->ts_ms[reader->first + at];
        if (reader->numbers[at] < 0)
            continue;
        if (!text_at(&column->texts, reader->numbers[at], &text) || (*to = times_ms(text.at, text.length)) == TIMES_NONE)
            return 0;
        events->flags[reader->first + at] |= EVENT_HAS_TS;
    }
    return 1;
}

static int take_times(struct reader *reader, const struct column *column)
{
    int64_t *to = reader->events->ts_ms + reader->first;
    int is_good = 1;
    if (stream_is_text(column->field))
        return take_time_texts(reader, column);
    if (column->field->format != 't' || !read_integers(column, reader->count, reader->numbers) ||
        !cut_times(reader, column->field->per_s, to))
        return 0;
    set_flags(reader, column, EVENT_HAS_TS);
    for (int64_t at = 0; at < reader->count; at++)
        is_good &= (to[at] >= TIMES_EARLIEST_MS && to[at] <= TIMES_LATEST_MS) || !is_valid(column->valid, at);
    return is_good;
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
        reader->events->payload[reader->first + at] = one->payload;
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
    const struct events *events = reader->events;
    uint8_t all = EVENT_HAS_LATENCY;
    for (int64_t at = reader->first; at < reader->first + reader->count; at++)
        all &= events->flags[at];
    for (int64_t at = reader->first; !all && at < reader->first + reader->count; at++)
        if (!(events->flags[at] & EVENT_HAS_LATENCY) && !(events->kinds[events->event_type[at]] & KIND_UNTIMED))
            return 0;
    return 1;
}

static int take_records(struct reader *reader, const struct stream *stream, const struct records *records,
                        const size_t *positions)
{
    reader->first = (int64_t)reader->events->count;
    reader->count = records->rows;
    reader->events->count += (size_t)records->rows;
    for (int64_t at = 0; at < stream->field_count; at++)
        if (stream->fields[at].format != 'n' && !FIELDS[positions[at]].take(reader, &records->columns[at]))
            return 0;
    return have_their_latencies(reader);
}

static int take_all(struct reader *reader, const struct stream *stream)
{
    size_t positions[STREAM_COLUMNS], rows = (size_t)stream->rows;
    if (!rows || !know_fields(stream, positions) || !events_make_room(reader->events, rows))
        return 0;
    reader->numbers = malloc(rows * sizeof *reader->numbers);
    reader->codes = malloc(rows * sizeof *reader->codes);
    if (reader->numbers == NULL || reader->codes == NULL)
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
                  take_all(&reader, &stream) && batch_write(&events, rules, (size_t)post->most_parts, batch);
    free(reader.numbers);
    free(reader.codes);
    events_free(&events);
    stream_free(&stream);
    return is_good;
}
