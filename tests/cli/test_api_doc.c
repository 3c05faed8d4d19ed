/*
 * Goal: docs/api.md says what manifests/crd.yaml says.
 * Method: the document is made again and compared; small CRDs show what is refused and how a field
 * is shown.
 */
#include "base/io.h"
#include "base/yaml.h"
#include "cli/api_doc.h"
#include "cli/pairs.h"

#include <check.h>

static int render(const char *yaml, size_t len, struct buf *out, struct err *e)
{
    json_auto struct json *documents = NULL;
    buf_init(out, 1 << 20);
    ck_assert_int_eq(yaml_parse(yaml, len, &documents, e), 0);
    return api_doc_render(json_first(documents), out, e);
}

START_TEST(test_docs_are_current)
{
    struct err e = {.text = ""};
    buf_auto struct buf crd, doc, made;
    buf_init(&crd, 1 << 20);
    buf_init(&doc, 1 << 20);
    ck_assert_int_eq(io_read_file("manifests/crd.yaml", 1 << 20, &crd, &e), 0);
    ck_assert_int_eq(io_read_file("docs/api.md", 1 << 20, &doc, &e), 0);
    ck_assert_msg(!render(crd.data, crd.len, &made, &e), "%s", e.text);
    ck_assert_msg(!pairs_render(&made, &e), "%s", e.text);
    ck_assert_msg(!strcmp(made.data, doc.data),
        "docs/api.md is old: llmjob api-doc manifests/crd.yaml >docs/api.md");
}
END_TEST

#define HEAD \
    "{spec: {group: g, names: {kind: K}, versions: [{name: v1, schema: {openAPIV3Schema: " \
    "{description: D., properties: "
#define TAIL "}}}]}}"

START_TEST(test_rows)
{
    static const char crd[] =
        HEAD "{spec: {description: S., required: [a], properties: {"
             "a: {description: 'x | y', type: string, maxLength: 5},"
             "b: {description: B., type: integer, minimum: 1, maximum: 9, default: 2},"
             "c: {description: C., type: number, minimum: 0, exclusiveMinimum: true, "
             "maximum: 1, exclusiveMaximum: true},"
             "d: {description: D., type: array, maxItems: 3, items: {type: object, "
             "x-kubernetes-validations: "
             "[{rule: r, message: rule of d}], properties: {e: {description: E., enum: [P, "
             "Q], type: string}}}}}},"
             "status: {description: T., properties: {}}}" TAIL;
    static const char *const expect[] = {
        "# K, `g/v1`",
        "| `spec.a` | string | required | up to 5 characters | x \\| y |",
        "| `spec.b` | integer | `2` | 1 to 9 | B. |",
        "| `spec.c` | number |  | above 0 to below 1 | C. |",
        "| `spec.d` | list of objects |  | up to 3 items | D. |",
        "| `spec.d[].e` | string |  | P, Q | E. |",
        "- `spec.d[]`: rule of d",
    };
    struct err e = {.text = ""};
    buf_auto struct buf out;
    ck_assert_msg(!render(crd, sizeof crd - 1, &out, &e), "%s", e.text);
    for (size_t i = 0; i < sizeof expect / sizeof *expect; i++)
        ck_assert_msg(strstr(out.data, expect[i]), "no '%s' in:\n%s", expect[i], out.data);
}
END_TEST

START_TEST(test_refused)
{
    static const char undescribed[] =
        HEAD "{spec: {properties: {a: {type: string}}}, status: {}}" TAIL;
    static const char no_status[] = HEAD "{spec: {properties: {}}}" TAIL;
    static const char pod[] = "{kind: Pod}";
    struct err e = {.text = ""};
    buf_auto struct buf a, b, c;
    ck_assert_int_eq(render(undescribed, sizeof undescribed - 1, &a, &e), -ERR_USER);
    ck_assert_str_eq(e.text, "spec.a: no description");
    ck_assert_int_eq(render(no_status, sizeof no_status - 1, &b, &e), -ERR_USER);
    ck_assert_int_eq(render(pod, sizeof pod - 1, &c, &e), -ERR_USER);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("api_doc");
    TCase *t = tcase_create("api_doc");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_docs_are_current);
    tcase_add_test(t, test_rows);
    tcase_add_test(t, test_refused);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
