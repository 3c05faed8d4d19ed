/*
 * fuzz_questions: any bytes as a file of questions, by a small tokenizer. Must refuse with the
 * file's name, or give questions whose ids, choices and answers lie within what there is, and end.
 */
#include "runtime/evaluate/questions.h"

#include "base/mem.h"
#include "runtime/text/tok_def.h"

#include <stdlib.h>
#include <string.h>

#define LENGTH 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Some letters, a space, a line end, and two merges; what else a text has becomes nothing. */
static const char tokenizer[] =
    "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false},"
    "\"added_tokens\":[{\"id\":10,\"content\":\"<s>\",\"special\":true}],"
    "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"\xc4\xa0\":3,\"\xc4\x8a\":4,"
    "\"\xc4\xa0"
    "a\":5,\"ab\":6,\":\":7,\"e\":8,\"y\":9},\"merges\":[\"\xc4\xa0 a\",\"a b\"]}}";

static struct tok *open_tok(void)
{
    struct json *root = NULL;
    struct tok_def d;
    struct tok *t = NULL;
    struct err e = {0};
    struct arena *a = arena_create(1 << 20);
    if (!a || json_parse(tokenizer, strlen(tokenizer), &root, &e) ||
        tok_def_json(root, root, "fuzz", a, &d, &e) || tok_create(&d, "fuzz", &t, &e))
        abort();
    json_destroy(root);
    arena_destroy(a);
    return t;
}

static void check(const struct questions *q, const struct question *x)
{
    if (x->choices < 2 || x->choices > QUESTIONS_CHOICES || x->answer < 0 ||
        x->answer >= x->choices || x->count < 1 || x->first < 0 ||
        x->first + x->count > q->ids.count || x->choice + x->choices > q->choice_count)
        abort();
    for (int k = 0; k < x->choices; k++) {
        const struct questions_choice *c = &q->choices[x->choice + k];
        if (c->count < 1 || c->count > LENGTH || c->characters < 1 ||
            c->first + c->count > q->ids.count)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tok *tok;
    struct questions q = {.list = NULL};
    struct err e = {0};
    if (!tok)
        tok = open_tok();
    const struct questions_conf c = {.path = "f.jsonl", .tok = tok, .length = LENGTH};
    int rc = questions_read(&c, (const char *)data, size, &q, &e);
    if (rc && !strstr(e.text, "f.jsonl: "))
        abort();
    for (int64_t i = 0; i < q.count && !rc; i++)
        check(&q, &q.list[i]);
    questions_done(&q);
    return 0;
}
