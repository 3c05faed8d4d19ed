/*
 * chat_expr: evaluates expressions, with Python's arithmetic and Jinja2's undefined values. Every
 * evaluation counts its depth and spends one unit. Must not write text.
 */
#include "runtime/text/chat_run.h"

#include "base/clock.h"

#include <math.h>
#include <time.h>

#define ARGS_LIMIT  32
#define RANGE_LIMIT 100000

static int eval(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    return chat_run_expression(r, n, out);
}

/* -- subscripts -- */

static int optional_int(struct chat_run *r, const struct chat_node *n, bool *given, int64_t *out)
{
    struct chat_value v = {0};
    *given = false;
    if ((n && eval(r, n, &v)) || v.kind == CHAT_UNDEFINED || v.kind == CHAT_NONE)
        return r->w->rc;
    if (v.kind != CHAT_INT)
        return chat_fail(r->w, "an index is %s", chat_kind_name(v.kind));
    *given = true;
    *out = v.i;
    return 0;
}

static int64_t clamp_index(int64_t i, int64_t n, int64_t low, int64_t high)
{
    if (i < 0)
        i += n;
    return i < low ? low : i > high ? high : i;
}

/* Python's x[from:to:step]. */
static int eval_slice(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_value of, items;
    int64_t from = 0, to = 0, step = 1;
    bool has_from, has_to, has_step;
    if (eval(r, n->a, &of) || optional_int(r, n->b, &has_from, &from) ||
        optional_int(r, n->c, &has_to, &to) || optional_int(r, n->d, &has_step, &step))
        return r->w->rc;
    bool text = of.kind == CHAT_STRING;
    if ((of.kind != CHAT_LIST && !text) || !step || step == INT64_MIN ||
        (of.kind == CHAT_LIST && of.form == CHAT_IS_LAZY))
        return chat_fail(r->w, "%s cannot be sliced so", chat_kind_name(of.kind));
    int64_t count = chat_length(r->w, &of);
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
    from = has_from ? clamp_index(from, count, low, high) : step < 0 ? high : low;
    to = has_to ? clamp_index(to, count, low, high) : step < 0 ? low : high;
    int64_t span = step < 0 ? from - to : to - from, stride = step < 0 ? -step : step;
    int64_t length = span > 0 ? (span - 1) / stride + 1 : 0;
    if (text && step == 1) {
        *out = chat_substring(r->w, &of, from, length);
        return r->w->rc;
    }
    if (chat_items(r->w, &of, &items))
        return r->w->rc;
    struct chat_value list = chat_list(r->w, length);
    list.form = of.form;
    for (int64_t i = 0; list.kind == CHAT_LIST && i < length; i++)
        list.items[i] = items.items[from + i * step];
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    for (int64_t i = 0; text && i < length && !r->w->rc; i++)
        chat_print(r->w, &list.items[i], &b);
    *out = text ? chat_take(r->w, &b) : list;
    return r->w->rc;
}

static int eval_item(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_value of, index;
    if (eval(r, n->a, &of))
        return r->w->rc;
    if (n->kind == CHAT_ATTR)
        index = chat_constant(n->name);
    else if (eval(r, n->b, &index))
        return r->w->rc;
    chat_item(r->w, &of, &index, out);
    return r->w->rc;
}

/* -- operators -- */

static int concat(struct chat_work *w, const struct chat_value *x, const struct chat_value *y,
    struct chat_value *out)
{
    if (x->kind == CHAT_STRING && y->kind == CHAT_STRING) {
        char *both = chat_alloc(w, x->len + y->len + 1, 1);
        if (!both)
            return w->rc;
        memcpy(both, x->s, x->len);
        memcpy(both + x->len, y->s, y->len);
        *out = (struct chat_value){.kind = CHAT_STRING, .s = both, .len = x->len + y->len};
        return 0;
    }
    struct buf b;
    buf_init(&b, CHAT_TEXT_BYTES);
    chat_print(w, x, &b);
    chat_print(w, y, &b);
    *out = chat_take(w, &b);
    return w->rc;
}

