/*
 * pair: what is prompt is found first; then both answers go through the same lines.
 */
#include "runtime/data/pair.h"

#include "base/mem.h"
#include "runtime/data/dialogue.h"

#include <string.h>

#define PRINT_LIMIT ((size_t)64 << 20) /* bytes of a message, to compare it */

static const char *const answers[] = {"chosen", "rejected"};

bool pair_is(const struct json *record)
{
    return json_get(record, "chosen") && json_get(record, "rejected");
}

/* 1: equal; 0: not. */
static int same_json(const struct json *a, const struct json *b, struct err *e)
{
    buf_auto struct buf x, y;
    buf_init(&x, PRINT_LIMIT);
    buf_init(&y, PRINT_LIMIT);
    if (json_print(a, &x) || json_print(b, &y))
        return err_set(e, ERR_MEMORY, "no memory to compare two answers");
    return x.len == y.len && !strcmp(buf_cstr(&x), buf_cstr(&y));
}

static int refuse_same(struct err *e)
{
    return err_set(e, ERR_DATA, "\"chosen\" and \"rejected\" are the same");
}

/* -- strings -- */

/* Bytes of both that are one prompt, whole characters. */
static size_t common_text(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    while (n && (((unsigned char)a[n] & 0xc0) == 0x80 || ((unsigned char)b[n] & 0xc0) == 0x80))
        n--;
    return n && a[n - 1] == ' ' ? n - 1 : n;
}

static int encode_texts(const struct tok *t, const char *prompt, const char *const text[2],
    struct tok_ids *out, struct pair *p, struct err *e)
{
    mem_autofree char *common = NULL;
    size_t n = 0;
    if (!strcmp(text[0], text[1]))
        return refuse_same(e);
    if (!prompt) {
        n = common_text(text[0], text[1]);
        prompt = common = mem_strndup(text[0], n);
    }
    if (!prompt)
        return err_set(e, ERR_MEMORY, "no memory for a prompt");
    for (int i = 0; i < 2; i++) {
        int64_t first = out->count;
        int rc = dialogue_completion(t, prompt, text[i] + n, out, &p->learnt[i], e);
        if (rc)
            return err_wrap(e, "\"%s\"", answers[i]);
        p->count[i] = out->count - first;
    }
    return 0;
}

/* -- messages -- */

static int common_messages(const struct json *a, const struct json *b, size_t *out, struct err *e)
{
    const struct json *x = json_first(a), *y = json_first(b);
    size_t n = 0;
    for (; x && y; n++, x = json_next(x), y = json_next(y)) {
        int same = same_json(x, y, e);
        if (same < 0)
            return same;
        if (!same)
            break;
    }
    if (!x && !y)
        return refuse_same(e);
    *out = n;
    return 0;
}

static int encode_messages(const struct tok *t, struct chat *c, const struct json *prompt,
    const struct json *const list[2], struct tok_ids *out, struct pair *p, struct err *e)
{
    size_t n = 0;
    int rc = common_messages(list[0], list[1], &n, e);
    if (rc)
        return rc;
    n = prompt ? json_count(prompt) : n;
    if (!n)
        return err_set(e, ERR_DATA,
            prompt
                ? "\"prompt\": no message"
                : "no \"prompt\", and no message that \"chosen\" and \"rejected\" both begin with");
    for (int i = 0; i < 2; i++) {
        int64_t first = out->count;
        const struct json *const lists[] = {prompt, list[i]};
        rc = dialogue_answer(t, c, lists, n, out, &p->learnt[i], e);
        if (rc)
            return err_wrap(e, "\"%s\"", answers[i]);
        p->count[i] = out->count - first;
    }
    return 0;
}

/* One that is damaged says so itself. */
int pair_refuse_chat(const struct err *missing, struct err *e)
{
    return err_set(e, missing->code, "%s%s",
        missing->code == ERR_USER ? "messages need a chat template: " : "", missing->text);
}

int pair_encode(const struct tok *t, struct chat *c, const struct err *missing,
    const struct json *record, struct tok_ids *out, struct pair *p, struct err *e)
{
    const struct json *prompt = json_get(record, "prompt");
    const struct json *const both[] = {json_get(record, answers[0]), json_get(record, answers[1])};
    const char *const text[] = {json_string_value(both[0]), json_string_value(both[1])};
    bool messages = json_is_array(both[0]) && json_is_array(both[1]);
    if (text[0] && text[1] && (!prompt || json_string_value(prompt)))
        return encode_texts(t, json_string_value(prompt), text, out, p, e);
    if (!messages || (prompt && !json_is_array(prompt)))
        return err_set(e, ERR_DATA,
            "\"chosen\", \"rejected\" and \"prompt\", where there is one, must all be strings or "
            "all lists of messages");
    if (!c)
        return pair_refuse_chat(missing, e);
    return encode_messages(t, c, prompt, both, out, p, e);
}
