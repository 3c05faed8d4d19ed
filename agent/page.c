/*
 * page: the build puts the files of agent/page/ into the program's constants, each as it is and
 * compressed by gzip (.incbin of the assembler; PAGE_PACKED is the folder of the latter). What is
 * answered is one of these or nothing: no path is ever looked up in a file system.
 */
#include "agent/page.h"

#include "base/hash.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define EMBED(name, path) \
    __asm__(".section .rodata\n" #name ": .incbin \"" path "\"\n" #name "_end: .byte 0\n" \
            ".previous\n"); \
    extern const char name[] __attribute__((visibility("hidden"))); \
    extern const char name##_end[] __attribute__((visibility("hidden")))
#define EMBED_BOTH(name, file) \
    EMBED(file_##name, "agent/page/" file); \
    EMBED(file_##name##_gz, PAGE_PACKED "/" file ".gz")

EMBED_BOTH(html, "index.html");
EMBED_BOTH(css, "page.css");
EMBED_BOTH(js, "page.js");
EMBED_BOTH(answer, "answer.js");
EMBED_BOTH(common, "common.js");
EMBED_BOTH(icon, "icon.svg");
EMBED_BOTH(monitor_html, "monitor.html");
EMBED_BOTH(monitor_css, "monitor.css");
EMBED_BOTH(monitor_js, "monitor.js");

#define ENTRY(path, type, name) \
    { \
        path, type, file_##name, file_##name##_end, file_##name##_gz, file_##name##_gz_end \
    }
static const struct page_file {
    const char *path, *type, *plain, *plain_end, *packed, *packed_end;
} files[] = {
    ENTRY("/", "text/html; charset=utf-8", html),
    ENTRY("/page.css", "text/css; charset=utf-8", css),
    ENTRY("/page.js", "text/javascript; charset=utf-8", js),
    ENTRY("/answer.js", "text/javascript; charset=utf-8", answer),
    ENTRY("/common.js", "text/javascript; charset=utf-8", common),
    ENTRY("/icon.svg", "image/svg+xml", icon),
    ENTRY("/monitor", "text/html; charset=utf-8", monitor_html),
    ENTRY("/monitor.css", "text/css; charset=utf-8", monitor_css),
    ENTRY("/monitor.js", "text/javascript; charset=utf-8", monitor_js),
};

static const struct page_file *find(const char *path)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strcmp(path, files[i].path))
            return &files[i];
    return NULL;
}

/* Has a list of codings, "br, gzip;q=0.5", gzip with a weight above 0? */
static bool takes_gzip(const char *list)
{
    while (list && *list) {
        list += strspn(list, ", \t");
        size_t name = strcspn(list, ",; \t"), all = strcspn(list, ",");
        const char *weight = memmem(list, all, "q=", 2);
        if (name == 4 && !strncasecmp(list, "gzip", 4))
            return !weight || strtod(weight + 2, NULL) > 0;
        list += all;
    }
    return false;
}

static void answer_file(struct web_exchange *x, const struct page_file *f)
{
    bool packed = takes_gzip(web_header(x, "accept-encoding"));
    const char *data = packed ? f->packed : f->plain, *known = web_header(x, "if-none-match");
    size_t len = (size_t)((packed ? f->packed_end : f->plain_end) - data);
    char tag[32], etag[48];
    snprintf(tag, sizeof tag, "\"%016llx\"", (unsigned long long)hash_bytes(HASH_START, data, len));
    snprintf(etag, sizeof etag, "ETag: %s", tag);
    const char *const headers[] = {etag, "Cache-Control: no-cache", "Vary: Accept-Encoding",
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
        "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        "X-Content-Type-Options: nosniff", "Referrer-Policy: no-referrer",
        "Cross-Origin-Resource-Policy: same-origin", packed ? "Content-Encoding: gzip" : NULL,
        NULL};
    bool has = known && (!strcmp(known, "*") || strstr(known, tag));
    web_answer(x, has ? 304 : 200, f->type, data, has ? 0 : len, headers);
}

bool page_answer(struct web_exchange *x)
{
    static const char *const allowed[] = {"Allow: GET, HEAD, OPTIONS", NULL};
    static const char no[] = "the page is there to be read\n";
    const struct page_file *f = find(web_path(x));
    if (!f || !strcmp(web_method(x), "OPTIONS"))
        return false;
    if (!strcmp(web_method(x), "GET"))
        answer_file(x, f);
    else
        web_answer(x, 405, "text/plain", no, sizeof no - 1, allowed);
    return true;
}
