/*
 * dialogue: a text with its spans becomes ids with marks. Cut at the spans' ends and tokenised
 * piece by piece it mostly has the ids of the whole, and then their places are known; else each is
 * found as how far the ids of the text up to it, or behind it, agree with those of the whole.
 */
#include "runtime/data/dialogue.h"

#include "base/mem.h"
#include "runtime/text/guard.h"

#include <string.h>

#define TEXT_LIMIT ((size_t)64 << 20) /* bytes of a rendered conversation */

struct marked_text {
    const struct tok *tok;
    const char *text;
    size_t len;
    bool guarded;
    const struct chat_spans *spans;
};

static int encode(
    const struct marked_text *m, size_t from, size_t to, struct tok_ids *out, struct err *e)
{
    int64_t len = (int64_t)(to - from);
    return m->guarded ? tok_encode_guarded(m->tok, m->text + from, len, out, e)
                      : tok_encode(m->tok, m->text + from, len, true, out, e);
}

/* The i-th place where learning begins or ends; the end of the text behind the last. */
static size_t border_at(const struct marked_text *m, int i)
{
    if (i == 2 * m->spans->count)
        return m->len;
    const struct chat_span *s = &m->spans->list[i / 2];
    return i % 2 ? s->to : s->from;
}

/* *same: the pieces between borders have the ids of the whole; then places[i] is the i-th's. */
static int find_by_pieces(const struct marked_text *m, const struct tok_ids *whole, int64_t *places,
    bool *same, struct err *e)
{
    struct tok_ids pieces = {0};
    size_t from = 0;
    int rc = 0;
    for (int i = 0; i <= 2 * m->spans->count && !rc; i++) {
        size_t to = border_at(m, i);
        rc = encode(m, from, to, &pieces, e);
        places[i] = pieces.count;
        from = to;
    }
    *same = !rc && pieces.count == whole->count &&
        (!pieces.count || !memcmp(pieces.id, whole->id, (size_t)pieces.count * sizeof *pieces.id));
    tok_ids_done(&pieces);
    return rc;
}

/* As many tokens as two texts have in common, from the beginning or from the end. */
static int64_t common(const struct tok_ids *a, const struct tok_ids *b, bool from_end)
{
    int64_t n = 0, most = a->count < b->count ? a->count : b->count;
    while (n < most &&
        (from_end ? a->id[a->count - 1 - n] == b->id[b->count - 1 - n] : a->id[n] == b->id[n]))
        n++;
    return n;
}

/* Where learning begins is the end of what the text before it has in common with the whole, and
   where it ends the beginning of what the text behind it has: a token across a border is learnt. */
static int find_by_agreement(
    const struct marked_text *m, const struct tok_ids *whole, int64_t *places, struct err *e)
{
    for (int i = 0; i < 2 * m->spans->count; i++) {
        struct tok_ids part = {0};
        bool ends = i % 2;
        size_t border = border_at(m, i);
        int rc = ends ? encode(m, border, m->len, &part, e) : encode(m, 0, border, &part, e);
        int64_t n = common(&part, whole, ends);
        places[i] = ends ? whole->count - n : n;
        tok_ids_done(&part);
        if (rc)
            return rc;
    }
    return 0;
}

static int append_marked(const struct marked_text *m, const struct tok_ids *whole,
    const int64_t *places, struct tok_ids *out, struct err *e)
{
    int span = 0;
    for (int64_t k = 0; k < whole->count; k++) {
        while (span < m->spans->count && k >= places[2 * span + 1])
            span++;
        bool learnt = span < m->spans->count && k >= places[2 * span];
        int rc = tok_ids_add(out, learnt ? whole->id[k] : ~whole->id[k], e);
        if (rc)
            return rc;
    }
    return 0;
}

static int add_marked(const struct marked_text *m, struct tok_ids *out, struct err *e)
{
    struct tok_ids whole = {0};
    mem_autofree int64_t *places = mem_array(2 * (size_t)m->spans->count + 1, sizeof *places);
    bool same = false;
    if (!places)
        return err_set(e, ERR_MEMORY, "no memory for a conversation");
    int rc = encode(m, 0, m->len, &whole, e);
    rc = rc ? rc : find_by_pieces(m, &whole, places, &same, e);
    if (!rc && !same)
        rc = find_by_agreement(m, &whole, places, e);
    rc = rc ? rc : append_marked(m, &whole, places, out, e);
    tok_ids_done(&whole);
    return rc;
}

