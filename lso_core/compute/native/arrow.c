/* Reads record batches that the library has validated in full: so places lie within their buffers and texts are UTF-8.
   Column by column, each value by the rules that events.c has for JSON's. */
#include "arrow.h"
#include "batch.h"
#include "times.h"

#include <stdlib.h>
#include <string.h>

/* Texts one after another, as a column or its dictionary has them. */
struct texts {
    const uint8_t *data;
    const uint8_t *places; /* of 4 or 8 bytes each: where in `data` each text begins, and the last ends */
    const uint8_t *valid;  /* a bit for each; NULL where all are valid */
    int64_t first, count;
    int is_wide;
};

struct column {
    const struct ArrowArray *array;
    const char *format; /* of its values, or of its positions in its dictionary */
    const uint8_t *valid;
    const uint8_t *values;
    int64_t first; /* row */
    struct texts texts;
    int is_text;
};

/* The events of one record batch. */
struct reader {
    const struct rules *rules;
    const struct post *post;
    struct events *events;
    struct event *rows; /* among `events` */
    int64_t count;
    int64_t *numbers;   /* of each row, for any use */
    uint64_t payload_bytes;
    int64_t containers;
};

static inline int is_valid(const uint8_t *bits, int64_t at)
{
    return bits == NULL || (bits[at >> 3] >> (at & 7) & 1);
}

/* Columns. */

static int open_texts(const struct ArrowArray *array, const char *format, struct texts *texts)
{
    if (array->n_buffers != 3 || (strcmp(format, "u") != 0 && strcmp(format, "U") != 0))
        return 0;
    texts->valid = array->buffers[0];
    texts->places = array->buffers[1];
    texts->data = array->buffers[2];
    texts->first = array->offset;
    texts->count = array->length;
    texts->is_wide = *format == 'U';
    return texts->places != NULL || texts->count == 0;
}

static int open_column(const struct ArrowSchema *schema, const struct ArrowArray *array, int64_t first,
                       struct column *column)
{
    *column = (struct column){array, schema->format, NULL, NULL, first + array->offset, {0}, 0};
    if (schema->dictionary != NULL) {
        column->is_text = 1;
        if (array->dictionary == NULL || !open_texts(array->dictionary, schema->dictionary->format, &column->texts))
            return 0;
    } else if (open_texts(array, schema->format, &column->texts)) {
        column->is_text = 1;
        column->texts.first += first;
        column->texts.count -= first;
        return 1;
    }
    if (array->n_buffers != 2 || array->buffers[1] == NULL)
        return 0;
    column->valid = array->buffers[0];
    column->values = array->buffers[1];
    return 1;
}

static inline int64_t place_at(const struct texts *texts, int64_t at)
{
    int32_t near;
    int64_t far;
    at += texts->first;
    if (texts->is_wide) {
        memcpy(&far, texts->places + at * (int64_t)sizeof far, sizeof far);
        return far;
    }
    memcpy(&near, texts->places + at * (int64_t)sizeof near, sizeof near);
    return near;
}

/* The text at a position. One too long for a span is none of any use. */
static inline int text_at(const struct texts *texts, int64_t position, struct span *text)
{
    int64_t begin = place_at(texts, position), length = place_at(texts, position + 1) - begin;
    if (begin < 0 || length <= 0 || length > UINT32_MAX || texts->data == NULL)
        return 0;
    *text = (struct span){texts->data + begin, (uint32_t)length};
    return 1;
}

/* The rows of a column whose format is this letter, each as what `numbers` hold. */
#define CASE(letter, type)                                                                                             \
    case letter:                                                                                                       \
        for (int64_t at = 0; at < count; at++) {                                                                       \
            type value;                                                                                                \
            memcpy(&value, column->values + (column->first + at) * (int64_t)sizeof value, sizeof value);               \
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
    switch (*column->format) {
        CASES_OF_INTEGERS
        CASE('t', int64_t) /* the units of a timestamp */
    default:
        return 0;
    }
}

