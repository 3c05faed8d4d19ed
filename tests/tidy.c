/*
 * Goal: the house rules hold. Each complaint is "file:line: sentence", as compilers print it.
 * Method: all C and CUDA files of the rooms and of tests are read once; per-line rules look at each
 * line, per-file rules at the whole. Names are looked at by tests/tidy_names.c, formatting by
 * clang-format (tests/format.sh).
 * What deviates on purpose stands in `exceptions` with its reason, and an exception that is no
 * longer needed is a complaint too.
 */
#include <ctype.h>
#include <dirent.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LINE_COLUMNS   100
#define FILE_LINES     800
#define DEEP_COLUMN    40 /* lines that begin right of it are a column at the margin ... */
#define DEEP_PERCENT   3  /* ... of which a folder may have so many */
#define FUNCTION_LINES 70
#define LADDER_RUNGS   3 /* lines "if (!rc)" in a function that make a ladder */
#define UNMADE         8 /* variables at once that are not made yet */
#define HEADER_MIN     3 /* lines of the opening comment, marks included */
#define HEADER_MAX     25

enum rule {
    RULE_LAYER,
    RULE_LIBRARY,
    RULE_LENGTH,
    RULE_LADDER,
    RULE_CLEANUP,
    RULE_HEADER_COMMENT,
    RULE_TEST,
    RULE_OWN_HEADER,
    RULE_GUARD,
    RULE_DEAD,
    RULE_WORDS,
    RULE_COMMENT,
    RULE_DEEP,
    RULE_TYPEDEF,
    RULE_EXIT,
    RULE_README,
    RULE_EXCEPTION,
    RULES
};

static struct exception {
    const char *pattern;
    enum rule rule;
    const char *reason;
    bool used;
} exceptions[] = {
    {"base/banned.h", RULE_DEAD, "the compiler includes it into every file", false},
    {"tests/marks.h", RULE_DEAD, "the compiler includes it into every test", false},
    {"kernels/cpu/*.c", RULE_TEST, "twins of one table: test_ops runs each against the reference",
        false},
    {"tests/cudasim/runtime.cc", RULE_LENGTH, "one small function a function of the toolkit",
        false},
    {"tests/cudasim/*.h", RULE_TYPEDEF, "the toolkit's own names", false},
    {"tests/cudasim/cuda_runtime.h", RULE_DEAD, "stands in for the toolkit's", false},
    {"kernels/cpu/*_body.h", RULE_GUARD, "included once per instruction set", false},
    {"kernels/cpu/*_body.h", RULE_TYPEDEF, "a vector type has no tag to name it by", false},
    {"cli/*.c", RULE_OWN_HEADER, "one command a file, all declared in one header", false},
};

/*
 * The rooms, and the folders of those that have some. A room uses the rooms and single headers that
 * it names; a folder uses all that its room uses, and the folders of its room that stand above it
 * here, but for those that it says it does not. Files that stand in a room itself use all of its
 * folders. Tests use what their room does.
 */
static const struct room {
    const char *path, *uses;
} rooms[] = {
    {"base", ""},
    {"api", "base"},
    {"kernels", "base api/names.h"},
    {"kernels/cpu", ""},
    {"kernels/cuda", ""},
    {"runtime/door", ""},
    {"runtime/files", ""},
    {"runtime/coll", ""},
    {"runtime/family", ""},
    {"runtime/text", ""},
    {"runtime/grammar", ""},
    {"runtime/model", ""},
    {"runtime/ckpt", ""},
    {"runtime/data", ""},
    {"runtime/train", ""},
    {"runtime/convert", ""},
    {"runtime/evaluate", ""},
    {"runtime/retrieval", ""},
    {"runtime/serve", ""},
    {"runtime", "base api kernels"},
    {"agent", "base api"},
    {"controller/kube", ""},
    {"controller/plan", "not controller/kube"},
    {"controller", "base api"},
    {"cli", "base api"},
};
#define ROOMS (sizeof rooms / sizeof *rooms)

