/*
 * tok_pair: two texts as one sequence of tokens. Each is encoded by itself, then both are cut, then
 * the post-processor's pieces are laid out in their order.
 */
#include "runtime/text/tok_def.h"

static void add_piece(struct tok_template *p, int32_t id, int32_t type)
{
    p->at[p->count++] = (struct tok_piece){id, type};
}

void tok_def_pair(struct tok_def *d, const char *pieces)
{
    d->pair.count = 0;
    for (const char *at = pieces; *at; at += 2) {
        const struct tok_affix *x = *at == '^' ? &d->prefix : &d->suffix;
        bool text = *at == 'A' || *at == 'B';
        if (text)
            add_piece(&d->pair, *at == 'A' ? TOK_PAIR_FIRST : TOK_PAIR_SECOND, at[1] - '0');
        for (int i = 0; i < x->count && !text; i++)
            add_piece(&d->pair, x->id[i], at[1] - '0');
    }
}

int tok_pair_around(const struct tok *t)
{
    int count = tok_pair_template(t)->count;
    return count ? count - 2 : -1;
}

/* The tokenizers package's truncate_encodings: as if the longer one gave up token after token, and
   of two of one length each in turn. */
static void cut_longest(int64_t room, int64_t *a, int64_t *b)
{
    int64_t *less = *a <= *b ? a : b, *more = *a <= *b ? b : a;
    if (*a + *b <= room)
        return;
    *more = room - *less > *less ? room - *less : *less;
    if (*less + *more > room) {
        *less = room / 2;
        *more = room - *less;
    }
}

static int add_ids(struct tok_ids *to, const int32_t *ids, int64_t count, struct err *e)
{
    int rc = 0;
    for (int64_t i = 0; i < count && !rc; i++)
        rc = tok_ids_add(to, ids[i], e);
    return rc;
}

static int lay_out(const struct tok_template *p, const struct tok_ids texts[2], struct tok_ids *ids,
    struct tok_ids *types, struct err *e)
{
    int rc = 0;
    for (int i = 0; i < p->count && !rc; i++) {
        const struct tok_piece *x = &p->at[i];
        const struct tok_ids *text = &texts[x->id == TOK_PAIR_SECOND];
        rc = x->id < 0 ? add_ids(ids, text->id, text->count, e) : tok_ids_add(ids, x->id, e);
        while (types->count < ids->count && !rc)
            rc = tok_ids_add(types, x->type, e);
    }
    return rc;
}

int tok_encode_pair(const struct tok *t, const struct tok_texts *texts, struct tok_ids *ids,
    struct tok_ids *types, bool *cut, struct err *e)
{
    struct tok_ids parts[2] = {{0}, {0}};
    int64_t before = ids->count, whole = 0;
    int rc = 0;
    for (int i = 0; i < 2 && !rc; i++) {
        rc = tok_encode(t, texts->text[i], texts->len[i], true, &parts[i], e);
        whole += parts[i].count;
    }
    if (!rc) {
        cut_longest(texts->most - tok_pair_around(t), &parts[0].count, &parts[1].count);
        *cut = parts[0].count + parts[1].count < whole;
        rc = lay_out(tok_pair_template(t), parts, ids, types, e);
    }
    for (int i = 0; i < 2; i++)
        tok_ids_done(&parts[i]);
    if (rc)
        ids->count = types->count = before;
    return rc;
}
