/*
 * chat_eval: walks the nodes. Scopes are a stack of bindings: each turn of a loop opens one, so
 * what is set inside is gone after it (a namespace() is the way out, as in Jinja2). Work is bounded
 * by a count of evaluations and by the arena, so no template or conversation runs for long. Called
 * by chat.c once a request.
 */
#include "runtime/chat_ast.h"

#include "base/utf8.h"

#include <math.h>

#define WORK_LIMIT     5000000 /* evaluations */
#define BINDINGS_LIMIT 256
#define ARGS_LIMIT     16
#define RANGE_LIMIT    100000

struct binding {
	const char *name;
	struct chat_value value;
};

struct run {
	struct arena *a;
	const struct chat_map *globals;
	struct buf *out;
	struct err *e;
	struct binding bindings[BINDINGS_LIMIT];
	int count, scope; /* the innermost scope begins at bindings[scope] */
	int64_t work;
};

static int fail(struct run *r, const struct chat_node *n, const char *fmt, const char *detail)
{
	char what[160];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(what, sizeof what, fmt, detail);
#pragma GCC diagnostic pop
	return err_set(r->e, ERR_DATA, "line %d: %s", n->line, what);
}

static int no_memory(struct run *r)
{
	return err_set(r->e, ERR_MEMORY, "no memory to render a conversation");
}

static int eval(struct run *r, const struct chat_node *n, struct chat_value *out);

/* -- names -- */

static struct chat_value lookup(const struct run *r, const char *name)
{
	for (int i = r->count - 1; i >= 0; i--)
		if (!strcmp(r->bindings[i].name, name))
			return r->bindings[i].value;
	const struct chat_value *v = chat_map_get(r->globals, name);
	return v ? *v : (struct chat_value){0};
}

static int bind(struct run *r, const struct chat_node *n, const char *name, struct chat_value v)
{
	for (int i = r->scope; i < r->count; i++)
		if (!strcmp(r->bindings[i].name, name)) {
			r->bindings[i].value = v;
			return 0;
		}
	if (r->count == BINDINGS_LIMIT)
		return fail(r, n, "too many variables%s", "");
	r->bindings[r->count++] = (struct binding){name, v};
	return 0;
}

/* -- subscripts -- */

static int64_t clamp_index(int64_t i, int64_t n, int64_t low, int64_t high)
{
	if (i < 0)
		i += n;
	return i < low ? low : i > high ? high : i;
}

/* The bytes of code points [from, from + count) of a string. */
static struct chat_value substring(struct run *r, const struct chat_value *v, int64_t from,
				   int64_t count)
{
	size_t at = 0, end;
	for (; from > 0 && at < v->len; from--)
		at += utf8_sequence(v->s + at, v->len - at);
	for (end = at; count > 0 && end < v->len; count--)
		end += utf8_sequence(v->s + end, v->len - end);
	return chat_string(r->a, v->s + at, end - at);
}

static int item_at(struct run *r, const struct chat_node *n, const struct chat_value *of,
		   const struct chat_value *index, struct chat_value *out)
{
	*out = (struct chat_value){0};
	if (of->kind == CHAT_MAP && index->kind == CHAT_STRING) {
		const struct chat_value *v = chat_map_get(of->map, index->s);
		if (v)
			*out = *v;
		return 0;
	}
	if ((of->kind == CHAT_LIST || of->kind == CHAT_STRING) && index->kind == CHAT_INT) {
		int64_t count = chat_length(of), i = index->i < 0 ? index->i + count : index->i;
		if (i < 0 || i >= count)
			return 0;
		*out = of->kind == CHAT_LIST ? of->items[i] : substring(r, of, i, 1);
		return 0;
	}
	if (of->kind == CHAT_UNDEFINED)
		return fail(r, n, "%s of an undefined value",
			    index->kind == CHAT_STRING ? index->s : "item");
	return 0; /* as Jinja2: undefined */
}

