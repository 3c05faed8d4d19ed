/*
 * walks: answers to schemas without a model. A line of standard input is a JSON schema, the line
 * that is printed for it says {"refused": why}, or {"texts": [...]}: so many texts that the grammar
 * of the schema allows, drawn at random, by bytes and by tokens in turn.
 *
 *     walks TEXTS SEED <schemas
 */
#include "base/json.h"
#include "base/mem.h"
#include "tests/runtime/grammar/walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES ((size_t)4 << 20)

static int draw_texts(const struct automaton *a, const struct vocab *v, int texts, uint64_t *seed,
    struct jsonw *w, struct err *e)
{
    int rc = 0;
    jsonw_open(w, "texts", '[');
    for (int i = 0; i < texts && !rc; i++) {
        buf_auto struct buf text;
        buf_init(&text, LINE_BYTES);
        rc = walk_draw(a, i % 2 ? v : NULL, seed, &text, e);
        jsonw_strn(w, NULL, buf_cstr(&text), text.len);
    }
    jsonw_close(w);
    return rc;
}

static int answer(const char *schema, const struct vocab *v, int texts, uint64_t *seed)
{
    char path[128];
    struct automaton a;
    struct jsonw w;
    struct err e = {0};
    buf_auto struct buf out;
    buf_init(&out, (size_t)texts * LINE_BYTES);
    jsonw_init(&w, &out);
    jsonw_open(&w, NULL, '{');
    int rc = walk_compile(schema, &a, path, &e);
    if (rc == -ERR_USER) {
        jsonw_str(&w, "refused", e.text);
        rc = 0;
    } else if (!rc) {
        rc = draw_texts(&a, v, texts, seed, &w, &e);
    }
    jsonw_close(&w);
    automaton_done(&a);
    if (rc || jsonw_end(&w)) {
        fprintf(stderr, "walks: %s: %s\n", e.text, schema);
        return -1;
    }
    puts(out.data);
    return 0;
}

int main(int argc, char **argv)
{
    static char line[LINE_BYTES];
    uint64_t seed = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    int texts = argc == 3 ? (int)strtol(argv[1], NULL, 10) : 0, rc = 0;
    struct vocab *v = NULL;
    struct err e = {0};
    if (texts < 1 || walk_vocab(&v, &e)) {
        fprintf(stderr, "usage: walks TEXTS SEED <schemas\n");
        return 64;
    }
    while (!rc && fgets(line, sizeof line, stdin))
        rc = answer(line, v, texts, &seed);
    vocab_destroy(v);
    return rc ? 1 : 0;
}
