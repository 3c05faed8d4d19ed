/*
 * Goal: of two answers to a prompt the answer's tokens count and no other, in every form that a
 * record may have, and what is no pair is refused with its line. Method: a tokenizer of bytes with
 * three special tokens and two chat templates; what is learnt is written out in brackets; a corpus
 * of pairs as samples of two rows, cut where they are too long; and records that are refused.
 * needs: faults
 */
#include "runtime/data/pair.h"

#include "base/mem.h"
#include "runtime/data/corpus.h"
#include "runtime/data/data.h"
#include "runtime/text/tok_def.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static const struct err no_chat = {.code = ERR_USER, .text = "it has none"};

#define CHATML \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
/* Says how many messages there are. */
#define COUNTING "{{ messages | length }}{% for m in messages %}{{ m.content }};{% endfor %}"

static struct err e;

/* Ids are bytes; 256 and 257 are ChatML's, and the latter ends a text. */
static struct tok *make_tokenizer(void)
{
    static char text[256][2];
    struct tok *t = NULL;
    struct tok_text tokens[258];
    uint8_t kinds[258];
    for (int b = 0; b < 256; b++) {
        uint32_t c = tok_byte_char((uint8_t)b);
        text[b][0] = (char)(c < 0x80 ? c : 0xc0 | c >> 6);
        text[b][1] = (char)(0x80 | (c & 0x3f));
        tokens[b] = (struct tok_text){text[b], c < 0x80 ? 1 : 2};
        kinds[b] = TOK_NORMAL;
    }
    tokens[256] = (struct tok_text){"<|im_start|>", 12};
    tokens[257] = (struct tok_text){"<|im_end|>", 10};
    kinds[256] = kinds[257] = TOK_SPECIAL;
    const struct tok_def d = {
        .vocab = 258, .tokens = tokens, .kinds = kinds, .bos = -1, .eos = 257, .pad = -1};
    ck_assert_msg(!tok_create(&d, "bytes", &t, &e), "%s", e.text);
    return t;
}

/* What is learnt in brackets; special tokens as S and E. */
static void write_ids(struct buf *out, const int32_t *ids, int64_t count)
{
    bool learnt = false;
    for (int64_t i = 0; i < count; i++) {
        int32_t id = ids[i] < 0 ? ~ids[i] : ids[i];
        if (learnt != (ids[i] >= 0))
            buf_char(out, learnt ? ']' : '[');
        learnt = ids[i] >= 0;
        buf_printf(out, id == 256 ? "S" : id == 257 ? "E" : "%c", id);
    }
    if (learnt)
        buf_char(out, ']');
}

/* Both documents with a bar between them, or the sentence of refusal. template NULL: none. */
static const char *marked(const char *template, const char *text)
{
    static struct buf out;
    struct tok *t = make_tokenizer();
    struct chat *c = NULL;
    struct tok_ids ids = {0};
    struct pair p;
    json_auto struct json *record = NULL;
    buf_done(&out);
    buf_init(&out, 1 << 16);
    if (template)
        ck_assert_msg(!chat_parse(template, NULL, "<|im_end|>", &c, &e), "%s", e.text);
    ck_assert_msg(!json_parse(text, strlen(text), &record, &e), "%s: %s", text, e.text);
    int rc = pair_encode(t, c, &no_chat, record, &ids, &p, &e);
    if (rc) {
        ck_assert(rc == (template ? -ERR_DATA : -ERR_USER));
        buf_str(&out, e.text);
    }
    int64_t at = 0;
    for (int i = 0; !rc && i < 2; at += p.count[i++]) {
        ck_assert(p.learnt[i] > 0 && ids.id[at + p.learnt[i]] >= 0);
        ck_assert(ids.id[at + p.learnt[i] - 1] < 0);
        buf_str(&out, i ? "|" : "");
        write_ids(&out, ids.id + at, p.count[i]);
    }
    ck_assert(rc || at == ids.count);
    tok_ids_done(&ids);
    chat_close(c);
    tok_close(t);
    return buf_cstr(&out);
}

#define U(x)           "{\"role\":\"user\",\"content\":\"" x "\"}"
#define A(x)           "{\"role\":\"assistant\",\"content\":\"" x "\"}"
#define PAIR(p, c, r)  "{\"prompt\":" p ",\"chosen\":" c ",\"rejected\":" r "}"
#define IMPLICIT(c, r) "{\"chosen\":" c ",\"rejected\":" r "}"
#define TURN(x)        "S" x "E\n"
#define ASKED          TURN("user\nq") "Sassistant\n"
#define ANSWERS(a, b)  ASKED "[" a "E\n]|" ASKED "[" b "E\n]"

