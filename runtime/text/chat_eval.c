/*
 * chat_eval: runs statements: text, conditions, loops, assignments, macros and blocks. Work is
 * bounded by the budget in chat_work and by its arena, so no template or conversation runs for
 * long.
 */
#include "runtime/text/chat_run.h"

static int run_list(struct chat_run *r, const struct chat_node *n);

/* -- names -- */

struct chat_value chat_run_lookup(struct chat_run *r, const char *name)
{
    int64_t looked = 0;
    for (const struct chat_scope *s = r->scope; s; s = s->outer)
        for (const struct chat_binding *b = s->first; b; b = b->next) {
            if (!strcmp(b->name, name))
                return b->value;
            if (++looked % 8 == 0 && chat_spend(r->w, 1))
                return (struct chat_value){0};
        }
    const struct chat_value *v = chat_map_get(r->w, r->globals, name, strlen(name));
    const struct chat_macro *builtin = v ? NULL : chat_run_builtin(name);
    if (builtin)
        return (struct chat_value){.kind = CHAT_MACRO, .macro = builtin};
    return v ? *v : (struct chat_value){0};
}

int chat_run_bind(struct chat_run *r, const char *name, struct chat_value v)
{
    struct chat_binding *b = r->scope->first;
    while (b && strcmp(b->name, name) && !chat_spend(r->w, 1))
        b = b->next;
    if (!b && !r->w->rc && (b = chat_alloc(r->w, 1, sizeof *b))) {
        *b = (struct chat_binding){.name = name, .next = r->scope->first};
        r->scope->first = b;
    }
    if (b)
        b->value = v;
    return r->w->rc;
}

int chat_run_open(struct chat_run *r, struct chat_scope *outer)
{
    struct chat_scope *s = chat_alloc(r->w, 1, sizeof *s);
    if (!s)
        return r->w->rc;
    s->outer = outer;
    r->scope = s;
    return 0;
}

/* One name, or as many as the value has items. */
static int bind_targets(
    struct chat_run *r, const struct chat_node *targets, const struct chat_value *v)
{
    struct chat_value items;
    int64_t count = 0, i = 0;
    if (!targets->next)
        return chat_run_bind(r, targets->name, *v);
    for (const struct chat_node *t = targets; t; t = t->next)
        count++;
    if (v->kind != CHAT_LIST || chat_items(r->w, v, &items) || items.count != count)
        return chat_fail(r->w, "%s is not %lld values", chat_kind_name(v->kind), (long long)count);
    for (const struct chat_node *t = targets; t && !r->w->rc; t = t->next)
        chat_run_bind(r, t->name, items.items[i++]);
    return r->w->rc;
}

/* -- output -- */

static int print_out(struct chat_run *r, const struct chat_value *v)
{
    chat_print(r->w, v, r->out);
    if (!r->w->rc && !buf_ok(r->out))
        r->w->rc = err_set(r->w->e, ERR_USER, "the conversation is too long");
    return r->w->rc;
}

static int run_output(struct chat_run *r, const struct chat_node *n)
{
    struct chat_value v;
    return chat_run_expression(r, n->a, &v) ? r->w->rc : print_out(r, &v);
}

/* The text that statements write. */
static int capture(struct chat_run *r, const struct chat_node *body, struct chat_value *out)
{
    struct buf text, *outer = r->out;
    buf_init(&text, outer->limit);
    r->out = &text;
    run_list(r, body);
    r->out = outer;
    *out = chat_take(r->w, &text);
    return r->w->rc;
}

/* -- macros -- */

static bool has_parameter(const struct chat_node *m, const char *name)
{
    for (const struct chat_node *p = m->args; p; p = p->next)
        if (!strcmp(p->name, name))
            return true;
    return false;
}

