/*
 * Goal: texts and their labels are read from JSONL, CSV and TSV as RFC 8259 and RFC 4180 have them,
 * whatever editor wrote them, and what is none is refused with its line. Method: files beside what
 * they are written out as, a text "text=label"; a table of bad ones.
 * needs: faults
 */
#include "runtime/data/labelled.h"

#include "tests/unit.h"

#include <math.h>

static struct buf out;

static int write_out(
    const char *path, enum data_format format, const char *text, size_t size, struct err *e)
{
    struct labelled l;
    struct labelled_text t;
    int more = labelled_begin(&l, path, format, false, text, size, e);
    more = more ? more : 1;
    while (more > 0 && (more = labelled_next(&l, &t, e)) > 0) {
        struct labelled_label at = {.name = NULL};
        buf_printf(&out, "%lld:%.*s", (long long)t.line, (int)t.text_bytes, t.text);
        if (t.second)
            buf_printf(&out, "&%.*s", (int)t.second_bytes, t.second);
        buf_char(&out, '=');
        for (int n = 0; labelled_next_label(&t, &at); n++)
            buf_printf(&out, "%s%.*s", n ? "+" : "", at.bytes, at.name);
        ck_assert(t.several || at.name == t.label);
        buf_char(&out, '|');
    }
    if (!more)
        ck_assert_int_eq(labelled_next(&l, &t, e), 0); /* and it stays the end */
    labelled_done(&l);
    return more;
}

static const char *written(const char *path, const char *text, size_t size)
{
    struct err e = {.text = ""};
    buf_done(&out);
    buf_init(&out, 1 << 20);
    if (!write_out(path, FORMAT_AUTO, text, size, &e))
        return buf_cstr(&out);
    buf_reset(&out);
    buf_str(&out, e.text);
    return buf_cstr(&out);
}