static int optional_int(struct run *r, const struct chat_node *n, bool *given, int64_t *out)
{
	struct chat_value v = {0};
	*given = false;
	int rc = n ? eval(r, n, &v) : 0;
	if (rc || v.kind == CHAT_UNDEFINED || v.kind == CHAT_NONE)
		return rc;
	if (v.kind != CHAT_INT)
		return fail(r, n, "an index is a %s", chat_kind_name(v.kind));
	*given = true;
	*out = v.i;
	return 0;
}

/* Python's x[from:to:step]. */
static int eval_slice(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	struct chat_value of;
	int64_t from = 0, to = 0, step = 1;
	bool has_from, has_to, has_step;
	int rc = eval(r, n->a, &of);
	if (!rc)
		rc = optional_int(r, n->b, &has_from, &from);
	if (!rc)
		rc = optional_int(r, n->c, &has_to, &to);
	if (!rc)
		rc = optional_int(r, n->d, &has_step, &step);
	if (rc)
		return rc;
	int64_t count = chat_length(&of);
	if ((of.kind != CHAT_LIST && of.kind != CHAT_STRING) || !step ||
	    (of.kind == CHAT_STRING && step != 1))
		return fail(r, n, "a %s cannot be sliced so", chat_kind_name(of.kind));
	int64_t low = step < 0 ? -1 : 0, high = step < 0 ? count - 1 : count;
	from = has_from ? clamp_index(from, count, low, high) : step < 0 ? high : low;
	to = has_to ? clamp_index(to, count, low, high) : step < 0 ? low : high;
	int64_t span = step < 0 ? from - to : to - from, stride = step < 0 ? -step : step;
	int64_t items = span > 0 ? (span - 1) / stride + 1 : 0;
	if (of.kind == CHAT_STRING) {
		*out = substring(r, &of, from, items);
		return 0;
	}
	*out = chat_list(r->a, items);
	for (int64_t i = 0; out->kind == CHAT_LIST && i < items; i++)
		out->items[i] = of.items[from + i * step];
	return 0;
}

/* -- operators -- */

static int concat(struct run *r, const struct chat_node *n, const struct chat_value *x,
		  const struct chat_value *y, struct chat_value *out)
{
	buf_auto struct buf b;
	buf_init(&b, (size_t)1 << 26);
	if (chat_print(x, &b) == -ERR_DATA || chat_print(y, &b) == -ERR_DATA)
		return fail(r, n, "a %s cannot become text", "list or map");
	*out = chat_string(r->a, buf_cstr(&b), b.len);
	return buf_ok(&b) ? 0 : no_memory(r);
}

static int add_lists(struct run *r, const struct chat_value *x, const struct chat_value *y,
		     struct chat_value *out)
{
	*out = chat_list(r->a, x->count + y->count);
	if (out->kind != CHAT_LIST)
		return no_memory(r);
	memcpy(out->items, x->items, (size_t)x->count * sizeof *x->items);
	memcpy(out->items + x->count, y->items, (size_t)y->count * sizeof *y->items);
	return 0;
}

static int arithmetic(struct run *r, const struct chat_node *n, const struct chat_value *x,
		      const struct chat_value *y, struct chat_value *out)
{
	int64_t v = 0;
	bool overflow = false;
	if (x->kind != CHAT_INT || y->kind != CHAT_INT)
		return fail(r, n, "arithmetic on a %s is not supported",
			    chat_kind_name(x->kind == CHAT_INT ? y->kind : x->kind));
	bool divides = n->op == CHAT_FLOOR_DIVIDE || n->op == CHAT_MODULO || n->op == CHAT_DIVIDE;
	if (divides && (y->i == 0 || (x->i == INT64_MIN && y->i == -1)))
		return fail(r, n, "division by %s", "zero");
	int64_t rest = divides ? x->i % y->i : 0;
	bool down = rest && (rest < 0) != (y->i < 0); /* Python rounds down, C to zero */
	switch (n->op) {
	case CHAT_ADD:
		overflow = __builtin_add_overflow(x->i, y->i, &v);
		break;
	case CHAT_SUBTRACT:
		overflow = __builtin_sub_overflow(x->i, y->i, &v);
		break;
	case CHAT_MULTIPLY:
		overflow = __builtin_mul_overflow(x->i, y->i, &v);
		break;
	case CHAT_FLOOR_DIVIDE:
		v = x->i / y->i - down;
		break;
	case CHAT_MODULO:
		v = rest + (down ? y->i : 0);
		break;
	default:
		*out = (struct chat_value){.kind = CHAT_FLOAT, .d = (double)x->i / (double)y->i};
		return 0;
	}
	if (overflow)
		return fail(r, n, "number out of %s", "range");
	*out = chat_int(v);
	return 0;
}

