/*
 * questions: a line at a time; nothing but tokens is kept of it.
 */
#include "runtime/evaluate/questions.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/data/source.h"
#include "runtime/text/guard.h"

#include <assert.h>
#include <string.h>

#define TEXT_BYTES ((size_t)8 << 20) /* of a rendered question */
#define OFTEN      64                /* questions between two looks at whether to go on */

struct asked { /* the question in hand */
    const struct questions_conf *c;
    struct buf context, whole;
    bool guarded;
};

/* -- texts -- */

static bool is_blank(char c)
{
    return c && strchr(" \t\n\r\v\f", c);
}

static int no_memory(struct err *e)
{
    return err_set(e, ERR_MEMORY, "no memory for a question");
}

static int render_chat(struct asked *a, const char *text, struct err *e)
{
    json_auto struct json *messages = json_new_array(), *guarded = NULL;
    struct json *turn = json_new_object();
    if (!messages || !turn || json_push(messages, turn)) /* takes it, also when it fails */
        return no_memory(e);
    if (json_put(turn, "role", json_new_string("user")) ||
        json_put(turn, "content", json_new_string(text)))
        return no_memory(e);
    struct err why = {0};
    int rc = guard_json(a->c->tok, messages, &guarded, &why);
    rc = rc ? rc : chat_render(a->c->chat, guarded, true, &a->context, &why);
    if (rc) /* what would be a client's error is the file's here */
        return err_set(e, rc == -ERR_USER ? ERR_DATA : why.code, "%s", why.text);
    return 0;
}

/* The context's text. */
static int make_context(struct asked *a, const struct json *v, struct err *e)
{
    const char *context = json_str(v, "context", NULL), *question = json_str(v, "question", NULL);
    if (!context == !question)
        return err_set(
            e, ERR_DATA, "no object with one of the strings \"context\" and \"question\"");
    buf_reset(&a->context);
    if (a->c->chat)
        return render_chat(a, question ? question : context, e);
    int rc = question ? buf_printf(&a->context, "Question: %s\nAnswer:", question)
                      : buf_str(&a->context, context);
    return rc ? no_memory(e) : 0;
}

static int encode(
    const struct asked *a, const char *text, size_t len, struct tok_ids *out, struct err *e)
{
    const struct tok_affix *before = tok_prefix(a->c->tok);
    int rc = 0;
    if (a->guarded)
        return tok_encode_guarded(a->c->tok, text, (int64_t)len, out, e);
    for (int i = 0; i < before->count && !rc; i++)
        rc = tok_ids_add(out, before->id[i], e);
    return rc ? rc : tok_encode(a->c->tok, text, (int64_t)len, true, out, e);
}

/* Something must come before what is predicted. */
static int add_begin(const struct asked *a, struct tok_ids *out, struct err *e)
{
    int32_t id = tok_bos(a->c->tok) >= 0 ? tok_bos(a->c->tok) : tok_eos(a->c->tok);
    if (id < 0)
        return err_set(e, ERR_DATA, "an empty context, and the model has no token to begin with");
    return tok_ids_add(out, id, e);
}

/* -- choices -- */

static int add_choice(struct questions *q, const struct questions_choice *x, struct err *e)
{
    if (q->choice_count == q->choice_capacity) {
        int64_t capacity = q->choice_capacity ? 2 * q->choice_capacity : 256;
        struct questions_choice *grown = mem_grow(q->choices, (size_t)capacity, sizeof *grown);
        if (!grown)
            return no_memory(e);
        q->choices = grown;
        q->choice_capacity = capacity;
    }
    q->choices[q->choice_count++] = *x;
    return 0;
}

/* kept: bytes of the context that stay its own; context: how many tokens they have. */
static int take_choice(struct asked *a, struct questions *q, int number, const char *text,
    size_t kept, int64_t context, struct err *e)
{
    struct questions_choice x = {.first = q->ids.count, .characters = (int64_t)utf8_count(text)};
    struct tok_ids whole = {0};
    const char *all = buf_cstr(&a->context);
    bool apart = !a->c->chat && !is_blank(*text) && kept == a->context.len && kept;
    if (!*text)
        return err_set(e, ERR_DATA, "\"choices\"[%d] is empty", number);
    buf_reset(&a->whole);
    if (buf_add(&a->whole, all, a->context.len) || (apart && buf_char(&a->whole, ' ')) ||
        (a->guarded ? tok_guard(a->c->tok, text, strlen(text), &a->whole)
                    : buf_str(&a->whole, text)))
        return no_memory(e);
    int rc = encode(a, buf_cstr(&a->whole), a->whole.len, &whole, e);
    for (int64_t i = context; i < whole.count && !rc; i++)
        rc = tok_ids_add(&q->ids, whole.id[i], e);
    tok_ids_done(&whole);
    if (rc)
        return rc;
    x.count = q->ids.count - x.first;
    if (!x.count)
        return err_set(e, ERR_DATA, "\"choices\"[%d] has no token of its own", number);
    if (x.count > a->c->length)
        return err_set(e, ERR_DATA,
            "\"choices\"[%d] has %lld tokens, and spec.evaluate.sequenceLength is %lld", number,
            (long long)x.count, (long long)a->c->length);
    return add_choice(q, &x, e);
}

