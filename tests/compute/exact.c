/* Stands before lso_read where the sanitizers watch: gives it a body whose memory ends with the zero behind it, so that
   they see also a single byte too many. */
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
    uint8_t *copy = malloc(length + 1);
    memcpy(copy, body, length + 1);
    int is_good = lso_read_whole(copy, length, rules, post, batch);
    free(copy);
    return is_good;
}
