/* Stands before what reads events where the sanitizers watch: gives it memory that ends where it should stop (a body with
   the zero behind it, each buffer of a column), so that they see also a single byte too many. */
#include <stdlib.h>
#include <string.h>

#include "arrow.h"
#include "batch.h"

int lso_read_whole(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                   struct batch *batch);
int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
             struct batch *batch);
int lso_read_arrow_whole(const struct records *all, int64_t count, size_t length, const struct rules *rules,
                         const struct post *post, struct batch *batch);
int lso_read_arrow(const struct records *all, int64_t count, size_t length, const struct rules *rules,
                   const struct post *post, struct batch *batch);

LSO_EXPORT int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                        struct batch *batch)
{
    uint8_t *copy = malloc(length + 1);
    memcpy(copy, body, length + 1);
    int is_good = lso_read_whole(copy, length, rules, post, batch);
    free(copy);
    return is_good;
}

enum { BUFFERS = 3, CHILDREN = 8 };

struct copied {
    struct ArrowArray array, dictionary;
    const void *buffers[BUFFERS], *dictionary_buffers[BUFFERS];
};

static const void *exactly(const void *buffer, size_t size)
{
    if (buffer == NULL)
        return NULL;
    void *copy = malloc(size ? size : 1);
    memcpy(copy, buffer, size);
    return copy;
}

static size_t width_of(const char *format)
{
    return strchr("cC", *format) ? 1 : strchr("sS", *format) ? 2 : strchr("iIfu", *format) ? 4 : 8;
}

/* The end of the text at `place`, from offsets of either width. */
static size_t end_of(const void *offsets, size_t width, size_t place)
{
    int32_t near;
    int64_t far;
    if (offsets == NULL)
        return 0;
    if (width == 8)
        return memcpy(&far, (const uint8_t *)offsets + place * 8, 8), (size_t)far;
    return memcpy(&near, (const uint8_t *)offsets + place * 4, 4), (size_t)near;
}

static void copy_buffers(const struct ArrowArray *array, const char *format, const void *buffers[BUFFERS])
{
    size_t rows = (size_t)(array->offset + array->length), width = width_of(format);
    if (array->n_buffers < 2 || array->n_buffers > BUFFERS)
        return;
    buffers[0] = exactly(array->buffers[0], (rows + 7) / 8);
    buffers[1] = exactly(array->buffers[1], (rows + (array->n_buffers == BUFFERS)) * width);
    if (array->n_buffers == BUFFERS)
        buffers[2] = exactly(array->buffers[2], end_of(array->buffers[1], width, rows));
}

static void copy_column(const struct ArrowSchema *schema, const struct ArrowArray *array, struct copied *copied)
{
    copied->array = *array;
    copied->array.buffers = copied->buffers;
    copy_buffers(array, schema->format, copied->buffers);
    if (array->dictionary == NULL)
        return;
    copied->dictionary = *array->dictionary;
    copied->dictionary.buffers = copied->dictionary_buffers;
    copied->array.dictionary = &copied->dictionary;
    copy_buffers(array->dictionary, schema->dictionary->format, copied->dictionary_buffers);
}

LSO_EXPORT int lso_read_arrow(const struct records *all, int64_t count, size_t length, const struct rules *rules,
                              const struct post *post, struct batch *batch)
{
    struct records *records = calloc((size_t)count, sizeof *records);
    struct ArrowArray *tops = calloc((size_t)count, sizeof *tops);
    struct ArrowArray **children = calloc((size_t)count * CHILDREN, sizeof *children);
    struct copied *copied = calloc((size_t)count * CHILDREN, sizeof *copied);
    for (int64_t at = 0; at < count; at++) {
        tops[at] = *all[at].array;
        tops[at].children = children + at * CHILDREN;
        for (int64_t child = 0; child < tops[at].n_children && child < CHILDREN; child++) {
            struct copied *own = &copied[at * CHILDREN + child];
            copy_column(all[at].schema->children[child], all[at].array->children[child], own);
            tops[at].children[child] = &own->array;
        }
        records[at] = (struct records){all[at].schema, &tops[at]};
    }
    int is_good = lso_read_arrow_whole(records, count, length, rules, post, batch);
    for (int64_t at = 0; at < count * CHILDREN; at++)
        for (int buffer = 0; buffer < BUFFERS; buffer++) {
            free((void *)copied[at].buffers[buffer]);
            free((void *)copied[at].dictionary_buffers[buffer]);
        }
    free(copied);
    free(children);
    free(tops);
    free(records);
    return is_good;
}
