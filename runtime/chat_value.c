/*
 * chat_value: the values of a template and what can be asked of them: Python's str, list and dict
 * as far as chat templates go. Values are immutable but for namespaces. upper and lower change
 * ASCII letters only. Called by chat_eval.c and chat.c. The errors here do not know the template's
 * line; the caller adds it.
 */
#include "runtime/chat_ast.h"

#include "base/utf8.h"

#include <math.h>

/* -- making -- */

struct chat_value chat_string(struct arena *a, const char *s, size_t len)
{
	char *copy = arena_alloc(a, len + 1);
	if (!copy)
		return (struct chat_value){0};
	memcpy(copy, s, len);
	return (struct chat_value){.kind = CHAT_STRING, .s = copy, .len = len};
}

struct chat_value chat_int(int64_t i)
{
	return (struct chat_value){.kind = CHAT_INT, .i = i};
}

struct chat_value chat_bool(bool b)
{
	return (struct chat_value){.kind = CHAT_BOOL, .b = b};
}

struct chat_value chat_none(void)
{
	return (struct chat_value){.kind = CHAT_NONE};
}

struct chat_value chat_list(struct arena *a, int64_t count)
{
	struct chat_value *items = arena_array(a, (size_t)count + 1, sizeof *items);
	if (!items)
		return (struct chat_value){0};
	return (struct chat_value){.kind = CHAT_LIST, .items = items, .count = count};
}

struct chat_value chat_new_map(struct arena *a)
{
	struct chat_map *m = arena_alloc(a, sizeof *m);
	if (!m)
		return (struct chat_value){0};
	return (struct chat_value){.kind = CHAT_MAP, .map = m};
}

int chat_map_put(struct arena *a, struct chat_map *m, const char *key, struct chat_value v)
{
	for (int64_t i = 0; i < m->count; i++)
		if (!strcmp(m->pairs[i].key, key)) {
			m->pairs[i].value = v;
			return 0;
		}
	if (m->count == m->room) {
		int64_t room = m->room ? 2 * m->room : 8;
		struct chat_pair *grown = arena_array(a, (size_t)room, sizeof *grown);
		if (!grown)
			return -ERR_MEMORY;
		if (m->count)
			memcpy(grown, m->pairs, (size_t)m->count * sizeof *grown);
		m->pairs = grown;
		m->room = room;
	}
	m->pairs[m->count++] = (struct chat_pair){.key = key, .value = v};
	return 0;
}

const struct chat_value *chat_map_get(const struct chat_map *m, const char *key)
{
	for (int64_t i = 0; i < m->count; i++)
		if (!strcmp(m->pairs[i].key, key))
			return &m->pairs[i].value;
	return NULL;
}

static struct chat_value from_json_container(struct arena *a, const struct json *v)
{
	struct chat_value out =
		json_is_object(v) ? chat_new_map(a) : chat_list(a, (int64_t)json_count(v));
	int64_t i = 0;
	if (out.kind == CHAT_UNDEFINED)
		return out;
	json_each (item, v) {
		struct chat_value child = chat_from_json(a, item);
		if (child.kind == CHAT_UNDEFINED)
			return child;
		if (out.kind == CHAT_LIST) {
			out.items[i++] = child;
			continue;
		}
		const char *key = arena_strdup(a, json_key(item));
		if (!key || chat_map_put(a, out.map, key, child))
			return (struct chat_value){0};
	}
	return out;
}

struct chat_value chat_from_json(struct arena *a, const struct json *v)
{
	if (json_is_object(v) || json_is_array(v))
		return from_json_container(a, v);
	if (json_is_string(v))
		return chat_string(a, json_string_value(v), strlen(json_string_value(v)));
	if (json_is_bool(v))
		return chat_bool(json_bool_value(v));
	if (!json_is_number(v))
		return chat_none();
	double d = json_number_value(v);
	if (d == floor(d) && fabs(d) <= 9007199254740992.0)
		return chat_int((int64_t)d);
	return (struct chat_value){.kind = CHAT_FLOAT, .d = d};
}

