/* Stands before lso_read where the sanitizers watch: gives it a body that ends where its memory does, so that they see
   also a single byte too many; behind the bytes of Python there always is one more. */
#include <stdlib.h>
#include <string.h>

#include "batch.h"

int lso_read_whole(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                   struct batch *batch);
int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
             struct batch *batch);

LSO_EXPORT int lso_read(const uint8_t *body, size_t length, const struct rules *rules, const struct post *post,
                        struct batch *batch)
{
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, body, length);
    int is_good = lso_read_whole(copy, length, rules, post, batch);
    free(copy);
    return is_good;
}