static int find_answer(const struct json *v, int choices, int *out, struct err *e)
{
    const struct json *answer = json_get(v, "answer");
    const char *letter = json_is_string(answer) ? json_string_value(answer) : "";
    double n = json_is_number(answer) ? json_number_value(answer) : -1;
    if (letter[0] >= 'A' && letter[0] <= 'Z' && !letter[1])
        n = letter[0] - 'A';
    if (!(n >= 0) || n >= choices || (double)(int)n != n)
        return err_set(e, ERR_DATA,
            "\"answer\": neither an index of a choice, 0 to %d, nor its letter", choices - 1);
    *out = (int)n;
    return 0;
}

/* -- questions -- */

static int take_choices(struct asked *a, struct questions *q, struct question *x,
    const struct json *choices, struct err *e)
{
    size_t kept = a->context.len;
    while (kept && is_blank(buf_cstr(&a->context)[kept - 1]))
        kept--;
    x->first = q->ids.count;
    int rc = encode(a, buf_cstr(&a->context), kept, &q->ids, e);
    int64_t context = q->ids.count - x->first;
    if (!rc && !context)
        rc = add_begin(a, &q->ids, e);
    if (rc)
        return rc;
    x->count = q->ids.count - x->first;
    json_each (choice, choices) {
        if (!json_is_string(choice))
            return err_set(e, ERR_DATA, "\"choices\"[%d] is no string", x->choices);
        rc = take_choice(a, q, x->choices++, json_string_value(choice), kept, context, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_question(struct asked *a, struct questions *q, const char *line, size_t len,
    int64_t number, struct err *e)
{
    json_auto struct json *v = NULL;
    struct question x = {.line = number, .choice = q->choice_count};
    int rc = json_parse(line, len, &v, e);
    if (rc || (rc = make_context(a, v, e)))
        return rc;
    const struct json *choices = json_get(v, "choices");
    size_t n = json_is_array(choices) ? json_count(choices) : 0;
    if (n < 2 || n > QUESTIONS_CHOICES)
        return err_set(e, ERR_DATA, "\"choices\": no list of 2 to %d texts", QUESTIONS_CHOICES);
    if ((rc = find_answer(v, (int)n, &x.answer, e)) || (rc = take_choices(a, q, &x, choices, e)))
        return rc;
    if (q->count == q->capacity) {
        int64_t capacity = q->capacity ? 2 * q->capacity : 64;
        struct question *grown = mem_grow(q->list, (size_t)capacity, sizeof *grown);
        if (!grown)
            return no_memory(e);
        q->list = grown;
        q->capacity = capacity;
    }
    q->list[q->count++] = x;
    return 0;
}

static bool is_empty(const char *line, size_t len)
{
    while (len && is_blank(line[len - 1]))
        len--;
    return !len;
}

static int read_lines(
    struct asked *a, struct questions *q, const char *text, size_t size, struct err *e)
{
    int64_t line = 1;
    for (size_t at = 0, len; at < size; at += len + 1, line++) {
        const char *end = memchr(text + at, '\n', size - at);
        len = end ? (size_t)(end - text) - at : size - at;
        int rc = 0;
        if (len > QUESTIONS_LINE_BYTES)
            rc = err_set(e, ERR_DATA, "longer than %d bytes", QUESTIONS_LINE_BYTES);
        else if (utf8_valid_prefix(text + at, len) < len)
            rc = err_set(e, ERR_DATA, "invalid UTF-8");
        else if (!is_empty(text + at, len))
            rc = add_question(a, q, text + at, len, line, e);
        if (rc)
            return err_wrap(e, "%s: line %lld", a->c->path, (long long)line);
        if (line % OFTEN == 0 && (rc = tokens_go_on(&a->c->progress, e)))
            return rc;
    }
    return q->count ? 0 : err_set(e, ERR_DATA, "%s: no question in it", a->c->path);
}

int questions_read(const struct questions_conf *c, const char *text, size_t size,
    struct questions *out, struct err *e)
{
    struct asked a = {.c = c, .guarded = c->chat != NULL};
    struct err why = {0};
    buf_init(&a.context, TEXT_BYTES);
    buf_init(&a.whole, TEXT_BYTES);
    int rc = read_lines(&a, out, text, size, &why);
    if (rc && e)
        *e = why;
    buf_done(&a.context);
    buf_done(&a.whole);
    return rc;
}

int questions_open(const struct questions_conf *c, struct questions *out, struct err *e)
{
    struct io_map map;
    int rc = source_map(c->path, NULL, NULL, &map, e);
    if (rc)
        return rc;
    size_t mark = map.size >= 3 && !memcmp(map.data, "\xef\xbb\xbf", 3) ? 3 : 0;
    rc = questions_read(c, (const char *)map.data + mark, map.size - mark, out, e);
    io_unmap(&map);
    return rc;
}

void questions_done(struct questions *q)
{
    tok_ids_done(&q->ids);
    mem_free(q->list);
    mem_free(q->choices);
    *q = (struct questions){.list = NULL};
}
