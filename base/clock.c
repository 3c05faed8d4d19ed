/*
 * clock: the only caller of clock_gettime in the programs, so that tests can stop time. Calendar
 * arithmetic is done here (days from civil, Howard Hinnant's algorithm) and depends on no time zone
 * or locale.
 */
#include "base/clock.h"

#include <stdbool.h>
#include <stdio.h>

static bool fake;
static int64_t fake_mono_ms, fake_wall_ms;

static int64_t now_ns(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t clock_ms(void)
{
    return fake ? fake_mono_ms : now_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t clock_ns(void)
{
    return fake ? fake_mono_ms * 1000000 : now_ns(CLOCK_MONOTONIC);
}

int64_t clock_wall_ms(void)
{
    return fake ? fake_wall_ms : now_ns(CLOCK_REALTIME) / 1000000;
}

int64_t clock_thread_ms(void)
{
    return now_ns(CLOCK_THREAD_CPUTIME_ID) / 1000000;
}

static struct timespec after(clockid_t id, int64_t wait_ms)
{
    int64_t ns = now_ns(id) + (wait_ms > 0 ? wait_ms : 0) * 1000000;
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

struct timespec clock_after(int64_t wait_ms)
{
    return after(CLOCK_MONOTONIC, wait_ms);
}

int clock_join(pthread_t thread, int64_t wait_ms)
{
#ifdef __SANITIZE_THREAD__ /* which does not see that pthread_clockjoin_np joins */
    const struct timespec until = after(CLOCK_REALTIME, wait_ms);
    return pthread_timedjoin_np(thread, NULL, &until);
#else
    const struct timespec until = clock_after(wait_ms);
    return pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until);
#endif
}

void clock_set_fake(int64_t mono_ms, int64_t wall_ms)
{
    fake_mono_ms = mono_ms;
    fake_wall_ms = wall_ms;
    fake = true;
}

void clock_set_real(void)
{
    fake = false;
}

/* Days since 1970-01-01 of a civil date; years count from March so that leap days come last. */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static void civil_of(int64_t days, int64_t *year, int *month, int *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t doe = days - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2);
}

void clock_format(int64_t wall_ms, char *out, size_t size)
{
    int64_t s = wall_ms / 1000 - (wall_ms % 1000 < 0);
    int64_t days = s / 86400 - (s % 86400 < 0);
    int64_t rest = s - days * 86400;
    int64_t year;
    int month, day;
    civil_of(days, &year, &month, &day);
    snprintf(out, size, "%04lld-%02d-%02dT%02d:%02d:%02dZ", (long long)year, month, day,
        (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60));
}

/* Exactly n digits; -1 when one is none. */
static int digits(const char **p, int n)
{
    int v = 0;
    for (int i = 0; i < n; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return -1;
        v = v * 10 + (**p - '0');
    }
    return v;
}

static bool skip(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

static int days_in(int year, int month)
{
    static const int days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap);
}

/* ".123456" as milliseconds (further digits are dropped), 0 when there is none; -1 when
 * malformed. */
static int fraction_ms(const char **p)
{
    if (!skip(p, '.'))
        return 0;
    if (**p < '0' || **p > '9')
        return -1;
    int ms = 0;
    for (int scale = 100; **p >= '0' && **p <= '9'; (*p)++, scale /= 10)
        ms += (**p - '0') * scale;
    return ms;
}

/* "Z" or "+hh:mm" as minutes east into *out. */
static bool zone_minutes(const char **p, int *out)
{
    *out = 0;
    if (skip(p, 'Z'))
        return true;
    int sign = skip(p, '+') ? 1 : skip(p, '-') ? -1 : 0;
    if (!sign)
        return false;
    int h = digits(p, 2);
    if (h < 0 || h > 23 || !skip(p, ':'))
        return false;
    int m = digits(p, 2);
    if (m < 0 || m > 59)
        return false;
    *out = sign * (h * 60 + m);
    return true;
}

int64_t clock_parse(const char *s)
{
    int v[6];
    const char *const after = "--T::";
    for (int i = 0; i < 6; i++) {
        v[i] = digits(&s, i ? 2 : 4);
        if (v[i] < 0 || (i < 5 && !skip(&s, after[i])))
            return -1;
    }
    if (v[1] < 1 || v[1] > 12 || v[2] < 1 || v[2] > days_in(v[0], v[1]))
        return -1;
    if (v[3] > 23 || v[4] > 59 || v[5] > 60) /* 60: a leap second */
        return -1;
    int ms = fraction_ms(&s), east;
    if (ms < 0 || !zone_minutes(&s, &east) || *s)
        return -1;
    int64_t seconds = days_of(v[0], v[1], v[2]) * 86400 + v[3] * 3600 + (v[4] - east) * 60 + v[5];
    return seconds * 1000 + ms;
}
