/*
 * Goal: each rule of manifests/crd.yaml refuses something, and each thing of a job that docs/api.md
 * says what it does not go with goes by itself (kind: a rule that nothing can break, or that breaks
 * everything). Method: all pairs and all files of bad-manifests decoded, until every rule has
 * refused one.
 */
#include "cli/pairs.h"

#include "api/jobspec.h"
#include "api/rules.h"
#include "base/yaml.h"
#include "tests/unit.h"

#include <ctype.h>
#include <glob.h>
#include <string.h>

START_TEST(each_goes_by_itself)
{
    char why[PAIRS_WHY_BYTES];
    struct err e = {.text = ""};
    for (int g = 0; pairs_count(g); g++)
        for (int i = 0; i < pairs_count(g); i++) {
            ck_assert_msg(!pairs_try(g, i, i, NULL, why, &e), "%s", e.text);
            ck_assert_msg(!*why, "%d %d: %s", g, i, why);
        }
    ck_assert_int_eq(pairs_count(2), 0);
}
END_TEST

/* Whatever stands first: values of one field are no pair, and others are the same either way. */
START_TEST(pairs_are_the_same_both_ways_round)
{
    static char why[2][PAIRS_WHY_BYTES];
    struct err e = {.text = ""};
    int none = 0, refused = 0, g = 1;
    for (int i = 0; i < pairs_count(g); i++)
        for (int j = 0; j < i; j++) {
            int rc = pairs_try(g, i, j, NULL, why[0], &e);
            ck_assert_int_eq(rc, pairs_try(g, j, i, NULL, why[1], &e));
            ck_assert_int_ge(rc, 0);
            if (!rc)
                ck_assert_str_eq(why[0], why[1]);
            none += rc;
            refused += !rc && *why[0];
        }
    ck_assert_int_gt(none, 0);
    ck_assert_int_gt(refused, 20);
}
END_TEST

static bool *has_refused; /* a rule each */

/* Is it what the rule says? Lists' indices are not in it. */
static bool says(const char *text, const struct rule *r)
{
    char want[512], plain[512];
    size_t n = 0;
    for (const char *s = text; *s && n + 1 < sizeof plain; s++)
        if (!isdigit((unsigned char)*s) || s == text || (s[-1] != '[' && s[1] != ']'))
            plain[n++] = *s;
    plain[n] = 0;
    snprintf(want, sizeof want, "%s%s: %s", r->at, r->rule ? r->field : "[]", r->message);
    const char *wanted = want + (*want == '.'), *found = strstr(plain, wanted);
    return found && (found == plain || found[-1] == ' ') && !found[strlen(wanted)];
}

static void note(const char *text)
{
    for (int k = 0; k < rules_count; k++)
        has_refused[k] |= says(text, &rules_table[k]);
}

static void note_manifests(void)
{
    glob_t g;
    ck_assert_int_eq(glob("tests/e2e/bad-manifests/*.yaml", 0, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        struct err e = {.text = ""};
        struct jobspec spec;
        arena_auto struct arena *a = arena_create(1 << 20);
        ck_assert_int_eq(jobspec_read_file(g.gl_pathv[i], a, &spec, &e), -ERR_USER);
        note(e.text);
    }
    globfree(&g);
}

START_TEST(every_rule_refuses)
{
    char why[PAIRS_WHY_BYTES];
    struct err e = {.text = ""};
    has_refused = mem_array((size_t)rules_count, sizeof *has_refused);
    ck_assert_ptr_nonnull(has_refused);
    note_manifests();
    for (int g = 0; pairs_count(g); g++)
        for (int i = 0; i < pairs_count(g); i++)
            for (int j = 0; j < i; j++)
                if (!pairs_try(g, i, j, NULL, why, &e) && *why)
                    note(why);
    char missing[4096] = "";
    for (int k = 0; k < rules_count; k++)
        if (!has_refused[k])
            snprintf(missing + strlen(missing), sizeof missing - strlen(missing), "\n%s%s: %s",
                rules_table[k].at, rules_table[k].field, rules_table[k].message);
    ck_assert_msg(!*missing, "refuses no file of bad-manifests and no pair:%s", missing);
    mem_free(has_refused);
}
END_TEST

/* As the stream of documents that the API server is asked with. */
START_TEST(all_are_written_with_what_is_expected)
{
    struct err e = {.text = ""};
    buf_auto struct buf out;
    json_auto struct json *documents = NULL;
    buf_init(&out, 4 << 20);
    ck_assert_msg(!pairs_write(&out, &e), "%s", e.text);
    ck_assert_ptr_nonnull(strstr(out.data, "\n# expect: spec.serve.ensemble: not with serve.ad"));
    ck_assert_msg(!yaml_parse(out.data, out.len, &documents, &e), "%s", e.text);
    ck_assert_int_gt((int)json_count(documents), 900);
}
END_TEST

UNIT_MAIN("pairs", each_goes_by_itself, pairs_are_the_same_both_ways_round, every_rule_refuses,
    all_are_written_with_what_is_expected)
