/*
 * Goal: documents become plain text in sections. Method: small texts of each kind beside what is to
 * become of them, written by hand; what is no text is refused with its place.
 * needs: faults
 */
#include "runtime/retrieval/document.h"

#include "base/clock.h"
#include "base/mem.h"
#include "tests/unit.h"

#include <string.h>

/* Of a processor, for 4 MiB: what takes time by the square takes minutes. */
#ifdef __SANITIZE_ADDRESS__
#define HOSTILE_MS 4000
#else
#define HOSTILE_MS 800
#endif

static struct document d;
static struct err e;

static void check_read(enum document_kind kind, const char *from, const char *text, int sections)
{
    ck_assert_msg(!document_read(kind, from, strlen(from), &d, &e), "%s", e.text);
    ck_assert_str_eq(buf_cstr(&d.text), text);
    ck_assert_uint_eq(d.count, (size_t)sections);
    for (size_t i = 0; i < d.count; i++) {
        const struct document_section *s = &d.sections[i];
        ck_assert(s->from + s->title <= s->to && s->to <= d.text.len);
        ck_assert(!i || s->from == d.sections[i - 1].to + 2);
    }
    document_done(&d);
}

START_TEST(an_ending_says_what_is_read)
{
    ck_assert_int_eq(document_kind_of("a/b.txt"), DOCUMENT_TEXT);
    ck_assert_int_eq(document_kind_of("B.MD"), DOCUMENT_MARKDOWN);
    ck_assert_int_eq(document_kind_of("x.tar.html"), DOCUMENT_HTML);
    ck_assert_int_eq(document_kind_of("x.jsonl"), DOCUMENT_JSONL);
    ck_assert_int_eq(document_kind_of("x.pdf"), DOCUMENT_NONE);
    ck_assert_int_eq(document_kind_of("html"), DOCUMENT_NONE);
}
END_TEST

START_TEST(lines_of_text_become_paragraphs)
{
    check_read(DOCUMENT_TEXT, "One line\n  and another.\r\n\n\n\nTwo.\n",
        "One line and another.\n\nTwo.", 1);
    check_read(DOCUMENT_TEXT, "Title\n=====\n\nText\nhere.\n\nNext one\n--------\nMore.",
        "Title\n\nText here.\n\nNext one\n\nMore.", 2);
    check_read(DOCUMENT_TEXT, "Before.\n\nTitle\n=====\nText.", "Before.\n\nTitle\n\nText.", 2);
    check_read(DOCUMENT_TEXT, "List:\n- one\n  goes on\n- two\n1. three",
        "List:\n- one goes on\n- two\n1. three", 1);
    check_read(DOCUMENT_TEXT, "# no title\n[a](b)\n---\n", "# no title [a](b)", 1);
    check_read(DOCUMENT_TEXT, "\xef\xbb\xbf\xc3\xa9\n", "\xc3\xa9", 1);
    check_read(DOCUMENT_TEXT, " \n\n ", "", 0);
}
END_TEST

START_TEST(markdown_has_titles_links_and_code)
{
    check_read(DOCUMENT_MARKDOWN, "# A [b](http://c) #\nText ![p](q.png) [x] (y).\n## D\n",
        "A b\n\nText p [x] (y).\n\nD", 2);
    check_read(DOCUMENT_MARKDOWN, "Run:\n```sh\n# not a title\n\n  make  it\n```\nDone.\n",
        "Run:\n# not a title\n  make  it\nDone.", 1);
    check_read(DOCUMENT_MARKDOWN, "So:\n\n    int  x;\n    x = 1;\n\nEnd.",
        "So:\n\n    int  x;\n    x = 1;\n\nEnd.", 1);
    check_read(DOCUMENT_MARKDOWN, "#hash\n####### seven", "#hash ####### seven", 1);
}
END_TEST

