#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Texts beyond these are left to the decoder, which knows them all. */
enum { MOST_DIGITS = 19, MOST_DEPTH = 63, LONGEST_NUMBER = 300, LARGEST_EXPONENT = 300 };

static const uint64_t ONES = 0x0101010101010101u;
static const uint64_t HIGHS = 0x8080808080808080u;

/* Powers of five, as far as 64 bits have them. */
static const uint64_t FIVES[] = {
    1u,
    5u,
    25u,
    125u,
    625u,
    3125u,
    15625u,
    78125u,
    390625u,
    1953125u,
    9765625u,
    48828125u,
    244140625u,
    1220703125u,
    6103515625u,
    30517578125u,
    152587890625u,
    762939453125u,
    3814697265625u,
    19073486328125u,
    95367431640625u,
    476837158203125u,
    2384185791015625u,
    11920928955078125u,
    59604644775390625u,
    298023223876953125u,
    1490116119384765625u,
    7450580596923828125u,
};
enum { MOST_FIVES = 27 };

/* As far as a double has them exactly. */
static const double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
enum { MOST_EXACT = 22, MOST_USUAL = 15 };

static inline int is_digit(uint8_t byte)
{
    return (uint8_t)(byte - '0') < 10;
}

static inline int has_digit(const struct text *text)
{
    return is_digit(*text->at);
}

void json_skip_blanks(struct text *text)
{
    for (;; text->at++) {
        uint8_t byte = *text->at;
        if (byte != ' ' && byte != '\t' && byte != '\r' && (byte != '\n' || text->lines))
            return;
    }
}

int json_take_null(struct text *text)
{
    return json_take_word(text, "null", 4);
}

/* Strings. */

