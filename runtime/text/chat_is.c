/*
 * chat_is: the tests of a template, "x is defined", "x is divisibleby(3)": what Jinja has, each a
 * yes or no. An unknown one is refused by name. Must not change a value.
 */
#include "runtime/text/chat_ast.h"

#include "base/utf8.h"

/* Tests that compare with an argument; false when it is none of them. */
static bool compare(const struct chat_call *c, bool *out)
{
    static const struct {
        const char *names[3];
        int op; /* 0: equal, 1: not, else of an order d: */
    } tests[] = {
        {{"equalto", "eq", "=="}, 0},
        {{"ne", "!=", "ne"}, 1},
        {{"lt", "lessthan", "<"}, 2},
        {{"le", "<=", "le"}, 3},
        {{"gt", "greaterthan", ">"}, 4},
        {{"ge", ">=", "ge"}, 5},
        {{"in", "in", "in"}, 6},
        {{"sameas", "sameas", "sameas"}, 7},
        {{"divisibleby", "divisibleby", "divisibleby"}, 8},
    };
    size_t i = 0, k = 0;
    for (; i < sizeof tests / sizeof *tests; i++) {
        for (k = 0; k < 3 && strcmp(tests[i].names[k], c->name);)
            k++;
        if (k < 3)
            break;
    }
    if (i == sizeof tests / sizeof *tests)
        return false;
    const struct chat_value *other = chat_arg(c, 0, NULL), *self = c->self;
    int op = tests[i].op;
    if (!other) {
        chat_misused(c);
        return true;
    }
    if (op < 2)
        *out = chat_equal(c->w, self, other) == (op == 0);
    else if (op == 6)
        *out = chat_contains(c->w, other, self);
    else if (op == 7)
        *out = self->kind == other->kind && chat_equal(c->w, self, other);
    else if (op == 8 && (self->kind != CHAT_INT || other->kind != CHAT_INT || !other->i))
        chat_misused(c);
    else if (op == 8)
        *out = other->i == -1 || self->i % other->i == 0;
    else {
        int d = chat_order(c->w, self, other);
        *out = op == 2 ? d < 0 : op == 3 ? d <= 0 : op == 4 ? d > 0 : d >= 0;
    }
    return true;
}

int chat_test(const struct chat_call *c, bool *out)
{
    static const struct {
        const char *name;
        int of; /* true of these kinds */
    } kinds[] = {
        {"defined", OF_ANY & ~(1 << CHAT_UNDEFINED)},
        {"undefined", 1 << CHAT_UNDEFINED},
        {"none", 1 << CHAT_NONE},
        {"string", OF_STRING},
        {"mapping", OF_MAP},
        {"sequence", OF_STRING | OF_LIST | OF_MAP | 1 << CHAT_UNDEFINED},
        {"iterable", OF_STRING | OF_LIST | OF_MAP | 1 << CHAT_UNDEFINED | 1 << CHAT_LOOP},
        {"number", 1 << CHAT_INT | 1 << CHAT_FLOAT | 1 << CHAT_BOOL},
        {"integer", 1 << CHAT_INT},
        {"float", 1 << CHAT_FLOAT},
        {"boolean", 1 << CHAT_BOOL},
        {"callable", 1 << CHAT_MACRO},
    };
    const struct chat_value *v = c->self;
    bool lazy = v->kind == CHAT_LIST && v->form == CHAT_IS_LAZY;
    bool space = v->kind == CHAT_MAP && v->map->assignable;
    *out = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].name, c->name)) {
            *out = kinds[i].of & 1 << v->kind;
            if ((lazy && !strcmp(c->name, "sequence")) ||
                (space && (OF_MAP & kinds[i].of) && strcmp(c->name, "defined") != 0))
                *out = false;
            return c->w->rc;
        }
    if (!strcmp(c->name, "true") || !strcmp(c->name, "false")) {
        *out = v->kind == CHAT_BOOL && v->b == (c->name[0] == 't');
    } else if (!strcmp(c->name, "even") || !strcmp(c->name, "odd")) {
        if (v->kind != CHAT_INT)
            return chat_misused(c);
        *out = (v->i & 1) == (c->name[0] == 'o');
    } else if (!strcmp(c->name, "lower") || !strcmp(c->name, "upper")) {
        if (v->kind == CHAT_STRING && !chat_spend_bytes(c->w, 8 * v->len))
            *out = chat_text_is_case(v, c->name[0] == 'u');
    } else if (!compare(c, out)) {
        return chat_fail(c->w, "test \"%.40s\" is not supported", c->name);
    }
    return c->w->rc;
}
