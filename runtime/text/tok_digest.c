/*
 * tok_digest: what a definition comes to as a number: every token, merge, step, expression and
 * setting. Texts count with their lengths, so that no two lists run into one. Pure.
 */
#include "runtime/text/tok_def.h"

#include "runtime/files/hash.h"

static void mix(uint64_t *digest, const void *p, size_t size)
{
    const uint64_t both[] = {*digest, hash_xxh3(p, size)};
    *digest = hash_xxh3(both, sizeof both);
}

static void mix_number(uint64_t *digest, int64_t n)
{
    mix(digest, &n, sizeof n);
}

static void mix_text(uint64_t *digest, struct tok_text text)
{
    mix_number(digest, (int64_t)text.len);
    mix(digest, text.s ? text.s : "", text.len);
}

static void mix_affix(uint64_t *digest, const struct tok_affix *x)
{
    mix(digest, x->id, (size_t)x->count * sizeof *x->id);
}

static void mix_settings(uint64_t *digest, const struct tok_def *d)
{
    const int64_t settings[] = {d->model, d->vocab, d->merge_count, d->ignore_merges, d->bos,
        d->eos, d->pad, d->chars.unknown, d->chars.fuse, d->chars.byte_fallback,
        d->wordpiece.unknown, d->wordpiece.word_limit, d->steps.count, d->stage_count};
    mix(digest, settings, sizeof settings);
    mix_text(digest, d->wordpiece.prefix);
    mix_affix(digest, &d->prefix);
    mix_affix(digest, &d->suffix);
}

uint64_t tok_def_digest(const struct tok_def *d)
{
    uint64_t digest = 0;
    mix_settings(&digest, d);
    for (int32_t i = 0; i < d->vocab; i++)
        mix_text(&digest, d->tokens[i]);
    mix(&digest, d->kinds, (size_t)d->vocab);
    if (d->spaces)
        mix_number(&digest, d->spaces);
    if (d->scores)
        mix(&digest, d->scores, (size_t)d->vocab * sizeof *d->scores);
    if (d->flags)
        mix(&digest, d->flags, (size_t)d->vocab);
    if (d->ranks)
        mix(&digest, d->ranks, (size_t)d->merge_count * sizeof *d->ranks);
    for (int64_t i = 0; i < d->merge_count; i++) {
        mix_text(&digest, d->merges[i][0]);
        mix_text(&digest, d->merges[i][1]);
    }
    for (int i = 0; i < d->steps.count; i++) {
        mix_number(&digest, d->steps.list[i].kind);
        mix_text(&digest, d->steps.list[i].from);
        mix_text(&digest, d->steps.list[i].to);
    }
    for (int i = 0; i < d->stage_count; i++) {
        const char *pattern = d->stages[i].pattern;
        mix_number(&digest, d->stages[i].drop);
        mix_text(&digest, (struct tok_text){pattern, strlen(pattern)});
    }
    return digest;
}
