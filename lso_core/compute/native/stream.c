/* Reads what pipelines send: flat columns of numbers, texts and times, plain buffers, whole dictionaries. All that a flatbuffer
   says is held against the bytes that there are before it is followed. */
#include "stream.h"

#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, ALIGNMENT = 8, BUFFER = 16, NODE = 16 };

/* Of the format. */
enum { SCHEMA = 1, DICTIONARY = 2, RECORDS = 3 };
enum { VERSION_4 = 3, VERSION_5 = 4 };
enum { TYPE_NULL = 1, TYPE_INT = 2, TYPE_FLOAT = 3, TYPE_TEXT = 5, TYPE_TIMESTAMP = 10, TYPE_LARGE_TEXT = 20 };
enum { FLOAT_SINGLE = 1, FLOAT_DOUBLE = 2 };

/* Flatbuffers. */

/* Bytes that describe a message. Once a look was outside of them all that is found is worth nothing. */
struct flat {
    const uint8_t *data;
    int64_t size;
    int is_broken;
};

struct table {
    struct flat *flat;
    int64_t at, vtable, slots;
};

/* The elements of a vector. */
struct list {
    int64_t at, count;
};

static uint64_t look(struct flat *flat, int64_t at, int width)
{
    uint64_t value = 0;
    if (at < 0 || at > flat->size - width) {
        flat->is_broken = 1;
        return 0;
    }
    memcpy(&value, flat->data + at, (size_t)width);
    return value;
}

static struct table table_at(struct flat *flat, int64_t at)
{
    struct table table = {flat, at, at - (int32_t)look(flat, at, 4), 0};
    table.slots = ((int64_t)look(flat, table.vtable, 2) - 4) / 2;
    return table;
}

/* Where a field lies; 0 where it is left out. */
static int64_t place_of(const struct table *table, int64_t slot)
{
    if (slot >= table->slots)
        return 0;
    int64_t offset = (int64_t)look(table->flat, table->vtable + 4 + 2 * slot, 2);
    return offset ? table->at + offset : 0;
}

/* What is said to lie so far behind its own place. */
static int64_t follow(struct flat *flat, int64_t place)
{
    return place + (int64_t)look(flat, place, 4);
}

static int64_t number_of(const struct table *table, int64_t slot, int width)
{
    int64_t place = place_of(table, slot);
    return place ? (int64_t)look(table->flat, place, width) : 0;
}

static int find_table(const struct table *table, int64_t slot, struct table *found)
{
    int64_t place = place_of(table, slot);
    if (place)
        *found = table_at(table->flat, follow(table->flat, place));
    return place != 0;
}

static struct list list_of(const struct table *table, int64_t slot, int64_t width)
{
    int64_t place = place_of(table, slot);
    if (!place)
        return (struct list){0, 0};
    struct flat *flat = table->flat;
    int64_t start = follow(flat, place), count = (int64_t)look(flat, start, 4);
    if (start + 4 > flat->size || count > (flat->size - start - 4) / width) {
        flat->is_broken = 1;
        return (struct list){0, 0};
    }
    return (struct list){start + 4, count};
}

static struct span text_of(const struct table *table, int64_t slot)
{
    struct list list = list_of(table, slot, 1);
    return (struct span){table->flat->data + list.at, (uint32_t)list.count};
}

/* The schema. */

static struct table member_of(const struct table *table, struct list list, int64_t number)
{
    return table_at(table->flat, follow(table->flat, list.at + 4 * number));
}

/* Whether a field is of its type alone: an extension may ask more of its values than is known here. */
static int has_plain_pairs(const struct table *field, const struct caps *caps)
{
    static const char EXTENSION[] = "ARROW:extension:name";
    struct list pairs = list_of(field, 6, 4);
    if (pairs.count > caps->metadata_pairs)
        return 0;
    for (int64_t at = 0; at < pairs.count; at++) {
        struct table pair = member_of(field, pairs, at);
        struct span key = text_of(&pair, 0);
        if (key.length == sizeof EXTENSION - 1 && memcmp(key.at, EXTENSION, key.length) == 0)
            return 0;
    }
    return 1;
}

static char format_of_integer(const struct table *type)
{
    int is_signed = number_of(type, 1, 1) != 0;
    switch ((int32_t)number_of(type, 0, 4)) {
    case 8:
        return is_signed ? 'c' : 'C';
    case 16:
        return is_signed ? 's' : 'S';
    case 32:
        return is_signed ? 'i' : 'I';
    case 64:
        return is_signed ? 'l' : 'L';
    default:
        return 0;
    }
}

