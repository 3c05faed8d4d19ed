/*
 * page: goal: the page's files, and nothing else, are had by anybody, as they are in agent/page/,
 * compressed or not, once as long as they do not change, under headers that let no other origin in
 * and no text become a script. Method: a front with a key, on a real socket
 * (tests/base/web_client.h), is asked; bodies are compared with the files; the files are read for
 * what the headers would stop.
 */
#include "agent/front.h"
#include "tests/base/web_client.h"

#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define FILE_BYTES  (64 << 10)
#define MOST_BYTES  (48 << 10) /* of all the pages' files, */
#define MOST_PACKED (20 << 10) /* and as they are sent */

static const struct {
    const char *path, *file, *type;
} pages[] = {{"/", "index.html", "text/html; charset=utf-8"},
    {"/page.css", "page.css", "text/css; charset=utf-8"},
    {"/page.js", "page.js", "text/javascript; charset=utf-8"},
    {"/answer.js", "answer.js", "text/javascript; charset=utf-8"},
    {"/common.js", "common.js", "text/javascript; charset=utf-8"},
    {"/icon.svg", "icon.svg", "image/svg+xml"},
    {"/monitor", "monitor.html", "text/html; charset=utf-8"},
    {"/monitor.css", "monitor.css", "text/css; charset=utf-8"},
    {"/monitor.js", "monitor.js", "text/javascript; charset=utf-8"}};
#define PAGES (sizeof pages / sizeof *pages)

static struct front *f;
static struct web_client c;

static int rank_takes(void *user, enum wire_type type, const char *json)
{
    (void)user, (void)type, (void)json;
    return 0;
}

static struct api_keys keys;

static void setup(void)
{
    ck_assert_int_eq(keys_read("key", 3, &keys, &e), 0);
    struct front_conf conf = {.listen_host = "127.0.0.1",
        .model = "m",
        .keys = &keys,
        .max_queue = 3,
        .max_at_rank = 1,
        .send_fn = rank_takes};
    ck_assert_int_eq(web_create(&(struct web_conf){0}, &w, &e), 0);
    conf.web = w;
    ck_assert_int_eq(front_create(&conf, &f, &e), 0);
    ck_assert_int_eq(front_ready(f, 64, WIRE_CALLS_NONE, &e), 0);
    port = front_port(f);
}

static void teardown(void)
{
    web_destroy(w);
    front_destroy(f);
    buf_done(&c.in);
    io_close(c.fd);
}

