/*
 * chat_block: text and statements. Whitespace rules: a newline after a block tag is dropped
 * (trim_blocks), blanks before a block tag that begins its line are dropped (lstrip_blocks), "-"
 * strips all, "+" keeps all, one newline at the very end is dropped. It must not evaluate anything.
 */
#include "runtime/text/chat_parser.h"

static struct chat_node *parse_body(
    struct chat_parser *p, const char *const *ends, const char **end);

/* Opens a tag: what stands after "{%" or "{{", its marks skipped. */
static void open_tag(struct chat_parser *p, const char *close)
{
    p->close = close;
    p->braces = 0;
    p->p += 2;
    if (*p->p == '-' || *p->p == '+')
        p->p++;
    chat_lex_advance(p);
}

/* The statements up to the tag `end`, whose own end is passed; the tag before is passed too. */
static void parse_inside(struct chat_parser *p, struct chat_node *n, const char *word)
{
    const char *const ends[] = {word, NULL}, *end;
    chat_lex_expect_end(p);
    if (n)
        n->b = chat_parse_under(p, n, parse_body(p, ends, &end));
    chat_lex_expect_end(p);
}

static struct chat_node *parse_if(struct chat_parser *p, int line)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    static const char *const only_end[] = {"endif", NULL};
    struct chat_node *n = chat_lex_enter(p) ? NULL : chat_parse_node(p, CHAT_IF, line);
    const char *end = "";
    if (n) {
        n->a = chat_parse_under(p, n, chat_parse_tuple(p, true));
        chat_lex_expect_end(p);
        n->b = chat_parse_under(p, n, parse_body(p, ends, &end));
    }
    if (n && !strcmp(end, "elif")) {
        n->c = chat_parse_under(p, n, parse_if(p, p->t.line));
    } else if (n && !strcmp(end, "else")) {
        chat_lex_expect_end(p);
        n->c = chat_parse_under(p, n, parse_body(p, only_end, &end));
        chat_lex_expect_end(p);
    } else {
        chat_lex_expect_end(p);
    }
    p->depth--;
    return n;
}

/* name, name2 or (name, name2) */
static void parse_targets(struct chat_parser *p, struct chat_node *n)
{
    struct chat_node **last = &n->targets;
    bool brackets = chat_lex_op(p, "(");
    do {
        if (n->targets && p->t.kind != CHAT_TOKEN_NAME)
            break; /* a comma at the end */
        struct chat_node *target = chat_parse_node(p, CHAT_NAME, p->t.line);
        if (!target)
            return;
        target->name = chat_lex_name(p);
        *last = target;
        last = &target->next;
    } while (!p->rc && chat_lex_op(p, ","));
    if (brackets)
        chat_lex_expect(p, ")");
}

static struct chat_node *parse_for(struct chat_parser *p, int line)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct chat_node *n = chat_parse_node(p, CHAT_FOR, line);
    if (!n)
        return NULL;
    parse_targets(p, n);
    if (!chat_lex_word(p, "in"))
        chat_lex_fail(p, p->t.line, "expected", "in");
    n->a = chat_parse_under(p, n, chat_parse_tuple(p, false));
    if (chat_lex_word(p, "if"))
        n->d = chat_parse_under(p, n, chat_parse_expression(p));
    chat_lex_expect_end(p);
    const char *end = "";
    p->loops++;
    n->b = chat_parse_under(p, n, parse_body(p, ends, &end));
    p->loops--;
    chat_lex_expect_end(p);
    if (!strcmp(end, "else")) {
        n->c = chat_parse_under(p, n, parse_body(p, ends + 1, &end));
        chat_lex_expect_end(p);
    }
    return n;
}

/* The text of a block under its name, for filters to begin with. */
static struct chat_node *block_text(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_NAME, line);
    if (n)
        n->name = CHAT_BLOCK_TEXT;
    return n;
}

static struct chat_node *parse_set(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_SET, line);
    if (!n)
        return NULL;
    parse_targets(p, n);
    if (n->targets && !n->targets->next && chat_lex_op(p, ".")) {
        n->name = n->targets->name;
        n->name2 = chat_lex_name(p);
    }
    if (chat_lex_op(p, "=")) {
        n->a = chat_parse_under(p, n, chat_parse_tuple(p, true));
        chat_lex_expect_end(p);
        return n;
    }
    n->kind = CHAT_SET_BLOCK;
    if (chat_lex_is_op(p, "|"))
        n->a = chat_parse_under(p, n, chat_parse_filters(p, block_text(p, line)));
    parse_inside(p, n, "endset");
    return n;
}