/* Who includes an outside library: files (a pattern) and how many of them. */
static const struct library {
    const char *include, *files;
    int most;
} libraries[] = {
    {"curl/", "base/http.c", 1},
    {"libwebsockets.h", "base/web*.c", 2},
    {"cjson/", "base/json.c", 1},
    {"yaml.h", "base/yaml.c", 1},
    {"oneapi/dnnl", "kernels/cpu/*.c", 1},
    {"pcre2.h", "runtime/text/tok_split.c", 1},
    {"utf8proc.h", "runtime/text/tok_normal.c", 1},
    {"xxhash.h", "runtime/*.c", 1},
    {"zlib.h", "runtime/data/source.c", 1},
    {"zstd.h", "runtime/data/source.c", 1},
    {"omp.h", "kernels/*", 100},
    {"omp.h", "runtime/*.c", 100},
    {"openssl/", "base/*.c", 1},
    {"openssl/", "runtime/*.c", 1},
    {"cublasLt.h", "kernels/cuda/blas.c", 1},
    {"nccl.h", "kernels/cuda/nccl.c", 1},
    {"check.h", "tests/*", 1000},
};
#define LIBRARIES (sizeof libraries / sizeof *libraries)

struct source {
    char path[200];
    char room[24];   /* "base", for tests/base/x.c too; "" in tests/ itself */
    char folder[48]; /* "runtime/coll", for tests/runtime/coll/x.c too */
    bool test;       /* below tests/ */
    bool header;
    bool included; /* a header that somebody includes */
};
static struct source sources[2000];
static int source_count;
static int complaints[RULES];
static int library_users[LIBRARIES];
static const struct source *last_user[LIBRARIES]; /* a file counts once */

static bool excepted(const char *path, enum rule rule)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++) {
        struct exception *x = &exceptions[i];
        if (x->rule == rule && !fnmatch(x->pattern, path, 0)) {
            x->used = true;
            return true;
        }
    }
    return false;
}

static void complain(const char *path, int line, enum rule rule, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static void complain(const char *path, int line, enum rule rule, const char *fmt, ...)
{
    if (excepted(path, rule))
        return;
    va_list ap;
    va_start(ap, fmt);
    printf("%s:%d: ", path, line);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    complaints[rule]++;
}

static bool exists(const char *path)
{
    struct stat st;
    return !stat(path, &st);
}

/* -- rules about one line -- */

static int columns(const char *s)
{
    int n = 0;
    for (; *s && *s != '\n'; s++) {
        if (*s == '\t')
            n += 8 - n % 8;
        else if (((unsigned char)*s & 0xc0) != 0x80)
            n++;
    }
    return n;
}

/* The word as a call or name of its own, not as part of a longer one. */
static const char *find_word(const char *line, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = line; (p = strstr(p, word)); p++) {
        char before = p == line ? ' ' : p[-1], after = p[n];
        bool starts = !isalnum((unsigned char)before) && before != '_';
        bool ends = !isalnum((unsigned char)after) && after != '_';
        if (starts && ends)
            return p;
    }
    return NULL;
}

static bool comment_line(const char *line)
{
    line += strspn(line, " \t");
    return !strncmp(line, "*", 1) || !strncmp(line, "/*", 2);
}

static void check_words(const struct source *s, int n, const char *line)
{
    static const char *const banned[][2] = {{"TO", "DO"}, {"FIX", "ME"}, {"XX", "X"}, {"HA", "CK"}};
    for (size_t i = 0; i < sizeof banned / sizeof *banned; i++) {
        char word[16];
        snprintf(word, sizeof word, "%s%s", banned[i][0], banned[i][1]);
        if (find_word(line, word))
            complain(s->path, n, RULE_WORDS, "%s: finish it or file an issue", word);
    }
    if (columns(line) > LINE_COLUMNS)
        complain(s->path, n, RULE_LENGTH, "%d columns, at most %d", columns(line), LINE_COLUMNS);
    if (comment_line(line))
        return;
    if (!strncmp(line, "typedef", 7) && !strstr(line, "_fn(") && !strstr(line, "_fn)("))
        complain(s->path, n, RULE_TYPEDEF, "typedef is for function types named ..._fn");
    const char *call = find_word(line, "exit");
    bool program = s->test || strstr(s->path, "/main.c");
    if (call && call[4] == '(' && !program)
        complain(s->path, n, RULE_EXIT, "a library returns its error instead of calling exit()");
}

static const struct room *find_room(const char *path)
{
    for (size_t i = 0; i < ROOMS; i++)
        if (!strcmp(rooms[i].path, path))
            return &rooms[i];
    return NULL;
}

static bool is_room(const char *name)
{
    return find_room(name) && !strchr(name, '/');
}