static int order(struct run *r, const struct chat_node *n, const struct chat_value *x,
		 const struct chat_value *y, struct chat_value *out)
{
	int d;
	if (x->kind == CHAT_INT && y->kind == CHAT_INT) {
		d = (x->i > y->i) - (x->i < y->i);
	} else if (x->kind == CHAT_STRING && y->kind == CHAT_STRING) {
		d = memcmp(x->s, y->s, x->len < y->len ? x->len : y->len);
		d = d ? d : (x->len > y->len) - (x->len < y->len);
	} else {
		return fail(r, n, "a %s cannot be ordered so", chat_kind_name(x->kind));
	}
	*out = chat_bool(n->op == CHAT_LESS         ? d < 0
			 : n->op == CHAT_LESS_EQUAL ? d <= 0
			 : n->op == CHAT_GREATER    ? d > 0
						    : d >= 0);
	return 0;
}

static int contains(struct run *r, const struct chat_node *n, const struct chat_value *x,
		    const struct chat_value *in, bool *out)
{
	*out = false;
	switch (in->kind) {
	case CHAT_STRING:
		if (x->kind != CHAT_STRING)
			return fail(r, n, "a %s in a string", chat_kind_name(x->kind));
		*out = !x->len || memmem(in->s, in->len, x->s, x->len);
		return 0;
	case CHAT_LIST:
		for (int64_t i = 0; i < in->count && !*out; i++)
			*out = chat_equal(x, &in->items[i]);
		return 0;
	case CHAT_MAP:
		*out = x->kind == CHAT_STRING && chat_map_get(in->map, x->s);
		return 0;
	case CHAT_UNDEFINED:
		return 0;
	default:
		return fail(r, n, "\"in\" of a %s", chat_kind_name(in->kind));
	}
}

static int eval_binary(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	struct chat_value x, y;
	bool in;
	int rc = eval(r, n->a, &x);
	if (!rc)
		rc = eval(r, n->b, &y);
	if (rc)
		return rc;
	switch (n->op) {
	case CHAT_EQUAL:
	case CHAT_NOT_EQUAL:
		*out = chat_bool(chat_equal(&x, &y) == (n->op == CHAT_EQUAL));
		return 0;
	case CHAT_IN:
	case CHAT_NOT_IN:
		rc = contains(r, n, &x, &y, &in);
		*out = chat_bool(in == (n->op == CHAT_IN));
		return rc;
	case CHAT_CONCAT:
		return concat(r, n, &x, &y, out);
	case CHAT_LESS:
	case CHAT_LESS_EQUAL:
	case CHAT_GREATER:
	case CHAT_GREATER_EQUAL:
		return order(r, n, &x, &y, out);
	case CHAT_ADD:
		if (x.kind == CHAT_STRING && y.kind == CHAT_STRING)
			return concat(r, n, &x, &y, out);
		if (x.kind == CHAT_LIST && y.kind == CHAT_LIST)
			return add_lists(r, &x, &y, out);
		return arithmetic(r, n, &x, &y, out);
	default:
		return arithmetic(r, n, &x, &y, out);
	}
}

/* -- calls -- */

static int eval_args(struct run *r, const struct chat_node *n, struct chat_value args[ARGS_LIMIT],
		     int *count)
{
	*count = 0;
	for (const struct chat_node *arg = n->args; arg; arg = arg->next) {
		if (arg->kind == CHAT_KEYWORD)
			return fail(r, n, "named argument %s is not supported", arg->name);
		if (*count == ARGS_LIMIT)
			return fail(r, n, "%s has too many arguments", n->name);
		int rc = eval(r, arg, &args[(*count)++]);
		if (rc)
			return rc;
	}
	return 0;
}