static struct chat_node *parse_filter_block(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_PRINT_BLOCK, line);
    if (!n)
        return NULL;
    struct chat_node *first = chat_parse_filter(p, block_text(p, line));
    n->a = chat_parse_under(p, n, chat_parse_filters(p, first));
    parse_inside(p, n, "endfilter");
    return n;
}

/* The parameters after "(": name, name=default ... */
static void parse_parameters(struct chat_parser *p, struct chat_node *n)
{
    chat_parse_arguments(p, n, ")");
    for (struct chat_node *arg = n->args; arg && !p->rc; arg = arg->next)
        if (arg->kind != CHAT_NAME && arg->kind != CHAT_KEYWORD)
            chat_lex_fail(p, arg->line, "a parameter is no name", NULL);
}

static struct chat_node *parse_macro(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_DEFINE, line);
    if (!n)
        return NULL;
    n->name = chat_lex_name(p);
    chat_lex_expect(p, "(");
    parse_parameters(p, n);
    int loops = p->loops;
    p->loops = 0;
    parse_inside(p, n, "endmacro");
    p->loops = loops;
    return n;
}

static struct chat_node *parse_call_block(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_CALL_BLOCK, line);
    if (!n)
        return NULL;
    if (chat_lex_op(p, "("))
        parse_parameters(p, n);
    n->a = chat_parse_under(p, n, chat_parse_expression(p));
    if (n->a && n->a->kind != CHAT_CALL)
        chat_lex_fail(p, line, "call is of no macro", NULL);
    int loops = p->loops;
    p->loops = 0;
    parse_inside(p, n, "endcall");
    p->loops = loops;
    return n;
}

static struct chat_node *parse_with(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_WITH, line);
    struct chat_node **last = n ? &n->args : NULL;
    while (n && p->t.kind == CHAT_TOKEN_NAME) {
        struct chat_node *one = chat_parse_node(p, CHAT_KEYWORD, p->t.line);
        if (!one)
            return NULL;
        one->name = chat_lex_name(p);
        chat_lex_expect(p, "=");
        one->a = chat_parse_under(p, one, chat_parse_expression(p));
        *last = chat_parse_under(p, n, one);
        last = &one->next;
        if (!chat_lex_op(p, ","))
            break;
    }
    parse_inside(p, n, "endwith");
    return n;
}

static struct chat_node *parse_generation(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_GENERATION, line);
    p->marks = true;
    parse_inside(p, n, "endgeneration");
    return n;
}

static struct chat_node *parse_jump(struct chat_parser *p, enum chat_node_kind kind, int line)
{
    if (!p->loops)
        chat_lex_fail(
            p, line, "a jump outside of a loop:", kind == CHAT_BREAK ? "break" : "continue");
    chat_lex_expect_end(p);
    return chat_parse_node(p, kind, line);
}

/* -- text -- */

static bool white(char c)
{
    return c && strchr(" \t\n\r\v\f", c);
}

/* What the tag before this text asks: strip everything white, or drop one newline. */
static const char *trim_front(struct chat_parser *p, const char *from, const char *to)
{
    const char *s = from;
    if (p->strip)
        while (s < to && white(*s))
            s++;
    else if (p->trim_newline && s < to && *s == '\n')
        s++;
    if (s > from || p->after_tag)
        p->line_starts = s > from && s[-1] == '\n';
    p->strip = p->trim_newline = p->after_tag = false;
    return s;
}

/* What the tag after it, at `to`, asks. A block tag takes the blanks before it where it begins its
 * line. */
static const char *trim_back(const struct chat_parser *p, const char *from, const char *to)
{
    if (!*to)
        return to;
    const char *s = to;
    if (to[2] == '-') {
        while (s > from && white(s[-1]))
            s--;
    } else if (to[1] != '{' && to[2] != '+') {
        while (s > from && s[-1] != '\n' && white(s[-1]))
            s--;
        bool begins = s > from ? s[-1] == '\n' : p->line_starts;
        if (!begins)
            s = to;
    }
    return s;
}

/* The text before the next tag; NULL when nothing is left of it. */
static struct chat_node *parse_text(struct chat_parser *p)
{
    const char *from = p->p, *to = from;
    int line = p->line;
    while (*to && !(to[0] == '{' && (to[1] == '{' || to[1] == '%' || to[1] == '#')))
        p->line += *to++ == '\n';
    p->p = to;
    from = trim_front(p, from, to);
    to = trim_back(p, from, to);
    if (from == to)
        return NULL;
    struct chat_node *n = chat_parse_node(p, CHAT_TEXT, line);
    size_t len = (size_t)(to - from);
    if (n)
        n->value =
            (struct chat_value){.kind = CHAT_STRING, .s = chat_lex_copy(p, from, len), .len = len};
    return n;
}