/* -- asking -- */

const char *chat_kind_name(enum chat_kind k)
{
	static const char *const names[] = {"undefined", "none",   "boolean", "integer",
					    "float",     "string", "list",    "map"};
	return names[k];
}

bool chat_truthy(const struct chat_value *v)
{
	switch (v->kind) {
	case CHAT_BOOL:
		return v->b;
	case CHAT_INT:
		return v->i != 0;
	case CHAT_FLOAT:
		return v->d != 0;
	case CHAT_STRING:
		return v->len != 0;
	case CHAT_LIST:
		return v->count != 0;
	case CHAT_MAP:
		return v->map->count != 0;
	default:
		return false;
	}
}

static bool number_of(const struct chat_value *v, double *out)
{
	switch (v->kind) {
	case CHAT_INT:
		*out = (double)v->i;
		return true;
	case CHAT_FLOAT:
		*out = v->d;
		return true;
	case CHAT_BOOL:
		*out = v->b;
		return true;
	default:
		return false;
	}
}

bool chat_equal(const struct chat_value *x, const struct chat_value *y)
{
	double p, q;
	if (number_of(x, &p) && number_of(y, &q))
		return p == q;
	if (x->kind != y->kind)
		return false;
	switch (x->kind) {
	case CHAT_STRING:
		return x->len == y->len && !memcmp(x->s, y->s, x->len);
	case CHAT_LIST:
		if (x->count != y->count)
			return false;
		for (int64_t i = 0; i < x->count; i++)
			if (!chat_equal(&x->items[i], &y->items[i]))
				return false;
		return true;
	case CHAT_MAP:
		return x->map == y->map;
	default:
		return true;
	}
}

int64_t chat_length(const struct chat_value *v)
{
	int64_t n = 0;
	switch (v->kind) {
	case CHAT_STRING:
		for (size_t i = 0; i < v->len; i++)
			n += (v->s[i] & 0xc0) != 0x80;
		return n;
	case CHAT_LIST:
		return v->count;
	case CHAT_MAP:
		return v->map->count;
	case CHAT_UNDEFINED:
		return 0;
	default:
		return -1;
	}
}

static int print_float(double d, struct buf *out)
{
	char text[40];
	for (int digits = 1; digits <= 17; digits++) { /* the shortest that reads back, as Python */
		snprintf(text, sizeof text, "%.*g", digits, d);
		if (strtod(text, NULL) == d)
			break;
	}
	return buf_printf(out, "%s%s", text, strpbrk(text, ".en") ? "" : ".0");
}

int chat_print(const struct chat_value *v, struct buf *out)
{
	switch (v->kind) {
	case CHAT_UNDEFINED:
		return 0;
	case CHAT_NONE:
		return buf_str(out, "None");
	case CHAT_BOOL:
		return buf_str(out, v->b ? "True" : "False");
	case CHAT_INT:
		return buf_printf(out, "%lld", (long long)v->i);
	case CHAT_FLOAT:
		return print_float(v->d, out);
	case CHAT_STRING:
		return buf_add(out, v->s, v->len);
	default:
		return -ERR_DATA;
	}
}

/* As json.dumps(v, ensure_ascii=False) writes it. */
static void json_string(const char *s, size_t len, struct buf *out)
{
	static const char names[] = "btn\0fr"; /* of 0x08 to 0x0d */
	buf_char(out, '"');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", c);
		else if (c >= 8 && c <= 13 && c != 11)
			buf_printf(out, "\\%c", names[c - 8]);
		else if (c < 0x20)
			buf_printf(out, "\\u%04x", c);
		else
			buf_char(out, s[i]);
	}
	buf_char(out, '"');
}