static int add_lists(struct chat_work *w, const struct chat_value *x, const struct chat_value *y,
    struct chat_value *out)
{
    *out = chat_list(w, x->count + y->count);
    if (out->kind != CHAT_LIST)
        return w->rc;
    out->form = x->form;
    memcpy(out->items, x->items, (size_t)x->count * sizeof *x->items);
    memcpy(out->items + x->count, y->items, (size_t)y->count * sizeof *y->items);
    return 0;
}

/* 'ab' * 3, [1] * 3 */
static int repeat(
    struct chat_work *w, const struct chat_value *x, int64_t times, struct chat_value *out)
{
    bool text = x->kind == CHAT_STRING;
    size_t one = text ? x->len : (size_t)x->count, total;
    times = times < 0 ? 0 : times;
    if (__builtin_mul_overflow(one, (size_t)times, &total) || total > CHAT_ARENA)
        return chat_fail(w, "%lld times %s is too much", (long long)times, chat_kind_name(x->kind));
    if (text) {
        char *s = chat_alloc(w, total + 1, 1);
        for (size_t at = 0; s && one && at < total; at += one)
            memcpy(s + at, x->s, one);
        if (s)
            *out = (struct chat_value){.kind = CHAT_STRING, .s = s, .len = total};
        return w->rc;
    }
    *out = chat_list(w, (int64_t)total);
    for (size_t at = 0; out->kind == CHAT_LIST && one && at < total; at += one)
        memcpy(out->items + at, x->items, one * sizeof *x->items);
    return w->rc;
}

static int arithmetic_of_floats(
    struct chat_work *w, enum chat_op op, double x, double y, struct chat_value *out)
{
    double v;
    bool divides = op == CHAT_FLOOR_DIVIDE || op == CHAT_MODULO || op == CHAT_DIVIDE;
    if (divides && y == 0)
        return chat_fail(w, "division by zero");
    switch (op) {
    case CHAT_ADD:
        v = x + y;
        break;
    case CHAT_SUBTRACT:
        v = x - y;
        break;
    case CHAT_MULTIPLY:
        v = x * y;
        break;
    case CHAT_DIVIDE:
        v = x / y;
        break;
    case CHAT_FLOOR_DIVIDE:
        v = floor(x / y);
        break;
    case CHAT_MODULO:
        v = fmod(x, y);
        v += v != 0 && (v < 0) != (y < 0) ? y : 0;
        break;
    default:
        v = pow(x, y);
    }
    *out = chat_float(v);
    return 0;
}

static int power(struct chat_work *w, int64_t x, int64_t y, struct chat_value *out)
{
    int64_t v = 1;
    if (y < 0)
        return arithmetic_of_floats(w, CHAT_POWER, (double)x, (double)y, out);
    for (; y > 0; y--)
        if (chat_spend(w, 1) || __builtin_mul_overflow(v, x, &v))
            return chat_fail(w, "number out of range");
    *out = chat_int(v);
    return 0;
}

static int arithmetic_of_ints(
    struct chat_work *w, enum chat_op op, int64_t x, int64_t y, struct chat_value *out)
{
    int64_t v = 0;
    bool overflow = false, divides = op == CHAT_FLOOR_DIVIDE || op == CHAT_MODULO;
    if (op == CHAT_DIVIDE)
        return arithmetic_of_floats(w, op, (double)x, (double)y, out);
    if (op == CHAT_POWER)
        return power(w, x, y, out);
    if (divides && (y == 0 || (x == INT64_MIN && y == -1)))
        return chat_fail(w, y ? "number out of range" : "division by zero");
    int64_t rest = divides ? x % y : 0;
    bool down = rest && (rest < 0) != (y < 0); /* Python rounds down, C to zero */
    switch (op) {
    case CHAT_ADD:
        overflow = __builtin_add_overflow(x, y, &v);
        break;
    case CHAT_SUBTRACT:
        overflow = __builtin_sub_overflow(x, y, &v);
        break;
    case CHAT_MULTIPLY:
        overflow = __builtin_mul_overflow(x, y, &v);
        break;
    case CHAT_FLOOR_DIVIDE:
        v = x / y - down;
        break;
    default:
        v = rest + (down ? y : 0);
    }
    if (overflow)
        return chat_fail(w, "number out of range");
    *out = chat_int(v);
    return 0;
}

