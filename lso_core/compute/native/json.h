/* JSON, value by value, from a text that nobody has looked at yet. Every function answers 0 where the text is not
   certain to be good; how far it came is then of no meaning. */
#ifndef LSO_JSON_H
#define LSO_JSON_H

#include <string.h>

#include "kernel.h"

/* What is still to be read, and whether an end of line is more than white space. At `end` there is a zero, which no JSON
   has: so to look at one byte more needs no look whether there is one. */
struct text {
    const uint8_t *at;
    const uint8_t *end;
    int lines;
};

/* Bytes of the text. */
struct span {
    const uint8_t *at;
    uint32_t length;
};

static inline int json_is_at(const struct text *text, uint8_t byte)
{
    return *text->at == byte;
}

static inline int json_take(struct text *text, uint8_t byte)
{
    if (!json_is_at(text, byte))
        return 0;
    text->at++;
    return 1;
}

static inline int json_take_word(struct text *text, const char *word, size_t length)
{
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0)
        return 0;
    text->at += length;
    return 1;
}

void json_skip_blanks(struct text *text);

/* Most often there is no space, or one blank. */
static inline void json_skip_space(struct text *text)
{
    if (LSO_LIKELY(*text->at > ' '))
        return;
    if (LSO_LIKELY(text->at[0] == ' ' && text->at[1] > ' '))
        text->at++;
    else
        json_skip_blanks(text);
}

/* Whether bytes are all below 128, and whether they are UTF-8. */
int json_is_ascii(const uint8_t *at, size_t length);
int json_is_utf8(const uint8_t *at, size_t length);

int json_take_null(struct text *text);

/* A string without escapes; `value` is what stands between its quotes. */
int json_take_string(struct text *text, struct span *value);

/* A number from 0 on that is known to the last bit: what a correct strtod gives. */
int json_take_decimal(struct text *text, double *value);

/* A number from 0 on without point and exponent, below 10^18. */
int json_take_whole(struct text *text, int64_t *value);

/* An object of at most so many levels, with numbers that a double can hold. `containers` counts objects and arrays. */
int json_skip_object(struct text *text, int depth, int64_t *containers);

#endif
