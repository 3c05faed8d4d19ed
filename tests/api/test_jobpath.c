/*
 * Goal: no job is accepted whose output would replace something else (kind: a folder that is
 * removed or replaced as a whole holds nothing of another's), and rules know each path of the
 * table. Method: every field of the table put in, at and around the output, and beside the
 * storage; what rules that compare paths say of it.
 */
#include "api/jobpath.h"

#include "api/rules.h"
#include "tests/unit.h"

/* The first paths of the table are a training's, the last a conversion's own. */
#define TRAIN_PATHS 9

/* A train job on /d and, when it is not NULL, on a second volume; every path is its own folder. */
static struct jobspec job(const char *second)
{
    static const char *const places[TRAIN_PATHS] = {
        "/d/m", "/d/c", "/d/k", "/d/t", "/d/v", "/d/s", "/d/z", "/d/b", "/d/o"};
    struct jobspec s = {.task = TASK_TRAIN, .storage_count = second ? 2 : 1};
    s.storage[0].mount_path = "/d";
    s.storage[1].mount_path = second;
    for (int i = 0; i < TRAIN_PATHS; i++)
        *jobpath_place(&s, i) = places[i];
    return s;
}

static const char *verdict(const struct jobspec *s)
{
    static struct err e;
    const struct field_source source = {.prefix = "spec", .code = ERR_USER};
    json_auto struct json *subject = NULL;
    e = (struct err){.text = ""};
    ck_assert_int_eq(rules_subject(s, NULL, &subject, &e), 0);
    ck_assert_int_eq(rules_check(&source, subject, "startsWith", &e), -(int)e.code);
    return e.text;
}

START_TEST(the_output_keeps_away_from_every_other_path)
{
    static const char *const near[] = {"/d/o", "/d/o/x", "/d/o/x/y"};
    struct jobspec s = job(NULL);
    ck_assert_str_eq(verdict(&s), "");
    for (int i = 0; i < TRAIN_PATHS - 1; i++) {
        char want[128];
        snprintf(want, sizeof want,
            "spec.train.output: must neither equal, contain nor lie inside spec.%s",
            jobpath_table[i].field);
        for (size_t k = 0; k < 3; k++) {
            s = job(NULL);
            *jobpath_place(&s, i) = near[k];
            ck_assert_str_eq(verdict(&s), want);
        }
        s = job(NULL);
        *jobpath_place(&s, i) = "/d/o/x";
        s.train.output = "/d/o/x/y/z";
        ck_assert_str_eq(verdict(&s), want);
    }
}
END_TEST

START_TEST(a_conversions_output_keeps_away_too)
{
    struct jobspec s = {.task = TASK_CONVERT,
        .storage_count = 1,
        .storage[0].mount_path = "/d",
        .model.source = "/d/m",
        .convert = {.merge_adapter = "/d/a",
            .calibration = "/d/k",
            .evaluate.data = "/d/t",
            .output = "/d/o"}};
    ck_assert_str_eq(jobpath_output(&s)->field, "convert.output");
    ck_assert_str_eq(verdict(&s), "");
    for (int i = 0; i < jobpath_count; i++) {
        const char *path = jobpath_of(&s, &jobpath_table[i]);
        char want[128];
        if (!path || !jobpath_table[i].apart)
            continue;
        snprintf(want, sizeof want,
            "spec.convert.output: must neither equal, contain nor lie inside spec.%s",
            jobpath_table[i].field);
        s.convert.output = path;
        ck_assert_str_eq(verdict(&s), want);
    }
    s = (struct jobspec){
        .task = TASK_EVALUATE, .evaluate = {.data = "/d/t", .adapter = "/d/a", .output = "/d/o"}};
    ck_assert_str_eq(jobpath_output(&s)->field, "evaluate.output");
    s = (struct jobspec){.task = TASK_SERVE, .model.source = "/d/m"};
    ck_assert_ptr_null(jobpath_output(&s));
}
END_TEST

START_TEST(the_output_is_no_mount_and_holds_none)
{
    static const char mount[] =
        "spec.train.output: must not be or contain the mountPath of a storage entry";
    struct jobspec s = job("/d/o/inner");
    ck_assert_str_eq(verdict(&s), mount);
    s = job("/d/o");
    ck_assert_str_eq(verdict(&s), mount);
    s = job(NULL);
    s.train.output = "/d";
    ck_assert_str_eq(verdict(&s), mount);
    s = job("/e");
    s.train.output = "/e/o";
    ck_assert_str_eq(verdict(&s), "");
}
END_TEST

START_TEST(paths_lie_on_storage_that_suits_them)
{
    for (int i = 0; i < TRAIN_PATHS; i++) {
        const struct jobpath *p = &jobpath_table[i];
        char want[128];
        struct jobspec s = job("/r");
        s.storage[1].read_only = true;
        *jobpath_place(&s, i) = "/dd/x";
        snprintf(want, sizeof want, "spec.%s: must lie under the mountPath of a storage entry%s",
            p->field, p->written ? " that is not readOnly" : "");
        ck_assert_str_eq(verdict(&s), want);
        *jobpath_place(&s, i) = "/r/x";
        ck_assert_str_eq(verdict(&s), p->written ? want : "");
    }
}
END_TEST

/* Those of lists' items are in rules of the lists. */
START_TEST(each_path_has_a_rule)
{
    for (int i = 0; i < jobpath_count; i++) {
        const char *field = jobpath_table[i].field;
        bool found = strchr(field, '[');
        for (int k = 0; k < rules_count && !found; k++)
            found = *rules_table[k].field && !strcmp(rules_table[k].field + 1, field) &&
                strstr(rules_table[k].rule, "self.storage.exists(") &&
                !strstr(rules_table[k].rule, "!s.readOnly") == !jobpath_table[i].written;
        ck_assert_msg(found, "%s", field);
    }
}
END_TEST

UNIT_MAIN("jobpath", the_output_keeps_away_from_every_other_path,
    a_conversions_output_keeps_away_too, the_output_is_no_mount_and_holds_none,
    paths_lie_on_storage_that_suits_them, each_path_has_a_rule)
