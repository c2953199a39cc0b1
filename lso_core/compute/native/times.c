#include "times.h"

#include <string.h>

enum { SECOND = 19 }; /* where the fraction begins */

static int32_t two(const uint8_t *text)
{
    return (text[0] - '0') * 10 + (text[1] - '0');
}

/* Whether eight bytes are those of a form, in which 0 stands for any digit. Each byte with its form's bits taken out is
   0, or up to 9 for a digit; more than 9 sets the highest bit of its sum with 0x76, or has it. */
static int fit(const uint8_t *text, const char *form)
{
    const uint64_t ones = 0x0101010101010101u, highs = ones * 0x80;
    uint64_t word, wanted;
    memcpy(&word, text, sizeof word);
    memcpy(&wanted, form, sizeof wanted);
    uint64_t rest = word ^ wanted, zeros = wanted ^ (ones * '0');
    uint64_t digits = ~(((zeros & ~highs) + ~highs) | zeros) & highs; /* the highest bit of each byte that may be a digit */
    uint64_t others = ~((digits >> 7) * 0xFF);
    return !(rest & others) && !((rest | ((rest & ~highs) + ones * 0x76)) & digits);
}

/* Whether the text begins with yyyy-mm-ddThh:mm:ss in digits. */
static int has_form(const uint8_t *text)
{
    return fit(text, "0000-00-") && (uint8_t)(text[8] - '0') < 10 && (uint8_t)(text[9] - '0') < 10 &&
           (text[10] == 'T' || text[10] == 't' || text[10] == ' ') && fit(text + 11, "00:00:00");
}

static int32_t days_in(int32_t year, int32_t month)
{
    static const int8_t DAYS[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return DAYS[month] + (month == 2 && is_leap);
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar, with years counted from March: that puts the leap day
   last, so that the days before a month are a linear formula. */
static int32_t days_since_epoch(int32_t year, int32_t month, int32_t day)
{
    int32_t shifted = year - (month <= 2);
    int32_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    return shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719468;
}

/* Milliseconds of a fraction of one to nine digits, with its point, cut off; `at` moves past it. */
static int fraction_ms(const uint8_t *text, size_t length, size_t *at, int32_t *ms)
{
    static const int32_t WEIGHTS[] = {100, 10, 1};
    *ms = 0;
    if (*at == length || text[*at] != '.')
        return 1;
    size_t start = ++*at;
    while (*at < length && (uint8_t)(text[*at] - '0') < 10) {
        if (*at - start < 3)
            *ms += (text[*at] - '0') * WEIGHTS[*at - start];
        ++*at;
    }
    return *at - start >= 1 && *at - start <= 9;
}

/* Minutes that the text's clock is ahead of UTC by what stands at its end: Z, or an offset up to 23:59. */
static int offset_minutes(const uint8_t *text, size_t length, int32_t *minutes)
{
    static const char FORM[] = "+00:00";
    *minutes = 0;
    if (length == 1)
        return text[0] == 'Z' || text[0] == 'z';
    if (length != 6 || (text[0] != '+' && text[0] != '-'))
        return 0;
    for (int at = 1; at < 6; at++)
        if (FORM[at] == '0' ? (uint8_t)(text[at] - '0') > 9 : text[at] != (uint8_t)FORM[at])
            return 0;
    if (two(text + 1) > 23 || two(text + 4) > 59)
        return 0;
    *minutes = (two(text + 1) * 60 + two(text + 4)) * (text[0] == '-' ? -1 : 1);
    return 1;
}

int64_t times_ms(const uint8_t *text, size_t length)
{
    size_t at = SECOND;
    int32_t fraction, ahead;
    if (length <= SECOND || !has_form(text))
        return TIMES_NONE;
    int32_t year = two(text) * 100 + two(text + 2), month = two(text + 5), day = two(text + 8);
    int32_t hour = two(text + 11), minute = two(text + 14), second = two(text + 17);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in(year, month))
        return TIMES_NONE;
    if (hour > 23 || minute > 59 || second > 59)
        return TIMES_NONE;
    if (!fraction_ms(text, length, &at, &fraction) || !offset_minutes(text + at, length - at, &ahead))
        return TIMES_NONE;
    int64_t minutes = ((int64_t)days_since_epoch(year, month, day) * 24 + hour) * 60 + minute - ahead;
    int64_t ms = (minutes * 60 + second) * 1000 + fraction;
    return ms < TIMES_EARLIEST_MS || ms > TIMES_LATEST_MS ? TIMES_NONE : ms;
}

int64_t times_usual_ms(const uint8_t *text, struct minute minutes[2])
{
    struct minute *minute = &minutes[text[15] & 1];
    if (!fit(text + sizeof minute->text, ":00.000Z"))
        return times_ms(text, TIMES_USUAL);
    int32_t second = two(text + 17), fraction = (text[20] - '0') * 100 + two(text + 21);
    if (LSO_LIKELY(minute->is_known && second <= 59 && memcmp(text, minute->text, sizeof minute->text) == 0))
        return minute->ms + second * 1000 + fraction;
    int64_t ms = times_ms(text, TIMES_USUAL);
    if (ms != TIMES_NONE) {
        memcpy(minute->text, text, sizeof minute->text);
        minute->ms = ms - second * 1000 - fraction;
        minute->is_known = 1;
    }
    return ms;
}