static char format_of_float(const struct table *type)
{
    switch ((int16_t)number_of(type, 0, 2)) {
    case FLOAT_SINGLE:
        return 'f';
    case FLOAT_DOUBLE:
        return 'g';
    default:
        return 0;
    }
}

/* Only with a time zone, which has to be a plain word. */
static char format_of_timestamp(const struct table *type, int64_t *per_s)
{
    static const int64_t PER_S[] = {1, 1000, 1000000, 1000000000};
    int16_t unit = (int16_t)number_of(type, 0, 2);
    struct span zone = text_of(type, 1);
    if (unit < 0 || unit > 3 || zone.length == 0)
        return 0;
    for (uint32_t at = 0; at < zone.length; at++)
        if (zone.at[at] <= ' ' || zone.at[at] > '~')
            return 0;
    *per_s = PER_S[unit];
    return 't';
}

static char format_of(const struct table *field, int64_t *per_s)
{
    struct table type;
    if (!find_table(field, 3, &type))
        return 0;
    switch (number_of(field, 2, 1)) {
    case TYPE_NULL:
        return 'n';
    case TYPE_INT:
        return format_of_integer(&type);
    case TYPE_FLOAT:
        return format_of_float(&type);
    case TYPE_TIMESTAMP:
        return format_of_timestamp(&type, per_s);
    case TYPE_TEXT:
        return 'u';
    case TYPE_LARGE_TEXT:
        return 'U';
    default:
        return 0;
    }
}

static int open_field(const struct table *table, const struct caps *caps, struct field *field)
{
    struct table dictionary, index;
    *field = (struct field){.name = text_of(table, 0)};
    field->format = format_of(table, &field->per_s);
    if (!field->format || list_of(table, 5, 4).count || !has_plain_pairs(table, caps))
        return 0;
    field->has_dictionary = find_table(table, 4, &dictionary);
    if (!field->has_dictionary)
        return 1;
    field->dictionary_format = field->format;
    field->dictionary_id = number_of(&dictionary, 0, 8);
    field->format = find_table(&dictionary, 1, &index) ? format_of_integer(&index) : 0;
    return field->format && (field->dictionary_format == 'u' || field->dictionary_format == 'U');
}

static struct field *field_with(struct stream *stream, int64_t dictionary_id)
{
    for (int64_t at = 0; at < stream->field_count; at++)
        if (stream->fields[at].has_dictionary && stream->fields[at].dictionary_id == dictionary_id)
            return &stream->fields[at];
    return NULL;
}

static int take_schema(const struct table *schema, const struct caps *caps, struct stream *stream)
{
    struct list fields = list_of(schema, 1, 4);
    if (number_of(schema, 0, 2) != 0 || list_of(schema, 2, 4).count > caps->metadata_pairs ||
        fields.count > STREAM_COLUMNS)
        return 0;
    for (int64_t at = 0; at < fields.count; at++) {
        struct table table = member_of(schema, fields, at);
        struct field field;
        if (!open_field(&table, caps, &field))
            return 0;
        if (field.has_dictionary && field_with(stream, field.dictionary_id) != NULL)
            return 0;
        stream->fields[stream->field_count++] = field;
    }
    return 1;
}

/* Buffers. */

/* The columns of one message, taken one after another. */
struct part {
    struct flat *flat;
    const uint8_t *body;
    int64_t length;
    int64_t rows;
    struct list nodes, buffers;
    int64_t node, buffer; /* the next ones */
};

struct buffer {
    const uint8_t *data;
    int64_t size;
};

static int next_buffer(struct part *part, struct buffer *buffer)
{
    if (part->buffer >= part->buffers.count)
        return 0;
    int64_t place = part->buffers.at + BUFFER * part->buffer++;
    int64_t at = (int64_t)look(part->flat, place, 8), size = (int64_t)look(part->flat, place + 8, 8);
    if (at < 0 || size < 0 || at % ALIGNMENT || at > part->length || size > part->length - at)
        return 0;
    *buffer = (struct buffer){part->body + at, size};
    return 1;
}

static int64_t count_unset(const uint8_t *bits, int64_t count)
{
    int64_t set = 0;
    for (int64_t at = 0; at < count / 8; at++)
        set += __builtin_popcount(bits[at]);
    if (count % 8)
        set += __builtin_popcount(bits[count / 8] & ((1u << count % 8) - 1));
    return count - set;
}