/* The answer stays in c until the next one; more: further header lines. */
static void ask(const char *method, const char *path, const char *more)
{
    buf_auto struct buf text;
    buf_init(&text, 4096);
    buf_printf(
        &text, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", method, path, more);
    if (c.fd > 0)
        client_close(&c);
    client_open(&c);
    client_write(&c, buf_cstr(&text));
    until(&c, c.closed);
}

/* The status of the last answer. */
static int status(void)
{
    return (int)strtol(buf_cstr(&c.in) + strlen("HTTP/1.1 "), NULL, 10);
}

static const char *body(size_t *len)
{
    const char *end = memmem(c.in.data, c.in.len, "\r\n\r\n", 4);
    ck_assert_ptr_nonnull(end);
    *len = (size_t)(c.in.data + c.in.len - (end + 4));
    return end + 4;
}

static size_t read_file(const char *name, char *text)
{
    char path[64];
    snprintf(path, sizeof path, "agent/page/%s", name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s", path);
    size_t n = fread(text, 1, FILE_BYTES - 1, file);
    fclose(file);
    text[n] = 0;
    return n;
}

static uint32_t crc_of(const char *data, size_t len) /* RFC 1952 */
{
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < len; i++) {
        crc ^= (unsigned char)data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static uint32_t word_at(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

START_TEST(files_are_had_by_anybody)
{
    static char text[FILE_BYTES];
    char line[128];
    size_t n = read_file(pages[_i].file, text), len;
    ask("GET", pages[_i].path, "");
    ck_assert_int_eq(status(), 200);
    const char *got = body(&len);
    ck_assert_uint_eq(len, n);
    ck_assert_mem_eq(got, text, n);
    snprintf(line, sizeof line, "Content-Type: %s\r\n", pages[_i].type);
    ck_assert(has(&c, line));
    ck_assert(!has(&c, "Content-Encoding"));

    ask("HEAD", pages[_i].path, "");
    snprintf(line, sizeof line, "Content-Length: %zu\r\n", n);
    ck_assert(has(&c, line));
    body(&len);
    ck_assert_uint_eq(len, 0);
}
END_TEST

START_TEST(files_are_compressed_for_those_who_take_it)
{
    static const char *const takes[] = {"gzip", "br, GZIP", "deflate,gzip ; q=0.5"};
    static const char *const not [] = {"identity", "gzip;q=0", "br, gzip; q=0.0, x", "xgzip", ""};
    static char text[FILE_BYTES];
    char more[128];
    size_t n = read_file(pages[_i].file, text), len;
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) {
        snprintf(more, sizeof more, "Accept-Encoding: %s\r\n", takes[i]);
        ask("GET", pages[_i].path, more);
        const char *got = body(&len);
        ck_assert_msg(has(&c, "Content-Encoding: gzip\r\n"), "%s", takes[i]);
        ck_assert(has(&c, "Vary: Accept-Encoding\r\n"));
        ck_assert_mem_eq(got, "\x1f\x8b", 2);
        ck_assert_uint_lt(len, n);
        ck_assert_uint_eq(word_at(got + len - 8), crc_of(text, n));
        ck_assert_uint_eq(word_at(got + len - 4), n);
    }
    for (size_t i = 0; i < sizeof not / sizeof *not ; i++) {
        snprintf(more, sizeof more, "Accept-Encoding: %s\r\n", not [i]);
        ask("GET", pages[_i].path, more);
        ck_assert_msg(!has(&c, "Content-Encoding"), "%s", not [i]);
    }
}
END_TEST

/* The value of the last answer's ETag. */
static void read_tag(char *tag, size_t size)
{
    const char *at = strstr(buf_cstr(&c.in), "ETag: ");
    ck_assert_ptr_nonnull(at);
    snprintf(tag, size, "%.*s", (int)strcspn(at + 6, "\r"), at + 6);
}

START_TEST(what_one_has_does_not_come_again)
{
    char plain[64], packed[64], more[256];
    size_t len;
    ask("GET", pages[_i].path, "Accept-Encoding: gzip\r\n");
    read_tag(packed, sizeof packed);
    ask("GET", pages[_i].path, "");
    read_tag(plain, sizeof plain);
    ck_assert_str_ne(plain, packed);
    ck_assert(has(&c, "Cache-Control: no-cache\r\n"));
    const struct {
        const char *tag;
        int status;
    } known[] = {{plain, 304}, {"*", 304}, {packed, 200}, {"\"other\"", 200}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        snprintf(more, sizeof more, "If-None-Match: W/\"1\", W/%s\r\n", known[i].tag);
        ask("GET", pages[_i].path, known[i].tag[0] == '*' ? "If-None-Match: *\r\n" : more);
        ck_assert_int_eq(status(), known[i].status);
        body(&len);
        ck_assert(known[i].status == 200 || len == 0);
        ck_assert_int_eq(has(&c, "Content-Length"), known[i].status == 200);
        ck_assert(has(&c, "ETag: ") && has(&c, "Content-Security-Policy: "));
    }
}
END_TEST

START_TEST(headers_let_nothing_in)
{
    static const char *const lines[] = {
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src "
        "'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'\r\n",
        "X-Content-Type-Options: nosniff\r\n", "Referrer-Policy: no-referrer\r\n",
        "Cross-Origin-Resource-Policy: same-origin\r\n"};
    ask("GET", pages[_i].path, "Origin: http://elsewhere\r\n");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(has(&c, lines[i]), "%s", lines[i]);
    ck_assert(!has(&c, "Set-Cookie") && !has(&c, "Access-Control-Allow-Origin"));
}
END_TEST

START_TEST(no_other_path_is_a_file)
{
    static const char *const paths[] = {"/index.html", "/page.css/", "//page.js", "/./page.js",
        "/PAGE.JS", "/page.js.gz", "/page.c", "/agent/page.c", "/../agent/page.c",
        "/..%2f..%2fetc/passwd", "/page.js%2f..", "/%2e%2e/page.js"};
    static const char *const methods[] = {"POST", "PUT", "DELETE", "PATCH"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ask("GET", paths[i], "");
        ck_assert_msg(status() == 401, "%s: %d", paths[i], status());
        ask("GET", paths[i], "Authorization: Bearer key\r\n");
        ck_assert_msg(status() == 404, "%s: %d", paths[i], status());
    }
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        ask(methods[i], "/", "Content-Length: 1000000\r\n"); /* of which nothing is waited for */
        ck_assert_int_eq(status(), 405);
        ck_assert(has(&c, "Allow: GET, HEAD, OPTIONS\r\n"));
    }
    ask("OPTIONS", "/", "");
    ck_assert_int_eq(status(), 204);
}
END_TEST

/* Each name that text has between `before` and a quotation mark is a file of the page. */
static void check_named(const char *text, const char *before)
{
    int count = 0;
    for (const char *p = text; (p = strstr(p, before)); count++) {
        p += strlen(before);
        p += *p == '.' ? 2 : 0; /* "./answer.js" */
        size_t i = 0, n = strcspn(p, "\"");
        while (i < PAGES && (strlen(pages[i].file) != n || strncmp(p, pages[i].file, n)))
            i++;
        ck_assert_msg(*p == '#' || i < PAGES, "%.*s", (int)n, p);
    }
    ck_assert_int_gt(count, 0);
}

START_TEST(files_do_without_what_is_forbidden)
{
    static const char *const never[] = {"http:", "https:", "\"//", "url(", "@import", "innerHTML",
        "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser",
        "javascript:", "document.cookie",
        " onclick=", " onload=", " onerror=", " oninput=", " style=", "<style", "<script>",
        "importScripts"};
    static char text[FILE_BYTES];
    size_t all = 0, packed = 0, len;
    for (size_t i = 0; i < PAGES; i++) {
        all += read_file(pages[i].file, text);
        ask("GET", pages[i].path, "Accept-Encoding: gzip\r\n");
        body(&len);
        packed += len;
        for (size_t k = 0; k < sizeof never / sizeof *never; k++) {
            const char *at = strstr(text, never[k]);
            bool name = at && strstr(at, "//www.w3.org/2000/svg") == at + strlen("http:");
            ck_assert_msg(!at || name, "%s: %s", pages[i].file, never[k]);
        }
        if (strstr(pages[i].file, ".html")) {
            check_named(text, "src=\"");
            check_named(text, "href=\"");
        }
        if (strstr(text, "import {"))
            check_named(text, " from \"");
    }
    ck_assert_uint_le(all, MOST_BYTES);
    ck_assert_uint_le(packed, MOST_PACKED);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("page");
    TCase *t = tcase_create("page");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, files_are_had_by_anybody, 0, PAGES);
    tcase_add_loop_test(t, files_are_compressed_for_those_who_take_it, 0, PAGES);
    tcase_add_loop_test(t, what_one_has_does_not_come_again, 0, PAGES);
    tcase_add_loop_test(t, headers_let_nothing_in, 0, PAGES);
    tcase_add_test(t, no_other_path_is_a_file);
    tcase_add_test(t, files_do_without_what_is_forbidden);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
