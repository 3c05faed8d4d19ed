/*
 * monitor_line: goal: a line becomes a text with its time and id, or is refused by a sentence that
 * says why; what is answered is one line, whatever was in it. Method: a table.
 */
#include "agent/monitor_line.h"

#include "tests/unit.h"

#include <string.h>

#define WALL_MS INT64_C(1767225600000) /* 2026-01-01 */

static struct monitor_line line;

static const char *wrong(const char *text)
{
    static char copy[256];
    json_auto struct json *tree = NULL;
    const char *said;
    monitor_line_read(text, strlen(text), WALL_MS, &line, &tree, &said);
    ck_assert(!*line.wrong == (said != NULL));
    snprintf(copy, sizeof copy, "%s", *line.wrong ? line.wrong : said);
    return copy;
}

START_TEST(lines)
{
    static const struct {
        const char *text, *says;
        int64_t ms;
        const char *id;
    } table[] = {
        {"{\"text\":\"a\"}", "a", WALL_MS, ""},
        {"{\"text\":\"a\",\"time\":null,\"id\":null}\r", "a", WALL_MS, ""},
        {"{\"id\":\"x\\\"y\",\"time\":\"2002-08-22T12:36:23+01:00\",\"text\":\"a\",\"more\":{}}",
            "a", INT64_C(1030016183000), "\"x\\\"y\""},
        {"{\"text\":\"a\",\"time\":1.5,\"id\":7}", "a", 1500, "7"},
        {"{\"text\":\"a\",\"time\":1767225660}", "a", WALL_MS + 60000, ""},
        {"{\"text\":\"a\",\"time\":1767225661}", "time lies more than a minute ahead",
            WALL_MS + 61000, ""},
        {"{\"text\":\"a\",\"time\":-1}", "time must be as", -1, ""},
        {"{\"text\":\"a\",\"time\":\"yesterday\"}", "time must be as", -1, ""},
        {"{\"text\":\"a\",\"time\":[]}", "time must be as", -1, ""},
        {"{\"text\":\"a\",\"id\":[1]}", "id must be", WALL_MS, ""},
        {"{\"text\":\"\"}", "text must not be empty", WALL_MS, ""},
        {"{\"text\":5}", "text must be a string", WALL_MS, ""},
        {"{\"id\":5}", "text is needed", WALL_MS, ""},
        {"{\"text\":\"a\",\"text\":\"b\"}", "text is given twice", WALL_MS, ""},
        {"{\"text\":\"a\",\"more\":1,\"more\":2}", "a", WALL_MS, ""},
        {"[\"a\"]", "a line must be a JSON object", WALL_MS, ""},
        {"{\"text\":\"a\"", "a line must be JSON", WALL_MS, ""},
        {"{\"text\":\"a\\u0000\"}", "a line must be JSON", WALL_MS, ""},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_msg(strstr(wrong(table[i].text), table[i].says), "%s: %s", table[i].text,
            wrong(table[i].text));
        ck_assert_msg(line.ms == table[i].ms, "%s: %lld", table[i].text, (long long)line.ms);
        ck_assert_str_eq(line.id, table[i].id);
    }
}
END_TEST

START_TEST(what_is_too_long)
{
    char *text = mem_zalloc(MONITOR_LINE_BYTES + 32);
    json_auto struct json *tree = NULL;
    const char *said;
    ck_assert_ptr_nonnull(text);
    memset(text, ' ', MONITOR_LINE_BYTES + 1);
    memcpy(text, "{\"text\":\"a\"}", 12);
    monitor_line_read(text, MONITOR_LINE_BYTES + 1, WALL_MS, &line, &tree, &said);
    ck_assert_ptr_nonnull(strstr(line.wrong, "262144"));
    monitor_line_read(text, MONITOR_LINE_BYTES, WALL_MS, &line, &tree, &said);
    ck_assert_str_eq(said, "a");
    json_destroy(tree);
    tree = NULL;
    memcpy(text, "{\"text\":\"a\",\"id\":\"", 18);
    memset(text + 18, 'i', MONITOR_ID_BYTES);
    memcpy(text + 18 + MONITOR_ID_BYTES, "\"}", 2);
    monitor_line_read(text, MONITOR_LINE_BYTES, WALL_MS, &line, &tree, &said);
    ck_assert_ptr_nonnull(strstr(line.wrong, "id must be"));
    mem_free(text);
}
END_TEST

static const char *answer(const char *element, const char *why)
{
    static char copy[512];
    json_auto struct json *v = NULL;
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, 512);
    if (element)
        ck_assert_int_eq(json_parse(element, strlen(element), &v, &e), 0);
    monitor_line_answer(&line, v, why, &out);
    snprintf(copy, sizeof copy, "%s", buf_cstr(&out));
    return copy;
}

START_TEST(answers)
{
    line = (struct monitor_line){.index = 3, .ms = WALL_MS, .id = "\"x\""};
    ck_assert_str_eq(answer("{\"index\":9,\"label\":\"spam\",\"probs\":[0.25,0.75],"
                            "\"num_classes\":2}",
                         NULL),
        "{\"index\":3,\"id\":\"x\",\"time\":\"2026-01-01T00:00:00Z\",\"label\":\"spam\","
        "\"probs\":[0.25,0.75]}\n");
    line.id[0] = 0;
    ck_assert_str_eq(answer("{\"label\":\"a\",\"probs\":[0.5],\"labels\":[\"a\",\"b\"]}", NULL),
        "{\"index\":3,\"time\":\"2026-01-01T00:00:00Z\",\"label\":\"a\",\"labels\":[\"a\",\"b\"],"
        "\"probs\":[0.5]}\n");
    ck_assert_str_eq(answer(NULL, "a\nb"), "{\"index\":3,\"error\":\"a\\nb\"}\n");
    snprintf(line.wrong, sizeof line.wrong, "bad");
    ck_assert_str_eq(answer(NULL, "ok"), "{\"index\":3,\"error\":\"bad\"}\n");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"monitor_line", 30, NULL, NULL},
        (const TTest *const[]){lines, what_is_too_long, answers, NULL});
}