/* How many of the next column are null. */
static int next_node(struct part *part, int64_t *nulls)
{
    if (part->node >= part->nodes.count)
        return 0;
    int64_t place = part->nodes.at + NODE * part->node++;
    int64_t rows = (int64_t)look(part->flat, place, 8);
    *nulls = (int64_t)look(part->flat, place + 8, 8);
    return rows == part->rows && *nulls >= 0 && *nulls <= rows;
}

static int next_valid(struct part *part, int64_t nulls, const uint8_t **valid)
{
    struct buffer buffer;
    if (!next_buffer(part, &buffer))
        return 0;
    *valid = NULL;
    if (nulls == 0)
        return 1;
    *valid = buffer.data;
    return buffer.size >= (part->rows + 7) / 8 && count_unset(buffer.data, part->rows) == nulls;
}

/* Rows of so many bytes each. */
static int next_values(struct part *part, int64_t width, const uint8_t **values)
{
    struct buffer buffer;
    if (!next_buffer(part, &buffer) || buffer.size / width < part->rows)
        return 0;
    *values = buffer.data;
    return 1;
}

/* Whether places never go back, and lie within so many bytes. Tells the first and the last. */
#define PLACES(type)                                                                                                   \
    {                                                                                                                  \
        type before, after;                                                                                            \
        int goes_back = 0;                                                                                             \
        for (int64_t at = 0; at < texts->count; at++) {                                                                \
            memcpy(&before, texts->places + at * (int64_t)sizeof before, sizeof before);                               \
            memcpy(&after, texts->places + (at + 1) * (int64_t)sizeof after, sizeof after);                            \
            goes_back |= after < before;                                                                               \
        }                                                                                                              \
        memcpy(&before, texts->places, sizeof before);                                                                 \
        memcpy(&after, texts->places + texts->count * (int64_t)sizeof after, sizeof after);                            \
        *first = before;                                                                                               \
        *last = after;                                                                                                 \
        return !goes_back && before >= 0 && after <= size;                                                             \
    }

static int have_places(const struct texts *texts, int64_t size, int64_t *first, int64_t *last)
{
    if (texts->is_wide)
        PLACES(int64_t)
    else
        PLACES(int32_t)
}

static int are_utf8(const struct texts *texts, int64_t first, int64_t last)
{
    if (json_is_ascii(texts->data + first, (size_t)(last - first)))
        return 1;
    for (int64_t at = 0; at < texts->count; at++) {
        int64_t begin = stream_place(texts, at);
        if (!json_is_utf8(texts->data + begin, (size_t)(stream_place(texts, at + 1) - begin)))
            return 0;
    }
    return 1;
}

static int next_texts(struct part *part, char format, struct texts *texts)
{
    struct buffer places, data;
    int64_t nulls, first, last;
    *texts = (struct texts){.count = part->rows, .is_wide = format == 'U'};
    if (!next_node(part, &nulls) || !next_valid(part, nulls, &texts->valid) || !next_buffer(part, &places) ||
        !next_buffer(part, &data))
        return 0;
    texts->places = places.data;
    texts->data = data.data;
    if (texts->count == 0)
        return 1;
    return places.size / (texts->is_wide ? 8 : 4) > texts->count && have_places(texts, data.size, &first, &last) &&
           are_utf8(texts, first, last);
}

static int64_t width_of(char format)
{
    switch (format) {
    case 'c':
    case 'C':
        return 1;
    case 's':
    case 'S':
        return 2;
    case 'i':
    case 'I':
    case 'f':
        return 4;
    default:
        return 8;
    }
}

static int next_column(struct part *part, const struct field *field, struct column *column)
{
    int64_t nulls;
    *column = (struct column){.field = field};
    if (field->format == 'u' || field->format == 'U')
        return next_texts(part, field->format, &column->texts);
    if (!next_node(part, &nulls))
        return 0;
    if (field->format == 'n')
        return nulls == part->rows;
    if (field->has_dictionary) {
        if (!field->is_there)
            return 0;
        column->texts = field->dictionary;
    }
    return next_valid(part, nulls, &column->valid) && next_values(part, width_of(field->format), &column->values);
}

/* Messages. */

struct message {
    struct flat flat;
    struct table header;
    int64_t kind;
    const uint8_t *body;
    int64_t length;
};

static int open_part(struct message *message, const struct table *records, struct part *part)
{
    *part = (struct part){.flat = &message->flat, .body = message->body, .length = message->length};
    part->rows = number_of(records, 0, 8);
    part->nodes = list_of(records, 1, NODE);
    part->buffers = list_of(records, 2, BUFFER);
    /* Buffers that are compressed, or more of them than the fields say, are not read here. */
    return part->rows >= 0 && !place_of(records, 3) && !list_of(records, 4, 8).count;
}

