/*
 * Goal: what a text of a spec may be is decided as the CRD's patterns decide it, at their edges.
 * Method: a table of texts with the verdict of each; that both agree on many more, and on every
 * field, is test_jobspec's.
 */
#include "api/jobspec_text.h"

#include "tests/unit.h"

static const struct {
    const struct field_format *format;
    const char *text;
    bool ok;
} texts[] = {
    {&jobspec_path_format, "/data/x", true},
    {&jobspec_path_format, "data/x", false},
    {&jobspec_path_format, "/data/../x", false},
    {&jobspec_path_format, "/data/.hidden", true},
    {&jobspec_path_format, "/data//x", false},
    {&jobspec_label_format, "a-1", true},
    {&jobspec_label_format, "1-a", true},
    {&jobspec_label_format, "a-", false},
    {&jobspec_label_format, "A", false},
    {&jobspec_job_format, "1-a", false},
    {&jobspec_job_format, "a-1", true},
    {&jobspec_subdomain_format, "a.b-c.d", true},
    {&jobspec_subdomain_format, "a..b", false},
    {&jobspec_qualified_format, "example.com/A_b.c", true},
    {&jobspec_qualified_format, "/a", false},
    {&jobspec_device_format, "cpu", true},
    {&jobspec_device_format, "nvidia.com/gpu", true},
    {&jobspec_device_format, "memory", false},
    {&jobspec_sha256_format, "00", false},
    {&jobspec_module_format, "q_proj", true},
    {&jobspec_module_format, "q proj", false},
    {&jobspec_operator_format, "Exists", true},
    {&jobspec_operator_format, "exists", false},
    {&jobspec_effect_format, "NoExecute", true},
    {&jobspec_effect_format, "", false},
    {&jobspec_model_format, "org/model:1", true},
    {&jobspec_url_format, "http://a", true},
    {&jobspec_url_format, "https://a.b:1/c?d=e#f", true},
    {&jobspec_url_format, "http://[::1]:8/", true},
    {&jobspec_url_format, "http://10.0.0.1:9095/hook", true},
    {&jobspec_url_format, "http://a/~!", true},
    {&jobspec_url_format, "", false},
    {&jobspec_url_format, "a", false},
    {&jobspec_url_format, "ftp://a/", false},
    {&jobspec_url_format, "http:/a", false},
    {&jobspec_url_format, "http://", false},
    {&jobspec_url_format, "http:///x", false},
    {&jobspec_url_format, "http://me:secret@host/", false},
    {&jobspec_url_format, "http://a b/", false},
    {&jobspec_url_format, "http://a/b c", false},
    {&jobspec_url_format, "httpx://a", false},
    {&jobspec_url_format, "http://a?b", false},
    {&jobspec_url_format, "http://a/\n", false},
    {&jobspec_url_format, "http://a/\xc3\xa4", false},
    {&jobspec_url_format, "HTTP://a", false},
};

START_TEST(test_texts)
{
    ck_assert_msg(texts[_i].format->ok(texts[_i].text) == texts[_i].ok, "\"%s\" is %s%s",
        texts[_i].text, texts[_i].ok ? "" : "not ", texts[_i].format->want);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("jobspec_text");
    TCase *t = tcase_create("jobspec_text");
    tcase_add_loop_test(t, test_texts, 0, (int)(sizeof texts / sizeof *texts));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