static int call_namespace(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	*out = chat_new_map(r->a);
	if (out->kind != CHAT_MAP)
		return no_memory(r);
	out->map->assignable = true;
	for (const struct chat_node *arg = n->args; arg; arg = arg->next) {
		struct chat_value v;
		if (arg->kind != CHAT_KEYWORD)
			return fail(r, n, "%s takes named arguments only", n->name);
		int rc = eval(r, arg->a, &v);
		if (!rc && chat_map_put(r->a, out->map, arg->name, v))
			rc = no_memory(r);
		if (rc)
			return rc;
	}
	return 0;
}

static int call_range(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	struct chat_value args[ARGS_LIMIT];
	int count, rc = eval_args(r, n, args, &count);
	if (rc)
		return rc;
	bool ok = count >= 1 && count <= 3;
	for (int i = 0; i < count; i++)
		ok = ok && args[i].kind == CHAT_INT;
	int64_t from = ok && count > 1 ? args[0].i : 0, to = ok ? args[count > 1].i : 0;
	int64_t step = ok && count > 2 ? args[2].i : 1, span;
	if (!ok || !step || step == INT64_MIN || __builtin_sub_overflow(to, from, &span) ||
	    span == INT64_MIN)
		return fail(r, n, "%s of these arguments", n->name);
	span = step < 0 ? -span : span;
	int64_t stride = step < 0 ? -step : step, items = span > 0 ? (span - 1) / stride + 1 : 0;
	if (items > RANGE_LIMIT)
		return fail(r, n, "%s is too long", n->name);
	*out = chat_list(r->a, items);
	for (int64_t i = 0; out->kind == CHAT_LIST && i < items; i++)
		out->items[i] = chat_int(from + i * step);
	return 0;
}

static int call_raise(struct run *r, const struct chat_node *n)
{
	struct chat_value args[ARGS_LIMIT];
	int count, rc = eval_args(r, n, args, &count);
	if (rc)
		return rc;
	return err_set(r->e, ERR_USER, "%.200s",
		       count && args[0].kind == CHAT_STRING ? args[0].s
							    : "refused by the template");
}

static int eval_function(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	if (!strcmp(n->name, "namespace"))
		return call_namespace(r, n, out);
	if (!strcmp(n->name, "range"))
		return call_range(r, n, out);
	if (!strcmp(n->name, "raise_exception"))
		return call_raise(r, n);
	return fail(r, n, "function \"%s\" is not supported", n->name);
}

/* x | name(args), x.name(args), x is name(args): self is n->a. */
static int eval_applied(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	struct chat_value self, args[ARGS_LIMIT];
	struct chat_call c = {.a = r->a, .name = n->name, .self = &self, .args = args};
	int rc = eval(r, n->a, &self);
	if (!rc)
		rc = eval_args(r, n, args, &c.count);
	if (rc)
		return rc;
	c.method = n->kind == CHAT_CALL;
	bool truth = false;
	rc = n->kind == CHAT_TEST ? chat_test(&c, &truth, r->e) : chat_apply(&c, out, r->e);
	if (rc)
		return rc == -ERR_MEMORY ? rc : err_wrap(r->e, "line %d", n->line);
	if (n->kind == CHAT_TEST)
		*out = chat_bool(truth);
	return 0;
}

/* -- the rest of expressions -- */

static int eval_array(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	int64_t count = 0, i = 0;
	for (const struct chat_node *arg = n->args; arg; arg = arg->next)
		count++;
	*out = chat_list(r->a, count);
	if (out->kind != CHAT_LIST)
		return no_memory(r);
	for (const struct chat_node *arg = n->args; arg; arg = arg->next) {
		int rc = eval(r, arg, &out->items[i++]);
		if (rc)
			return rc;
	}
	return 0;
}