/* One character of two to four bytes: none that could be shorter, no half of a surrogate pair, none past U+10FFFF. */
static int skip_wide(struct text *text)
{
    const uint8_t *at = text->at;
    size_t left = (size_t)(text->end - at);
    uint8_t first = at[0], least = 0x80, most = 0xBF;
    size_t more;
    if (first >= 0xC2 && first <= 0xDF) {
        more = 1;
    } else if (first >= 0xE0 && first <= 0xEF) {
        more = 2;
        least = first == 0xE0 ? 0xA0 : 0x80;
        most = first == 0xED ? 0x9F : 0xBF;
    } else if (first >= 0xF0 && first <= 0xF4) {
        more = 3;
        least = first == 0xF0 ? 0x90 : 0x80;
        most = first == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    if (left <= more || at[1] < least || at[1] > most)
        return 0;
    for (size_t next = 2; next <= more; next++)
        if ((at[next] & 0xC0) != 0x80)
            return 0;
    text->at += more + 1;
    return 1;
}

int json_is_ascii(const uint8_t *at, size_t length)
{
    uint64_t all = 0, word;
    for (; length >= sizeof word; at += sizeof word, length -= sizeof word) {
        memcpy(&word, at, sizeof word);
        all |= word;
    }
    for (; length > 0; at++, length--)
        all |= *at;
    return !(all & HIGHS);
}

int json_is_utf8(const uint8_t *at, size_t length)
{
    struct text text = {at, at + length, 0};
    while (text.at < text.end)
        if (*text.at < 0x80)
            text.at++;
        else if (!skip_wide(&text))
            return 0;
    return 1;
}

/* The high bit of every byte that is no plain character of a string: a quote, a backslash, below a blank or above 127. */
static inline uint64_t specials(uint64_t word)
{
    uint64_t quotes = word ^ (ONES * '"'), slashes = word ^ (ONES * '\\');
    return ((quotes - ONES) | (slashes - ONES) | (word - ONES * ' ') | word) & HIGHS;
}

/* Up to a byte that is not plain, or to the last few of the text. The specials may be some too many, never too few. */
static inline void skip_plain(struct text *text)
{
    uint64_t word;
    while (text->end - text->at >= 8) {
        memcpy(&word, text->at, 8);
        uint64_t found = specials(word);
        if (found) {
            text->at += __builtin_ctzll(found) >> 3;
            return;
        }
        text->at += 8;
    }
}

static int hex_of(struct text *text, uint32_t *value)
{
    if (text->end - text->at < 4)
        return 0;
    *value = 0;
    for (int turn = 0; turn < 4; turn++) {
        uint8_t byte = *text->at++, low = byte | 0x20;
        if (is_digit(byte))
            *value = *value << 4 | (uint32_t)(byte - '0');
        else if (low >= 'a' && low <= 'f')
            *value = *value << 4 | (uint32_t)(low - 'a' + 10);
        else
            return 0;
    }
    return 1;
}

/* What follows a backslash. Halves of surrogate pairs must come together. */
static int skip_escape(struct text *text)
{
    uint32_t first, second;
    uint8_t kind = *text->at;
    if (kind == 0)
        return 0;
    text->at++;
    if (kind != 'u')
        return strchr("\"\\/bfnrt", kind) != NULL;
    if (!hex_of(text, &first))
        return 0;
    if (first < 0xD800 || first > 0xDFFF)
        return 1;
    return first <= 0xDBFF && json_take_word(text, "\\u", 2) && hex_of(text, &second) && second >= 0xDC00 &&
           second <= 0xDFFF;
}

/* Past a string's closing quote. */
static inline int skip_string(struct text *text, int escapes)
{
    if (!json_take(text, '"'))
        return 0;
    for (;;) {
        skip_plain(text);
        uint8_t byte = *text->at;
        if (byte == '"') {
            text->at++;
            return 1;
        }
        if (byte >= 0x80) {
            if (!skip_wide(text))
                return 0;
        } else if (byte == '\\') {
            text->at++;
            if (!escapes || !skip_escape(text))
                return 0;
        } else if (byte < ' ') {
            return 0;
        } else {
            text->at++;
        }
    }
}

int json_take_string(struct text *text, struct span *value)
{
    const uint8_t *start = text->at;
    if (!skip_string(text, 0))
        return 0;
    value->at = start + 1;
    value->length = (uint32_t)(text->at - start - 2);
    return 1;
}

/* Numbers. */

int json_take_whole(struct text *text, int64_t *value)
{
    const uint8_t *start = text->at;
    *value = 0;
    while (has_digit(text)) {
        if (text->at - start == 18)
            return 0;
        *value = *value * 10 + (*text->at++ - '0');
    }
    return text->at > start && (*start != '0' || text->at - start == 1);
}

/* digits / 10^scale to the nearest double, ties to even: a whole number of 128 bits is divided by the power of five, so
   nothing is lost, and the power of two goes to the exponent. */
static int divide_exactly(uint64_t digits, int scale, double *value)
{
#ifdef __SIZEOF_INT128__
    int shift = __builtin_clzll(digits);
    unsigned __int128 dividend = (unsigned __int128)(digits << shift) << 64;
    unsigned __int128 quotient = dividend / FIVES[scale];
    /* Bits that a double has no room for. The quotient is above 2^64: 2^127 at least, divided by less than 2^63. */
    int spare = 128 - __builtin_clzll((uint64_t)(quotient >> 64)) - DBL_MANT_DIG;
    unsigned __int128 rest = quotient & (((unsigned __int128)1 << spare) - 1), half = (unsigned __int128)1 << (spare - 1);
    uint64_t kept = (uint64_t)(quotient >> spare);
    int is_exact = dividend % FIVES[scale] == 0;
    if (rest > half || (rest == half && (!is_exact || (kept & 1))))
        kept++;
    *value = ldexp((double)kept, spare - 64 - shift - scale);
    return 1;
#else
    (void)digits, (void)scale, (void)value;
    return 0;
#endif
}

static int value_of(uint64_t digits, int scale, double *value)
{
    if (digits == 0) {
        *value = 0.0;
        return 1;
    }
    if (LSO_LIKELY(scale <= MOST_EXACT && scale >= -MOST_EXACT && digits <= (uint64_t)1 << DBL_MANT_DIG)) {
        /* Both are exact, so this rounds once. */
        *value = scale < 0 ? (double)digits * POWERS[-scale] : (double)digits / POWERS[scale];
        return 1;
    }
    return scale >= 0 && scale <= MOST_FIVES && divide_exactly(digits, scale, value);
}

/* The exponent that stands behind a number, if there is one. */
static int take_exponent(struct text *text, int *exponent)
{
    *exponent = 0;
    if ((*text->at | 0x20) != 'e')
        return 1;
    text->at++;
    int is_negative = json_is_at(text, '-');
    if (is_negative || json_is_at(text, '+'))
        text->at++;
    if (!has_digit(text))
        return 0;
    while (has_digit(text)) {
        *exponent = *exponent * 10 + (*text->at++ - '0');
        if (*exponent > LARGEST_EXPONENT)
            return 0;
    }
    if (is_negative)
        *exponent = -*exponent;
    return 1;
}

/* Digits go on `digits`, of which `count` are known to matter. */
static int take_digits(struct text *text, uint64_t *digits, int *count)
{
    const uint8_t *start = text->at;
    while (has_digit(text)) {
        uint8_t digit = (uint8_t)(*text->at++ - '0');
        *count += *digits != 0 || digit != 0;
        if (*count > MOST_DIGITS || text->at - start > LONGEST_NUMBER)
            return 0;
        *digits = *digits * 10 + digit;
    }
    return text->at > start;
}

/* As digits go on, none of which is too many. */
static inline const uint8_t *add_digits(const uint8_t *at, uint64_t *digits)
{
    for (; is_digit(*at); at++)
        *digits = *digits * 10 + (uint64_t)(*at - '0');
    return at;
}

/* A number of few digits without an exponent, as most are; 0 where it is another one. */
static inline int take_usual(struct text *text, double *value)
{
    const uint8_t *start = text->at, *point;
    uint64_t digits = 0;
    const uint8_t *at = point = add_digits(start, &digits);
    if (*at == '.')
        at = add_digits(at + 1, &digits);
    ptrdiff_t scale = at - point - (at > point);
    if (at - start > MOST_USUAL || point == start || (*start == '0' && point - start > 1) || at - point == 1 ||
        (*at | 0x20) == 'e')
        return 0;
    text->at = at;
    *value = (double)digits / POWERS[scale];
    return 1;
}

int json_take_decimal(struct text *text, double *value)
{
    if (LSO_LIKELY(take_usual(text, value)))
        return 1;
    const uint8_t *start = text->at;
    uint64_t digits = 0;
    int count = 0, scale = 0, exponent;
    if (!take_digits(text, &digits, &count) || (*start == '0' && text->at - start > 1))
        return 0;
    if (json_take(text, '.')) {
        const uint8_t *point = text->at;
        if (!take_digits(text, &digits, &count))
            return 0;
        scale = (int)(text->at - point);
    }
    return take_exponent(text, &exponent) && value_of(digits, scale - exponent, value);
}

/* Any number that is surely within a double's range, at both ends of it. */
static int skip_number(struct text *text)
{
    int exponent;
    json_take(text, '-');
    const uint8_t *start = text->at;
    while (has_digit(text))
        text->at++;
    if (text->at == start || (*start == '0' && text->at - start > 1))
        return 0;
    if (json_take(text, '.')) {
        if (!has_digit(text))
            return 0;
        while (has_digit(text))
            text->at++;
    }
    ptrdiff_t length = text->at - start;
    return length <= LONGEST_NUMBER && take_exponent(text, &exponent) && length + abs(exponent) <= LONGEST_NUMBER;
}

/* Objects and arrays. */

/* What is open: a bit for each level, set for an array. */
struct nest {
    uint64_t arrays;
    int depth, most;
    int64_t containers;
};

static int open_one(struct text *text, struct nest *nest)
{
    if (++nest->depth > nest->most || nest->depth > MOST_DEPTH)
        return 0;
    nest->containers++;
    nest->arrays = nest->arrays << 1 | (*text->at++ == '[');
    return 1;
}

static inline int is_closed(struct text *text, const struct nest *nest)
{
    return json_take(text, nest->arrays & 1 ? ']' : '}');
}

static inline void close_one(struct nest *nest)
{
    nest->depth--;
    nest->arrays >>= 1;
}

/* The name of an object's next member, up to its value; nothing in an array. */
static inline int skip_name(struct text *text, const struct nest *nest)
{
    if (!(nest->arrays & 1)) {
        if (!skip_string(text, 1))
            return 0;
        json_skip_space(text);
        if (!json_take(text, ':'))
            return 0;
    }
    json_skip_space(text);
    return 1;
}

static int skip_scalar(struct text *text)
{
    switch (*text->at) {
    case '"':
        return skip_string(text, 1);
    case 't':
        return json_take_word(text, "true", 4);
    case 'f':
        return json_take_word(text, "false", 5);
    case 'n':
        return json_take_null(text);
    default:
        return skip_number(text);
    }
}

/* Behind a value: closes what ends there, and takes the comma if there is one. */
static int go_on(struct text *text, struct nest *nest)
{
    for (;;) {
        json_skip_space(text);
        if (!is_closed(text, nest))
            break;
        close_one(nest);
        if (nest->depth == 0)
            return 1;
    }
    if (!json_take(text, ','))
        return 0;
    json_skip_space(text);
    return 1;
}

int json_skip_object(struct text *text, int depth, int64_t *containers)
{
    struct nest nest = {.most = depth};
    if (!json_is_at(text, '{') || !open_one(text, &nest))
        return 0;
    json_skip_space(text);
    if (is_closed(text, &nest)) {
        close_one(&nest);
    }
    while (nest.depth > 0) {
        if (!skip_name(text, &nest))
            return 0;
        if (*text->at == '{' || *text->at == '[') {
            if (!open_one(text, &nest))
                return 0;
            json_skip_space(text);
            if (!is_closed(text, &nest))
                continue;
            close_one(&nest); /* an empty one is a value like any other */
        } else if (!skip_scalar(text)) {
            return 0;
        }
        if (!go_on(text, &nest))
            return 0;
    }
    *containers += nest.containers;
    return 1;
}