/* The folder of a path, if it is one of the table; else its room. */
static const char *place_of(const char *path, char *out, size_t size)
{
    const char *room = path + strcspn(path, "/");
    const char *end = *room ? room + 1 + strcspn(room + 1, "/") : room;
    snprintf(out, size, "%.*s", (int)(end - path), path);
    if (!*end || !find_room(out))
        snprintf(out, size, "%.*s", (int)(room - path), path);
    return out;
}

/* May a file of this place include that header? */
static bool may_use(const struct source *s, const char *header)
{
    char place[48], room[24];
    place_of(header, place, sizeof place);
    snprintf(room, sizeof room, "%.*s", (int)strcspn(place, "/"), place);
    if (strcmp(room, s->room) != 0) {
        const struct room *own = find_room(s->room);
        return own && (find_word(own->uses, room) || find_word(own->uses, header));
    }
    const struct room *from = find_room(s->folder), *to = find_room(place);
    return s->test || from == to || from == find_room(s->room) ||
        (to <= from && !find_word(from->uses, place));
}

static void mark_included(const char *path)
{
    for (int i = 0; i < source_count; i++)
        if (!strcmp(sources[i].path, path))
            sources[i].included = true;
}

static void check_own_include(const struct source *s, int n, const char *name)
{
    char room[24], place[48];
    snprintf(room, sizeof room, "%.*s", (int)strcspn(name, "/"), name);
    mark_included(name);
    if (strlen(name) > 2 && !strcmp(name + strlen(name) - 2, ".c"))
        complain(s->path, n, RULE_LAYER, "a .c file is linked, not included");
    if (!strchr(name, '/'))
        complain(s->path, n, RULE_LAYER, "\"%s\" lacks its folder", name);
    else if (!exists(name))
        complain(s->path, n, RULE_LAYER, "there is no %s", name);
    else if (is_room(room) && s->room[0] && !may_use(s, name))
        complain(s->path, n, RULE_LAYER, "%s does not use %s", s->folder,
            find_word(name, "api/names.h") ? name : place_of(name, place, sizeof place));
    else if (!s->test && !is_room(room))
        complain(s->path, n, RULE_LAYER, "%s stands outside the rooms", name);
}

static void check_library(const struct source *s, int n, const char *name)
{
    const struct library *known = NULL;
    for (size_t i = 0; i < LIBRARIES; i++) {
        if (strncmp(name, libraries[i].include, strlen(libraries[i].include)) != 0)
            continue;
        known = &libraries[i];
        if (fnmatch(known->files, s->path, 0))
            continue;
        if (last_user[i] != s && ++library_users[i] > known->most)
            complain(s->path, n, RULE_LIBRARY, "a further file that includes <%s>; %d of %s may",
                name, known->most, known->files);
        last_user[i] = s;
        return;
    }
    /* A test may look at its subject through another library's eyes, but says so by including
     * it. */
    if (known && !s->test)
        complain(s->path, n, RULE_LIBRARY, "<%s> belongs to %s", name, known->files);
}

static void check_include(const struct source *s, int n, const char *line)
{
    char name[200];
    if (sscanf(line, "#include \"%199[^\"]\"", name) == 1)
        check_own_include(s, n, name);
    else if (sscanf(line, "#include <%199[^>]>", name) == 1)
        check_library(s, n, name);
}

/* -- rules about a folder -- */

static struct {
    int lines, deep;
} depths[ROOMS];

static void count_deep(const struct source *s, const char *line)
{
    const struct room *r = find_room(s->folder);
    if (s->test || !r || comment_line(line))
        return;
    depths[r - rooms].lines++;
    depths[r - rooms].deep += strspn(line, " ") >= DEEP_COLUMN;
}

static void check_depths(void)
{
    for (size_t i = 0; i < ROOMS; i++)
        if (depths[i].deep * 100 > depths[i].lines * DEEP_PERCENT)
            complain(rooms[i].path, 1, RULE_DEEP, "%d of %d lines begin right of column %d",
                depths[i].deep, depths[i].lines, DEEP_COLUMN);
}

static void check_libraries(void)
{
    for (size_t i = 0; i < LIBRARIES; i++)
        if (!library_users[i])
            complain("tests/tidy.c", 1, RULE_LIBRARY, "no file of %s includes <%s>",
                libraries[i].files, libraries[i].include);
}

/* -- rules about one file -- */

/* What goes by itself at the end of its block, and is not made yet. */
struct unmade {
    char names[UNMADE][40];
    int count;
};

