/*
 * Goal: of a folder's files beside config.json it is read how embeddings are made, and what would
 * change them and is not done is refused by its name. Method: a table of modules.json and of the
 * files that they name.
 */
#include "runtime/family/pooling.h"

#include "base/io.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static char folder[64];
static struct err e;

#define MODULE(n, path, class) \
    "{\"idx\": " n ", \"path\": \"" path "\", \"type\": \"sentence_transformers.models." class "\"}"
#define TRANSFORMER MODULE("0", "", "Transformer")
#define POOLING     MODULE("1", "1_Pooling", "Pooling")
#define NORMALIZE   MODULE("2", "2_Normalize", "Normalize")
#define ALL         "[" TRANSFORMER ", " POOLING ", " NORMALIZE "]"
#define MEAN        "{\"pooling_mode_mean_tokens\": true, \"pooling_mode_cls_token\": false}"

static const struct {
    const char *modules, *pooling, *transformer, *more; /* NULL: there is no such file */
    const char *refused;                                /* a word of the message */
    struct pooling found;
} cases[] = {
    {NULL, NULL, NULL, NULL, NULL, {false, POOLING_MEAN, true, 0}},
    {ALL, MEAN, "{\"max_seq_length\": 256, \"do_lower_case\": false}", "{\"prompts\": {}}", NULL,
        {true, POOLING_MEAN, true, 256}},
    {"[" TRANSFORMER ", " POOLING "]", "{\"pooling_mode_cls_token\": true}", NULL, NULL, NULL,
        {true, POOLING_FIRST, false, 0}},
    {ALL, "{\"word_embedding_dimension\": 8, \"pooling_mode_lasttoken\": true}", "{}", NULL, NULL,
        {true, POOLING_LAST, true, 0}},
    {"[" TRANSFORMER ", " POOLING ", " MODULE("2", "2_Dense", "Dense") "]", MEAN, NULL, NULL,
        "Dense", {0}},
    {"[" POOLING "]", MEAN, NULL, NULL, "Pooling", {0}},
    {"[" TRANSFORMER "]", NULL, NULL, NULL, "no Pooling", {0}},
    {"[" TRANSFORMER ", " MODULE("1", "../x", "Pooling") "]", NULL, NULL, NULL, "no folder", {0}},
    {ALL, NULL, NULL, NULL, "1_Pooling/config.json", {0}},
    {ALL, "{\"pooling_mode_max_tokens\": true}", NULL, NULL, "pooling_mode_max_tokens", {0}},
    {ALL, "{\"pooling_mode_cls_token\": true, \"pooling_mode_mean_tokens\": true}", NULL, NULL,
        "2 kinds", {0}},
    {ALL, "{}", NULL, NULL, "0 kinds", {0}},
    {ALL, "{\"pooling_mode_mean_tokens\": true, \"include_prompt\": false}", NULL, NULL,
        "include_prompt", {0}},
    {ALL, MEAN, "{\"do_lower_case\": true}", NULL, "do_lower_case", {0}},
    {ALL, MEAN, "{\"max_seq_length\": -3}", NULL, "max_seq_length", {0}},
    {ALL, MEAN, NULL, "{\"default_prompt_name\": \"query\"}", "default_prompt_name", {0}},
    {"[", NULL, NULL, NULL, "modules.json", {0}},
};

static void write_file(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (text)
        golden_write(path, text, strlen(text));
}

START_TEST(folders_say_how)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pooling p = {.tokens = -1};
        char path[128];
        golden_folder(folder);
        snprintf(path, sizeof path, "%s/1_Pooling", folder);
        ck_assert(!io_mkdirs(path, 0755, &e));
        write_file("modules.json", cases[i].modules);
        write_file("1_Pooling/config.json", cases[i].pooling);
        write_file("sentence_bert_config.json", cases[i].transformer);
        write_file("config_sentence_transformers.json", cases[i].more);
        int rc = pooling_read(folder, &p, &e);
        if (cases[i].refused) {
            ck_assert_int_eq(rc, -ERR_DATA);
            ck_assert_msg(strstr(e.text, cases[i].refused), "case %zu: %s", i, e.text);
            ck_assert_int_eq(p.tokens, -1);
        } else {
            ck_assert_msg(!rc, "case %zu: %s", i, e.text);
            ck_assert(p.said == cases[i].found.said && p.kind == cases[i].found.kind &&
                p.normalized == cases[i].found.normalized && p.tokens == cases[i].found.tokens);
        }
        golden_remove(folder);
    }
}
END_TEST

START_TEST(what_is_written_is_read)
{
    static const struct pooling all[] = {{true, POOLING_MEAN, true, 0},
        {true, POOLING_FIRST, false, 7}, {true, POOLING_LAST, true, 256}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct pooling p = {0};
        golden_folder(folder);
        ck_assert_msg(!pooling_write(folder, &all[i], 8, &e), "%s", e.text);
        ck_assert_msg(!pooling_read(folder, &p, &e), "%s", e.text);
        ck_assert(p.said && p.kind == all[i].kind && p.normalized == all[i].normalized &&
            p.tokens == all[i].tokens);
        golden_remove(folder);
        ck_assert(pooling_of_gguf(pooling_to_gguf(all[i].kind), &p.kind) && p.kind == all[i].kind);
    }
    ck_assert(pooling_to_gguf(POOLING_MEAN) == 1 && pooling_to_gguf(POOLING_FIRST) == 2 &&
        pooling_to_gguf(POOLING_LAST) == 3);
    ck_assert(!pooling_of_gguf(0, NULL) && !pooling_of_gguf(POOLING_GGUF_RANK, NULL));
}
END_TEST

UNIT_MAIN("pooling", folders_say_how, what_is_written_is_read)
