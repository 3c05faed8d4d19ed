/*
 * train/teacher: the model that spec.train.distill names, which must mean the same by each token
 * and label and read what the pupil reads.
 */
#include "runtime/train/internal.h"

/* Do both mean the same by every number? */
static int compare_tokens(const struct tok *a, const struct tok *b, struct err *e)
{
    buf_auto struct buf x, y;
    buf_init(&x, LIMIT_FRAME_BYTES);
    buf_init(&y, LIMIT_FRAME_BYTES);
    int32_t n = tok_vocab(a), m = tok_vocab(b);
    for (int32_t i = 0; i < n && i < m; i++) {
        x.len = y.len = 0;
        if (tok_decode(a, i, false, &x) || tok_decode(b, i, false, &y))
            return err_set(e, ERR_MEMORY, "no memory to compare two vocabularies");
        if (x.len != y.len || memcmp(buf_cstr(&x), buf_cstr(&y), x.len) != 0)
            return err_set(e, ERR_USER,
                "spec.train.distill.teacher: its token %d is not that of spec.model", i);
    }
    return 0;
}

/* Both tell the same labels, by name. */
static int check_teacher_labels(struct train *t, struct err *e)
{
    const struct model_config *is = weights_config(t->teacher);
    if (t->config.several)
        return err_set(e, ERR_USER,
            "spec.train.distill: texts that have any number of labels each are learnt without a "
            "teacher");
    if (!is->labels)
        return err_set(e, ERR_USER, "spec.train.distill.teacher: a %s, which finds no labels",
            is->architecture);
    int rc = train_match_labels(t, t->teacher, &t->teacher_label_from, e);
    if (rc || t->teacher_label_from)
        return rc;
    if (is->labels != t->config.labels)
        return err_set(e, ERR_USER,
            "spec.train.distill.teacher: finds %lld labels, and spec.train.data has %d",
            (long long)is->labels, t->names.count);
    return err_set(e, ERR_USER,
        "spec.train.distill.teacher: a %s, whose labels are not those of spec.train.data, or not "
        "found at the same token",
        is->architecture);
}

static int check_teacher(struct train *t, struct err *e)
{
    const struct model_config *is = weights_config(t->teacher);
    int rc = t->config.labels ? check_teacher_labels(t, e) : 0;
    if (rc)
        return rc;
    if (!t->config.labels && (is->bidirectional || is->labels))
        return err_set(e, ERR_USER,
            "spec.train.distill.teacher: a %s, which predicts no next token", is->architecture);
    if (is->bidirectional != t->config.bidirectional || (is->types && !t->config.types))
        return err_set(e, ERR_USER,
            "spec.train.distill.teacher: a %s, which does not read as spec.model, a %s, does",
            is->architecture, t->config.architecture);
    if (is->experts || t->config.experts)
        return err_set(
            e, ERR_USER, "spec.train.distill: a mixture of experts neither teaches nor is taught");
    if (is->vocab != t->config.vocab)
        return err_set(e, ERR_USER,
            "spec.train.distill.teacher: a vocabulary of %lld tokens, and spec.model has %lld",
            (long long)is->vocab, (long long)t->config.vocab);
    if (is->context < t->spec->train.sequence_length)
        return err_set(e, ERR_USER,
            "spec.train.sequenceLength: %d exceeds the context of %lld of "
            "spec.train.distill.teacher",
            t->spec->train.sequence_length, (long long)is->context);
    if (is->window != t->config.window)
        return err_set(e, ERR_USER,
            "spec.train.distill.teacher: its attention has a window of %lld tokens, and "
            "spec.model's of %lld (0: none)",
            (long long)is->window, (long long)t->config.window);
    return 0;
}

int train_open_teacher(struct train *t, struct err *e)
{
    const char *path = t->spec->train.distill.teacher;
    struct tok *tok = NULL;
    int rc = path ? weights_open(path, NULL, &t->teacher, e) : 0;
    if (rc || !path || (rc = check_teacher(t, e)) || (rc = tok_open(t->teacher, &tok, e)))
        return rc;
    rc = compare_tokens(t->tok, tok, e);
    tok_close(tok);
    return rc;
}