/* By position, by name, by default; else undefined, as in Jinja2. */
static int bind_parameters(
    struct chat_run *r, const struct chat_node *m, const struct chat_args *args)
{
    int position = 0;
    for (const struct chat_node *p = m->args; p && !r->w->rc; p = p->next, position++) {
        struct chat_value v = {0};
        bool given = position < args->positional;
        if (given)
            v = args->values[position];
        for (int i = args->positional; i < args->count; i++)
            if (!strcmp(args->names[i], p->name)) {
                v = args->values[i];
                given = true;
            }
        if (!given && p->kind == CHAT_KEYWORD)
            chat_run_expression(r, p->a, &v);
        chat_run_bind(r, p->name, v);
    }
    if (args->positional > position)
        return chat_fail(
            r->w, "%s takes at most %d arguments", m->name ? m->name : "caller", position);
    for (int i = args->positional; i < args->count && !r->w->rc; i++)
        if (!has_parameter(m, args->names[i]))
            chat_fail(
                r->w, "%s has no parameter %.40s", m->name ? m->name : "caller", args->names[i]);
    return r->w->rc;
}

int chat_run_macro(struct chat_run *r, const struct chat_macro *m, const struct chat_args *args,
    const struct chat_value *caller, struct chat_value *out)
{
    struct chat_scope *scope = r->scope;
    chat_enter(r->w);
    if (!r->w->rc && !chat_run_open(r, m->scope) && !bind_parameters(r, m->node, args) &&
        !(caller && chat_run_bind(r, "caller", *caller)))
        capture(r, m->node->b, out);
    r->scope = scope;
    r->w->depth--;
    return r->w->rc;
}

static int make_macro(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_macro *m = chat_alloc(r->w, 1, sizeof *m);
    if (!m)
        return r->w->rc;
    *m = (struct chat_macro){.node = n, .scope = r->scope};
    *out = (struct chat_value){.kind = CHAT_MACRO, .macro = m};
    return 0;
}

static int run_call_block(struct chat_run *r, const struct chat_node *n)
{
    struct chat_value of, caller, text;
    struct chat_args args;
    if (chat_run_expression(r, n->a->a, &of) || chat_run_arguments(r, n->a, &args) ||
        make_macro(r, n, &caller))
        return r->w->rc;
    if (of.kind != CHAT_MACRO || of.macro->builtin)
        return chat_fail(r->w, "call of %s", chat_kind_name(of.kind));
    if (chat_run_macro(r, of.macro, &args, &caller, &text))
        return r->w->rc;
    return print_out(r, &text);
}

static int run_define(struct chat_run *r, const struct chat_node *n)
{
    struct chat_value macro;
    return make_macro(r, n, &macro) ? r->w->rc : chat_run_bind(r, n->name, macro);
}

/* -- loops -- */

/* Keeps the items for which the loop's condition holds, before the first turn, as Jinja2 does. */
static int filter_items(struct chat_run *r, const struct chat_node *n, struct chat_value *items)
{
    struct chat_value kept = chat_list(r->w, items->count), truth;
    struct chat_scope *scope = r->scope;
    kept.count = 0;
    for (int64_t i = 0; i < items->count && !r->w->rc; i++) {
        if (!chat_run_open(r, scope) && !bind_targets(r, n->targets, &items->items[i]) &&
            !chat_run_expression(r, n->d, &truth) && chat_truthy(&truth))
            kept.items[kept.count++] = items->items[i];
        r->scope = scope;
    }
    *items = kept;
    return r->w->rc;
}

static int run_turns(struct chat_run *r, const struct chat_node *n, const struct chat_value *items)
{
    struct chat_scope *scope = r->scope;
    struct chat_loop *loop = chat_alloc(r->w, 1, sizeof *loop);
    if (!loop)
        return r->w->rc;
    *loop = (struct chat_loop){.items = items->items, .count = items->count};
    const struct chat_value variable = {.kind = CHAT_LOOP, .loop = loop};
    bool stop = false;
    for (; loop->i < loop->count && !stop && !r->w->rc; loop->i++) {
        if (!chat_run_open(r, scope) && !chat_run_bind(r, "loop", variable) &&
            !bind_targets(r, n->targets, &items->items[loop->i]))
            run_list(r, n->b);
        r->scope = scope;
        stop = r->jump == CHAT_BREAK;
        r->jump = 0;
    }
    return r->w->rc;
}

static int run_for(struct chat_run *r, const struct chat_node *n)
{
    struct chat_value v, items;
    if (chat_run_expression(r, n->a, &v) || chat_items(r->w, &v, &items))
        return r->w->rc;
    if (n->d && filter_items(r, n, &items))
        return r->w->rc;
    return items.count ? run_turns(r, n, &items) : run_list(r, n->c);
}