void chat_to_json(const struct chat_value *v, struct buf *out)
{
	switch (v->kind) {
	case CHAT_STRING:
		json_string(v->s, v->len, out);
		break;
	case CHAT_BOOL:
		buf_str(out, v->b ? "true" : "false");
		break;
	case CHAT_LIST:
		buf_char(out, '[');
		for (int64_t i = 0; i < v->count; i++) {
			buf_str(out, i ? ", " : "");
			chat_to_json(&v->items[i], out);
		}
		buf_char(out, ']');
		break;
	case CHAT_MAP:
		buf_char(out, '{');
		for (int64_t i = 0; i < v->map->count; i++) {
			buf_str(out, i ? ", " : "");
			json_string(v->map->pairs[i].key, strlen(v->map->pairs[i].key), out);
			buf_str(out, ": ");
			chat_to_json(&v->map->pairs[i].value, out);
		}
		buf_char(out, '}');
		break;
	case CHAT_NONE:
	case CHAT_UNDEFINED:
		buf_str(out, "null");
		break;
	default:
		chat_print(v, out);
	}
}

/* -- strings -- */

static bool is_string(const struct chat_value *v)
{
	return v->kind == CHAT_STRING;
}

/* Bytes of the white character (Python's str.isspace) that s begins with, or 0. */
static size_t white_at(const char *s, size_t len)
{
	static const char *const wide[] = {"\xc2\x85",     "\xc2\xa0",     "\xe1\x9a\x80",
					   "\xe2\x80\xa8", "\xe2\x80\xa9", "\xe2\x80\xaf",
					   "\xe2\x81\x9f", "\xe3\x80\x80"};
	unsigned char c = (unsigned char)*s;
	if (c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f))
		return 1;
	if (len >= 3 && !memcmp(s, "\xe2\x80", 2) && (unsigned char)s[2] <= 0x8a)
		return 3;
	for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
		size_t n = strlen(wide[i]);
		if (n <= len && !memcmp(s, wide[i], n))
			return n;
	}
	return 0;
}

/* Bytes of the character at s when it is one of chars (NULL: white), or 0. */
static size_t strips(const char *s, size_t len, const struct chat_value *chars)
{
	size_t n = utf8_sequence(s, len);
	if (!chars)
		return white_at(s, len);
	return n && memmem(chars->s, chars->len, s, n) ? n : 0;
}

static int strip(const struct chat_call *c, bool left, bool right, struct chat_value *out)
{
	const struct chat_value *chars = c->count && is_string(&c->args[0]) ? &c->args[0] : NULL;
	const char *s = c->self->s;
	size_t from = 0, to = c->self->len, n;
	while (left && from < to && (n = strips(s + from, to - from, chars)))
		from += n;
	while (right && to > from) {
		size_t at = to - 1;
		while (at > from && (s[at] & 0xc0) == 0x80)
			at--;
		if (!strips(s + at, to - at, chars))
			break;
		to = at;
	}
	*out = chat_string(c->a, s + from, to - from);
	return 0;
}

static int do_trim(const struct chat_call *c, struct chat_value *out)
{
	return strip(c, true, true, out);
}

static int do_lstrip(const struct chat_call *c, struct chat_value *out)
{
	return strip(c, true, false, out);
}

static int do_rstrip(const struct chat_call *c, struct chat_value *out)
{
	return strip(c, false, true, out);
}

static int change_case(const struct chat_call *c, char from, char to, size_t first,
		       struct chat_value *out)
{
	struct chat_value v = chat_string(c->a, c->self->s, c->self->len);
	char *s = (char *)v.s; /* our own copy */
	for (size_t i = first; v.kind == CHAT_STRING && i < v.len; i++)
		if (s[i] >= from && s[i] <= to)
			s[i] ^= 0x20;
	*out = v;
	return 0;
}

static int do_upper(const struct chat_call *c, struct chat_value *out)
{
	return change_case(c, 'a', 'z', 0, out);
}

static int do_lower(const struct chat_call *c, struct chat_value *out)
{
	return change_case(c, 'A', 'Z', 0, out);
}

