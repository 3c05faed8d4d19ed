/*
 * log: constant message plus key=value, one line to stderr, as text or JSON. Values are quoted when
 * needed.
 *
 *   log_info("world formed", LOG_I("incarnation", inc), LOG_S("layout", text));
 *
 * A decision is logged once at info; a failure once, where it is handled. Secrets have no LOG_
 * macro. Thread: a line is one write(2), so lines of several threads do not mix.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
    const char *key;
    enum { LOG_FIELD_STR, LOG_FIELD_INT, LOG_FIELD_NUM } kind;
    const char *str;
    int64_t i;
    double num;
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_STR, .str = (v)})
#define LOG_I(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_INT, .i = (int64_t)(v)})
#define LOG_F(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_NUM, .num = (double)(v)})
#define LOG_ERR(e)  LOG_S("error", (e)->text), LOG_S("class", err_code_name((e)->code))

void log_line(enum log_level level, const char *message, const struct log_field *fields, size_t n);

#define LOG_AT(level, message, ...) \
    log_line((level), (message), (struct log_field[]){{0}, ##__VA_ARGS__} + 1, \
        sizeof((struct log_field[]){{0}, ##__VA_ARGS__}) / sizeof(struct log_field) - 1)
#define log_debug(message, ...) LOG_AT(LOG_DEBUG, message, ##__VA_ARGS__)
#define log_info(message, ...)  LOG_AT(LOG_INFO, message, ##__VA_ARGS__)
#define log_warn(message, ...)  LOG_AT(LOG_WARN, message, ##__VA_ARGS__)
#define log_error(message, ...) LOG_AT(LOG_ERROR, message, ##__VA_ARGS__)

/* program: shown in every line; level: "debug", "info", "warn", "error"; json: one object a
 * line. */
void log_setup(const char *program, enum log_level level, bool json);
int log_level_parse(const char *name, enum log_level *out, struct err *e);

#endif