static bool whole(const struct chat_value *v, int64_t *out)
{
    *out = v->kind == CHAT_INT ? v->i : v->kind == CHAT_BOOL ? v->b : 0;
    return v->kind == CHAT_INT || v->kind == CHAT_BOOL;
}

static bool repeats(const struct chat_value *v)
{
    return v->kind == CHAT_STRING || (v->kind == CHAT_LIST && v->form != CHAT_IS_LAZY);
}

static int arithmetic(struct chat_work *w, enum chat_op op, const struct chat_value *x,
    const struct chat_value *y, struct chat_value *out)
{
    double p, q;
    int64_t i, j;
    if (op == CHAT_ADD && x->kind == CHAT_STRING && y->kind == CHAT_STRING)
        return concat(w, x, y, out);
    if (op == CHAT_ADD && x->kind == CHAT_LIST && y->kind == CHAT_LIST && repeats(x) &&
        x->form == y->form)
        return add_lists(w, x, y, out);
    if (op == CHAT_MULTIPLY && repeats(x) && whole(y, &j))
        return repeat(w, x, j, out);
    if (op == CHAT_MULTIPLY && repeats(y) && whole(x, &i))
        return repeat(w, y, i, out);
    if (whole(x, &i) && whole(y, &j))
        return arithmetic_of_ints(w, op, i, j, out);
    if (chat_number(x, &p) && chat_number(y, &q))
        return arithmetic_of_floats(w, op, p, q, out);
    return chat_fail(w, "arithmetic on %s and %s is not supported", chat_kind_name(x->kind),
        chat_kind_name(y->kind));
}

static int eval_binary(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_work *w = r->w;
    struct chat_value x, y;
    if (eval(r, n->a, &x) || eval(r, n->b, &y))
        return w->rc;
    switch (n->op) {
    case CHAT_EQUAL:
    case CHAT_NOT_EQUAL:
        *out = chat_bool(chat_equal(w, &x, &y) == (n->op == CHAT_EQUAL));
        return w->rc;
    case CHAT_IN:
    case CHAT_NOT_IN:
        *out = chat_bool(chat_contains(w, &y, &x) == (n->op == CHAT_IN));
        return w->rc;
    case CHAT_CONCAT:
        return concat(w, &x, &y, out);
    case CHAT_LESS:
        *out = chat_bool(chat_order(w, &x, &y) < 0);
        return w->rc;
    case CHAT_LESS_EQUAL:
        *out = chat_bool(chat_order(w, &x, &y) <= 0);
        return w->rc;
    case CHAT_GREATER:
        *out = chat_bool(chat_order(w, &x, &y) > 0);
        return w->rc;
    case CHAT_GREATER_EQUAL:
        *out = chat_bool(chat_order(w, &x, &y) >= 0);
        return w->rc;
    default:
        return arithmetic(w, n->op, &x, &y, out);
    }
}

static int eval_logic(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    if (eval(r, n->a, out))
        return r->w->rc;
    bool truth = chat_truthy(out);
    switch (n->kind) {
    case CHAT_NOT:
        *out = chat_bool(!truth);
        return 0;
    case CHAT_AND:
        return truth ? eval(r, n->b, out) : 0;
    case CHAT_OR:
        return truth ? 0 : eval(r, n->b, out);
    default: /* CHAT_COND */
        if (truth)
            return eval(r, n->b, out);
        *out = (struct chat_value){0};
        return n->c ? eval(r, n->c, out) : 0;
    }
}

static int eval_negate(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    int64_t i;
    if (eval(r, n->a, out))
        return r->w->rc;
    if (out->kind == CHAT_FLOAT)
        out->d = -out->d;
    else if (whole(out, &i) && i != INT64_MIN)
        *out = chat_int(-i);
    else
        chat_fail(r->w, "minus %s", chat_kind_name(out->kind));
    return r->w->rc;
}

/* -- calls -- */