static int do_capitalize(const struct chat_call *c, struct chat_value *out)
{
	change_case(c, 'A', 'Z', 1, out);
	char *s = (char *)out->s;
	if (is_string(out) && out->len && *s >= 'a' && *s <= 'z')
		*s ^= 0x20;
	return 0;
}

static bool affix(const struct chat_call *c, bool end)
{
	const struct chat_value *a = &c->args[0], *s = c->self;
	return a->len <= s->len && !memcmp(s->s + (end ? s->len - a->len : 0), a->s, a->len);
}

static int do_startswith(const struct chat_call *c, struct chat_value *out)
{
	*out = chat_bool(affix(c, false));
	return 0;
}

static int do_endswith(const struct chat_call *c, struct chat_value *out)
{
	*out = chat_bool(affix(c, true));
	return 0;
}

static int do_split(const struct chat_call *c, struct chat_value *out)
{
	const char *s = c->self->s, *end = s + c->self->len, *sep = c->args[0].s, *hit;
	size_t n = c->args[0].len;
	int64_t limit = c->count > 1 && c->args[1].kind == CHAT_INT && c->args[1].i >= 0
				? c->args[1].i
				: INT64_MAX;
	if (!n)
		return -ERR_USER;
	int64_t parts = 1;
	for (const char *p = s; parts <= limit && (hit = memmem(p, (size_t)(end - p), sep, n));
	     p = hit + n)
		parts++;
	*out = chat_list(c->a, parts);
	for (int64_t i = 0; out->kind == CHAT_LIST && i < parts; i++) {
		hit = i + 1 < parts ? memmem(s, (size_t)(end - s), sep, n) : end;
		out->items[i] = chat_string(c->a, s, (size_t)(hit - s));
		s = hit + n;
	}
	return 0;
}

static int do_replace(const struct chat_call *c, struct chat_value *out)
{
	const char *s = c->self->s, *end = s + c->self->len, *hit;
	const struct chat_value *old = &c->args[0], *new = &c->args[1];
	if (!old->len || !is_string(new))
		return -ERR_USER;
	buf_auto struct buf b;
	buf_init(&b, (size_t)1 << 26);
	while ((hit = memmem(s, (size_t)(end - s), old->s, old->len))) {
		buf_add(&b, s, (size_t)(hit - s));
		buf_add(&b, new->s, new->len);
		s = hit + old->len;
	}
	buf_add(&b, s, (size_t)(end - s));
	if (!buf_ok(&b))
		return -ERR_MEMORY;
	*out = chat_string(c->a, buf_cstr(&b), b.len);
	return 0;
}

/* -- any value -- */

static int do_string(const struct chat_call *c, struct chat_value *out)
{
	buf_auto struct buf b;
	buf_init(&b, (size_t)1 << 26);
	if (chat_print(c->self, &b) == -ERR_DATA)
		return -ERR_USER;
	*out = chat_string(c->a, buf_cstr(&b), b.len);
	return 0;
}

static int do_length(const struct chat_call *c, struct chat_value *out)
{
	*out = chat_int(chat_length(c->self));
	return out->i < 0 ? -ERR_USER : 0;
}

static int do_tojson(const struct chat_call *c, struct chat_value *out)
{
	buf_auto struct buf b;
	buf_init(&b, (size_t)1 << 26);
	if (c->count)
		return -ERR_USER; /* indent */
	chat_to_json(c->self, &b);
	if (!buf_ok(&b))
		return -ERR_MEMORY;
	*out = chat_string(c->a, buf_cstr(&b), b.len);
	return 0;
}

static int do_default(const struct chat_call *c, struct chat_value *out)
{
	bool falsy = c->count > 1 && chat_truthy(&c->args[1]) && !chat_truthy(c->self);
	*out = c->self->kind == CHAT_UNDEFINED || falsy ? c->args[0] : *c->self;
	return 0;
}

