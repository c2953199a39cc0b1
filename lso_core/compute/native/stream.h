/* An Arrow stream: messages, each described by a flatbuffer, as the specification of the format lays them out
   (https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc). */
#ifndef LSO_STREAM_H
#define LSO_STREAM_H

#include "json.h"

enum { STREAM_COLUMNS = 8 };

/* Most messages, bytes that describe one, pairs of metadata tied to one, and bytes of dictionaries, each counted once for every
   record batch that may use it. */
struct caps {
    int64_t messages, metadata_bytes, metadata_pairs, dictionary_bytes;
};

/* Texts one after another, as a column or its dictionary has them: valid UTF-8, within their buffer. */
struct texts {
    const uint8_t *data;
    const uint8_t *places; /* of 4 or 8 bytes each: where in `data` each text begins, and the last ends */
    const uint8_t *valid;  /* a bit for each; NULL where all are valid */
    int64_t count;
    int is_wide;
};

struct field {
    struct span name;
    /* Of its values, or of their positions in its dictionary: a letter of the C data interface, for whole numbers one of
       cCsSiIlL; f, g, u and U; t for timestamps with a time zone; n for nothing but nulls. */
    char format;
    int64_t per_s; /* units of a timestamp */
    int has_dictionary;
    int64_t dictionary_id;
    char dictionary_format;
    int is_there; /* the dictionary */
    struct texts dictionary;
};

/* The values of a field in one record batch. */
struct column {
    const struct field *field;
    const uint8_t *valid;  /* a bit for each row; NULL where all are valid */
    const uint8_t *values; /* NULL where it holds texts without a dictionary, or nothing */
    struct texts texts;    /* its own, or those of its dictionary */
};

struct records {
    int64_t rows;
    struct column columns[STREAM_COLUMNS]; /* of each field */
};

struct stream {
    struct field fields[STREAM_COLUMNS];
    int64_t field_count;
    struct records *records; /* record batches that have rows */
    size_t count, room;
    int64_t rows; /* of all */
};

/* Where in `data` a text begins, or the last one ends. */
static inline int64_t stream_place(const struct texts *texts, int64_t at)
{
    int32_t near;
    int64_t far;
    if (texts->is_wide) {
        memcpy(&far, texts->places + at * (int64_t)sizeof far, sizeof far);
        return far;
    }
    memcpy(&near, texts->places + at * (int64_t)sizeof near, sizeof near);
    return near;
}

static inline int stream_is_text(const struct field *field)
{
    return field->has_dictionary || field->format == 'u' || field->format == 'U';
}

/* The stream that a body is, with at most so many rows; 0 where it is not certain to be good. Either way it is to be freed. It
   leads into the body. */
int stream_read(const uint8_t *body, size_t length, const struct caps *caps, int64_t most_rows, struct stream *stream);

void stream_free(struct stream *stream);

#endif
