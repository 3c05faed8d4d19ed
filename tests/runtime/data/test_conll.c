/*
 * Goal: a CoNLL file is read as its words, labels and sentences, whatever editor wrote it, and what
 * is none is refused with its line. Method: texts beside what they are written out as, a word
 * "word/label" and a sentence "|"; a table of bad ones.
 */
#include "runtime/data/conll.h"

#include "base/buf.h"
#include "tests/unit.h"

static const char *written(const char *text, size_t size)
{
    static struct buf out;
    struct conll c;
    struct conll_word w;
    struct err e = {.text = ""};
    int event;
    buf_done(&out);
    buf_init(&out, 1 << 20);
    conll_begin(&c, "f.conll", text, size);
    while ((event = conll_next(&c, &w, &e)) > CONLL_END) {
        if (event == CONLL_WORD)
            buf_printf(&out, "%.*s/%.*s ", w.word_bytes, w.word, w.label_bytes, w.label);
        else
            buf_str(&out, "|");
    }
    if (event < 0) {
        ck_assert_int_eq(event, -ERR_DATA);
        return e.text[0] ? buf_reset(&out), buf_str(&out, e.text), buf_cstr(&out) : "";
    }
    ck_assert_int_eq(conll_next(&c, &w, &e), CONLL_END); /* and it stays the end */
    return buf_cstr(&out);
}

START_TEST(words_labels_and_sentences)
{
    static const char *const rows[][2] = {
        {"EU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\nPeter NNP B-NP B-PER\n",
            "EU/B-ORG rejects/O |Peter/B-PER |"},
        {"EU\tB-ORG\nsaid\tO", "EU/B-ORG said/O |"},
        {"a  x\t O \r\n\r\nb y S-LOC\r\n", "a/O |b/S-LOC |"},
        {"\n\n \t\na O\n\n\n\nb O\n\n\n", "a/O |b/O |"},
        {"-DOCSTART- -X- -X- O\n\nEU NNP B-NP I-ORG\n", "EU/I-ORG |"},
        {"-DOCSTART- O\na O\n-DOCSTART-\nb E-X-Y\n", "a/O |b/E-X-Y |"},
        {"-DOCSTART-\n\n", ""},
        {"", ""},
        {"\n", ""},
        /* only blanks and tabs part columns, and a label may stand for any word */
        {"10\xc2\xa0"
         "000 O\n# O\nO O\n-DOCSTART-s O\n",
            "10\xc2\xa0"
            "000/O #/O O/O -DOCSTART-s/O |"},
        {"a NN\nb VB\nc .\n", "a/NN b/VB c/. |"},
        {"\xe5\x8c\x97\xe4\xba\xac B-\xe5\x9c\xb0\n", "\xe5\x8c\x97\xe4\xba\xac/B-\xe5\x9c\xb0 |"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(written(rows[i][0], strlen(rows[i][0])), rows[i][1]);
}
END_TEST

START_TEST(what_is_no_such_file_is_refused_with_its_line)
{
    static const char *const rows[][2] = {
        {"a O\nb\n", "f.conll: line 2: one column, not 2 to 4"},
        {"a O\n\nb 1 2 3 O\n", "f.conll: line 3: more than four columns"},
        {"a x O\nb O\n", "f.conll: line 2: 2 columns, but 3 on the lines before"},
        {"a O\n\n-DOCSTART- -X- O\n\nb x O\n", "f.conll: line 5: 3 columns, but 2"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = written(rows[i][0], strlen(rows[i][0]));
        ck_assert_msg(strstr(text, rows[i][1]) != NULL, "%s: %s", rows[i][0], text);
    }
    ck_assert_ptr_nonnull(strstr(written("a\0b O\n", 6), "line 1: a NUL byte"));
}
END_TEST

START_TEST(words_and_labels_have_bounds)
{
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    for (int i = 0; i < CONLL_WORD_BYTES; i++)
        buf_char(&text, 'w');
    buf_str(&text, " B-");
    for (int i = 2; i < CONLL_LABEL_BYTES; i++)
        buf_char(&text, 'l');
    buf_str(&text, "\n");
    ck_assert_ptr_nonnull(strstr(written(text.data, text.len), "l |"));
    text.data[text.len - 1] = 'l';
    ck_assert_ptr_nonnull(strstr(written(text.data, text.len), "4096 and a label of 129 bytes"));
    text.data[CONLL_WORD_BYTES] = 'w';
    text.data[CONLL_WORD_BYTES + 1] = ' ';
    text.data[CONLL_WORD_BYTES + 2] = 'O';
    ck_assert_ptr_nonnull(strstr(written(text.data, CONLL_WORD_BYTES + 3), "a word of 4097"));
}
END_TEST

UNIT_MAIN("conll", words_labels_and_sentences, what_is_no_such_file_is_refused_with_its_line,
    words_and_labels_have_bounds)
