/*
 * Goal: HTML becomes what a reader of the page sees, as text, whatever is wrong with it. Method:
 * small pages beside what is to become of them, written by hand.
 */
#include "runtime/retrieval/document.h"

#include "base/mem.h"
#include "tests/unit.h"

#include <string.h>

static void check(const char *from, const char *text, int sections)
{
    struct document d;
    struct err e = {0};
    ck_assert_msg(!document_read(DOCUMENT_HTML, from, strlen(from), &d, &e), "%s", e.text);
    ck_assert_str_eq(buf_cstr(&d.text), text);
    ck_assert_uint_eq(d.count, (size_t)sections);
    document_done(&d);
}

START_TEST(blocks_are_paragraphs)
{
    check("<p>One\n <b>bold</b> word.</p><p>Two<br/>lines.", "One bold word.\n\nTwo\nlines.", 1);
    check("<h1 class='a>b'>Title</h1>Text.<h2>Next</h2><div>More</div>",
        "Title\n\nText.\n\nNext\n\nMore", 2);
    check("<ul><li>one<li>two</ul>end", "one\ntwo\n\nend", 1);
    check("<table><tr><td>a</td><td>b</td></tr><tr><th>c</th></tr></table>", "a b\nc", 1);
    check("<pre>int  x;\n  y;\n</pre><p>t", "int  x;\n  y;\n\nt", 1);
    check("<dl><dt>word</dt><dd>what it is</dd></dl>", "word\nwhat it is", 1);
}
END_TEST

START_TEST(what_is_not_shown_is_left_out)
{
    check("<html><head><title>T</title><style>p{}</style></head><body><script>if(a<b)</script>x",
        "x", 1);
    check("a<!-- <p>b -->c<!doctype html>d", "acd", 1);
    check("<nav>a<nav>b</nav>c</nav>d", "d", 1);
    check("<script>no end", "", 0);
    check("x<!-- no end", "x", 1);
}
END_TEST

START_TEST(references_are_characters)
{
    check("a &amp; b &lt;p&gt; &#65;&#x42; &eacute;&nbsp;&mdash;",
        "a & b <p> AB \xc3\xa9 \xe2\x80\x94", 1);
    check("a & b &unknown; &#0; &#xd800; &#x110000; &#; &#x;",
        "a & b &unknown; &#0; &#xd800; &#x110000; &#; &#x;", 1);
}
END_TEST

START_TEST(what_is_no_tag_is_text)
{
    check("a < b and 1<2 <3", "a < b and 1<2 <3", 1);
    check("<", "<", 1);
    check("</", "</", 1);
    check("a<b", "a", 1); /* a tag without an end */
    check("<averyveryverylongname>x</averyveryverylongname>", "x", 1);
}
END_TEST

/* Less text is lost than browsers lose: a forgotten quote costs its own tag. */
START_TEST(a_tag_that_does_not_end_is_bounded)
{
    size_t size = DOCUMENT_TAG + 4;
    char *page = mem_alloc(size + 1);
    check("<p>one</p><a href=\"x>two</a><p title='it>three", "one\n\ntwo\n\nthree", 1);
    check("<a href=\"x>y\">two</a><i a='\"'>three", "twothree", 1);
    memset(page, 'a', size);
    memcpy(page, "<", 1);
    memcpy(page + size - 4, "here", 5);
    check(page, "here", 1);
    memcpy(page, "<b c=\"", 6);
    check(page, "here", 1);
    page[DOCUMENT_TAG - 1] = '"'; /* an end just in time, but not of the tag */
    check(page, "here", 1);
    page[10] = '>'; /* in quotes, until the quote does not close */
    check(page, "here", 1);
    page[DOCUMENT_TAG - 1] = 'a';
    struct document d;
    struct err e = {0};
    ck_assert(!document_read(DOCUMENT_HTML, page, size, &d, &e));
    ck_assert_uint_eq(d.text.len, size - 11);
    document_done(&d);
    mem_free(page);
}
END_TEST

UNIT_MAIN("document_html", blocks_are_paragraphs, what_is_not_shown_is_left_out,
    references_are_characters, what_is_no_tag_is_text, a_tag_that_does_not_end_is_bounded)
