#include "times.h"

static const char FORM[LSO_TIME_LENGTH + 1] = "0000-00-00T00:00:00.000Z";

static int64_t digits(const uint8_t *text, int count)
{
    int64_t value = 0;
    for (int at = 0; at < count; at++)
        value = value * 10 + (text[at] - '0');
    return value;
}

static int has_form(const uint8_t *text)
{
    int wrong = 0;
    for (int at = 0; at < LSO_TIME_LENGTH; at++)
        wrong |= FORM[at] == '0' ? (uint8_t)(text[at] - '0') > 9 : text[at] != (uint8_t)FORM[at];
    return !wrong;
}

static int64_t days_in(int64_t year, int64_t month)
{
    static const int8_t DAYS[] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leaps = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return DAYS[month] + (month == 2 && leaps);
}

/* Days since 1970-01-01 in the proleptic Gregorian calendar, with years counted from March: that puts the leap day
   last, so that the days before a month are a linear formula. */
static int64_t days_since_epoch(int64_t year, int64_t month, int64_t day)
{
    int64_t shifted = year - (month <= 2);
    int64_t day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    return shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + day_of_year - 719468;
}

LSO_EXPORT int64_t lso_time_ms(const uint8_t *text)
{
    if (!has_form(text))
        return INT64_MIN;
    int64_t year = digits(text, 4), month = digits(text + 5, 2), day = digits(text + 8, 2);
    int64_t hour = digits(text + 11, 2), minute = digits(text + 14, 2), second = digits(text + 17, 2);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in(year, month))
        return INT64_MIN;
    if (hour > 23 || minute > 59 || second > 59)
        return INT64_MIN;
    int64_t seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    return seconds * 1000 + digits(text + 20, 3);
}
