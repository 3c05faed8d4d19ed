/*
 * chat_parse: expressions, by recursive descent with Jinja2's grammar and precedence. Two bounds
 * keep every text off the end of the stack: the depth of the parser, and the height of each tree,
 * for a chain of operators is as deep for the evaluator as it is long. It must not evaluate
 * anything.
 */
#include "runtime/text/chat_parser.h"

struct chat_node *chat_parse_node(struct chat_parser *p, enum chat_node_kind kind, int line)
{
    struct chat_node *n = arena_alloc(p->a, sizeof *n);
    if (!n) {
        chat_lex_fail(p, line, "the template needs too much memory", NULL);
        return NULL;
    }
    n->kind = kind;
    n->line = line;
    n->height = 1;
    return n;
}

struct chat_node *chat_parse_under(
    struct chat_parser *p, struct chat_node *n, struct chat_node *child)
{
    if (n && child && n->height <= child->height)
        n->height = child->height + 1;
    if (n && n->height > CHAT_TREE_LIMIT)
        chat_lex_fail(p, n->line, "nested too deeply", NULL);
    return child;
}

static struct chat_node *parse_unary(struct chat_parser *p, bool with_filters);
static struct chat_node *parse_or(struct chat_parser *p);
static struct chat_node *parse_postfix(struct chat_parser *p, struct chat_node *n);

/* A node over a, kept by it. */
static struct chat_node *node_over(
    struct chat_parser *p, enum chat_node_kind kind, int line, struct chat_node *a)
{
    struct chat_node *n = chat_parse_node(p, kind, line);
    if (n)
        n->a = chat_parse_under(p, n, a);
    return n;
}

static struct chat_node **append(
    struct chat_parser *p, struct chat_node *n, struct chat_node **last, struct chat_node *child)
{
    if (!child)
        return last;
    *last = chat_parse_under(p, n, child);
    return &child->next;
}

/* name, name=value, value ... up to close */
void chat_parse_arguments(struct chat_parser *p, struct chat_node *n, const char *close)
{
    struct chat_node **last = &n->args;
    bool named = false;
    while (!p->rc && !chat_lex_is_op(p, close)) {
        struct chat_node *arg = chat_parse_expression(p);
        if (arg && arg->kind == CHAT_NAME && chat_lex_is_op(p, "=")) {
            chat_lex_advance(p);
            arg->kind = CHAT_KEYWORD;
            arg->a = chat_parse_under(p, arg, chat_parse_expression(p));
            named = true;
        } else if (named) {
            chat_lex_fail(p, p->t.line, "an argument without a name follows a named one", NULL);
        }
        last = append(p, n, last, arg);
        if (!chat_lex_op(p, ","))
            break;
    }
    chat_lex_expect(p, close);
}

static struct chat_node *parse_object(struct chat_parser *p, int line)
{
    struct chat_node *n = chat_parse_node(p, CHAT_OBJECT, line);
    struct chat_node **last = n ? &n->args : NULL;
    while (n && !p->rc && !chat_lex_is_op(p, "}")) {
        for (int i = 0; i < 2; i++) {
            struct chat_node *part = chat_parse_expression(p);
            if (!part)
                return NULL;
            last = append(p, n, last, part);
            if (i == 0)
                chat_lex_expect(p, ":");
        }
        if (!chat_lex_op(p, ","))
            break;
    }
    chat_lex_expect(p, "}");
    return n;
}

static struct chat_node *literal(struct chat_parser *p, struct chat_value v)
{
    struct chat_node *n = chat_parse_node(p, CHAT_LITERAL, p->t.line);
    if (n)
        n->value = v;
    chat_lex_advance(p);
    return n;
}