static int is_through(const struct part *part)
{
    return !part->flat->is_broken && part->node == part->nodes.count && part->buffer == part->buffers.count;
}

static int take_dictionary(struct message *message, struct stream *stream)
{
    struct table records;
    struct part part;
    struct field *field = field_with(stream, number_of(&message->header, 0, 8));
    int is_delta = number_of(&message->header, 2, 1) != 0;
    if (field == NULL || is_delta || !find_table(&message->header, 1, &records) ||
        !open_part(message, &records, &part) || part.rows > message->length)
        return 0;
    field->is_there = 1;
    return next_texts(&part, field->dictionary_format, &field->dictionary) && is_through(&part);
}

static struct records *add_records(struct stream *stream)
{
    if (stream->count == stream->room) {
        size_t room = 2 * stream->room + 1;
        struct records *records = realloc(stream->records, room * sizeof *records);
        if (records == NULL)
            return NULL;
        stream->records = records;
        stream->room = room;
    }
    return &stream->records[stream->count];
}

static int take_records(struct message *message, int64_t most_rows, struct stream *stream)
{
    struct part part;
    struct records *records = add_records(stream);
    if (records == NULL || !open_part(message, &message->header, &part) || part.rows > most_rows - stream->rows)
        return 0;
    for (int64_t at = 0; at < stream->field_count; at++)
        if (!next_column(&part, &stream->fields[at], &records->columns[at]))
            return 0;
    records->rows = part.rows;
    stream->rows += part.rows;
    stream->count += part.rows > 0;
    return is_through(&part);
}

/* What is read of a body, and how much work its dictionaries were so far. */
struct progress {
    const uint8_t *at, *end;
    int64_t messages, dictionary_bytes, work;
};

/* The next message; 0 where there is none. At the end of the stream its length is -1. */
static int next_message(struct progress *progress, const struct caps *caps, struct message *message)
{
    uint32_t mark, size;
    if (progress->end - progress->at < PREFIX || progress->messages++ > caps->messages)
        return 0;
    memcpy(&mark, progress->at, sizeof mark);
    memcpy(&size, progress->at + sizeof mark, sizeof size);
    progress->at += PREFIX;
    if (mark != UINT32_MAX)
        return 0;
    *message = (struct message){.flat = {progress->at, size, 0}, .length = -1};
    if (size == 0)
        return 1;
    if (size > caps->metadata_bytes || size % ALIGNMENT || size > progress->end - progress->at)
        return 0;
    struct table root = table_at(&message->flat, (int64_t)look(&message->flat, 0, 4));
    int64_t version = number_of(&root, 0, 2);
    message->kind = number_of(&root, 1, 1);
    message->length = number_of(&root, 3, 8);
    message->body = progress->at + size;
    progress->at += size;
    if (!find_table(&root, 2, &message->header) || (version != VERSION_4 && version != VERSION_5) ||
        list_of(&root, 4, 4).count > caps->metadata_pairs)
        return 0;
    if (message->length < 0 || message->length % ALIGNMENT || message->length > progress->end - progress->at)
        return 0;
    progress->at += message->length;
    return 1;
}

static int take_message(struct message *message, struct progress *progress, const struct caps *caps, int64_t most_rows,
                        struct stream *stream)
{
    switch (message->kind) {
    case DICTIONARY:
        progress->dictionary_bytes += message->length;
        return take_dictionary(message, stream);
    case RECORDS:
        progress->work += progress->dictionary_bytes;
        return progress->work <= caps->dictionary_bytes && take_records(message, most_rows, stream);
    default:
        return 0;
    }
}

int stream_read(const uint8_t *body, size_t length, const struct caps *caps, int64_t most_rows, struct stream *stream)
{
    struct progress progress = {.at = body, .end = body + length};
    struct message message;
    *stream = (struct stream){0};
    if (!next_message(&progress, caps, &message) || message.length != 0 || message.kind != SCHEMA ||
        !take_schema(&message.header, caps, stream) || message.flat.is_broken)
        return 0;
    while (next_message(&progress, caps, &message)) {
        if (message.length < 0)
            return progress.at == progress.end;
        if (!take_message(&message, &progress, caps, most_rows, stream))
            return 0;
    }
    return 0;
}

void stream_free(struct stream *stream)
{
    free(stream->records);
}
