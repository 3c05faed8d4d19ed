/*
 * Goal: the house holds no function that nothing but a test calls, no struct tag that means two
 * things, and docs/tour.md sends no reader to a file or function that is not there.
 * Method: all sources are read once as text. A public function is a line at column 0 that names it
 * before a parenthesis; every other occurrence of its name outside of comments is a use, also in a
 * string, since plugins are entered by name. What deviates on purpose stands in `exceptions` with
 * its reason; an exception that nothing needs is a complaint.
 */
#include <ctype.h>
#include <fnmatch.h>
#include <ftw.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROOMS "base api kernels runtime agent controller cli tests"

static struct exception {
    const char *name, *reason;
    bool used;
} exceptions[] = {
    {"op_*", "reached through a device's table, made from kernels/ops.h", false},
    {"*_port", "the port of a listener that asked for any", false},
    {"clock_set_*", "a test's own time", false},
    {"cpu_isa_force", "every instruction set of this machine is compared", false},
    {"*_parse", "a format's reader over memory: for fuzzers and damaged files", false},
    {"coll_*_start", "one message alone: context parallelism will send them", false},
    {"data_from_ids", "a corpus of known ids", false},
    {"matmul_force_wide", "the way of a processor that this one is not", false},
    {"tok_b*", "what published tokenizers are compared by", false},
    {"inbox_destroy", "the program's queue lives as long as its reader thread", false},
    {"proc_pid", "a test looks at the process itself", false},
    {"procs_count", "no process is left", false},
};

struct word { /* an identifier of the house */
    char *name;
    int uses, test_uses;
    char *defined; /* "file:line" of the public function of that name, or NULL */
    char *tag;     /* "file:line" of the struct of that tag */
};
static void *words; /* of tsearch */
static int complaints, files, functions;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct word *)a)->name, ((const struct word *)b)->name);
}

static struct word *word_of(const char *name, size_t length)
{
    struct word key = {.name = strndup(name, length)};
    struct word **found = tsearch(&key, &words, by_name);
    if (*found != &key) {
        free(key.name);
        return *found;
    }
    *found = malloc(sizeof **found);
    **found = key;
    return *found;
}

static void complain(const char *where, const char *what, const char *name)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (!fnmatch(exceptions[i].name, name, 0)) {
            exceptions[i].used = true;
            return;
        }
    printf("%s: %s %s\n", where, name, what);
    complaints++;
}