static int read_doubles(const struct column *column, int64_t count, double *numbers)
{
    switch (*column->format) {
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
        if (!is_valid(column->valid, column->first + at))
            numbers[at] = -1;
        else if (numbers[at] < 0 || numbers[at] >= texts->count)
            return 0;
        else if (!is_valid(texts->valid, texts->first + numbers[at]))
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
    if (!column->is_text || !read_positions(reader, column))
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
    if (column->is_text || !read_integers(column, reader->count, reader->numbers))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        if (reader->numbers[at] != reader->post->system_id && is_valid(column->valid, column->first + at))
            return 0;
    return 1;
}

static int take_latencies(struct reader *reader, const struct column *column)
{
    double *numbers = malloc(((size_t)reader->count + 1) * sizeof *numbers);
    int is_good = numbers != NULL && !column->is_text && read_doubles(column, reader->count, numbers);
    for (int64_t at = 0; is_good && at < reader->count; at++) {
        if (!is_valid(column->valid, column->first + at))
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

/* How many of a timestamp's units make a second, from a format such as tsm:UTC; 0 for any other. */
static int64_t units_of(const char *format)
{
    if (strncmp(format, "ts", 2) != 0 || format[2] == 0 || format[3] != ':')
        return 0;
    switch (format[2]) {
    case 's':
        return 1;
    case 'm':
        return 1000;
    case 'u':
        return 1000000;
    case 'n':
        return 1000000000;
    default:
        return 0;
    }
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
    int64_t per_s = units_of(column->format);
    if (column->is_text)
        return take_time_texts(reader, column);
    if (!per_s || !read_integers(column, reader->count, reader->numbers))
        return 0;
    for (int64_t at = 0; at < reader->count; at++)
        if (is_valid(column->valid, column->first + at) &&
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

/* The object that a text is, without the white space around it. `copy` holds the same text, and somewhere behind it
   stands a zero: what goes on beyond its own end is noticed when it is through. */
static int see_payload(const struct rules *rules, struct span whole, struct text copy, struct seen *seen)
{
    const uint8_t *begin = copy.at, *end = copy.at + whole.length;
    json_skip_blanks(&copy);
    ptrdiff_t before = copy.at - begin;
    if (!json_skip_object(&copy, (int)rules->payload_depth, &seen->containers) || copy.at > end)
        return 0;
    ptrdiff_t length = copy.at - begin - before;
    while (copy.at < end)
        if (!is_blank(*copy.at++))
            return 0;
    seen->payload = (struct span){whole.at + before, (uint32_t)length};
    return length <= rules->payload_bytes;
}

/* All texts of a column in a piece of memory that ends with a zero; NULL where there is none. */
static uint8_t *copy_of(const struct texts *texts, size_t *length)
{
    int64_t begin = place_at(texts, 0), size = place_at(texts, texts->count) - begin;
    if (begin < 0 || size <= 0 || size > UINT32_MAX || texts->data == NULL)
        return NULL;
    uint8_t *copy = malloc((size_t)size + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, texts->data + begin, (size_t)size);
    copy[size] = 0;
    *length = (size_t)size;
    return copy;
}

/* Looks at each text when it is first met: those of a dictionary, of which `seen` keeps all, are many events'. */
static int take_seen(struct reader *reader, const struct texts *texts, const uint8_t *copy, size_t length,
                     struct seen *seen)
{
    int64_t first = place_at(texts, 0);
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
        if (!one->payload.length) {
            if (!text_at(texts, position, &whole))
                return 0;
            struct text text = {copy + (place_at(texts, position) - first), copy + length, 0};
            if (!see_payload(reader->rules, whole, text, one))
                return 0;
        }
        reader->rows[at].payload = one->payload;
        reader->containers += one->containers;
    }
    return 1;
}

static int are_null(const struct reader *reader)
{
    for (int64_t at = 0; at < reader->count; at++)
        if (reader->numbers[at] >= 0)
            return 0;
    return 1;
}

static int take_payloads(struct reader *reader, const struct column *column)
{
    size_t length = 0;
    int is_dictionary = column->values != NULL;
    if (!column->is_text || !read_positions(reader, column))
        return 0;
    if (are_null(reader))
        return 1;
    uint8_t *copy = copy_of(&column->texts, &length);
    struct seen *seen = is_dictionary ? calloc((size_t)column->texts.count, sizeof *seen) : NULL;
    int is_good = copy != NULL && (seen != NULL || !is_dictionary) &&
                  take_seen(reader, &column->texts, copy, length, seen);
    free(copy);
    free(seen);
    return is_good;
}

/* Record batches. */

enum { EVENT_TYPES = 1, STATUSES = 2 };

static const struct {
    const char *name;
    int (*take)(struct reader *reader, const struct column *column);
    int must;
} FIELDS[] = {
    {"event_type", take_event_types, EVENT_TYPES},
    {"status", take_statuses, STATUSES},
    {"latency_ms", take_latencies, 0},
    {"ts", take_times, 0},
    {"run_id", take_runs, 0},
    {"stage", take_stages, 0},
    {"system_id", take_systems, 0},
    {"payload", take_payloads, 0},
};
enum { FIELD_COUNT = sizeof FIELDS / sizeof *FIELDS };

static int take_column(struct reader *reader, const struct ArrowSchema *schema, const struct ArrowArray *array,
                       int64_t first, int *seen)
{
    struct column column;
    if (strcmp(schema->format, "n") == 0) /* nothing but nulls */
        return 1;
    if (first + reader->count > array->length || !open_column(schema, array, first, &column))
        return 0;
    for (size_t at = 0; at < FIELD_COUNT; at++)
        if (strcmp(schema->name, FIELDS[at].name) == 0) {
            *seen |= FIELDS[at].must;
            return FIELDS[at].take(reader, &column);
        }
    return 0;
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

static int take_records(struct reader *reader, const struct records *records)
{
    int seen = 0;
    const struct ArrowArray *array = records->array;
    reader->count = array->length;
    reader->rows = reader->events->all + reader->events->count;
    reader->events->count += (size_t)array->length;
    if (array->n_children != records->schema->n_children)
        return 0;
    for (int64_t at = 0; at < array->n_children; at++)
        if (!take_column(reader, records->schema->children[at], array->children[at], array->offset, &seen))
            return 0;
    return seen == (EVENT_TYPES | STATUSES) && have_their_latencies(reader);
}

/* Rows of all record batches, and of the longest. 0 where there are none or too many. */
static int count_rows(const struct records *all, int64_t count, int64_t most, int64_t *rows, int64_t *longest)
{
    *rows = *longest = 0;
    for (int64_t at = 0; at < count; at++) {
        int64_t length = all[at].array->length;
        if (length < 0 || length > most - *rows)
            return 0;
        *rows += length;
        *longest = length > *longest ? length : *longest;
    }
    return *rows > 0;
}

static int take_all(struct reader *reader, const struct records *all, int64_t count)
{
    int64_t rows, longest;
    if (!count_rows(all, count, reader->post->most_events, &rows, &longest))
        return 0;
    reader->events->all = calloc((size_t)rows, sizeof *reader->events->all);
    reader->numbers = malloc((size_t)longest * sizeof *reader->numbers);
    if (reader->events->all == NULL || reader->numbers == NULL)
        return 0;
    for (int64_t at = 0; at < count; at++)
        if (!take_records(reader, &all[at]))
            return 0;
    return reader->containers <= reader->post->most_containers;
}

/* The batch of record batches that came in so many bytes, or 0 where it is not certain that every event is good; then
   there is nothing to free. */
LSO_EXPORT int lso_read_arrow(const struct records *all, int64_t count, size_t length, const struct rules *rules,
                              const struct post *post, struct batch *batch)
{
    struct events events = {0};
    struct reader reader = {.rules = rules, .post = post, .events = &events};
    memset(batch, 0, sizeof *batch);
    int is_good = length <= UINT32_MAX && take_all(&reader, all, count) && batch_write(&events, rules, length, batch);
    free(reader.numbers);
    events_free(&events);
    return is_good;
}
