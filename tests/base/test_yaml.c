/*
 * Goal: a manifest is the same JSON here as kubectl makes of it (kind: a file that means one thing
 * to one reader and another to the next); what a manifest does not need is refused by line. Method:
 * texts beside the JSON that sigs.k8s.io/yaml makes of them; every refusal with its line; each
 * prefix of a real manifest; faults.
 * needs: faults
 */
#include "base/yaml.h"

#include "base/mem.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

static const char manifest[] =
    "apiVersion: llmjob.dev/v1alpha1\n"
    "kind: LLMJob\n"
    "metadata:\n"
    "  name: finetune   # a comment\n"
    "spec:\n"
    "  replicas: 2\n"
    "  storage:\n"
    "  - {name: data, claimName: models, mountPath: /models, readOnly: true}\n"
    "  - name: out\n"
    "    scratch: 1Gi\n"
    "  train:\n"
    "    optimizer: {learningRate: 2e-4, beta2: .95}\n"
    "    note: |\n"
    "      two\n"
    "      lines\n";

static void expect(const char *text, const char *json)
{
    json_auto struct json *v = NULL;
    struct err e;
    int rc = yaml_parse(text, strlen(text), &v, &e);
    ck_assert_msg(rc == 0, "%s: %s", text, rc ? e.text : "");
    buf_auto struct buf b;
    buf_init(&b, 100000);
    ck_assert_int_eq(json_print(v, &b), 0);
    ck_assert_str_eq(buf_cstr(&b), json);
}

START_TEST(documents)
{
    expect("", "[]");
    expect("# only a comment\n", "[]");
    expect("---\n", "[null]");
    expect("\xef\xbb\xbf"
           "a: 1\n",
        "[{\"a\":1}]"); /* a byte order mark */
    expect("a: 1\n---\n- b\n...\n", "[{\"a\":1},[\"b\"]]");
    expect("{\"json\": [1, \"x\", null]}", "[{\"json\":[1,\"x\",null]}]");
    expect(manifest,
        "[{\"apiVersion\":\"llmjob.dev/"
        "v1alpha1\",\"kind\":\"LLMJob\",\"metadata\":{\"name\":\"finetune\"},"
        "\"spec\":{\"replicas\":2,\"storage\":[{\"name\":\"data\",\"claimName\":\"models\","
        "\"mountPath\":\"/models\",\"readOnly\":true},{\"name\":\"out\",\"scratch\":\"1Gi\"}],"
        "\"train\":{\"optimizer\":{\"learningRate\":0.0002,\"beta2\":0.95},\"note\":"
        "\"two\\nlines\\n\"}}}]");
}
END_TEST

START_TEST(scalars_as_kubectl_reads_them)
{
    expect("[null, Null, NULL, ~, nUll, '', \"null\"]",
        "[[null,null,null,null,\"nUll\",\"\",\"null\"]]");
    expect("[true, True, TRUE, yes, Yes, YES, on, On, ON, y, Y]",
        "[[true,true,true,true,true,true,true,true,true,true,true]]");
    expect("[false, False, FALSE, no, No, NO, off, Off, OFF, n, N]",
        "[[false,false,false,false,false,false,false,false,false,false,false]]");
    expect("[tRue, yEs, oN, nO, 'true', \"yes\", 'off', 'y']",
        "[[\"tRue\",\"yEs\",\"oN\",\"nO\",\"true\",\"yes\",\"off\",\"y\"]]");
    expect(
        "[0, -1, +12, 1., .5, -0.25, 1e3, 1E-2, 1.5e+3]", "[[0,-1,12,1,0.5,-0.25,1000,0.01,1500]]");
    expect("[007, 010, -010, 089, 0x1F, -0x10, 0o17, 0b101, 1_000, 1_0.5, 0_7, 00]",
        "[[7,8,-8,89,31,-16,15,5,1000,10.5,7,0]]");
    expect("[1Gi, 100m, 1.2.3, 12:30, '8', 0x, 0xG, 0b2, 0o8, -, e5, ., 1e, +, _1, ._5]",
        "[[\"1Gi\",\"100m\",\"1.2.3\",\"12:30\",\"8\",\"0x\",\"0xG\",\"0b2\",\"0o8\",\"-\","
        "\"e5\",\".\",\"1e\",\"+\",\"_1\",\"._5\"]]");
    expect("[2024-01-01, 2024-01-01T00:00:00Z]", "[[\"2024-01-01\",\"2024-01-01T00:00:00Z\"]]");
    expect("a:\nb: \"\\u00e9\\n\"\n1: x\n0x10: w\non: z\n'off': '0'\n",
        "[{\"a\":null,\"b\":\"\xc3\xa9\\n\",\"1\":\"x\",\"16\":\"w\",\"true\":\"z\","
        "\"off\":\"0\"}]");
    expect("<<: 1", "[{\"<<\":1}]");
}
END_TEST