START_TEST(texts_and_labels)
{
    static const char *const rows[][3] = {
        {"a.jsonl", "{\"text\": \"a b\", \"label\": \"x\"}\n{\"label\": 7, \"text\": \"\"}",
            "1:a b=x|2:=7|"},
        {"a.NDJSON",
            "\n \t\r\n{\"text\":\"\\u00e4\\n\",\"label\":-3,\"id\":[1]}\r\n\n"
            "{\"text\":\"b\",\"label\":\"Sci/Tech\"}\n\n",
            "3:\xc3\xa4\n=-3|5:b=Sci/Tech|"},
        {"a.csv", "text,label\na b,x\nc,7\n", "2:a b=x|3:c=7|"},
        {"a.csv", "id,label,text\r\n1,x,a b\r\n2,y,\r\n", "2:a b=x|3:=y|"},
        {"a.csv", "\"label\",\"text\"\n\"x\",\"a, \"\"b\"\"\nc\"\n\r\ny, d \n",
            "2:a, \"b\"\nc=x|5: d =y|"},
        {"a.csv", "text,label\n\"\",x\n\"a\"\"\",y", "2:=x|3:a\"=y|"},
        {"a.csv", "text,label\na \"b\" c,x\n", "2:a \"b\" c=x|"},
        {"a.csv", "text,label\na\tb,x\r\n", "2:a\tb=x|"},
        {"a.csv", "text,label\n\"a\r\nb\",\"x\"\r\n", "2:a\r\nb=x|"},
        {"a.csv", "\n\ntext,label\na,x", "4:a=x|"},
        {"a.tsv", "text\tlabel\na, b\tx\n\"c\td\"\ty\n", "2:a, b=x|3:c\td=y|"},
        {"a.jsonl", "{\"text\":\"a\",\"labels\":[\"x\",\"y|z\"]}\n{\"text\":\"b\",\"labels\":[]}",
            "1:a=x+y|z|2:b=|"},
        {"a.csv", "labels,text\nx|y,a\n,b\n\"z,1\",c", "2:a=x+y|3:b=|4:c=z,1|"},
        {"a.tsv", "text\tlabels\na\tx\n", "2:a=x|"},
        {"a.csv", "text,label\na,x|y\n", "2:a=x|y|"},
        {"a.jsonl",
            "{\"text\":\"a\",\"text_pair\":\"b c\",\"label\":\"x\"}\n"
            "{\"label\":2,\"text_pair\":\"\",\"text\":\"\"}",
            "1:a&b c=x|2:&=2|"},
        {"a.csv", "text_pair,id,label,text\n\"b,\",1,x,a\n,2,y,\n", "2:a&b,=x|3:&=y|"},
        {"a.tsv", "text\ttext_pair\tlabels\na\tb\tx|y\n", "2:a&b=x+y|"},
        {"a.csv", "text,label\n", ""},
        {"a.jsonl", "", ""},
        {"a.jsonl", "\n", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_str_eq(written(rows[i][0], rows[i][1], strlen(rows[i][1])), rows[i][2]);
}
END_TEST

START_TEST(what_is_no_such_file_is_refused_with_its_line)
{
    static const char *const rows[][3] = {
        {"a.json", "{}", "a.json: of texts with labels format Auto knows .jsonl, .ndjson, .csv"},
        {".csv", "text,label\n", ".csv: of texts with labels"},
        {"a.jsonl", "PAR1\x15", "Parquet is not read: docs/parquet_to_jsonl.py makes JSONL of it"},
        {"a.jsonl", "[{\"text\":\"a\",\"label\":\"x\"}]", "a.jsonl: a JSON array, not JSONL"},
        {"a.jsonl", "{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"a\"", "a.jsonl: line 2"},
        {"a.jsonl", "{\"text\":3,\"label\":\"x\"}", "line 1: no object with a string \"text\""},
        {"a.jsonl", "\n3\n", "line 2: no object with a string \"text\""},
        {"a.jsonl", "{\"text\":\"a\"}", "line 1: no \"label\" that is a string or a whole number"},
        {"a.jsonl", "{\"text\":\"a\",\"label\":1.5}", "line 1: no \"label\" that is"},
        {"a.jsonl", "{\"text\":\"a\",\"label\":true}", "line 1: no \"label\" that is"},
        {"a.jsonl", "{\"text\":\"a\",\"label\":[\"x\"]}", "line 1: no \"label\" that is"},
        {"a.jsonl", "{\"text\":\"a\",\"label\":\"\"}", "line 1: a label of 0 bytes"},
        {"a.jsonl",
            "{\"text\":\"a\",\"text_pair\":\"b\",\"label\":\"x\"}\n\n"
            "{\"text\":\"a\",\"label\":\"x\"}",
            "a.jsonl: line 3: no \"text_pair\", unlike the texts before it"},
        {"a.jsonl",
            "{\"text\":\"a\",\"label\":\"x\"}\n"
            "{\"text\":\"a\",\"text_pair\":\"b\",\"label\":\"x\"}",
            "a.jsonl: line 2: a \"text_pair\", unlike the texts before it"},
        {"a.jsonl", "{\"text\":\"a\",\"text_pair\":[\"b\"],\"label\":\"x\"}",
            "a.jsonl: line 1: \"text_pair\" is no string"},
        {"a.jsonl", "{\"text\":\"a\",\"labels\":\"x\"}", "line 1: \"labels\" is no list"},
        {"a.jsonl", "{\"text\":\"a\",\"labels\":[\"x\",7]}", "line 1: \"labels\" holds what is no"},
        {"a.jsonl", "{\"text\":\"a\",\"labels\":[\"x\",\"\"]}", "line 1: a label of 0 bytes"},
        {"a.jsonl", "{\"text\":\"a\",\"label\":\"x\",\"labels\":[]}", "line 1: both \"label\" and"},
        {"a.csv", "text,label,labels\n", "a.csv: two columns \"label\""},
        {"a.csv", "text,labels\na,x|\n", "line 2: a label of 0 bytes"},
        {"a.csv", "text,labels\na,x||y\n", "line 2: a label of 0 bytes"},
        {"a.csv", "text_pair,text,label,text_pair\n", "a.csv: two columns \"text_pair\""},
        {"a.csv", "text_pair,label\n", "a.csv: line 1: names no column \"text\""},
        {"a.csv", "text,text_pair,label\na,x\n", "line 2: 2 columns, but the first line names 3"},
        {"a.csv", "Text,label\na,b\n", "a.csv: line 1: names no column \"text\""},
        {"a.csv", "text\na\n", "a.csv: line 1: names no column \"label\""},
        {"a.csv", "text;label\na;x\n", "a.csv: line 1: names no column \"text\""},
        {"a.csv", "text,label,text\n", "a.csv: two columns \"text\""},
        {"a.csv", "text,label,label\n", "a.csv: two columns \"label\""},
        {"a.csv", "text,label\na,x\nb\n", "line 3: 1 column, but the first line names 2"},
        {"a.csv", "text,label\n\"a\nb\",x\nc,d,e\n", "line 4: 3 columns, but the first line"},
        {"a.csv", "text,label\na,x\n\"b,x\nc,y\n", "line 3: a quote that nothing closes"},
        {"a.csv", "text,label\n\"a\" b,x\n", "line 2: text behind a closing quote"},
        {"a.csv", "text,label\n\"a\nb\" c,x\n", "line 3: text behind a closing quote"},
        {"a.csv", "text,label\na,\n", "line 2: a label of 0 bytes, and 1 to 128 are allowed"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = written(rows[i][0], rows[i][1], strlen(rows[i][1]));
        ck_assert_msg(strstr(text, rows[i][2]) != NULL, "%s: %s", rows[i][1], text);
    }
    ck_assert_ptr_nonnull(
        strstr(written("a.csv", "text,label\na,x\0y\n", 17), "line 2: a NUL byte in a label"));
}
END_TEST

static const char *written_pairs(const char *path, const char *text)
{
    struct err e = {.text = ""};
    struct labelled l;
    struct labelled_text t;
    int more = labelled_begin(&l, path, FORMAT_AUTO, true, text, strlen(text), &e);
    buf_done(&out);
    buf_init(&out, 1 << 20);
    more = more ? more : 1;
    while (more > 0 && (more = labelled_next(&l, &t, &e)) > 0) {
        buf_printf(&out, "%lld:%.*s=%.*s", (long long)t.line, (int)t.text_bytes, t.text,
            (int)t.second_bytes, t.second);
        if (!isnan(t.value))
            buf_printf(&out, "@%g", t.value);
        buf_char(&out, '|');
    }
    labelled_done(&l);
    if (more) {
        buf_reset(&out);
        buf_str(&out, e.text);
    }
    return buf_cstr(&out);
}

START_TEST(pairs_have_two_texts_and_perhaps_a_number)
{
    static const char *const rows[][3] = {
        {"a.jsonl", "{\"b\":\"y\",\"a\":\"x z\"}\n{\"a\":\"\",\"b\":\"\"}", "1:x z=y|2:=|"},
        {"a.jsonl", "{\"a\":\"x\",\"b\":\"y\",\"label\":0.25,\"text\":7}", "1:x=y@0.25|"},
        {"a.csv", "label,b,a\n1,\"y,\",x\n0,,\n1e-1,c,d\n", "2:x=y,@1|3:=@0|4:d=c@0.1|"},
        {"a.tsv", "a\tid\tb\nx\t7\ty\n", "2:x=y|"},
        {"a.csv", "a,b\n", ""},
        {"a.jsonl", "{\"a\":\"x\"}", "a.jsonl: line 1: no object with strings \"a\" and \"b\""},
        {"a.jsonl", "{\"a\":\"x\",\"b\":3}", "line 1: no object with strings"},
        {"a.jsonl", "{\"a\":\"x\",\"b\":\"y\",\"label\":\"1\"}", "is a number from 0 to 1"},
        {"a.jsonl", "{\"a\":\"x\",\"b\":\"y\",\"label\":null}", "is a number from 0 to 1"},
        {"a.jsonl", "{\"a\":\"x\",\"b\":\"y\",\"label\":1.01}", "is a number from 0 to 1"},
        {"a.jsonl", "[]", "a JSON array, not JSONL: put each text on a line of its own, {\"a\""},
        {"a.csv", "a,label\nx,1\n", "a.csv: line 1: names no column \"b\""},
        {"a.csv", "text,b\n", "a.csv: line 1: names no column \"a\""},
        {"a.csv", "a,b,b\n", "a.csv: two columns \"b\""},
        {"a.csv", "a,b,label\nx,y,-0.1\n", "a.csv: line 2: a label of a pair is a number from"},
        {"a.csv", "a,b,label\nx,y,nan\n", "line 2: a label of a pair is a number from 0 to 1"},
        {"a.csv", "a,b,label\nx,y,\n", "line 2: a label of a pair is a number from 0 to 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *text = written_pairs(rows[i][0], rows[i][1]);
        ck_assert_msg(
            *rows[i][2] ? strstr(text, rows[i][2]) != NULL : !*text, "%s: %s", rows[i][1], text);
    }
}
END_TEST

START_TEST(labels_and_columns_have_bounds)
{
    char label[LABELLED_LABEL_BYTES + 2];
    buf_auto struct buf text;
    buf_init(&text, 1 << 20);
    memset(label, 'l', sizeof label - 1);
    for (int n = LABELLED_LABEL_BYTES; n <= LABELLED_LABEL_BYTES + 1; n++) {
        bool fits = n == LABELLED_LABEL_BYTES;
        label[n] = 0;
        buf_reset(&text);
        buf_printf(&text, "text,label\na,%s\n", label);
        ck_assert(!strstr(written("a.csv", text.data, text.len), "129 bytes") == fits);
        buf_reset(&text);
        buf_printf(&text, "{\"text\":\"a\",\"label\":\"%s\"}", label);
        ck_assert(!strstr(written("a.jsonl", text.data, text.len), "129 bytes") == fits);
        label[n] = 'l';
    }
    buf_reset(&text);
    buf_str(&text, "text,label");
    for (int i = 2; i <= LABELLED_COLUMNS; i++)
        buf_char(&text, ',');
    ck_assert_ptr_nonnull(
        strstr(written("a.csv", text.data, text.len), "line 1: more than 256 columns"));
    ck_assert_str_eq(written("a.csv", text.data, text.len - 1), "");
}
END_TEST

START_TEST(a_format_that_is_given_counts)
{
    static const char text[] = "text\tlabel\na, b\tx\n";
    struct err e = {.text = ""};
    buf_done(&out);
    buf_init(&out, 1 << 20);
    ck_assert_int_eq(write_out("a.csv", FORMAT_TSV, text, sizeof text - 1, &e), 0);
    ck_assert_str_eq(buf_cstr(&out), "2:a, b=x|");
}
END_TEST

static int read_once(void *user)
{
    (void)user;
    static const char *const texts[] = {
        "{\"text\": \"a b\", \"labels\": [\"x\"]}\n", "text,label\n\"a\"\"b\",x\n"};
    struct err e = {.text = ""};
    int rc = 0;
    buf_done(&out);
    buf_init(&out, 1 << 20);
    for (int i = 0; i < 2 && !rc; i++)
        rc = write_out(i ? "a.csv" : "a.jsonl", FORMAT_AUTO, texts[i], strlen(texts[i]), &e);
    rc = rc ? rc : buf_ok(&out) ? 0 : -ERR_MEMORY;
    return rc;
}

START_TEST(failed_calls_are_reported)
{
    fault_each(FAULT_MEM, read_once, NULL);
}
END_TEST

UNIT_MAIN("labelled", texts_and_labels, what_is_no_such_file_is_refused_with_its_line,
    pairs_have_two_texts_and_perhaps_a_number, labels_and_columns_have_bounds,
    a_format_that_is_given_counts, failed_calls_are_reported)