/* Nothing comes before the first token, so it cannot be learnt. */
static int find_learnt(struct tok_ids *out, int64_t first, int64_t *learnt, struct err *e)
{
    int64_t i = first + 1;
    if (first < out->count && out->id[first] >= 0)
        out->id[first] = ~out->id[first];
    while (i < out->count && out->id[i] < 0)
        i++;
    if (i >= out->count)
        return err_set(e, ERR_DATA, "nothing in it is to be learnt");
    *learnt = i - first;
    return 0;
}

/* -- conversations -- */

struct turns { /* of a template without marks */
    struct chat *chat;
    struct json *list; /* messages so far */
    struct buf all;    /* their rendering */
    struct buf before; /* the same of fewer, with a prompt */
    struct chat_spans *spans;
};

static bool begins_with(const struct buf *all, const struct buf *part)
{
    return part->len <= all->len && !memcmp(buf_cstr(all), buf_cstr(part), part->len);
}

static int add_turn(struct turns *t, struct json *message, int i, struct err *e)
{
    bool assistant = !strcmp(json_str(message, "role", ""), "assistant");
    int rc = 0;
    buf_reset(&t->before);
    if (assistant && !i)
        rc = err_set(e, ERR_DATA, "messages[0]: the assistant has nothing to answer");
    else if (assistant)
        rc = chat_render(t->chat, t->list, true, &t->before, e);
    if (json_push(t->list, message) && !rc)
        rc = err_set(e, ERR_MEMORY, "no memory for a conversation");
    if (rc || !assistant)
        return rc;
    buf_reset(&t->all);
    if ((rc = chat_render(t->chat, t->list, false, &t->all, e)))
        return rc;
    if (!begins_with(&t->all, &t->before))
        return err_set(e, ERR_DATA,
            "messages[%d]: with this answer the chat template renders what stands before it "
            "otherwise, so that it cannot be told apart",
            i);
    if (t->spans->count == CHAT_SPANS)
        return err_set(e, ERR_DATA, "messages: more than %d answers", CHAT_SPANS);
    t->spans->list[t->spans->count++] = (struct chat_span){t->before.len, t->all.len};
    return 0;
}

/* What an answer was rendered as must stay so when the conversation goes on. */
static int check_answers(struct turns *t, struct buf *whole, struct err *e)
{
    int rc = chat_render(t->chat, t->list, false, whole, e);
    if (rc || begins_with(whole, &t->all))
        return rc;
    return err_set(e, ERR_DATA,
        "messages: the chat template renders an answer otherwise when the conversation goes on, so "
        "that answers cannot be told apart; cut it into conversations with one answer each");
}

/* Each answer's rendering begins with the last one's, or it would have been refused. */
static int render_turns(const struct tok *tok, struct chat *c, const struct json *messages,
    struct chat_spans *spans, struct buf *whole, struct err *e)
{
    struct turns t = {.chat = c, .list = json_new_array(), .spans = spans};
    buf_auto struct buf last;
    int i = 0, rc = t.list ? 0 : err_set(e, ERR_MEMORY, "no memory for a conversation");
    buf_init(&t.all, TEXT_LIMIT);
    buf_init(&t.before, TEXT_LIMIT);
    buf_init(&last, TEXT_LIMIT);
    json_each (message, messages) {
        struct json *guarded = NULL;
        buf_reset(&last);
        if (!rc && buf_add(&last, buf_cstr(&t.all), t.all.len))
            rc = err_set(e, ERR_MEMORY, "no memory for a conversation");
        if (rc || (rc = guard_json(tok, message, &guarded, e)))
            break;
        rc = add_turn(&t, guarded, i++, e);
        if (!rc && !begins_with(&t.all, &last))
            rc = err_set(e, ERR_DATA,
                "messages[%d]: the chat template renders an earlier answer otherwise when the "
                "conversation goes on; cut it into conversations with one answer each",
                i - 1);
    }
    rc = rc ? rc : check_answers(&t, whole, e);
    buf_done(&t.all);
    buf_done(&t.before);
    json_destroy(t.list);
    return rc;
}

static int render_marked(const struct tok *tok, struct chat *c, const struct json *messages,
    struct chat_spans *spans, struct buf *whole, struct err *e)
{
    json_auto struct json *guarded = NULL;
    int rc = guard_json(tok, messages, &guarded, e);
    return rc ? rc : chat_render_marked(c, guarded, spans, whole, e);
}