START_TEST(records_are_sections)
{
    check_read(DOCUMENT_JSONL,
        "{\"title\":\"A\",\"text\":\"one\\ntwo\"}\n\n{\"text\":\"three\",\"x\":1}\n",
        "A\n\none two\n\nthree", 1);
    ck_assert_int_eq(
        document_read(DOCUMENT_JSONL, "{\"text\":\"a\"}\n{\"t\":1}", 20, &d, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "line 2: there is no string \"text\"");
    document_done(&d);
    ck_assert_int_eq(document_read(DOCUMENT_JSONL, "{", 1, &d, &e), -ERR_DATA);
    ck_assert_msg(!strncmp(e.text, "line 1: ", 8), "%s", e.text);
    document_done(&d);
}
END_TEST

START_TEST(what_is_no_text_is_refused)
{
    ck_assert_int_eq(document_read(DOCUMENT_TEXT, "ab\xff", 3, &d, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "it is no UTF-8 at byte 2");
    document_done(&d);
    ck_assert_int_eq(document_read(DOCUMENT_HTML, "a\0b", 3, &d, &e), -ERR_DATA);
    ck_assert_str_eq(e.text, "it is no UTF-8 at byte 1");
    document_done(&d);
    size_t size = DOCUMENT_BYTES + 1;
    mem_autofree char *large = mem_alloc(size);
    memset(large, 'a', size);
    ck_assert_int_eq(document_read(DOCUMENT_TEXT, large, size, &d, &e), -ERR_DATA);
    document_done(&d);
    memset(large, '[', size); /* what looks like links costs no more */
    ck_assert(!document_read(DOCUMENT_MARKDOWN, large, size / 2, &d, &e));
    document_done(&d);
}
END_TEST

/* Largest files of what begins and does not end, or is as short as it can be. */
START_TEST(hostile_files_take_no_longer_than_others)
{
    static const struct {
        enum document_kind kind;
        const char *part; /* of which all of the file is made */
    } files[] = {{DOCUMENT_HTML, "<x=\""}, {DOCUMENT_HTML, "<x=\">"},
        {DOCUMENT_HTML, "t></x\"y=\""}, {DOCUMENT_HTML, "<x"}, {DOCUMENT_HTML, "</"},
        {DOCUMENT_HTML, "<!--"}, {DOCUMENT_HTML, "<nav>"}, {DOCUMENT_HTML, "<script></script=\""},
        {DOCUMENT_HTML, "<h1>a"}, {DOCUMENT_HTML, "<pre> <br>"}, {DOCUMENT_HTML, "&#"},
        {DOCUMENT_JSONL, "{\"text\":\"\"}\n"}, {DOCUMENT_JSONL, "{\"text\":\""},
        {DOCUMENT_JSONL, "[{},"}, {DOCUMENT_MARKDOWN, "["}, {DOCUMENT_MARKDOWN, "[]("},
        {DOCUMENT_MARKDOWN, "* a\n"}, {DOCUMENT_MARKDOWN, "     \n"}, {DOCUMENT_TEXT, "-"},
        {DOCUMENT_TEXT, "a\n---\n"}};
    mem_autofree char *text = mem_alloc(DOCUMENT_BYTES);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        size_t n = strlen(files[i].part), size = DOCUMENT_BYTES / n * n;
        for (size_t at = 0; at < size; at += n)
            memcpy(text + at, files[i].part, n);
        int64_t from_ms = clock_thread_ms();
        int rc = document_read(files[i].kind, text, size, &d, &e);
        int64_t ms = clock_thread_ms() - from_ms;
        document_done(&d);
        ck_assert(!rc || rc == -ERR_DATA);
        ck_assert_msg(ms < HOSTILE_MS, "%s: %lld ms", files[i].part, (long long)ms);
    }
}
END_TEST

START_TEST(a_long_title_is_cut)
{
    char text[512];
    memset(text, 'a', 300);
    memcpy(text, "# ", 3);
    memset(text + 2, 'a', 298);
    memcpy(text + 300, "\nb", 3);
    ck_assert(!document_read(DOCUMENT_MARKDOWN, text, strlen(text), &d, &e));
    ck_assert_uint_eq(d.sections[0].title, DOCUMENT_TITLE);
    ck_assert_uint_eq(d.text.len, DOCUMENT_TITLE + 3);
    document_done(&d);
}
END_TEST

static int read_again(void *user)
{
    const char *text = user;
    struct document own;
    struct err fault = {0};
    int rc = document_read(DOCUMENT_MARKDOWN, text, strlen(text), &own, &fault);
    document_done(&own);
    return rc;
}

START_TEST(no_memory_is_an_error)
{
    fault_each(FAULT_MEM, read_again, "# a\nb\n# c\nd");
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"document", 120, NULL, NULL},
        (const TTest *const[]){an_ending_says_what_is_read, lines_of_text_become_paragraphs,
            markdown_has_titles_links_and_code, records_are_sections, what_is_no_text_is_refused,
            hostile_files_take_no_longer_than_others, a_long_title_is_cut, no_memory_is_an_error,
            NULL});
}