static int do_int(const struct chat_call *c, struct chat_value *out)
{
	double d;
	*out = chat_int(is_string(c->self)       ? strtoll(c->self->s, NULL, 10)
			: number_of(c->self, &d) ? (int64_t)d
						 : 0);
	return 0;
}

/* -- lists and maps -- */

static int do_first(const struct chat_call *c, struct chat_value *out)
{
	*out = c->self->count ? c->self->items[0] : (struct chat_value){0};
	return 0;
}

static int do_last(const struct chat_call *c, struct chat_value *out)
{
	*out = c->self->count ? c->self->items[c->self->count - 1] : (struct chat_value){0};
	return 0;
}

static int do_join(const struct chat_call *c, struct chat_value *out)
{
	buf_auto struct buf b;
	buf_init(&b, (size_t)1 << 26);
	for (int64_t i = 0; i < c->self->count; i++) {
		if (i && c->count && is_string(&c->args[0]))
			buf_add(&b, c->args[0].s, c->args[0].len);
		if (chat_print(&c->self->items[i], &b) == -ERR_DATA)
			return -ERR_USER;
	}
	*out = chat_string(c->a, buf_cstr(&b), b.len);
	return 0;
}

static int do_list(const struct chat_call *c, struct chat_value *out)
{
	*out = *c->self;
	return 0;
}

enum { PART_KEYS, PART_VALUES, PART_ITEMS };

static int map_parts(const struct chat_call *c, int part, struct chat_value *out)
{
	const struct chat_map *m = c->self->map;
	*out = chat_list(c->a, m->count);
	for (int64_t i = 0; out->kind == CHAT_LIST && i < m->count; i++) {
		struct chat_value key = chat_string(c->a, m->pairs[i].key, strlen(m->pairs[i].key));
		struct chat_value *item = &out->items[i];
		*item = part == PART_KEYS ? key : m->pairs[i].value;
		if (part != PART_ITEMS)
			continue;
		*item = chat_list(c->a, 2);
		if (item->kind != CHAT_LIST)
			return -ERR_MEMORY;
		item->items[0] = key;
		item->items[1] = m->pairs[i].value;
	}
	return 0;
}

static int do_keys(const struct chat_call *c, struct chat_value *out)
{
	return map_parts(c, PART_KEYS, out);
}

static int do_values(const struct chat_call *c, struct chat_value *out)
{
	return map_parts(c, PART_VALUES, out);
}

static int do_items(const struct chat_call *c, struct chat_value *out)
{
	return map_parts(c, PART_ITEMS, out);
}

static int do_get(const struct chat_call *c, struct chat_value *out)
{
	const struct chat_value *v = chat_map_get(c->self->map, c->args[0].s);
	*out = v ? *v : c->count > 1 ? c->args[1] : chat_none();
	return 0;
}

/* -- the tables -- */

enum {
	OF_STRING = 1 << CHAT_STRING,
	OF_LIST = 1 << CHAT_LIST,
	OF_MAP = 1 << CHAT_MAP,
	OF_ANY = 0xff
};
enum { AS_FILTER = 1, AS_METHOD = 2, AS_BOTH = 3 };

