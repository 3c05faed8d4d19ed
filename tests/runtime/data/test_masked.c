/*
 * Goal: the hidden tokens of a sample depend on seed and draw alone, are as many and of the kinds
 * that were asked for, and words are hidden whole where that is wanted.
 * Method: a corpus of words of one and of several tokens by the tokenizer of the golden BERT; many
 * draws of it, counted, and each compared with the text that it came from. And what is refused.
 */
#include "runtime/data/corpus.h"
#include "runtime/data/data.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"
#include "tests/runtime/gguf_make.h"
#include "tests/unit.h"

#include <math.h>

#define T     16
#define ROOM  14 /* between [CLS] and [SEP] */
#define WORDS 600
#define DRAWS 4000

static struct err e;
static struct tok *tok;
static char folder[64], path[96], cache[96], tokens[LIMIT_PATH_BYTES];
static struct tok_ids ids; /* of the corpus, with what stands around it */

static void setup(void)
{
    static const char *const words[] = {
        "the", "annaing", "of", "berlinerly", "anna", "was", "xy", "foring", "[MASK]", "in"};
    buf_auto struct buf text;
    uint32_t x = 7;
    ck_assert_msg(!tok_open_folder(GOLDEN "tiny-bert", -1, -1, &tok, &e), "%s", e.text);
    buf_init(&text, 1 << 16);
    for (int i = 0; i < WORDS; i++) {
        x = x * 1664525u + 1013904223u;
        buf_printf(&text, "%s ", words[x / 429496730]);
    }
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/a.txt", folder);
    snprintf(cache, sizeof cache, "%s/tokens", folder);
    golden_write(path, text.data, text.len);
    ids = (struct tok_ids){.id = NULL};
    ck_assert(!tok_encode_document(tok, text.data, (int64_t)text.len, &ids, &e));
}

static void teardown(void)
{
    tok_ids_done(&ids);
    tok_close(tok);
    golden_remove(folder);
}

static int open_as(const struct data_masking *m, int length, struct data **out)
{
    uint64_t key;
    const struct corpus c = {.path = path, .format = FORMAT_AUTO, .tok = tok, .folder = cache};
    ck_assert_msg(!corpus_tokenize(&c, &key, &e), "%s", e.text);
    ck_assert(!tokens_path(cache, key, tokens, &e));
    return data_open_masked(path, tokens, length, tok, m, out, &e);
}

static struct data *open(double share, bool whole_word, uint64_t seed)
{
    struct data *d;
    const struct data_masking m = {share, whole_word, seed};
    ck_assert_msg(!open_as(&m, T, &d), "%s", e.text);
    ck_assert_int_eq(data_samples(d), (ids.count - 1) / ROOM);
    return d;
}

struct draw {
    int32_t inputs[T], targets[T];
};

static struct draw take(const struct data *d, int64_t draw)
{
    struct draw x;
    int32_t length;
    data_masked_sample(d, draw, T, x.inputs, x.targets, &length);
    ck_assert_int_eq(length, T);
    return x;
}

struct counts {
    int64_t words, chosen_words, told, hidden, kept, other;
};

/* A draw against the text of its sample. */
static void check_draw(const struct data *d, int64_t draw, bool whole_word, struct counts *n)
{
    const int32_t *text = ids.id + 1 + draw % data_samples(d) * ROOM;
    struct draw x = take(d, draw);
    int told = 0;
    ck_assert_int_eq(x.inputs[0], tok_prefix(tok)->id[0]);
    ck_assert_int_eq(x.inputs[T - 1], tok_suffix(tok)->id[0]);
    ck_assert(x.targets[0] == -1 && x.targets[T - 1] == -1);
    for (int i = 0; i < ROOM; i++) {
        int32_t in = x.inputs[1 + i], target = x.targets[1 + i];
        bool special = tok_is_special(tok, text[i]);
        bool begins = !special &&
            (!whole_word || !i || !tok_continues(tok, text[i]) || tok_is_special(tok, text[i - 1]));
        n->words += begins;
        n->chosen_words += begins && target >= 0;
        if (whole_word && !special && !begins)
            ck_assert_int_eq(target >= 0, x.targets[i] >= 0);
        if (target < 0) {
            ck_assert_int_eq(in, text[i]);
            continue;
        }
        ck_assert_int_eq(target, text[i]);
        ck_assert(!special && in >= 0 && in < tok_vocab(tok));
        told++;
        n->hidden += in == tok_mask(tok);
        n->kept += in == text[i];
        n->other += in != text[i] && in != tok_mask(tok);
    }
    ck_assert(told > 0 && data_masked_told(d, draw) == told);
    n->told += told;
}

