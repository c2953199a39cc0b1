/* Stands before what reads events where the sanitizers watch: gives it memory that ends where it should stop (a body with
   the zero behind it, each buffer of a column), so that they see also a single byte too many. */
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "stream.h"

int lso_read_whole(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                   struct batch *batch);
int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
             struct batch *batch);
int lso_read_arrow_whole(const uint8_t *body, size_t length, const struct caps *caps, const struct rules *rules,
                         const struct post *post, struct batch *batch);
int lso_read_arrow(const uint8_t *body, size_t length, const struct caps *caps, const struct rules *rules,
                   const struct post *post, struct batch *batch);
int stream_read_whole(const uint8_t *body, size_t length, const struct caps *caps, int64_t most_rows,
                      struct stream *stream);

static const uint8_t *exactly(const uint8_t *buffer, size_t size)
{
    if (buffer == NULL)
        return NULL;
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, buffer, size);
    return copy;
}

LSO_EXPORT int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                        struct batch *batch)
{
    const uint8_t *copy = exactly(body, length + 1);
    int is_good = lso_read_whole(copy, length, rules, post, batch);
    free((void *)copy);
    return is_good;
}

LSO_EXPORT int lso_read_arrow(const uint8_t *body, size_t length, const struct caps *caps, const struct rules *rules,
                              const struct post *post, struct batch *batch)
{
    const uint8_t *copy = exactly(body, length + 1);
    int is_good = lso_read_arrow_whole(copy, length, caps, rules, post, batch);
    free((void *)copy);
    return is_good;
}

static size_t width_of(char format)
{
    return strchr("cC", format) ? 1 : strchr("sS", format) ? 2 : strchr("iIfu", format) ? 4 : 8;
}

static void copy_texts(struct texts *texts)
{
    size_t count = (size_t)texts->count;
    texts->valid = exactly(texts->valid, (count + 7) / 8);
    texts->places = exactly(texts->places, count ? (count + 1) * (texts->is_wide ? 8 : 4) : 0);
}

/* What is copied is left behind. Texts stay where they are: before the zero. */
int stream_read(const uint8_t *body, size_t length, const struct caps *caps, int64_t most_rows, struct stream *stream)
{
    int is_good = stream_read_whole(body, length, caps, most_rows, stream);
    for (size_t at = 0; is_good && at < stream->count; at++)
        for (int64_t field = 0; field < stream->field_count; field++) {
            struct column *column = &stream->records[at].columns[field];
            size_t rows = (size_t)stream->records[at].rows;
            column->valid = exactly(column->valid, (rows + 7) / 8);
            column->values = exactly(column->values, rows * width_of(column->field->format));
            copy_texts(&column->texts);
        }
    return is_good;
}