int dialogue_messages(const struct tok *t, struct chat *c, const struct json *messages,
    struct tok_ids *out, int64_t *learnt, struct err *e)
{
    mem_autofree struct chat_spans *spans = mem_zalloc(sizeof *spans);
    buf_auto struct buf whole;
    buf_init(&whole, TEXT_LIMIT);
    if (!spans)
        return err_set(e, ERR_MEMORY, "no memory for a conversation");
    if (!json_is_array(messages) || !json_count(messages))
        return err_set(e, ERR_DATA, "messages: not a list with at least one message");
    struct err why = {0};
    int64_t first = out->count;
    int rc = chat_marks(c) ? render_marked(t, c, messages, spans, &whole, &why)
                           : render_turns(t, c, messages, spans, &whole, &why);
    if (rc) /* what would be a client's error is the file's here */
        return err_set(e, rc == -ERR_USER ? ERR_DATA : why.code, "%s", why.text);
    const struct marked_text m = {t, buf_cstr(&whole), whole.len, true, spans};
    rc = add_marked(&m, out, e);
    return rc ? rc : find_learnt(out, first, learnt, e);
}

/* -- answers to a conversation -- */

static int push_guarded(
    const struct tok *t, struct json *list, const struct json *message, struct err *e)
{
    struct json *guarded = NULL;
    int rc = guard_json(t, message, &guarded, e);
    if (!rc && json_push(list, guarded))
        rc = err_set(e, ERR_MEMORY, "no memory for a conversation");
    return rc;
}

/* before: the first `prompt` messages with a generation prompt; whole: all of them. */
static int render_answer(const struct tok *t, struct chat *c, const struct json *const lists[2],
    size_t prompt, struct buf *before, struct buf *whole, struct err *e)
{
    json_auto struct json *list = json_new_array();
    size_t count = 0;
    for (int i = 0; i < 2; i++)
        json_each (message, lists[i]) {
            int rc = count++ == prompt ? chat_render(c, list, true, before, e) : 0;
            if (rc || (rc = push_guarded(t, list, message, e)))
                return rc;
        }
    if (count <= prompt)
        return err_set(e, ERR_DATA, "an answer without a message");
    int rc = chat_render(c, list, false, whole, e);
    if (rc || begins_with(whole, before))
        return rc;
    return err_set(e, ERR_DATA,
        "with the answer the chat template renders what stands before it otherwise, so that it "
        "cannot be told apart");
}

int dialogue_answer(const struct tok *t, struct chat *c, const struct json *const lists[2],
    size_t prompt, struct tok_ids *out, int64_t *learnt, struct err *e)
{
    mem_autofree struct chat_spans *spans = mem_zalloc(sizeof *spans);
    buf_auto struct buf before, whole;
    buf_init(&before, TEXT_LIMIT);
    buf_init(&whole, TEXT_LIMIT);
    if (!spans)
        return err_set(e, ERR_MEMORY, "no memory for a conversation");
    struct err why = {0};
    int64_t first = out->count;
    int rc = render_answer(t, c, lists, prompt, &before, &whole, &why);
    if (rc) /* what would be a client's error is the file's here */
        return err_set(e, rc == -ERR_USER ? ERR_DATA : why.code, "%s", why.text);
    spans->count = 1;
    spans->list[0] = (struct chat_span){before.len, whole.len};
    const struct marked_text m = {t, buf_cstr(&whole), whole.len, true, spans};
    rc = add_marked(&m, out, e);
    return rc ? rc : find_learnt(out, first, learnt, e);
}

/* -- prompts and completions -- */

static int add_affix(const struct tok_affix *x, bool learnt, struct tok_ids *out, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < x->count && !rc; i++)
        rc = tok_ids_add(out, learnt ? x->id[i] : ~x->id[i], e);
    return rc;
}

static int end_text(const struct tok *t, int64_t first, struct tok_ids *out, struct err *e)
{
    int32_t eos = tok_eos(t);
    bool ended =
        out->count > first && (out->id[out->count - 1] == eos || out->id[out->count - 1] == ~eos);
    return eos < 0 || ended ? 0 : tok_ids_add(out, eos, e);
}

int dialogue_completion(const struct tok *t, const char *prompt, const char *completion,
    struct tok_ids *out, int64_t *learnt, struct err *e)
{
    mem_autofree struct chat_spans *spans = mem_zalloc(sizeof *spans);
    buf_auto struct buf text;
    buf_init(&text, 2 * TEXT_LIMIT);
    if (!spans || buf_str(&text, prompt) || buf_str(&text, completion))
        return err_set(e, ERR_MEMORY, "no memory for a completion");
    int64_t first = out->count;
    spans->count = *completion != 0;
    spans->list[0] = (struct chat_span){strlen(prompt), text.len};
    const struct marked_text m = {t, buf_cstr(&text), text.len, false, spans};
    int rc;
    if ((rc = add_affix(tok_prefix(t), false, out, e)) || (rc = add_marked(&m, out, e)) ||
        (rc = add_affix(tok_suffix(t), true, out, e)) || (rc = end_text(t, first, out, e)))
        return rc;
    return find_learnt(out, first, learnt, e);
}