static void check_shares(double share, bool whole_word)
{
    struct data *d = open(share, whole_word, 1);
    struct counts n = {0};
    for (int64_t i = 0; i < DRAWS; i++)
        check_draw(d, i, whole_word, &n);
    double chosen = (double)n.chosen_words / (double)n.words, told = (double)n.told;
    printf("share %g%s: %.4f of words, of their tokens %.3f hidden, %.3f kept, %.3f others\n",
        share, whole_word ? ", whole words" : "", chosen, (double)n.hidden / told,
        (double)n.kept / told, (double)n.other / told);
    /* at least one of about ten words: a little more than the share */
    ck_assert(chosen > share - 0.01 && chosen < share + 0.04);
    ck_assert_double_le(fabs((double)n.hidden / told - 0.8), 0.02);
    ck_assert_double_le(fabs((double)n.kept / told - 0.1), 0.015);
    ck_assert_double_le(fabs((double)n.other / told - 0.1), 0.015);
    data_close(d);
}

START_TEST(shares_are_those_that_were_asked_for)
{
    check_shares(0.15, false);
    check_shares(0.15, true);
    check_shares(0.5, true);
}
END_TEST

START_TEST(draws_depend_on_seed_and_number_alone)
{
    struct data *d = open(0.3, false, 1), *again = open(0.3, false, 1),
                *other = open(0.3, false, 2);
    int64_t n = data_samples(d), same_epoch = 0, same_seed = 0;
    for (int64_t i = n - 1; i >= 0; i--) {
        struct draw a = take(d, i), b = take(again, i), next = take(d, i + n), c = take(other, i);
        ck_assert_mem_eq(&a, &b, sizeof a);
        same_epoch += !memcmp(&a, &next, sizeof a);
        same_seed += !memcmp(&a, &c, sizeof a);
    }
    ck_assert(same_epoch <= 1 && same_seed <= 1);
    data_close(d);
    data_close(again);
    data_close(other);
}
END_TEST

START_TEST(at_least_one_word_is_to_be_told)
{
    struct data *d = open(1e-9, true, 3);
    struct counts n = {0};
    for (int64_t i = 0; i < 200; i++)
        check_draw(d, i, true, &n);
    ck_assert_int_eq(n.chosen_words, 200);
    data_close(d);
}
END_TEST

static void refused(const struct data_masking *m, int length, enum err_code code, const char *word)
{
    struct data *d = NULL;
    ck_assert_int_eq(open_as(m, length, &d), -(int)code);
    ck_assert_msg(strstr(e.text, word), "%s", e.text);
    ck_assert_ptr_null(d);
}

/* A tokenizer of bytes, which has neither a mask nor words. */
static void take_bytes(void)
{
    struct gguf *g;
    struct tok_def d;
    buf_auto struct buf file;
    struct arena *a = arena_create(1 << 24);
    buf_init(&file, 1 << 24);
    gguf_make_tiny(&file);
    ck_assert(!gguf_parse(file.data, file.len, "tiny", &g, &e));
    ck_assert(!tok_def_gguf(g, a, &d, &e));
    tok_close(tok);
    ck_assert(!tok_create(&d, "tiny", &tok, &e));
    ck_assert_int_eq(tok_mask(tok), -1);
    ck_assert(!tok_marks_words(tok) && !tok_continues(tok, 5));
    arena_destroy(a);
    gguf_close(g);
}

START_TEST(what_is_refused)
{
    static const char row[] = "{\"prompt\": \"the\", \"completion\": \"of anna\"}\n";
    const struct data_masking m = {0.15, true, 1};
    refused(&m, 2, ERR_USER, "spec.train.sequenceLength: 2 has no room");
    refused(&m, 5000, ERR_DATA, "tokens, a sample needs 4998");
    snprintf(path, sizeof path, "%s/a.jsonl", folder);
    golden_write(path, row, strlen(row));
    refused(&m, T, ERR_USER, "a.jsonl: spec.train.objective: MaskedLM learns running text");
    snprintf(path, sizeof path, "%s/a.txt", folder);
    take_bytes();
    refused(&m, T, ERR_USER, "names no mask_token");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"masked", 60, setup, teardown},
        (const TTest *const[]){shares_are_those_that_were_asked_for,
            draws_depend_on_seed_and_number_alone, at_least_one_word_is_to_be_told, what_is_refused,
            NULL});
}
