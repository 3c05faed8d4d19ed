/*
 * Goal: a text is cut into the words that a file of labelled words would have, each at its place,
 * and labels of words become entities. Method: tables; random bytes, whose words must be in order,
 * apart and without white space.
 */
#include "runtime/serve/words.h"

#include "base/buf.h"
#include "base/random.h"
#include "base/utf8.h"
#include "tests/unit.h"

#include <string.h>

START_TEST(words_stand_between_white_space_and_punctuation)
{
    static const struct {
        const char *text, *words; /* with | between them */
    } cases[] = {
        {"", ""},
        {"  \t\n", ""},
        {"Paris", "Paris"},
        {" Anna lives in Paris. ", "Anna|lives|in|Paris|."},
        {"(EU) rejects U.S. don't", "(|EU|)|rejects|U.S|.|don't"},
        {"1996-08-22, 3.14!?", "1996-08-22|,|3.14|!|?"},
        {"...", ".|.|."},
        {"„München“ — naïve", "„|München|“|—|naïve"},
        {"a\xc2\xa0"
         "b\xe3\x80\x80"
         "c",
            "a|b|c"},
        {"東京 は", "東京|は"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char got[256] = "";
        struct words_word w = {0, 0};
        while (words_next(cases[i].text, (int64_t)strlen(cases[i].text), &w)) {
            size_t n = strlen(got);
            snprintf(got + n, sizeof got - n, "%s%.*s", n ? "|" : "", (int)(w.end - w.at),
                cases[i].text + w.at);
        }
        ck_assert_str_eq(got, cases[i].words);
    }
}
END_TEST

START_TEST(any_text_has_words_in_order)
{
    static const char *const parts[] = {"a", "é", ".", " ", "\t", "-", "東", "\"", "\xc2\xa0", "9"};
    uint64_t state = sample_setting("LLMJOB_SEED");
    sample_print();
    for (int round = 0; round < 2000; round++) {
        buf_auto struct buf b;
        buf_init(&b, 1024);
        int n = (int)(random_next(&state) % 30);
        for (int i = 0; i < n; i++)
            buf_str(&b, parts[random_next(&state) % 10]);
        const char *text = buf_cstr(&b);
        struct words_word w = {0, 0}, before = w;
        int64_t len = (int64_t)strlen(text), letters = 0;
        while (words_next(text, len, &w)) {
            ck_assert(w.at >= before.end && w.end > w.at && w.end <= len);
            ck_assert(!memchr(text + w.at, ' ', (size_t)(w.end - w.at)));
            letters += w.end - w.at;
            before = w;
        }
        for (int64_t i = 0, k; i < len; i += k) {
            k = (int64_t)utf8_sequence(text + i, (size_t)(len - i));
            bool space = text[i] == ' ' || text[i] == '\t' || !strncmp(text + i, "\xc2\xa0", 2);
            letters -= space ? 0 : k;
        }
        ck_assert_msg(!letters, "\"%s\"", text);
    }
}
END_TEST

START_TEST(labels_become_entities)
{
    static const struct {
        const char *labels, *entities; /* kind:first-last word */
    } cases[] = {
        {"O O", ""},
        {"B-PER I-PER O B-LOC", "PER:0-1 LOC:3-3 "},
        {"B-PER B-PER", "PER:0-0 PER:1-1 "},
        {"I-PER I-LOC I-LOC", "PER:0-0 LOC:1-2 "},
        {"S-A B-A E-A S-A", "A:0-0 A:1-2 A:3-3 "},
        {"city city O city", "city:0-1 city:3-3 "},
        {"B O", "B:0-0 "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char labels[64], got[128] = "";
        struct words_entity x = {.kind = NULL}, ended;
        int64_t at = 0;
        snprintf(labels, sizeof labels, "%s O", cases[i].labels);
        for (char *rest, *label = strtok_r(labels, " ", &rest); label;
             label = strtok_r(NULL, " ", &rest), at++) {
            const struct words_word w = {at, at + 1};
            if (!words_add(&x, &w, label, 0.5, &ended))
                continue;
            size_t n = strlen(got);
            snprintf(got + n, sizeof got - n, "%s:%d-%d ", ended.kind, (int)ended.place.at,
                (int)ended.place.end - 1);
            ck_assert_double_eq(ended.sum, 0.5 * (double)ended.words);
            ck_assert_int_eq(ended.words, ended.place.end - ended.place.at);
        }
        ck_assert_str_eq(got, cases[i].entities);
        ck_assert_ptr_null(x.kind);
    }
}
END_TEST

UNIT_MAIN("words", words_stand_between_white_space_and_punctuation, any_text_has_words_in_order,
    labels_become_entities)