START_TEST(the_answer_alone_is_learnt)
{
    static const char *const rows[][2] = {
        {PAIR("\"q: \"", "\"yes\"", "\"no\""), "q: [yesE]|q: [noE]"},
        {PAIR("\"q<|im_end|>\"", "\"y\"", "\"n<|im_end|>\""), "qE[yE]|qE[nE]"},
        {IMPLICIT("\"q: yes\"", "\"q: no\""), "q:[ yesE]|q:[ noE]"}, /* as TRL: the space too */
        {IMPLICIT("\"a\xc3\xa9\"", "\"a\xc3\xa8\""),
            "a[\xc3\xa9"
            "E]|a[\xc3\xa8"
            "E]"},
        {IMPLICIT("\"ab\"", "\"abc\""), "ab[E]|ab[cE]"},
        {PAIR("[" U("q") "]", "[" A("y") "]", "[" A("n") "]"), ANSWERS("y", "n")},
        {IMPLICIT("[" U("q") "," A("y") "]", "[" U("q") "," A("n") "]"), ANSWERS("y", "n")},
        /* an answer in the prompt is prompt; all that follows is answer */
        {PAIR("[" U("a") "," A("b") "," U("q") "]", "[" A("y") "]", "[" A("n") "," U("m") "]"),
            TURN("user\na") TURN("assistant\nb") ASKED "[yE\n]|" TURN("user\na")
                TURN("assistant\nb") ASKED "[nE\n" TURN("user\nm") "]"},
        /* what a message says is text */
        {PAIR("[" U("q") "]", "[" A("<|im_end|>") "]", "[" A("n") "]"), ANSWERS("<|im_end|>", "n")},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(marked(CHATML, rows[i][0]), rows[i][1]);
}
END_TEST

START_TEST(what_is_no_pair_is_refused)
{
    static const char *const rows[][3] = {
        {CHATML, PAIR("\"q\"", "\"y\"", "\"y\""), "\"chosen\" and \"rejected\" are the same"},
        {CHATML, IMPLICIT("[" U("q") "]", "[" U("q") "]"), "are the same"},
        {CHATML, PAIR("\"q\"", "[" A("y") "]", "[" A("n") "]"), "must all be strings or all lists"},
        {CHATML, PAIR("[" U("q") "]", "\"y\"", "\"n\""), "must all be strings or all lists"},
        {CHATML, IMPLICIT("7", "8"), "must all be strings or all lists"},
        {CHATML, IMPLICIT("[" U("q") "]", "[" U("r") "]"), "both begin with"},
        {CHATML, PAIR("[]", "[" A("y") "]", "[" A("n") "]"), "\"prompt\": no message"},
        {CHATML, PAIR("[" U("q") "]", "[]", "[" A("n") "]"), "\"chosen\": an answer without"},
        {CHATML, IMPLICIT("[" U("q") "]", "[" U("q") "," A("n") "]"), "\"chosen\": an answer"},
        {CHATML, PAIR("[" U("q") "]", "[" A("y") "]", "[7]"), "\"rejected\": "},
        {COUNTING, PAIR("[" U("q") "]", "[" A("y") "]", "[" A("n") "]"), "renders what stands"},
        {NULL, PAIR("[" U("q") "]", "[" A("y") "]", "[" A("n") "]"), "chat template: it has none"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = marked(rows[i][0], rows[i][1]);
        ck_assert_msg(strstr(text, rows[i][2]), "%s: %s", rows[i][1], text);
    }
}
END_TEST

/* -- a corpus -- */

static char folder[64];

static int open_pairs(
    const char *name, const char *text, int64_t skip, bool pairs, int length, struct data **out)
{
    char path[128], cache[128], tokens[LIMIT_PATH_BYTES];
    uint64_t key;
    struct tok *t = make_tokenizer();
    snprintf(path, sizeof path, "%s/%s", folder, name);
    snprintf(cache, sizeof cache, "%s/tokens", folder);
    golden_write(path, text, strlen(text));
    const struct corpus c = {.path = path,
        .format = FORMAT_AUTO,
        .tok = t,
        .no_chat = &no_chat,
        .pairs = pairs,
        .skip = skip,
        .folder = cache};
    int rc = corpus_tokenize(&c, &key, &e);
    rc = rc ? rc : tokens_path(cache, key, tokens, &e);
    rc = rc ? rc : data_open_pairs(path, tokens, length, out, &e);
    tok_close(t);
    return rc;
}

/* A row's inputs, a bar, and its targets with "." where nothing is learnt. */
static void check_row(const int32_t *in, const int32_t *out, int32_t length, const char *want)
{
    char text[64], *at = text;
    for (int i = 0; i < length; i++)
        *at++ = in[i] == 257 ? '$' : (char)in[i];
    *at++ = '|';
    for (int i = 0; i < length; i++)
        *at++ = out[i] < 0 ? '.' : out[i] == 257 ? '$' : (char)out[i];
    *at = 0;
    ck_assert_str_eq(text, want);
    for (int i = length; i < 8; i++)
        ck_assert(in[i] == 0 && out[i] == -1);
}

static void check_pair(
    const struct data *d, int64_t sample, const char *chosen, const char *rejected)
{
    int32_t in[16], out[16], length[2];
    data_pair_sample(d, sample, 8, in, out, length);
    check_row(in, out, length[0], chosen);
    check_row(in + 8, out + 8, length[1], rejected);
    ck_assert_int_eq(data_length(d, sample), length[0] + length[1]);
    ck_assert_int_eq(data_pair_longest(d, sample), length[0] > length[1] ? length[0] : length[1]);
}

START_TEST(a_pair_is_two_rows)
{
    static const char text[] = PAIR("\"ab\"", "\"cd\"", "\"x\"") "\n" /* whole */
        PAIR("\"abcdef\"", "\"12345678\"", "\"0\"") "\n"              /* cut */
        PAIR("\"a long prompt\"", "\"y\"", "\"n\"") "\n"              /* nothing is left */
        IMPLICIT("\"pq\"", "\"pr\"") "\n";
    struct data *d = NULL;
    golden_folder(folder);
    ck_assert_msg(!open_pairs("p.jsonl", text, 0, true, 8, &d), "%s", e.text);
    ck_assert_int_eq(data_samples(d), 3);
    ck_assert(data_truncated(d) == 3 && data_dropped(d) == 1);
    check_pair(d, 0, "abcd|.cd$", "abx|.x$");
    check_pair(d, 1, "abcdef12|.....123", "abcdef0|.....0$");
    check_pair(d, 2, "pq|q$", "pr|r$");
    data_close(d);
    golden_remove(folder);
}
END_TEST

START_TEST(bad_lines_are_named_or_left_out)
{
    static const struct {
        const char *name, *text, *expect;
        int64_t skip;
        bool pairs;
        int code;
    } rows[] = {
        {"a.jsonl", PAIR("\"q\"", "\"y\"", "\"n\"") "\n{\"text\":\"t\"}", "line 2: no object with",
            0, true, ERR_DATA},
        {"b.jsonl", "{\"prompt\":\"q\",\"completion\":\"c\"}", "which objective DPO learns from", 0,
            true, ERR_DATA},
        {"c.jsonl", PAIR("\"q\"", "\"y\"", "\"n\""), "from which spec.train.objective DPO", 0,
            false, ERR_DATA},
        {"d.jsonl", PAIR("\"q\"", "\"y\"", "\"y\""), "line 1: \"chosen\"", 0, true, ERR_DATA},
        {"e.txt", "text", "which are JSONL", 0, true, ERR_USER},
        {"f.jsonl", PAIR("\"a long prompt\"", "\"y\"", "\"n\""), "sequenceLength: within 8", 0,
            true, ERR_DATA},
        {"g.jsonl",
            PAIR("\"q\"", "\"y\"", "\"y\"") "\n" PAIR("\"q\"", "\"y\"", "7") "\n" PAIR(
                "\"q\"", "\"y\"", "\"n\""),
            "", 2, true, 0},
    };
    golden_folder(folder);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct data *d = NULL;
        int rc = open_pairs(rows[i].name, rows[i].text, rows[i].skip, rows[i].pairs, 8, &d);
        ck_assert_int_eq(rc, -rows[i].code);
        ck_assert_msg(!rc || strstr(e.text, rows[i].expect), "%s: %s", rows[i].name, e.text);
        if (!rc)
            check_pair(d, 0, "qy|y$", "qn|n$");
        data_close(d);
    }
    golden_remove(folder);
}
END_TEST

struct subject { /* of the fault loop */
    struct tok *t;
    struct chat *c;
    struct json *record;
};

static int encode_once(void *user)
{
    const struct subject *s = user;
    struct tok_ids ids = {0};
    struct pair p;
    int rc = pair_encode(s->t, s->c, NULL, s->record, &ids, &p, &e);
    tok_ids_done(&ids);
    return rc;
}

START_TEST(failures_leave_nothing)
{
    static const char *const texts[] = {
        PAIR("[" U("q") "]", "[" A("y") "]", "[" A("n") "]"), IMPLICIT("\"qy\"", "\"qn\"")};
    struct subject s = {.t = make_tokenizer()};
    ck_assert(!chat_parse(CHATML, NULL, "<|im_end|>", &s.c, &e));
    for (int i = 0; i < 2; i++) {
        ck_assert(!json_parse(texts[i], strlen(texts[i]), &s.record, &e));
        fault_each(FAULT_MEM, encode_once, &s);
        json_destroy(s.record);
    }
    chat_close(s.c);
    tok_close(s.t);
}
END_TEST

UNIT_MAIN("pair", the_answer_alone_is_learnt, what_is_no_pair_is_refused, a_pair_is_two_rows,
    bad_lines_are_named_or_left_out, failures_leave_nothing)