static void skip_comment(struct chat_parser *p)
{
    const char *end = strstr(p->p + 2, "#}");
    if (!end) {
        chat_lex_fail(p, p->line, "a comment does not end", NULL);
        return;
    }
    for (const char *s = p->p; s < end; s++)
        p->line += *s == '\n';
    p->strip = end[-1] == '-' && end > p->p + 2;
    p->trim_newline = end[-1] != '+';
    p->after_tag = true;
    p->p = end + 2;
}

/* -- what a body holds -- */

static struct chat_node *parse_output(struct chat_parser *p)
{
    int line = p->line;
    open_tag(p, "}}");
    struct chat_node *n = chat_parse_node(p, CHAT_OUTPUT, line);
    if (n)
        n->a = chat_parse_under(p, n, chat_parse_tuple(p, true));
    chat_lex_expect_end(p);
    return n;
}

/* A block tag's statement; *end is set instead when its word is one of ends. */
static struct chat_node *parse_block(
    struct chat_parser *p, const char *const *ends, const char **end)
{
    static const struct {
        const char *word;
        struct chat_node *(*parse)(struct chat_parser *p, int line);
    } tags[] = {
        {"if", parse_if},
        {"for", parse_for},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"with", parse_with},
        {"generation", parse_generation},
    };
    int line = p->line;
    open_tag(p, "%}");
    for (int i = 0; ends[i]; i++)
        if (chat_lex_is_word(p, ends[i])) {
            *end = ends[i];
            chat_lex_advance(p);
            return NULL;
        }
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (chat_lex_word(p, tags[i].word))
            return tags[i].parse(p, line);
    if (chat_lex_word(p, "break"))
        return parse_jump(p, CHAT_BREAK, line);
    if (chat_lex_word(p, "continue"))
        return parse_jump(p, CHAT_CONTINUE, line);
    chat_lex_fail(p, line, "tag is not supported:", p->t.kind == CHAT_TOKEN_NAME ? p->t.v.s : "?");
    return NULL;
}

/* Statements up to one of the tags in ends (*end; its own tag is open then), or the template's end.
 * The height of all of them is the first one's. */
static struct chat_node *parse_body(
    struct chat_parser *p, const char *const *ends, const char **end)
{
    struct chat_node *first = NULL, **last = &first;
    int line = p->line, height = 0;
    chat_lex_enter(p);
    const char *found = NULL;
    while (!p->rc && !found) {
        struct chat_node *n = parse_text(p);
        if (n) {
            *last = n;
            last = &n->next;
        }
        if (!*p->p)
            break;
        n = NULL;
        if (p->p[1] == '#')
            skip_comment(p);
        else if (p->p[1] == '{')
            n = parse_output(p);
        else
            n = parse_block(p, ends, &found);
        if (n) {
            height = n->height > height ? n->height : height;
            *last = n;
            last = &n->next;
        }
    }
    if (first && first->height < height)
        first->height = height;
    if (!found && ends[0]) {
        while (ends[1])
            ends++; /* to what ends it in any case */
        chat_lex_fail(p, line, "a block does not end: expected", ends[0]);
    }
    p->depth--;
    *end = found ? found : "";
    return first;
}

/* Newlines become \n, and the last one goes (Jinja's keep_trailing_newline is off). */
static char *normalise(const char *text, struct arena *a)
{
    size_t n = strlen(text), k = 0;
    char *out = arena_alloc(a, n + 3); /* a tag's marks are looked at up to two bytes on */
    if (!out)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '\r' && text[i + 1] == '\n')
            continue;
        out[k++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (k && out[k - 1] == '\n')
        out[--k] = 0;
    return out;
}

int chat_parse_template(
    const char *text, struct arena *a, struct chat_node **out, bool *marks, struct err *e)
{
    static const char *const no_ends[] = {NULL};
    struct chat_parser p = {.line = 1, .a = a, .e = e, .close = "%}", .line_starts = true};
    const char *end;
    p.p = normalise(text, a);
    if (!p.p)
        return err_set(e, ERR_MEMORY, "no memory for a chat template");
    struct chat_node *first = parse_body(&p, no_ends, &end);
    if (p.rc)
        return p.rc;
    *out = first;
    *marks = p.marks;
    return 0;
}
