/*
 * tok_json_post: the post-processor of tokenizer.json: what it puts before and behind one text. Of
 * pairs of texts nothing is read, for there are none here.
 */
#include "runtime/text/tok_json_internal.h"

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

/* Of Bert and Roberta: ["</s>", 2]. */
static int read_pair(
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
    if (!strcmp(type, "TemplateProcessing"))
        return read_template(r, v, e);
    if (strcmp(type, "BertProcessing") && strcmp(type, "RobertaProcessing"))
        return tok_json_unsupported(r, "post_processor", type, e);
    rc = read_pair(r, &r->d.prefix, json_get(v, "cls"), e);
    return rc ? rc : read_pair(r, &r->d.suffix, json_get(v, "sep"), e);
}