struct scan {
    struct unmade unmade;
    int line;
    int comment_end;   /* last line of the opening comment, 0 while inside, -1: there is none */
    int function_line; /* of the opening brace, 0 outside */
    int rungs;         /* lines of the function that are "if (!rc)" */
    bool after_paren;  /* the line before ended with ')' */
    int texts;         /* lines of a comment that have text, if it opened with one */
    bool guarded;
};

/* -- what goes by itself is made before anything may leave -- */

static const char *const cleaning[] = {"json_auto", "mem_autofree", "arena_auto", "io_auto_fd",
    "buf_auto", "output_auto", "data_text_auto"};

static bool is_cleaned_up(const char *line)
{
    for (size_t i = 0; i < sizeof cleaning / sizeof *cleaning; i++)
        if (find_word(line, cleaning[i]))
            return line[0] == ' ';
    return false;
}

/* Where the last word of s[0..*end) begins; *end: where it ends. */
static size_t last_word(const char *s, size_t *end)
{
    while (*end && s[*end - 1] == ' ')
        --*end;
    size_t begin = *end;
    while (begin && (isalnum((unsigned char)s[begin - 1]) || s[begin - 1] == '_'))
        begin--;
    return begin;
}

/* The names of a declaration, each the last word before a comma or the end but for "buf_auto". */
static void note_unmade(struct unmade *u, const char *line)
{
    for (size_t n; *line; line += n + (line[n] != 0)) {
        n = strcspn(line, ",;");
        size_t end = n, begin = last_word(line, &end);
        char word[sizeof u->names[0]];
        snprintf(word, sizeof word, "%.*s", (int)(end - begin), line + begin);
        for (size_t i = 0; i < sizeof cleaning / sizeof *cleaning; i++)
            if (!strcmp(word, cleaning[i])) {
                end = begin;
                begin = last_word(line, &end);
            }
        if (end > begin && u->count < UNMADE)
            snprintf(u->names[u->count++], sizeof word, "%.*s", (int)(end - begin), line + begin);
        if (line[n] == ';')
            return;
    }
}

/* A line that names a variable makes it: what else could be done with one that is not made? */
static void scan_unmade(const struct source *s, struct scan *c, const char *line)
{
    struct unmade *u = &c->unmade;
    char code[4096];
    int kept = 0;
    if (line[0] == '}')
        u->count = 0;
    if (comment_line(line))
        return;
    const char *note = strstr(line, "/*");
    snprintf(code, sizeof code, "%.*s", (int)(note ? (size_t)(note - line) : strlen(line)), line);
    for (int i = 0; i < u->count; i++)
        if (!find_word(code, u->names[i]))
            memmove(u->names[kept++], u->names[i], sizeof u->names[0]);
    u->count = kept;
    if (kept && (find_word(code, "return") || find_word(code, "goto"))) {
        complain(s->path, c->line, RULE_CLEANUP, "leaves before %s, which is cleaned up, is made",
            u->names[0]);
        u->count = 0;
    }
    if (is_cleaned_up(code) && !strchr(code, '='))
        note_unmade(u, code);
}

/* "if (!rc)", a brace behind it or not */
static bool is_rung(const char *line)
{
    line += strspn(line, " ");
    return !strcmp(line, "if (!rc)\n") || !strcmp(line, "if (!rc) {\n");
}

static void scan_function(const struct source *s, struct scan *c, const char *line)
{
    size_t n = strcspn(line, "\n");
    if (line[0] == '{' && n == 1 && c->after_paren) {
        c->function_line = c->line;
        c->rungs = 0;
    }
    if (c->function_line && is_rung(line) && ++c->rungs == LADDER_RUNGS)
        complain(s->path, c->line, RULE_LADDER,
            "a ladder of if (!rc); a chain of steps, or an early return");
    if (line[0] == '}' && c->function_line) {
        int length = c->line - c->function_line - 1;
        if (length > FUNCTION_LINES)
            complain(s->path, c->function_line, RULE_LENGTH, "a function of %d lines, at most %d",
                length, FUNCTION_LINES);
        c->function_line = 0;
    }
    c->after_paren = n && line[n - 1] == ')';
}

/* Is there a ruler, three or more of a kind, in a comment's line? Sections are "-- name --". */
static bool has_ruler(const char *line)
{
    const char *open = strstr(line, "/*");
    const char *s = open ? open : comment_line(line) ? line : NULL;
    return s && (strstr(s, "---") || strstr(s, "===") || strstr(s, "***"));
}