int chat_run_arguments(struct chat_run *r, const struct chat_node *n, struct chat_args *out)
{
    struct chat_args a = {0};
    int count = 0;
    for (const struct chat_node *arg = n->args; arg; arg = arg->next)
        count++;
    if (count > ARGS_LIMIT)
        return chat_fail(r->w, "too many arguments");
    a.values = chat_alloc(r->w, (size_t)count, sizeof *a.values);
    a.names = chat_alloc(r->w, (size_t)count, sizeof *a.names);
    a.used = chat_alloc(r->w, (size_t)count, sizeof *a.used);
    for (const struct chat_node *arg = n->args; arg && !r->w->rc; arg = arg->next) {
        bool named = arg->kind == CHAT_KEYWORD;
        a.positional += !named;
        a.names[a.count] = named ? arg->name : NULL;
        eval(r, named ? arg->a : arg, &a.values[a.count++]);
    }
    *out = a;
    return r->w->rc;
}

/* namespace(a=1), dict(a=1): a map of the named arguments, upon those of a map that comes first. */
static int call_map(
    struct chat_run *r, const struct chat_args *a, bool assignable, struct chat_value *out)
{
    struct chat_work *w = r->w;
    *out = chat_new_map(w);
    if (w->rc)
        return w->rc;
    out->map->assignable = assignable;
    if (a->positional > 1 || (a->positional && a->values[0].kind != CHAT_MAP))
        return chat_fail(
            w, "%s takes a map and named arguments", assignable ? "namespace" : "dict");
    const struct chat_map *first = a->positional ? a->values[0].map : NULL;
    for (int64_t i = 0; first && i < first->count && !w->rc; i++)
        chat_map_put(w, out->map, &first->pairs[i].key, first->pairs[i].value);
    for (int i = a->positional; i < a->count && !w->rc; i++) {
        struct chat_value key = chat_constant(a->names[i]);
        chat_map_put(w, out->map, &key, a->values[i]);
    }
    return w->rc;
}

static int call_namespace(struct chat_run *r, const struct chat_args *a, struct chat_value *out)
{
    return call_map(r, a, true, out);
}

static int call_dict(struct chat_run *r, const struct chat_args *a, struct chat_value *out)
{
    return call_map(r, a, false, out);
}

static int call_range(struct chat_run *r, const struct chat_args *a, struct chat_value *out)
{
    bool ok = a->count >= 1 && a->count <= 3 && a->positional == a->count;
    for (int i = 0; i < a->count; i++)
        ok = ok && a->values[i].kind == CHAT_INT;
    int64_t from = ok && a->count > 1 ? a->values[0].i : 0;
    int64_t to = ok ? a->values[a->count > 1].i : 0;
    int64_t step = ok && a->count > 2 ? a->values[2].i : 1, span;
    if (!ok || !step || step == INT64_MIN || __builtin_sub_overflow(to, from, &span) ||
        span == INT64_MIN)
        return chat_fail(r->w, "range of these arguments");
    span = step < 0 ? -span : span;
    int64_t stride = step < 0 ? -step : step, items = span > 0 ? (span - 1) / stride + 1 : 0;
    if (items > RANGE_LIMIT)
        return chat_fail(r->w, "range is too long");
    *out = chat_list(r->w, items);
    for (int64_t i = 0; out->kind == CHAT_LIST && i < items; i++)
        out->items[i] = chat_int(from + i * step);
    return r->w->rc;
}

static int call_raise(struct chat_run *r, const struct chat_args *a, struct chat_value *out)
{
    (void)out;
    if (!r->w->rc)
        r->w->rc = err_set(r->w->e, ERR_USER, "%.200s",
            a->count && a->values[0].kind == CHAT_STRING ? a->values[0].s
                                                         : "refused by the template");
    return r->w->rc;
}

/* The time in UTC, which is what containers have. */
static int call_strftime(struct chat_run *r, const struct chat_args *a, struct chat_value *out)
{
    char text[512];
    struct tm tm;
    time_t now = (time_t)(clock_wall_ms() / 1000);
    if (a->count != 1 || a->values[0].kind != CHAT_STRING || a->values[0].len > 64)
        return chat_fail(r->w, "strftime_now of these arguments");
    gmtime_r(&now, &tm);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, a->values[0].s, &tm);
#pragma GCC diagnostic pop
    *out = chat_string(r->w, text, n);
    return r->w->rc;
}