static bool starts(const char *s, const char *with)
{
    return !strncmp(s, with, strlen(with));
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Comments become spaces, lines stay lines. */
static void blank_comments(char *s)
{
    char quote = 0;
    for (; *s; s++) {
        if (quote) {
            if (*s == '\\' && s[1])
                s++;
            else if (*s == quote || *s == '\n')
                quote = 0;
        } else if (*s == '"' || *s == '\'') {
            quote = *s;
        } else if (starts(s, "//")) {
            while (*s && *s != '\n')
                *s++ = ' ';
            s--;
        } else if (starts(s, "/*")) {
            char *end = strstr(s + 2, "*/");
            end = end ? end + 2 : s + strlen(s);
            for (; s < end; s++)
                *s = *s == '\n' ? '\n' : ' ';
            s--;
        }
    }
}

/* The name before the first parenthesis of a line that begins a public function; or NULL. */
static const char *declared(const char *line, size_t *length)
{
    static const char *const others[] = {
        "static", "typedef", "struct exception", "else", "__attribute__"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (starts(line, others[i]))
            return NULL;
    size_t n = strcspn(line, "(\n=;");
    if (!isalpha((unsigned char)line[0]) || line[n] != '(')
        return NULL;
    const char *end = line + n, *begin = end;
    while (begin > line && is_name(begin[-1]))
        begin--;
    *length = (size_t)(end - begin);
    return begin > line && *length ? begin : NULL;
}

/* Does the text after a declaration's line go on to a body? */
static bool has_body(const char *line)
{
    size_t n = strcspn(line, ";{");
    return line[n] == '{' && n && line[n - 1] == '\n';
}

static char *place(const char *path, int line)
{
    char text[300];
    snprintf(text, sizeof text, "%s:%d", path, line);
    return strdup(text);
}

static void read_tag(const char *path, int n, const char *line)
{
    const char *s = line + strspn(line, " ");
    s += starts(s, "static ") ? strlen("static ") : 0;
    if (!starts(s, "struct "))
        return;
    s += strlen("struct ");
    size_t length = 0;
    while (is_name(s[length]))
        length++;
    if (!length || s[length + strspn(s + length, " ")] != '{')
        return;
    struct word *w = word_of(s, length);
    if (w->tag) {
        char what[320];
        snprintf(what, sizeof what, "is the tag of another struct, too: %s", w->tag);
        complain(place(path, n), what, w->name);
    } else {
        w->tag = place(path, n);
    }
}

static void read_line(const char *path, int n, const char *line, size_t size, bool test)
{
    size_t length = 0;
    const char *own = declared(line, &length);
    if (own && !test && has_body(line)) {
        word_of(own, length)->defined = place(path, n);
        functions++;
    }
    if (!test)
        read_tag(path, n, line);
    for (const char *s = line; s < line + size;) {
        size_t word = 0;
        while (is_name(s[word]))
            word++;
        if (word && s != own && !isdigit((unsigned char)*s)) {
            struct word *w = word_of(s, word);
            *(test ? &w->test_uses : &w->uses) += 1;
        }
        s += word ? word : 1;
    }
}

static char *read_whole(const char *path)
{
    FILE *f = fopen(path, "r");
    char *text = NULL;
    size_t size = 0;
    ssize_t n = f ? getdelim(&text, &size, 0, f) : -1;
    if (f)
        fclose(f);
    if (n < 0)
        printf("%s cannot be read\n", path);
    return n < 0 ? calloc(1, 1) : text;
}

static int read_file(const char *path, const struct stat *st, int kind)
{
    (void)st;
    const char *dot = strrchr(path, '.');
    static const char ends[] = ".c .h .cu .cuh .cc .hh";
    if (kind != FTW_F || !dot || strchr(dot, '/') || !strstr(ends, dot))
        return 0;
    char *text = read_whole(path);
    blank_comments(text);
    int n = 1;
    for (char *line = text; *line; n++) {
        size_t size = strcspn(line, "\n");
        read_line(path, n, line, size, starts(path, "tests/"));
        line += size + (line[size] == '\n');
    }
    free(text);
    files++;
    return 0;
}

static void check_word(const void *node, VISIT visit, int depth)
{
    const struct word *w = *(const struct word *const *)node;
    (void)depth;
    if ((visit == postorder || visit == leaf) && w->defined && !w->uses)
        complain(
            w->defined, w->test_uses ? "is called by tests only" : "is called by nobody", w->name);
}

/* -- docs/tour.md: `folder/file.c` and, right behind it or its parenthesis, `function` -- */

static bool defines(const char *path, const char *name, size_t length)
{
    char *text = read_whole(path);
    bool found = false;
    for (char *s = text; (s = strstr(s, name)); s += length) {
        const char *after = s + length + strspn(s + length, " ");
        found = found || ((s == text || !is_name(s[-1])) && (*after == '(' || *after == '{'));
    }
    free(text);
    return found;
}

static int check_tour(const char *tour)
{
    char *text = read_whole(tour), path[256] = "";
    int stops = 0, line = 1;
    for (char *s = text; *s; s++) {
        line += *s == '\n';
        if (*s == '\n')
            path[0] = 0; /* a function belongs to the file named before it in its line */
        char *end = *s == '`' ? strpbrk(s + 1, "`\n") : NULL;
        if (!end || *end != '`')
            continue;
        size_t length = (size_t)(end - s) - 1;
        char *where = place(tour, line);
        char name[256];
        snprintf(name, sizeof name, "%.*s", (int)length, s + 1);
        bool file = strchr(name, '/') && strchr(name, '.') && !strchr(name, ' ');
        bool function = length && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
        FILE *f = file ? fopen(name, "r") : NULL;
        if (file && !f)
            complain(where, "is not there", name);
        if (f)
            fclose(f);
        if (file)
            snprintf(path, sizeof path, "%s", f ? name : "");
        else if (function && path[0] && ++stops && !defines(path, name, length))
            complain(where, "is no function of the file before it", name);
        free(where);
        s = end;
    }
    free(text);
    return stops;
}

int main(void)
{
    char rooms[] = ROOMS;
    for (char *save, *room = strtok_r(rooms, " ", &save); room; room = strtok_r(NULL, " ", &save))
        if (ftw(room, read_file, 16))
            return 1;
    twalk(words, check_word);
    int stops = check_tour("docs/tour.md");
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (!exceptions[i].used) {
            printf("tests/tidy_names.c: nothing needs the exception for %s\n", exceptions[i].name);
            complaints++;
        }
    bool looked = functions > 1000 && stops > 20;
    printf("%d files, %d functions, %d stops of the tour\n", files, functions, stops);
    printf("Checks: 2, Failures: %d, Errors: 0\n", !!complaints + !looked);
    return complaints || !looked;
}