static struct chat_node *parse_name(struct chat_parser *p)
{
    static const struct {
        const char *word;
        struct chat_value v;
    } words[] = {
        {"true", {.kind = CHAT_BOOL, .b = true}},
        {"True", {.kind = CHAT_BOOL, .b = true}},
        {"false", {.kind = CHAT_BOOL}},
        {"False", {.kind = CHAT_BOOL}},
        {"none", {.kind = CHAT_NONE}},
        {"None", {.kind = CHAT_NONE}},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (chat_lex_is_word(p, words[i].word))
            return literal(p, words[i].v);
    struct chat_node *n = chat_parse_node(p, CHAT_NAME, p->t.line);
    if (n)
        n->name = p->t.v.s;
    chat_lex_advance(p);
    return n;
}

/* Strings side by side are one, as in Python. */
static struct chat_node *parse_strings(struct chat_parser *p)
{
    struct chat_node *n = literal(p, p->t.v);
    while (n && !p->rc && p->t.kind == CHAT_TOKEN_STRING) {
        size_t len = n->value.len + p->t.v.len;
        char *both = arena_alloc(p->a, len + 1);
        if (!both) {
            chat_lex_fail(p, n->line, "the template needs too much memory", NULL);
            return NULL;
        }
        memcpy(both, n->value.s, n->value.len);
        memcpy(both + n->value.len, p->t.v.s, p->t.v.len);
        n->value.s = both;
        n->value.len = len;
        chat_lex_advance(p);
    }
    return n;
}

static struct chat_node *parse_primary(struct chat_parser *p)
{
    int line = p->t.line;
    struct chat_node *n = NULL;
    switch (p->t.kind) {
    case CHAT_TOKEN_NAME:
        return parse_name(p);
    case CHAT_TOKEN_INT:
    case CHAT_TOKEN_FLOAT:
        return literal(p, p->t.v);
    case CHAT_TOKEN_STRING:
        return parse_strings(p);
    default:
        break;
    }
    if (chat_lex_op(p, "(")) {
        n = chat_lex_is_op(p, ")") ? chat_parse_node(p, CHAT_ARRAY, line)
                                   : chat_parse_tuple(p, true);
        if (n && n->kind == CHAT_ARRAY && !n->args)
            n->value.form = CHAT_IS_TUPLE;
        chat_lex_expect(p, ")");
        return n;
    }
    if (chat_lex_op(p, "[")) {
        n = chat_parse_node(p, CHAT_ARRAY, line);
        struct chat_node **last = n ? &n->args : NULL;
        while (n && !p->rc && !chat_lex_is_op(p, "]")) {
            last = append(p, n, last, chat_parse_expression(p));
            if (!chat_lex_op(p, ","))
                break;
        }
        chat_lex_expect(p, "]");
        return n;
    }
    if (chat_lex_op(p, "{"))
        return parse_object(p, line);
    chat_lex_fail(p, line, "expected a value", p->t.kind == CHAT_TOKEN_OP ? p->t.op : NULL);
    return NULL;
}

/* After "[": one index, or a slice. */
static struct chat_node *parse_subscript(struct chat_parser *p, struct chat_node *of, int line)
{
    struct chat_node *n = node_over(p, CHAT_ITEM, line, of);
    if (!n)
        return NULL;
    struct chat_node **parts[] = {&n->b, &n->c, &n->d};
    for (int i = 0; i < 3 && !p->rc; i++) {
        if (!chat_lex_is_op(p, ":") && !chat_lex_is_op(p, "]"))
            *parts[i] = chat_parse_under(p, n, chat_parse_expression(p));
        if (!chat_lex_op(p, ":"))
            break;
        n->kind = CHAT_SLICE;
    }
    if (n->kind == CHAT_ITEM && !n->b)
        chat_lex_fail(p, line, "an index is missing", NULL);
    chat_lex_expect(p, "]");
    return n;
}

/* After ".": a name, or the number of an item. */
static struct chat_node *parse_attribute(struct chat_parser *p, struct chat_node *of, int line)
{
    bool number = p->t.kind == CHAT_TOKEN_INT;
    struct chat_node *n = node_over(p, number ? CHAT_ITEM : CHAT_ATTR, line, of);
    if (n && number)
        n->b = literal(p, p->t.v);
    else if (n)
        n->name = chat_lex_name(p);
    return n;
}

static struct chat_node *parse_call(struct chat_parser *p, struct chat_node *callee, int line)
{
    struct chat_node *n = callee;
    if (callee->kind == CHAT_ATTR)
        n->kind = CHAT_METHOD;
    else
        n = node_over(p, CHAT_CALL, line, callee);
    if (n)
        chat_parse_arguments(p, n, ")");
    return n;
}

static struct chat_node *parse_postfix(struct chat_parser *p, struct chat_node *n)
{
    while (n && !p->rc) {
        int line = p->t.line;
        if (chat_lex_op(p, "."))
            n = parse_attribute(p, n, line);
        else if (chat_lex_op(p, "["))
            n = parse_subscript(p, n, line);
        else if (chat_lex_op(p, "("))
            n = parse_call(p, n, line);
        else
            break;
    }
    return n;
}

/* What may follow a test's name as its one argument, "x is divisibleby 3". */
static bool argument_follows(const struct chat_parser *p)
{
    static const char *const words[] = {"else", "or", "and", "if", "is", "in", "not"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (chat_lex_is_word(p, words[i]))
            return false;
    return chat_lex_is_op(p, "[") || chat_lex_is_op(p, "{") ||
        (p->t.kind != CHAT_TOKEN_OP && p->t.kind != CHAT_TOKEN_END);
}

static struct chat_node *parse_test(struct chat_parser *p, struct chat_node *of, int line)
{
    bool negate = chat_lex_word(p, "not");
    struct chat_node *n = node_over(p, CHAT_TEST, line, of);
    if (!n)
        return NULL;
    n->name = chat_lex_name(p);
    if (chat_lex_op(p, "("))
        chat_parse_arguments(p, n, ")");
    else if (argument_follows(p))
        n->args = chat_parse_under(p, n, parse_postfix(p, parse_primary(p)));
    return negate ? node_over(p, CHAT_NOT, line, n) : n;
}

struct chat_node *chat_parse_filter(struct chat_parser *p, struct chat_node *n)
{
    struct chat_node *f = node_over(p, CHAT_FILTER, p->t.line, n);
    if (!f)
        return NULL;
    f->name = chat_lex_name(p);
    if (chat_lex_op(p, "("))
        chat_parse_arguments(p, f, ")");
    return f;
}

struct chat_node *chat_parse_filters(struct chat_parser *p, struct chat_node *n)
{
    while (n && !p->rc) {
        int line = p->t.line;
        if (chat_lex_op(p, "|"))
            n = chat_parse_filter(p, n);
        else if (chat_lex_word(p, "is"))
            n = parse_test(p, n, line);
        else
            break;
    }
    return n;
}

/* Filters and tests bind as tightly as subscripts, but to a number with its sign. */
static struct chat_node *parse_unary(struct chat_parser *p, bool with_filters)
{
    int line = p->t.line;
    struct chat_node *n = NULL;
    if (chat_lex_enter(p))
        ;
    else if (chat_lex_op(p, "-"))
        n = node_over(p, CHAT_NEGATE, line, parse_unary(p, false));
    else if (chat_lex_op(p, "+"))
        n = parse_unary(p, false);
    else
        n = parse_postfix(p, parse_primary(p));
    if (n && with_filters && !p->rc)
        n = chat_parse_filters(p, n);
    p->depth--;
    return n;
}

struct operator
{
    const char *text;
    enum chat_op op;
};

static struct chat_node *binary(
    struct chat_parser *p, enum chat_op op, int line, struct chat_node *a, struct chat_node *b)
{
    struct chat_node *n = node_over(p, CHAT_BINARY, line, a);
    if (n) {
        n->op = op;
        n->b = chat_parse_under(p, n, b);
    }
    return n;
}

static struct chat_node *parse_left(struct chat_parser *p,
    struct chat_node *(*tighter)(struct chat_parser *), const struct operator* ops)
{
    struct chat_node *n = tighter(p);
    while (n && !p->rc) {
        const struct operator* o = ops;
        int line = p->t.line;
        while (o->text && !chat_lex_op(p, o->text))
            o++;
        if (!o->text)
            break;
        n = binary(p, o->op, line, n, tighter(p));
    }
    return n;
}

static struct chat_node *parse_signed(struct chat_parser *p)
{
    return parse_unary(p, true);
}

static struct chat_node *parse_power(struct chat_parser *p)
{
    static const struct operator ops[] = {{"**", CHAT_POWER}, {NULL, 0}};
    return parse_left(p, parse_signed, ops);
}

static struct chat_node *parse_product(struct chat_parser *p)
{
    static const struct operator ops[] = {{"*", CHAT_MULTIPLY}, {"/", CHAT_DIVIDE},
        {"//", CHAT_FLOOR_DIVIDE}, {"%", CHAT_MODULO}, {NULL, 0}};
    return parse_left(p, parse_power, ops);
}

static struct chat_node *parse_concat(struct chat_parser *p)
{
    static const struct operator ops[] = {{"~", CHAT_CONCAT}, {NULL, 0}};
    return parse_left(p, parse_product, ops);
}

static struct chat_node *parse_sum(struct chat_parser *p)
{
    static const struct operator ops[] = {{"+", CHAT_ADD}, {"-", CHAT_SUBTRACT}, {NULL, 0}};
    return parse_left(p, parse_concat, ops);
}

/* The comparison that follows; false when none does. */
static bool comparison(struct chat_parser *p, enum chat_op *out)
{
    static const struct operator ops[] = {{"==", CHAT_EQUAL}, {"!=", CHAT_NOT_EQUAL},
        {"<", CHAT_LESS}, {"<=", CHAT_LESS_EQUAL}, {">", CHAT_GREATER}, {">=", CHAT_GREATER_EQUAL}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (chat_lex_op(p, ops[i].text)) {
            *out = ops[i].op;
            return true;
        }
    int line = p->t.line;
    bool negate = chat_lex_word(p, "not");
    if (chat_lex_word(p, "in")) {
        *out = negate ? CHAT_NOT_IN : CHAT_IN;
        return true;
    }
    if (negate)
        chat_lex_fail(p, line, "expected", "in");
    return false;
}

/* a < b < c is a < b and b < c. */
static struct chat_node *parse_comparison(struct chat_parser *p)
{
    struct chat_node *left = parse_sum(p), *all = NULL;
    enum chat_op op;
    int line = p->t.line;
    while (left && !p->rc && comparison(p, &op)) {
        struct chat_node *right = parse_sum(p), *one = binary(p, op, line, left, right);
        struct chat_node *both = all ? node_over(p, CHAT_AND, line, all) : NULL;
        if (both)
            both->b = chat_parse_under(p, both, one);
        all = all ? both : one;
        left = right;
        line = p->t.line;
    }
    return all ? all : left;
}

static struct chat_node *parse_not(struct chat_parser *p)
{
    int line = p->t.line;
    if (!chat_lex_word(p, "not"))
        return parse_comparison(p);
    struct chat_node *n = chat_lex_enter(p) ? NULL : node_over(p, CHAT_NOT, line, parse_not(p));
    p->depth--;
    return n;
}

static struct chat_node *parse_logic(struct chat_parser *p, const char *word,
    enum chat_node_kind kind, struct chat_node *(*tighter)(struct chat_parser *))
{
    struct chat_node *n = tighter(p);
    while (n && !p->rc && chat_lex_is_word(p, word)) {
        struct chat_node *both = node_over(p, kind, p->t.line, n);
        chat_lex_advance(p);
        if (both)
            both->b = chat_parse_under(p, both, tighter(p));
        n = both;
    }
    return n;
}

static struct chat_node *parse_and(struct chat_parser *p)
{
    return parse_logic(p, "and", CHAT_AND, parse_not);
}

static struct chat_node *parse_or(struct chat_parser *p)
{
    return parse_logic(p, "or", CHAT_OR, parse_and);
}

struct chat_node *chat_parse_expression(struct chat_parser *p)
{
    struct chat_node *n = chat_lex_enter(p) ? NULL : parse_or(p);
    while (n && !p->rc && chat_lex_is_word(p, "if")) {
        struct chat_node *cond = chat_parse_node(p, CHAT_COND, p->t.line);
        if (!cond)
            return NULL;
        chat_lex_advance(p);
        cond->b = chat_parse_under(p, cond, n);
        cond->a = chat_parse_under(p, cond, parse_or(p));
        if (chat_lex_word(p, "else"))
            cond->c = chat_parse_under(p, cond, chat_parse_expression(p));
        n = cond;
    }
    p->depth--;
    return p->rc ? NULL : n;
}

struct chat_node *chat_parse_tuple(struct chat_parser *p, bool with_if)
{
    int line = p->t.line;
    struct chat_node *n = with_if ? chat_parse_expression(p) : parse_or(p);
    if (!n || p->rc || !chat_lex_is_op(p, ","))
        return n;
    struct chat_node *tuple = chat_parse_node(p, CHAT_ARRAY, line);
    if (!tuple)
        return NULL;
    tuple->value.form = CHAT_IS_TUPLE;
    struct chat_node **last = append(p, tuple, &tuple->args, n);
    while (!p->rc && chat_lex_op(p, ",")) {
        if (p->t.kind == CHAT_TOKEN_END || chat_lex_is_op(p, ")") || chat_lex_is_op(p, "="))
            break;
        last = append(p, tuple, last, with_if ? chat_parse_expression(p) : parse_or(p));
    }
    return tuple;
}