/* A comment of one line is closed in that line. */
static void scan_ends(const struct source *s, struct scan *c, const char *line)
{
    const char *first = line + strspn(line, " \t"), *open = strstr(first, "/*");
    if (has_ruler(line))
        complain(s->path, c->line, RULE_COMMENT, "a ruler; sections are /* -- name -- */");
    if (!strncmp(first, "*/", 2) && c->texts == 1)
        complain(s->path, c->line, RULE_COMMENT, "the end of a short comment stands alone");
    if (open && !strstr(open, "*/"))
        c->texts = open[2] == '\n' ? -1000 : 1;
    else
        c->texts += !open;
}

static void scan_comment(struct scan *c, const char *line)
{
    if (c->line == 1 && strncmp(line, "/*", 2) != 0)
        c->comment_end = -1;
    if (!c->comment_end && strstr(line, "*/"))
        c->comment_end = c->line;
}

static void guard_of(const char *path, char *out, size_t size)
{
    snprintf(out, size, "#ifndef %s", path);
    for (char *p = out + strlen("#ifndef "); *p; p++)
        *p = isalnum((unsigned char)*p) ? (char)toupper((unsigned char)*p) : '_';
}

static void check_file(struct source *s)
{
    char line[4096], guard[256];
    struct scan c = {0};
    guard_of(s->path, guard, sizeof guard);
    FILE *f = fopen(s->path, "r");
    if (!f) {
        complain(s->path, 1, RULE_DEAD, "cannot be read");
        return;
    }
    while (fgets(line, sizeof line, f)) {
        c.line++;
        scan_comment(&c, line);
        scan_ends(s, &c, line);
        count_deep(s, line);
        scan_function(s, &c, line);
        scan_unmade(s, &c, line);
        check_words(s, c.line, line);
        check_include(s, c.line, line);
        size_t n = strlen(guard);
        c.guarded = c.guarded || (!strncmp(line, guard, n) && line[n] == '\n');
    }
    fclose(f);
    if (c.line > FILE_LINES)
        complain(s->path, c.line, RULE_LENGTH, "%d lines, at most %d", c.line, FILE_LINES);
    if (c.comment_end < HEADER_MIN)
        complain(s->path, 1, RULE_HEADER_COMMENT, "opens without a comment that says what it owns");
    if (c.comment_end > HEADER_MAX)
        complain(s->path, 1, RULE_HEADER_COMMENT, "opens with %d lines of comment, at most %d",
            c.comment_end, HEADER_MAX);
    if (s->header && !c.guarded)
        complain(s->path, 1, RULE_GUARD, "lacks the guard \"%s\"", guard);
}

/* -- rules about which files there are -- */

static const char *stem_of(const char *path, char *out, size_t size)
{
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    snprintf(out, size, "%.*s", (int)strcspn(base, "."), base);
    return out;
}

/* "cuda" of kernels/cuda/blas.c */
static const char *folder_of(const struct source *s, char *out, size_t size)
{
    const char *end = strrchr(s->path, '/'), *begin = end;
    while (begin > s->path && begin[-1] != '/')
        begin--;
    snprintf(out, size, "%.*s", (int)(end - begin), begin);
    return out;
}

/*
 * A module may span files: plan.c, plan_gang.c under plan.h, or all of a folder under its name or
 * internal.h, coll/tcp.c under coll/internal.h. Cuts stem down to the one whose header is there, or
 * makes it the folder's; false when there is none.
 */
static bool find_module(const struct source *s, char *stem, size_t size)
{
    char header[256], folder[64];
    const char *slash = strrchr(s->path, '/');
    int length = (int)(slash - s->path);
    for (char *cut = stem; cut; cut = strrchr(stem, '_'), cut ? (void)(*cut = 0) : (void)0) {
        static const char *const ends[] = {"", "_internal"};
        for (int i = 0; i < 2; i++) {
            snprintf(header, sizeof header, "%.*s/%s%s.h", length, s->path, stem, ends[i]);
            if (exists(header))
                return true;
        }
    }
    snprintf(stem, size, "%s", folder_of(s, folder, sizeof folder));
    snprintf(header, sizeof header, "%.*s/%s.h", length, s->path, stem);
    if (exists(header))
        return true;
    snprintf(header, sizeof header, "%.*s/internal.h", length, s->path);
    return exists(header);
}

static bool has_test(const char *folder, const char *stem)
{
    char path[256];
    snprintf(path, sizeof path, "tests/%s/test_%s.c", folder, stem);
    return exists(path);
}