static int eval_object(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	*out = chat_new_map(r->a);
	if (out->kind != CHAT_MAP)
		return no_memory(r);
	for (const struct chat_node *k = n->args; k; k = k->next->next) {
		struct chat_value key, v;
		int rc = eval(r, k, &key);
		if (!rc)
			rc = eval(r, k->next, &v);
		if (!rc && key.kind != CHAT_STRING)
			rc = fail(r, n, "a key is a %s", chat_kind_name(key.kind));
		if (!rc && chat_map_put(r->a, out->map, key.s, v))
			rc = no_memory(r);
		if (rc)
			return rc;
	}
	return 0;
}

static int eval_item(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	struct chat_value of, index = {.kind = CHAT_STRING};
	int rc = eval(r, n->a, &of);
	if (rc)
		return rc;
	if (n->kind == CHAT_ATTR) {
		index.s = n->name;
		index.len = strlen(n->name);
	} else {
		rc = eval(r, n->b, &index);
	}
	return rc ? rc : item_at(r, n, &of, &index, out);
}

static int eval_logic(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	int rc = eval(r, n->a, out);
	if (rc)
		return rc;
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

static int eval_negate(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	int rc = eval(r, n->a, out);
	if (rc)
		return rc;
	if (out->kind != CHAT_INT || out->i == INT64_MIN)
		return fail(r, n, "minus a %s", chat_kind_name(out->kind));
	out->i = -out->i;
	return 0;
}

static int eval(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	if (++r->work > WORK_LIMIT)
		return fail(r, n, "the template does not come to an %s", "end");
	*out = (struct chat_value){0};
	switch (n->kind) {
	case CHAT_LITERAL:
		*out = n->value;
		return 0;
	case CHAT_NAME:
		*out = lookup(r, n->name);
		return 0;
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
		return n->a ? eval_applied(r, n, out) : eval_function(r, n, out);
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
		return fail(r, n, "not an %s", "expression");
	}
}

/* -- statements -- */

static int run_list(struct run *r, const struct chat_node *n);

/* The loop variable of turn i of count. */
static int bind_loop(struct run *r, const struct chat_node *n, const struct chat_value *items,
		     int64_t i)
{
	int64_t count = items->count;
	struct chat_value loop = chat_new_map(r->a), none = {0};
	if (loop.kind != CHAT_MAP)
		return no_memory(r);
	const struct {
		const char *name;
		struct chat_value v;
	} fields[] = {
		{"index", chat_int(i + 1)},
		{"index0", chat_int(i)},
		{"revindex", chat_int(count - i)},
		{"revindex0", chat_int(count - i - 1)},
		{"first", chat_bool(i == 0)},
		{"last", chat_bool(i == count - 1)},
		{"length", chat_int(count)},
		{"previtem", i > 0 ? items->items[i - 1] : none},
		{"nextitem", i < count - 1 ? items->items[i + 1] : none},
	};
	for (size_t k = 0; k < sizeof fields / sizeof *fields; k++)
		if (chat_map_put(r->a, loop.map, fields[k].name, fields[k].v))
			return no_memory(r);
	return bind(r, n, "loop", loop);
}

static int bind_targets(struct run *r, const struct chat_node *n, const struct chat_value *item)
{
	if (!n->name2)
		return bind(r, n, n->name, *item);
	if (item->kind != CHAT_LIST || item->count != 2)
		return fail(r, n, "a %s is no pair to loop over", chat_kind_name(item->kind));
	int rc = bind(r, n, n->name, item->items[0]);
	return rc ? rc : bind(r, n, n->name2, item->items[1]);
}

/* What a loop runs over: items of a list, keys of a map, nothing of an undefined value. */
static int loop_items(struct run *r, const struct chat_node *n, struct chat_value *out)
{
	struct chat_value v;
	int rc = eval(r, n->a, &v);
	if (rc)
		return rc;
	struct chat_call keys = {.a = r->a, .name = "keys", .self = &v, .method = true};
	if (v.kind == CHAT_MAP)
		return chat_apply(&keys, out, r->e);
	if (v.kind != CHAT_LIST && v.kind != CHAT_UNDEFINED)
		return fail(r, n, "a %s cannot be looped over", chat_kind_name(v.kind));
	*out = v.kind == CHAT_LIST ? v : chat_list(r->a, 0);
	return out->kind == CHAT_LIST ? 0 : no_memory(r);
}

/* Keeps the items for which the loop's condition holds, before the first turn, as Jinja2 does. */
static int filter_items(struct run *r, const struct chat_node *n, struct chat_value *items)
{
	struct chat_value kept = chat_list(r->a, items->count), truth;
	if (kept.kind != CHAT_LIST)
		return no_memory(r);
	kept.count = 0;
	for (int64_t i = 0; i < items->count; i++) {
		int count = r->count, scope = r->scope;
		r->scope = count;
		int rc = bind_targets(r, n, &items->items[i]);
		if (!rc)
			rc = eval(r, n->d, &truth);
		r->count = count;
		r->scope = scope;
		if (rc)
			return rc;
		if (chat_truthy(&truth))
			kept.items[kept.count++] = items->items[i];
	}
	*items = kept;
	return 0;
}

static int run_for(struct run *r, const struct chat_node *n)
{
	struct chat_value items;
	int rc = loop_items(r, n, &items);
	if (!rc && n->d)
		rc = filter_items(r, n, &items);
	if (!rc && !items.count)
		return run_list(r, n->c);
	for (int64_t i = 0; !rc && i < items.count; i++) {
		int count = r->count, scope = r->scope;
		r->scope = count;
		rc = bind_targets(r, n, &items.items[i]);
		if (!rc)
			rc = bind_loop(r, n, &items, i);
		if (!rc)
			rc = run_list(r, n->b);
		r->count = count;
		r->scope = scope;
	}
	return rc;
}

static int run_set(struct run *r, const struct chat_node *n)
{
	struct chat_value v, of;
	int rc = eval(r, n->a, &v);
	if (rc)
		return rc;
	if (!n->name2)
		return bind(r, n, n->name, v);
	of = lookup(r, n->name);
	if (of.kind != CHAT_MAP || !of.map->assignable)
		return fail(r, n, "%s is no namespace", n->name);
	return chat_map_put(r->a, of.map, n->name2, v) ? no_memory(r) : 0;
}

static int run_output(struct run *r, const struct chat_node *n)
{
	struct chat_value v;
	int rc = eval(r, n->a, &v);
	if (!rc && chat_print(&v, r->out) == -ERR_DATA)
		rc = fail(r, n, "a %s cannot become text", chat_kind_name(v.kind));
	if (!rc && !buf_ok(r->out))
		rc = err_set(r->e, ERR_USER, "the conversation is too long");
	return rc;
}

static int run_one(struct run *r, const struct chat_node *n)
{
	struct chat_value v;
	int rc;
	switch (n->kind) {
	case CHAT_TEXT:
		buf_add(r->out, n->value.s, n->value.len);
		return buf_ok(r->out) ? 0 : err_set(r->e, ERR_USER, "the conversation is too long");
	case CHAT_OUTPUT:
		return run_output(r, n);
	case CHAT_IF:
		rc = eval(r, n->a, &v);
		return rc ? rc : run_list(r, chat_truthy(&v) ? n->b : n->c);
	case CHAT_FOR:
		return run_for(r, n);
	default:
		return run_set(r, n);
	}
}

static int run_list(struct run *r, const struct chat_node *n)
{
	int rc = 0;
	for (; n && !rc; n = n->next)
		rc = run_one(r, n);
	return rc;
}

int chat_eval(const struct chat_node *program, const struct chat_map *globals, struct arena *a,
	      struct buf *out, struct err *e)
{
	struct run *r = arena_alloc(a, sizeof *r);
	if (!r)
		return err_set(e, ERR_MEMORY, "no memory to render a conversation");
	*r = (struct run){.a = a, .globals = globals, .out = out, .e = e};
	return run_list(r, program);
}