static const struct {
	const char *name;
	int as, of;
	int strings; /* so many first arguments must be strings */
	int required;
	int (*run)(const struct chat_call *c, struct chat_value *out);
} calls[] = {
	{"trim", AS_FILTER, OF_STRING, 0, 0, do_trim},
	{"strip", AS_METHOD, OF_STRING, 0, 0, do_trim},
	{"lstrip", AS_METHOD, OF_STRING, 0, 0, do_lstrip},
	{"rstrip", AS_METHOD, OF_STRING, 0, 0, do_rstrip},
	{"upper", AS_BOTH, OF_STRING, 0, 0, do_upper},
	{"lower", AS_BOTH, OF_STRING, 0, 0, do_lower},
	{"capitalize", AS_BOTH, OF_STRING, 0, 0, do_capitalize},
	{"startswith", AS_METHOD, OF_STRING, 1, 1, do_startswith},
	{"endswith", AS_METHOD, OF_STRING, 1, 1, do_endswith},
	{"split", AS_METHOD, OF_STRING, 1, 1, do_split},
	{"replace", AS_BOTH, OF_STRING, 2, 2, do_replace},
	{"string", AS_FILTER, OF_ANY, 0, 0, do_string},
	{"safe", AS_FILTER, OF_STRING, 0, 0, do_list},
	{"length", AS_FILTER, OF_ANY, 0, 0, do_length},
	{"count", AS_FILTER, OF_ANY, 0, 0, do_length},
	{"tojson", AS_FILTER, OF_ANY, 0, 0, do_tojson},
	{"default", AS_FILTER, OF_ANY, 0, 1, do_default},
	{"d", AS_FILTER, OF_ANY, 0, 1, do_default},
	{"int", AS_FILTER, OF_ANY, 0, 0, do_int},
	{"first", AS_FILTER, OF_LIST, 0, 0, do_first},
	{"last", AS_FILTER, OF_LIST, 0, 0, do_last},
	{"join", AS_FILTER, OF_LIST, 0, 0, do_join},
	{"list", AS_FILTER, OF_LIST, 0, 0, do_list},
	{"keys", AS_METHOD, OF_MAP, 0, 0, do_keys},
	{"values", AS_METHOD, OF_MAP, 0, 0, do_values},
	{"items", AS_BOTH, OF_MAP, 0, 0, do_items},
	{"get", AS_METHOD, OF_MAP, 1, 1, do_get},
};

int chat_apply(const struct chat_call *c, struct chat_value *out, struct err *e)
{
	for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
		if (strcmp(calls[i].name, c->name) ||
		    !(calls[i].as & (c->method ? AS_METHOD : AS_FILTER)))
			continue;
		bool fits = (calls[i].of & 1 << c->self->kind) && c->count >= calls[i].required;
		for (int k = 0; fits && k < calls[i].strings; k++)
			fits = is_string(&c->args[k]);
		struct chat_value v = {0};
		int rc = fits ? calls[i].run(c, &v) : -ERR_USER;
		if (rc == -ERR_MEMORY)
			return err_set(e, ERR_MEMORY, "no memory to render a conversation");
		if (rc)
			return err_set(e, ERR_DATA,
				       "%s of a %s with these arguments is not supported", c->name,
				       chat_kind_name(c->self->kind));
		*out = v;
		return 0;
	}
	return err_set(e, ERR_DATA, "%s \"%.40s\" is not supported",
		       c->method ? "method" : "filter", c->name);
}

int chat_test(const struct chat_call *c, bool *out, struct err *e)
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
		{"sequence", OF_STRING | OF_LIST | OF_MAP},
		{"iterable", OF_STRING | OF_LIST | OF_MAP | 1 << CHAT_UNDEFINED},
		{"number", 1 << CHAT_INT | 1 << CHAT_FLOAT | 1 << CHAT_BOOL},
		{"integer", 1 << CHAT_INT},
		{"float", 1 << CHAT_FLOAT},
		{"boolean", 1 << CHAT_BOOL},
	};
	const struct chat_value *v = c->self;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (!strcmp(kinds[i].name, c->name)) {
			*out = kinds[i].of & 1 << v->kind;
			return 0;
		}
	if (!strcmp(c->name, "true") || !strcmp(c->name, "false")) {
		*out = v->kind == CHAT_BOOL && v->b == (c->name[0] == 't');
		return 0;
	}
	if ((!strcmp(c->name, "equalto") || !strcmp(c->name, "eq")) && c->count == 1) {
		*out = chat_equal(v, &c->args[0]);
		return 0;
	}
	if (v->kind == CHAT_INT && (!strcmp(c->name, "even") || !strcmp(c->name, "odd"))) {
		*out = (v->i & 1) == (c->name[0] == 'o');
		return 0;
	}
	return err_set(e, ERR_DATA, "test \"%.40s\" is not supported", c->name);
}