const struct chat_macro *chat_run_builtin(const char *name)
{
    static const struct {
        const char *name;
        struct chat_macro macro;
    } builtins[] = {
        {"namespace", {.builtin = call_namespace}},
        {"dict", {.builtin = call_dict}},
        {"range", {.builtin = call_range}},
        {"raise_exception", {.builtin = call_raise}},
        {"strftime_now", {.builtin = call_strftime}},
    };
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins; i++)
        if (!strcmp(builtins[i].name, name))
            return &builtins[i].macro;
    return NULL;
}

static int eval_call(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_value of;
    struct chat_args args;
    if (eval(r, n->a, &of) || chat_run_arguments(r, n, &args))
        return r->w->rc;
    if (of.kind == CHAT_UNDEFINED && n->a->kind == CHAT_NAME)
        return chat_fail(r->w, "function \"%.40s\" is not supported", n->a->name);
    if (of.kind != CHAT_MACRO)
        return chat_fail(r->w, "%s cannot be called", chat_kind_name(of.kind));
    return of.macro->builtin ? of.macro->builtin(r, &args, out)
                             : chat_run_macro(r, of.macro, &args, NULL, out);
}

/* x | name(args), x.name(args), x is name(args): x is n->a. */
static int eval_applied(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_value self;
    struct chat_args args;
    bool truth = false;
    struct chat_call c = {
        .w = r->w, .name = n->name, .self = &self, .args = &args, .method = n->kind == CHAT_METHOD};
    if (eval(r, n->a, &self) || chat_run_arguments(r, n, &args))
        return r->w->rc;
    const struct chat_value *member = c.method && self.kind == CHAT_MAP
        ? chat_map_get(r->w, self.map, n->name, strlen(n->name))
        : NULL;
    if (member && member->kind == CHAT_MACRO && !member->macro->builtin) /* ns.macro() */
        return chat_run_macro(r, member->macro, &args, NULL, out);
    if (n->kind != CHAT_TEST)
        return chat_apply(&c, out);
    chat_test(&c, &truth);
    *out = chat_bool(truth);
    return r->w->rc;
}

/* -- the rest -- */

static int eval_array(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    int64_t count = 0, i = 0;
    for (const struct chat_node *arg = n->args; arg; arg = arg->next)
        count++;
    struct chat_value list = chat_list(r->w, count);
    list.form = n->value.form;
    for (const struct chat_node *arg = n->args; arg && !r->w->rc; arg = arg->next)
        eval(r, arg, &list.items[i++]);
    *out = list;
    return r->w->rc;
}

static int eval_object(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    struct chat_value map = chat_new_map(r->w), key, v;
    for (const struct chat_node *k = n->args; k && !r->w->rc; k = k->next->next)
        if (!eval(r, k, &key) && !eval(r, k->next, &v))
            chat_map_put(r->w, map.map, &key, v);
    *out = map;
    return r->w->rc;
}

static int eval_kind(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    switch (n->kind) {
    case CHAT_LITERAL:
        *out = n->value;
        return r->w->rc;
    case CHAT_NAME:
        *out = chat_run_lookup(r, n->name);
        return r->w->rc;
    case CHAT_ARRAY:
        return eval_array(r, n, out);
    case CHAT_OBJECT:
        return eval_object(r, n, out);
    case CHAT_ATTR:
    case CHAT_ITEM:
        return eval_item(r, n, out);
    case CHAT_SLICE:
        return eval_slice(r, n, out);
    case CHAT_CALL:
        return eval_call(r, n, out);
    case CHAT_METHOD:
    case CHAT_FILTER:
    case CHAT_TEST:
        return eval_applied(r, n, out);
    case CHAT_NEGATE:
        return eval_negate(r, n, out);
    case CHAT_BINARY:
        return eval_binary(r, n, out);
    case CHAT_NOT:
    case CHAT_AND:
    case CHAT_OR:
    case CHAT_COND:
        return eval_logic(r, n, out);
    default:
        return chat_fail(r->w, "not an expression");
    }
}

int chat_run_expression(struct chat_run *r, const struct chat_node *n, struct chat_value *out)
{
    int line = r->w->line;
    struct chat_value v = {0};
    r->w->line = n->line;
    if (!chat_enter(r->w))
        eval_kind(r, n, &v);
    r->w->depth--;
    r->w->line = line;
    *out = r->w->rc ? (struct chat_value){0} : v;
    return r->w->rc;
}