/* -- the other statements -- */

static int assign(struct chat_run *r, const struct chat_node *n, const struct chat_value *v)
{
    if (!n->name2)
        return bind_targets(r, n->targets, v);
    struct chat_value of = chat_run_lookup(r, n->name), key = chat_constant(n->name2);
    if (of.kind != CHAT_MAP || !of.map->assignable)
        return chat_fail(r->w, "%.40s is no namespace", n->name);
    return chat_map_put(r->w, of.map, &key, *v);
}

/* The text of a block, through its filters. */
static int block_text(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_scope *scope = r->scope;
    if (chat_run_open(r, scope) || capture(r, n->b, out))
        return r->w->rc;
    if (n->a && !chat_run_bind(r, CHAT_BLOCK_TEXT, *out))
        chat_run_expression(r, n->a, out);
    r->scope = scope;
    return r->w->rc;
}

static int run_with(struct chat_run *r, const struct chat_node *n)
{
    struct chat_scope *scope = r->scope, *inner;
    struct chat_value v;
    if (chat_run_open(r, scope))
        return r->w->rc;
    inner = r->scope;
    for (const struct chat_node *k = n->args; k && !r->w->rc; k = k->next) {
        r->scope = scope; /* the values see what is outside */
        chat_run_expression(r, k->a, &v);
        r->scope = inner;
        chat_run_bind(r, k->name, v);
    }
    if (!r->w->rc)
        run_list(r, n->b);
    r->scope = scope;
    return r->w->rc;
}

/* Of text that goes into a value first nobody knows where it will stand. */
static int run_generation(struct chat_run *r, const struct chat_node *n)
{
    struct chat_spans *spans = r->w->spans;
    size_t from = r->out->len;
    if (run_list(r, n->b) || !spans)
        return r->w->rc;
    if (r->out != r->w->text)
        return chat_fail(r->w, "generation inside of a block that is captured");
    if (spans->count == CHAT_SPANS)
        return chat_fail(r->w, "more than %d times generation", CHAT_SPANS);
    if (r->out->len > from)
        spans->list[spans->count++] = (struct chat_span){from, r->out->len};
    return 0;
}

static int run_one(struct chat_run *r, const struct chat_node *n)
{
    struct chat_value v;
    switch (n->kind) {
    case CHAT_TEXT:
        return print_out(r, &n->value);
    case CHAT_OUTPUT:
        return run_output(r, n);
    case CHAT_IF:
        if (chat_run_expression(r, n->a, &v))
            return r->w->rc;
        return run_list(r, chat_truthy(&v) ? n->b : n->c);
    case CHAT_FOR:
        return run_for(r, n);
    case CHAT_SET:
        return chat_run_expression(r, n->a, &v) ? r->w->rc : assign(r, n, &v);
    case CHAT_SET_BLOCK:
        return block_text(r, n, &v) ? r->w->rc : assign(r, n, &v);
    case CHAT_PRINT_BLOCK:
        return block_text(r, n, &v) ? r->w->rc : print_out(r, &v);
    case CHAT_DEFINE:
        return run_define(r, n);
    case CHAT_CALL_BLOCK:
        return run_call_block(r, n);
    case CHAT_WITH:
        return run_with(r, n);
    case CHAT_GENERATION:
        return run_generation(r, n);
    default: /* CHAT_BREAK, CHAT_CONTINUE */
        r->jump = n->kind;
        return 0;
    }
}

static int run_list(struct chat_run *r, const struct chat_node *n)
{
    chat_enter(r->w);
    for (; n && !r->w->rc && !r->jump; n = n->next) {
        r->w->line = n->line;
        if (!chat_spend(r->w, 1))
            run_one(r, n);
    }
    r->w->depth--;
    return r->w->rc;
}

int chat_eval(const struct chat_node *program, const struct chat_map *globals, struct chat_work *w,
    struct buf *out)
{
    struct chat_run r = {.w = w, .globals = globals, .out = out};
    if (chat_run_open(&r, NULL))
        return w->rc;
    return run_list(&r, program);
}