static void check_companions(const struct source *s)
{
    char stem[64], module[64], folder[64];
    /* Every kernel is reached through cuda.h and run by test_cuda. */
    if (s->test || s->header || strstr(s->path, "/main.c") || strstr(s->path, ".cu"))
        return;
    stem_of(s->path, stem, sizeof stem);
    snprintf(module, sizeof module, "%s", stem);
    if (!find_module(s, module, sizeof module)) {
        complain(s->path, 1, RULE_OWN_HEADER, "there is no %s.h beside it", stem);
        snprintf(module, sizeof module, "%s", stem);
    }
    folder_of(s, folder, sizeof folder);
    if (has_test(s->folder, stem) || has_test(s->room, stem) || has_test(folder, stem))
        return;
    if (!has_test(s->folder, module) && !has_test(s->room, module) && !has_test(s->folder, folder))
        complain(s->path, 1, RULE_TEST, "there is no tests/%s/test_%s.c", s->folder, module);
}

static void check_dead(const struct source *s)
{
    if (s->header && !s->included)
        complain(s->path, 1, RULE_DEAD, "nobody includes it");
}

static void check_room(const char *room)
{
    char path[64];
    int files = 0;
    for (int i = 0; i < source_count; i++)
        files += !sources[i].test && !strcmp(sources[i].folder, room);
    snprintf(path, sizeof path, "%s/README.md", room);
    if (!strchr(room, '/') && !exists(path))
        complain(path, 1, RULE_README, "every room says in ten lines what it owns");
    if (!files)
        complain(room, 1, RULE_README, "an empty room");
}

/* -- the walk -- */

static void add_source(const char *path, const char *room, bool test)
{
    static const char *const kinds[] = {".c", ".h", ".cu", ".cuh", ".cc", ".hh"};
    const char *dot = strrchr(path, '.');
    size_t kind = 0;
    while (dot && kind < sizeof kinds / sizeof *kinds && strcmp(dot, kinds[kind]) != 0)
        kind++;
    if (!dot || kind == sizeof kinds / sizeof *kinds)
        return;
    if (source_count == (int)(sizeof sources / sizeof *sources)) {
        complain(path, 1, RULE_LENGTH, "more files than this test can hold");
        return;
    }
    struct source *s = &sources[source_count++];
    snprintf(s->path, sizeof s->path, "%s", path);
    snprintf(s->room, sizeof s->room, "%s", room);
    place_of(test && room[0] ? path + strlen("tests/") : path, s->folder, sizeof s->folder);
    s->test = test;
    s->header = strchr(dot, 'h') != NULL;
}

static void walk(const char *folder, const char *room, bool test)
{
    DIR *d = opendir(folder);
    for (struct dirent *f; d && (f = readdir(d));) {
        char path[512];
        struct stat st;
        if (f->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, f->d_name);
        bool room_of_tests = test && !strcmp(folder, "tests") && is_room(f->d_name);
        if (!stat(path, &st) && S_ISDIR(st.st_mode))
            walk(path, room_of_tests ? f->d_name : room, test);
        else
            add_source(path, room, test);
    }
    if (d)
        closedir(d);
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct source *)a)->path, ((const struct source *)b)->path);
}

static void check_exceptions(void)
{
    for (size_t i = 0; i < sizeof exceptions / sizeof *exceptions; i++)
        if (!exceptions[i].used)
            complain("tests/tidy.c", 1, RULE_EXCEPTION, "nothing needs the exception for %s (%s)",
                exceptions[i].pattern, exceptions[i].reason);
}

int main(void)
{
    for (size_t i = 0; i < ROOMS; i++)
        if (!strchr(rooms[i].path, '/'))
            walk(rooms[i].path, rooms[i].path, false);
    walk("tests", "", true);
    qsort(sources, (size_t)source_count, sizeof *sources, by_path);
    for (int i = 0; i < source_count; i++)
        check_file(&sources[i]);
    for (int i = 0; i < source_count; i++) {
        check_companions(&sources[i]);
        check_dead(&sources[i]);
    }
    for (size_t i = 0; i < ROOMS; i++)
        check_room(rooms[i].path);
    check_libraries();
    check_depths();
    check_exceptions();
    int broken = 0;
    for (int i = 0; i < RULES; i++)
        broken += complaints[i] > 0;
    printf("%d files\nChecks: %d, Failures: %d, Errors: 0\n", source_count, RULES, broken);
    return broken != 0;
}
