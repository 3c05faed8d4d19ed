/*
 * classify: a URL has no user information: what stands in a spec is read by many, and a browser's
 * old way to write a password misleads about where a request goes.
 */
#include "api/classify.h"

#include <ctype.h>
#include <string.h>

#define CLASSIFY "serve.classify"

static bool is_host(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~:[]", c));
}

/* http or https, a host, and perhaps a path of printable ASCII. */
static bool is_url(const char *s)
{
    if (strncmp(s, "http", 4) != 0)
        return false;
    s += s[4] == 's' ? 5 : 4;
    if (strncmp(s, "://", 3) != 0 || !is_host(s[3]))
        return false;
    for (s += 3; is_host(*s);)
        s++;
    if (*s && *s != '/')
        return false;
    while (*s > ' ' && *s <= '~')
        s++;
    return !*s;
}

const struct field_format classify_url_format = {
    is_url, "a URL such as http://receiver:9095/hook, without user information"};

static int check_alerts(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    const struct jobspec_alert *list = spec->serve.classify.alerts;
    for (int i = 0; i < spec->serve.classify.alert_count; i++) {
        char path[64];
        snprintf(path, sizeof path, CLASSIFY ".alerts[%d].clearShare", i);
        if (list[i].clear_share > list[i].share)
            return field_refuse(s, path, e, "must not exceed share");
        snprintf(path, sizeof path, CLASSIFY ".alerts[%d].name", i);
        for (int j = 0; j < i; j++)
            if (!strcmp(list[i].name, list[j].name))
                return field_refuse(s, path, e, "must differ from the other alerts' names");
    }
    return 0;
}

int classify_check(const struct field_source *s, const struct jobspec *spec, struct err *e)
{
    if (!spec->serve.classify.alert_count)
        return 0;
    if (spec->replicas > 1)
        return field_refuse(s, CLASSIFY, e,
            "only with at most 1 of replicas: one pod has the windows of its alerts");
    if (spec->serve.classify.file && spec->serve.classify.directory)
        return field_refuse(s, CLASSIFY ".directory", e, "not with file: one source is followed");
    return check_alerts(s, spec, e);
}
