/*
 * tok_json_post: the post-processor of tokenizer.json: what it puts before and behind one text, and
 * around two. A way with two that is not read is no error: most tokenizers never see any.
 */
#include "runtime/text/tok_json_internal.h"

#define TYPE_MOST 255 /* of a token */

static int add_affix(
    struct tok_json *r, struct tok_affix *to, const struct json *ids, struct err *e)
{
    json_each (v, ids) {
        int32_t id;
        if (!tok_json_id(v, &id) || id >= r->d.vocab || r->d.kinds[id] == TOK_UNUSED)
            return err_set(e, ERR_DATA, "%s: post_processor: an id is no token's", r->path);
        if (to->count == TOK_AFFIX_LIMIT)
            return err_set(
                e, ERR_DATA, "%s: post_processor: more than %d tokens", r->path, TOK_AFFIX_LIMIT);
        to->id[to->count++] = id;
    }
    return 0;
}

/* What stands before and behind the text, "A" of `single`. */
static int read_template(struct tok_json *r, const struct json *v, struct err *e)
{
    const struct json *specials = json_get(v, "special_tokens");
    bool seen = false;
    json_each (piece, json_get(v, "single")) {
        const struct json *sequence = json_get(piece, "Sequence");
        const char *id = json_str(json_get(piece, "SpecialToken"), "id", NULL);
        const struct json *ids = id ? json_get(json_get(specials, id), "ids") : NULL;
        if (sequence ? seen || strcmp(json_str(sequence, "id", ""), "A") : !ids)
            return tok_json_unsupported(r, "post_processor TemplateProcessing with piece",
                id ? id : json_str(sequence, "id", NULL), e);
        seen = seen || sequence;
        int rc = add_affix(r, seen ? &r->d.suffix : &r->d.prefix, ids, e);
        if (rc)
            return rc;
    }
    return seen ? 0 : tok_json_unsupported(r, "post_processor TemplateProcessing without", "A", e);
}

/* False: no piece that is read, or too many of them. */
static bool add_pieces(struct tok_json *r, const struct json *v, const struct json *specials)
{
    const struct json *sequence = json_get(v, "Sequence"), *special = json_get(v, "SpecialToken");
    const char *of = json_str(sequence, "id", "");
    int64_t type;
    struct tok_affix ids = {.id = {*of == 'A' ? TOK_PAIR_FIRST : TOK_PAIR_SECOND}, .count = 1};
    if (json_i64(sequence ? sequence : special, "type_id", &type, NULL) || type < 0 ||
        type > TYPE_MOST || (sequence && strcmp(of, "A") != 0 && strcmp(of, "B") != 0))
        return false;
    if (!sequence) {
        const struct json *token = json_get(specials, json_str(special, "id", ""));
        ids.count = 0;
        if (!json_get(token, "ids") || add_affix(r, &ids, json_get(token, "ids"), NULL))
            return false;
    }
    struct tok_template *p = &r->d.pair;
    for (int i = 0; i < ids.count; i++) {
        if (p->count == TOK_PAIR_LIMIT)
            return false;
        p->at[p->count++] = (struct tok_piece){ids.id[i], (int32_t)type};
    }
    return true;
}

/* Each text once, in `pair`. */
static void read_pair_template(struct tok_json *r, const struct json *v)
{
    struct tok_template *p = &r->d.pair;
    int texts = 0;
    bool read = true;
    p->count = 0;
    json_each (piece, json_get(v, "pair"))
        read = read && add_pieces(r, piece, json_get(v, "special_tokens"));
    for (int i = 0; i < p->count; i++)
        texts += p->at[i].id == TOK_PAIR_FIRST ? 1 : p->at[i].id == TOK_PAIR_SECOND ? 4 : 0;
    if (!read || texts != 1 + 4)
        p->count = 0;
}

/* Of Bert and Roberta: ["</s>", 2]. */
static int read_named(
    struct tok_json *r, struct tok_affix *to, const struct json *pair, struct err *e)
{
    const struct json *id = json_next(json_first(pair));
    int32_t unused;
    if (json_count(pair) != 2 || !tok_json_id(id, &unused))
        return tok_json_unsupported(r, "post_processor with", "cls or sep", e);
    json_auto struct json *list = json_new_array();
    int rc = json_push(list, json_new_number(json_number_value(id)));
    return rc ? tok_json_no_memory(r, e) : add_affix(r, to, list, e);
}

int tok_json_post_processor(struct tok_json *r, const struct json *v, struct err *e)
{
    const char *type = json_str(v, "type", "none");
    int rc = 0;
    if (!v || json_is_null(v) || !strcmp(type, "ByteLevel")) /* it only trims offsets */
        return 0;
    if (!strcmp(type, "Sequence")) {
        json_each (stage, json_get(v, "processors")) {
            rc = strcmp(json_str(stage, "type", ""), "Sequence")
                ? tok_json_post_processor(r, stage, e)
                : tok_json_unsupported(r, "post_processor within Sequence:", "Sequence", e);
            if (rc)
                return rc;
        }
        return 0;
    }
    if (r->d.prefix.count || r->d.suffix.count)
        return tok_json_unsupported(r, "a second post_processor:", type, e);
    if (!strcmp(type, "TemplateProcessing")) {
        read_pair_template(r, v);
        return read_template(r, v, e);
    }
    bool roberta = !strcmp(type, "RobertaProcessing");
    if (!roberta && strcmp(type, "BertProcessing") != 0)
        return tok_json_unsupported(r, "post_processor", type, e);
    if ((rc = read_named(r, &r->d.prefix, json_get(v, "cls"), e)) ||
        (rc = read_named(r, &r->d.suffix, json_get(v, "sep"), e)))
        return rc;
    tok_def_pair(&r->d, roberta ? TOK_PAIR_ROBERTA : TOK_PAIR_BERT);
    return 0;
}
