/*
 * classify: goal: what an alert is told to is a plain URL, and what of a watch crosses fields is
 * refused by the field's name. Method: changes to a document that is right.
 */
#include "api/classify.h"

#include "tests/api/jobspecs.h"
#include "tests/unit.h"

#include <string.h>

#define ALERTS "serve.classify.alerts"

START_TEST(urls)
{
    static const char *const good[] = {"http://a", "https://a.b:1/c?d=e#f", "http://[::1]:8/",
        "http://10.0.0.1:9095/hook", "http://a/~!"},
                             *const bad[] = {"", "a", "ftp://a/", "http:/a", "http://", "http:///x",
                                 "http://me:secret@host/", "http://a b/", "http://a/b c",
                                 "httpx://a", "http://a?b", "http://a/\n", "http://a/\xc3\xa4",
                                 "HTTP://a"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        ck_assert_msg(classify_url_format.ok(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!classify_url_format.ok(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(rules)
{
    static const struct {
        const char *target, *value, *says;
    } table[] = {
        {"replicas", "2", "spec.serve.classify: only with at most 1 of replicas"},
        {"replicas", "0", ""},
        {"serve.classify.directory", "/data/d", "spec.serve.classify.directory: not with file"},
        {"serve.classify.file", "/elsewhere", "spec.serve.classify.file: must lie under"},
        {"serve.classify.state", "/elsewhere", "spec.serve.classify.state: must lie under"},
        {ALERTS, "[]", "spec." ALERTS ": "},
        {ALERTS, "[{name: a, label: x, share: 0.5, clearShare: 0.6}]",
            "spec." ALERTS "[0].clearShare: must not exceed share"},
        {ALERTS, "[{name: a, label: x, share: 0.5, clearShare: 0.5}]", ""},
        {ALERTS, "[{name: a, label: x, share: 1}, {name: a, label: z, share: 1}]",
            "spec." ALERTS "[1].name: must differ from the other alerts' names"},
        {ALERTS, "[{name: a, label: x, share: 1, webhook: 'http://u@h/'}]",
            "spec." ALERTS "[0].webhook: \"http://u@h/\" is not a URL such as"},
        {"serve.classify", "null", ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *said = jobspecs_verdict(jobspecs_serve, table[i].target, table[i].value);
        ck_assert_msg(*table[i].says ? strstr(said, table[i].says) == said : !*said,
            "%s: %s gave \"%s\"", table[i].target, table[i].value, said);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"classify", 30, jobspecs_begin, jobspecs_end},
        (const TTest *const[]){urls, rules, NULL});
}
