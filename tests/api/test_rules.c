/*
 * Goal: a job is refused by the rules of manifests/crd.yaml, all of them and those as they stand
 * there, and each is told in its words (kind: what one part accepts another refuses). Method: the
 * table that the build makes beside what base/yaml reads in the CRD; every rule's text read to its
 * end; what a rule sees of a job, and what a training may choose beside what it says.
 */
#include "api/rules.h"

#include "base/cel.h"
#include "base/yaml.h"
#include "tests/api/jobspecs.h"
#include "tests/unit.h"

#include <string.h>

static int read_over; /* rows of the table, by walk */

/* What api/rules.awk leaves out. */
static bool is_left_out(const char *rule)
{
    return strstr(rule, "oldSelf") || strstr(rule, "matches(") || strstr(rule, ".map(");
}

static void is_next(const char *at, const char *rule, const char *field, const char *message)
{
    ck_assert_int_lt(read_over, rules_count);
    const struct rule *r = &rules_table[read_over++];
    ck_assert_str_eq(r->at, at);
    ck_assert_str_eq(r->rule ? r->rule : "", rule);
    ck_assert_str_eq(r->field, field);
    ck_assert_str_eq(r->message, message);
}

static void walk(const struct json *node, const char *at)
{
    char below[256], message[128];
    json_each (part, node) {
        const char *key = json_key(part);
        if (!strcmp(key, "x-kubernetes-validations")) {
            json_each (rule, part)
                if (!is_left_out(json_str(rule, "rule", "")))
                    is_next(at, json_str(rule, "rule", ""), json_str(rule, "fieldPath", ""),
                        json_str(rule, "message", ""));
        } else if (!strcmp(key, "x-kubernetes-list-map-keys") && !strncmp(at, "spec", 4)) {
            const char *name = json_string_value(json_first(part));
            snprintf(message, sizeof message, "%ss must differ from one another", name);
            is_next(at, "", name, message);
        } else if (!strcmp(key, "items")) {
            snprintf(below, sizeof below, "%s[]", at);
            walk(part, below);
        } else if (!strcmp(key, "properties")) {
            json_each (property, part) {
                snprintf(below, sizeof below, "%s%s%s", at, *at ? "." : "", json_key(property));
                walk(property, below);
            }
        }
    }
}

START_TEST(the_table_is_the_crds)
{
    struct err e;
    json_auto struct json *tree = NULL;
    ck_assert_int_eq(yaml_read_file("manifests/crd.yaml", 1 << 20, &tree, &e), 0);
    walk(json_path(
             json_first(json_path(json_first(tree), "spec.versions")), "schema.openAPIV3Schema"),
        "");
    ck_assert_int_eq(read_over, rules_count);
    ck_assert_int_gt(rules_count, 150);
}
END_TEST

/* What is settled early is read over in a job; here nothing is. */
START_TEST(every_rule_is_understood_to_its_end)
{
    for (int i = 0; i < rules_count; i++) {
        struct err e = {.text = ""};
        char text[4096];
        bool holds = false;
        if (!rules_table[i].rule)
            continue;
        ck_assert_int_lt(snprintf(text, sizeof text, "(true || (%s)) && true", rules_table[i].rule),
            (int)sizeof text);
        ck_assert_msg(
            !cel_holds(text, NULL, &holds, &e) && holds, "%s: %s", rules_table[i].rule, e.text);
    }
}
END_TEST

static int defaults; /* looked at, by hold_of_defaults */

static void hold_of_defaults(const struct json *node)
{
    const struct json *def = json_get(node, "default");
    if (def && json_is_object(def)) {
        defaults++;
        json_each (rule, json_get(node, "x-kubernetes-validations")) {
            struct err e = {.text = ""};
            bool holds = false;
            const char *text = json_str(rule, "rule", "");
            ck_assert_msg(is_left_out(text) || (!cel_holds(text, def, &holds, &e) && holds),
                "%s: %s", text, e.text);
        }
    }
    json_each (part, node)
        hold_of_defaults(part);
}

