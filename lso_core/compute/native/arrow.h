/* The C data interface of Apache Arrow, as its specification lays it out: how a library hands columns over. */
#ifndef LSO_ARROW_H
#define LSO_ARROW_H

#include "kernel.h"

struct ArrowSchema {
    const char *format; /* the type: https://arrow.apache.org/docs/format/CDataInterface.html */
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};

/* A record batch, which stays the caller's. */
struct records {
    const struct ArrowSchema *schema;
    const struct ArrowArray *array;
};

#endif