START_TEST(refusals_name_the_line)
{
    static const struct {
        const char *text, *error;
    } bad[] = {
        {"a: 1\nb: 2\na: 3\n", "YAML line 3: duplicate key \"a\""},
        {"a: &x 1\n", "YAML line 1: anchors are not accepted"},
        {"a: 1\nb: &x {}\n", "YAML line 2: anchors are not accepted"},
        {"a: &x [1]\n", "YAML line 1: anchors are not accepted"},
        {"a: 1\nb: *x\n", "YAML line 2: aliases are not accepted"},
        {"a: !!int 1\n", "YAML line 1: tags are not accepted"},
        {"a: !foo {}\n", "YAML line 1: tags are not accepted"},
        {"\n? [a]\n: b\n", "YAML line 2: a key must be a scalar"},
        {"a: \"x\\0y\"\n", "YAML line 1: a NUL character"},
        {"a: 1e999\n", "YAML line 1: a number out of range"},
        {"a: .inf\n", "YAML line 1: a number out of range"},
        {"a: 1\n-.INF: b\nc: .nan\n", "YAML line 3: a number out of range"},
        {"a: 1\n~: b\n", "YAML line 2: null is no key"},
        {"yes: 1\nOn: 2\n", "YAML line 2: duplicate key \"true\""},
        {"a: 1\n b: 2\n", NULL},
        {"a: [1\n", NULL},
        {"a: \"x\n", NULL},
        {"\tb: 1\n", NULL},
        {"a: b: c\n", NULL},
        {"%YAML 3.0\n---\n", NULL},
        {"a: \xff\n", NULL},
        {"@\n", NULL},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct json *v = NULL;
        struct err e;
        ck_assert_msg(yaml_parse(bad[i].text, strlen(bad[i].text), &v, &e) == -ERR_DATA && !v,
            "\"%s\" was taken", bad[i].text);
        if (bad[i].error)
            ck_assert_str_eq(e.text, bad[i].error);
        ck_assert_int_eq(strncmp(e.text, "YAML ", 5), 0);
    }
}
END_TEST

START_TEST(bounds)
{
    char text[400];
    for (int depth = JSON_DEPTH; depth <= JSON_DEPTH + 1; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        struct json *v = NULL;
        struct err e;
        ck_assert_int_eq(
            yaml_parse(text, 2 * (size_t)depth, &v, &e), depth > JSON_DEPTH ? -ERR_DATA : 0);
        json_destroy(v);
    }
    buf_auto struct buf b;
    buf_init(&b, 1 << 20);
    for (int i = 0; i < 4097; i++) {
        struct json *v = NULL;
        buf_printf(&b, "k%d: 1\n", i);
        if (i < 4095)
            continue;
        struct err e;
        ck_assert_int_eq(yaml_parse(b.data, b.len, &v, &e), i < 4096 ? 0 : -ERR_DATA);
        json_destroy(v);
    }
}
END_TEST

START_TEST(every_prefix_ends_well)
{
    int taken = 0;
    for (size_t n = 0; n < sizeof manifest; n++) {
        mem_autofree char *copy = mem_strndup(manifest, n);
        struct json *v = NULL;
        int rc = yaml_parse(copy, n < sizeof manifest - 1 ? n : sizeof manifest - 1, &v, NULL);
        ck_assert(rc == 0 || rc == -ERR_DATA);
        ck_assert((rc == 0) == (v != NULL));
        taken += rc == 0;
        json_destroy(v);
    }
    ck_assert_int_gt(taken, 10);
}
END_TEST

static int parse_manifest(void *user)
{
    (void)user;
    struct json *v = NULL;
    struct err e = {0};
    int rc = yaml_parse(manifest, sizeof manifest - 1, &v, &e);
    ck_assert(rc ? !v && e.code == ERR_MEMORY : v != NULL);
    json_destroy(v);
    return rc;
}

static int read_manifest(void *path)
{
    json_auto struct json *v = NULL;
    return yaml_read_file(path, 10000, &v, NULL);
}

START_TEST(faults)
{
    fault_each(FAULT_MEM, parse_manifest, NULL);
    char path[] = "/tmp/test_yaml.XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(io_write_full(fd, manifest, sizeof manifest - 1, NULL), 0);
    io_close(fd);
    fault_each(FAULT_MEM, read_manifest, path);
    fault_each(FAULT_IO, read_manifest, path);
    struct json *v = NULL;
    struct err e;
    ck_assert_int_eq(yaml_read_file(path, 10, &v, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ck_assert_int_eq(io_write_file(path, "a: [", 4, 0600, NULL), 0);
    ck_assert_int_eq(yaml_read_file(path, 10, &v, &e), -ERR_DATA);
    ck_assert_ptr_nonnull(strstr(e.text, path));
    ck_assert_ptr_null(v);
    remove(path);
}
END_TEST

UNIT_MAIN("yaml", documents, scalars_as_kubectl_reads_them, refusals_name_the_line, bounds,
    every_prefix_ends_well, faults)