/* The API server asks them before it fills in what is below, and takes no CRD where one fails. */
START_TEST(rules_hold_of_defaults_that_are_objects)
{
    struct err e;
    json_auto struct json *tree = NULL;
    ck_assert_int_eq(yaml_read_file("manifests/crd.yaml", 1 << 20, &tree, &e), 0);
    hold_of_defaults(json_path(json_first(tree), "spec.versions"));
    ck_assert_int_ge(defaults, 10);
}
END_TEST

/* Two groups, the same in both: with what was given, and with what is used. */
START_TEST(groups_are_there_that_were_given)
{
    static const struct {
        const char *group;
        bool given, used;
    } groups[] = {{"spec.train.masking", true, false}, {"spec.train.lora", false, false},
        {"spec.train.optimizer", true, true}, {"spec.checkpoint", true, true}};
    struct jobspec spec;
    struct err e = {.text = ""};
    ck_assert_int_eq(jobspecs_decode(jobspecs_pairs, "replicas", "1", &spec, &e), 0);
    json_auto struct json *body = NULL, *given = NULL, *used = NULL;
    static const char text[] = "{\"train\": {\"masking\": {}}, \"checkpoint\": {}}";
    ck_assert_int_eq(json_parse(text, strlen(text), &body, &e), 0);
    ck_assert_int_eq(rules_subject(&spec, body, &given, &e), 0);
    ck_assert_int_eq(rules_subject(&spec, NULL, &used, &e), 0);
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        ck_assert_msg(!json_path(given, groups[i].group) != groups[i].given, "%s", groups[i].group);
        ck_assert_msg(!json_path(used, groups[i].group) != groups[i].used, "%s", groups[i].group);
    }
    ck_assert_str_eq(json_string_value(json_path(used, "metadata.name")), spec.name);
}
END_TEST

/* What a planner may choose: as much as each rule leaves. */
START_TEST(a_training_may_choose_what_no_rule_is_against)
{
    static const struct {
        const char *document, *target, *value;
        struct rules_most most;
    } table[] = {
        {jobspecs_masked, "parallelism", "{}", {8, 8, 3}},
        {jobspecs_masked, "replicas", "1", {8, 8, 1}}, /* balance Measured */
        {jobspecs_masked, "precision", "FP16", {8, 8, 1}},
        {jobspecs_masked, "train.optimizer", "{name: Muon}", {0, 0, 1}},
        {jobspecs_texts, "replicas", "1", {8, 0, 3}}, {jobspecs_pairs, "replicas", "1", {8, 0, 1}},
        {jobspecs_dpo, "replicas", "1", {0, 0, 1}}, /* with AdaLoRA */
        {jobspecs_epochs, "replicas", "1", {0, 0, 1}},
        {jobspecs_train, "parallelism.zeroStage", "0", {0, 0, 0}}, /* with histograms */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct jobspec spec;
        struct rules_most most;
        struct err e = {.text = ""};
        ck_assert_msg(
            !jobspecs_decode(table[i].document, table[i].target, table[i].value, &spec, &e), "%s",
            e.text);
        ck_assert_int_eq(rules_most_of_training(&spec, 8, &most, &e), 0);
        ck_assert_msg(most.tensor == table[i].most.tensor &&
                most.pipeline == table[i].most.pipeline &&
                most.zero_stage == table[i].most.zero_stage,
            "%d: %d %d %d", (int)i, most.tensor, most.pipeline, most.zero_stage);
    }
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"rules", 60, jobspecs_begin, jobspecs_end},
        (const TTest *const[]){the_table_is_the_crds, every_rule_is_understood_to_its_end,
            rules_hold_of_defaults_that_are_objects, groups_are_there_that_were_given,
            a_training_may_choose_what_no_rule_is_against, NULL});
}
