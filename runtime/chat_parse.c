/*
 * chat_parse: a recursive-descent parser with Jinja2's grammar and precedence for what chat
 * templates use. Depth is bounded, so no text overflows the stack. Whitespace rules: a newline
 * after a block tag is dropped (trim_blocks), blanks before a block tag that begins its line are
 * dropped (lstrip_blocks), "-" strips all, "+" keeps all, one newline at the very end is dropped.
 * Called by chat.c once a model. It must not evaluate anything.
 */
#include "runtime/chat_ast.h"

#include <errno.h>

#define DEPTH_LIMIT 200

enum token_kind { TOKEN_END, TOKEN_NAME, TOKEN_STRING, TOKEN_INT, TOKEN_FLOAT, TOKEN_OP };

struct token {
	enum token_kind kind;
	int line;
	const char *s; /* of a name or string: arena copy */
	size_t len;
	double number;
	int64_t integer;
	char op[3];
};

struct parser {
	const char *p; /* rest of the template */
	int line, depth;
	int braces;                  /* open in this tag: "}}" ends it only when none is */
	const char *close;           /* the tag's end: "%}" or "}}" */
	bool trim_newline, strip;    /* what the last tag asks of the text that follows */
	bool after_tag, line_starts; /* a tag has just ended; the text begins a line */
	struct token t;              /* look-ahead inside a tag */
	struct arena *a;
	struct err *e;
	int rc;
};

static int fail_at(struct parser *p, int line, const char *what, const char *detail)
{
	if (!p->rc)
		p->rc = err_set(p->e, ERR_DATA, "line %d: %s%s%.40s%s", line, what,
				detail ? " \"" : "", detail ? detail : "", detail ? "\"" : "");
	p->t = (struct token){.kind = TOKEN_END, .line = line};
	return p->rc;
}

static struct chat_node *node(struct parser *p, enum chat_node_kind kind, int line)
{
	struct chat_node *n = arena_alloc(p->a, sizeof *n);
	if (!n) {
		if (!p->rc)
			p->rc = err_set(p->e, ERR_MEMORY, "no memory for a chat template");
		return NULL;
	}
	n->kind = kind;
	n->line = line;
	return n;
}

/* -- tokens inside a tag -- */

static bool name_start(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static void skip_blanks(struct parser *p)
{
	for (; *p->p == ' ' || *p->p == '\t' || *p->p == '\n' || *p->p == '\r'; p->p++)
		p->line += *p->p == '\n';
}

static void unescape(struct buf *out, const char **at)
{
	static const char from[] = "nrt\\'\"", to[] = "\n\r\t\\'\"";
	const char *known = **at ? strchr(from, **at) : NULL;
	if (known) {
		buf_char(out, to[known - from]);
		(*at)++;
	} else { /* Python keeps the backslash of an unknown escape */
		buf_char(out, '\\');
	}
}

static void lex_string(struct parser *p)
{
	buf_auto struct buf text;
	buf_init(&text, 1 << 20);
	int line = p->line;
	char quote = *p->p++;
	while (*p->p && *p->p != quote) {
		p->line += *p->p == '\n';
		if (*p->p == '\\') {
			p->p++;
			unescape(&text, &p->p);
		} else {
			buf_char(&text, *p->p++);
		}
	}
	if (!*p->p) {
		fail_at(p, line, "a string does not end", NULL);
		return;
	}
	p->p++;
	struct chat_value v = chat_string(p->a, buf_cstr(&text), text.len);
	p->t = (struct token){.kind = TOKEN_STRING, .line = line, .s = v.s, .len = v.len};
	if (!buf_ok(&text) || v.kind != CHAT_STRING)
		fail_at(p, line, "a string is too long", NULL);
}

static void lex_number(struct parser *p)
{
	char *end;
	errno = 0;
	p->t = (struct token){.kind = TOKEN_INT, .line = p->line};
	p->t.integer = strtoll(p->p, &end, 10);
	if (*end == '.' && digit(end[1])) {
		p->t.kind = TOKEN_FLOAT;
		p->t.number = strtod(p->p, &end);
	}
	p->p = end;
	if (errno)
		fail_at(p, p->line, "number out of range", NULL);
}

static bool is_op(const struct parser *p, const char *op)
{
	return p->t.kind == TOKEN_OP && !strcmp(p->t.op, op);
}

static void lex_operator(struct parser *p)
{
	static const char *const pairs[] = {"==", "!=", "<=", ">=", "//", "**"};
	static const char singles[] = "+-*/%~<>=.,:|()[]{}";
	p->t = (struct token){.kind = TOKEN_OP, .line = p->line};
	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
		if (!strncmp(p->p, pairs[i], 2)) {
			memcpy(p->t.op, pairs[i], 2);
			p->p += 2;
			return;
		}
	char found[2] = {*p->p, 0};
	if (!*p->p)
		fail_at(p, p->line, "a tag does not end", NULL);
	else if (!strchr(singles, *p->p))
		fail_at(p, p->line, "unexpected character", found);
	else
		p->t.op[0] = *p->p++;
	p->braces += is_op(p, "{") - is_op(p, "}");
}

/* The next token of the tag; at its end the tag's whitespace wishes are noted. */
static void advance(struct parser *p)
{
	if (p->rc)
		return;
	skip_blanks(p);
	const char *s = p->p;
	char mark = (*s == '-' || *s == '+') && !strncmp(s + 1, p->close, 2) ? *s : 0;
	if (!p->braces && (mark || !strncmp(s, p->close, 2))) {
		p->p += mark ? 3 : 2;
		p->strip = mark == '-';
		p->trim_newline = *p->close == '%' && mark != '+';
		p->after_tag = true;
		p->t = (struct token){.kind = TOKEN_END, .line = p->line};
		return;
	}
	if (name_start(*s)) {
		while (name_start(*p->p) || digit(*p->p))
			p->p++;
		struct chat_value v = chat_string(p->a, s, (size_t)(p->p - s));
		p->t = (struct token){.kind = TOKEN_NAME, .line = p->line, .s = v.s, .len = v.len};
		if (v.kind != CHAT_STRING)
			fail_at(p, p->line, "template too long", NULL);
	} else if (digit(*s)) {
		lex_number(p);
	} else if (*s == '\'' || *s == '"') {
		lex_string(p);
	} else {
		lex_operator(p);
	}
}

static bool is_word(const struct parser *p, const char *word)
{
	return p->t.kind == TOKEN_NAME && !strcmp(p->t.s, word);
}

static bool accept_op(struct parser *p, const char *op)
{
	if (!is_op(p, op))
		return false;
	advance(p);
	return true;
}

static bool accept_word(struct parser *p, const char *word)
{
	if (!is_word(p, word))
		return false;
	advance(p);
	return true;
}

static void expect_op(struct parser *p, const char *op)
{
	if (!accept_op(p, op))
		fail_at(p, p->t.line, "expected", op);
}

static const char *expect_name(struct parser *p)
{
	const char *s = p->t.kind == TOKEN_NAME ? p->t.s : NULL;
	if (s)
		advance(p);
	else
		fail_at(p, p->t.line, "expected a name", NULL);
	return s ? s : "";
}

static void expect_end(struct parser *p)
{
	if (!p->rc && p->t.kind != TOKEN_END)
		fail_at(p, p->t.line, "the tag should end here",
			p->t.kind == TOKEN_OP ? p->t.op : p->t.s);
}

/* -- expressions, loosest first -- */

static struct chat_node *parse_expression(struct parser *p);
static struct chat_node *parse_unary(struct parser *p);

/* name, name=value, value ... up to close */
static struct chat_node *parse_arguments(struct parser *p, const char *close)
{
	struct chat_node *first = NULL, **last = &first;
	while (!p->rc && !is_op(p, close)) {
		struct chat_node *n = parse_expression(p);
		if (n && n->kind == CHAT_NAME && is_op(p, "=")) {
			advance(p);
			n->kind = CHAT_KEYWORD;
			n->a = parse_expression(p);
		}
		if (n) {
			*last = n;
			last = &n->next;
		}
		if (!accept_op(p, ","))
			break;
	}
	expect_op(p, close);
	return first;
}

static struct chat_node *parse_object(struct parser *p, int line)
{
	struct chat_node *n = node(p, CHAT_OBJECT, line), *first = NULL, **last = &first;
	while (!p->rc && !is_op(p, "}")) {
		for (int i = 0; i < 2; i++) {
			struct chat_node *part = parse_expression(p);
			if (!part)
				return NULL;
			*last = part;
			last = &part->next;
			if (i == 0)
				expect_op(p, ":");
		}
		if (!accept_op(p, ","))
			break;
	}
	expect_op(p, "}");
	if (n)
		n->args = first;
	return n;
}

static struct chat_node *literal(struct parser *p, struct chat_value v, int line)
{
	struct chat_node *n = node(p, CHAT_LITERAL, line);
	if (n)
		n->value = v;
	advance(p);
	return n;
}

static struct chat_node *parse_name(struct parser *p)
{
	static const struct {
		const char *word;
		enum chat_kind kind;
		bool b;
	} words[] = {
		{"true", CHAT_BOOL, true},   {"True", CHAT_BOOL, true},
		{"false", CHAT_BOOL, false}, {"False", CHAT_BOOL, false},
		{"none", CHAT_NONE, false},  {"None", CHAT_NONE, false},
	};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (is_word(p, words[i].word))
			return literal(
				p, words[i].kind == CHAT_BOOL ? chat_bool(words[i].b) : chat_none(),
				p->t.line);
	struct chat_node *n = node(p, CHAT_NAME, p->t.line);
	if (n)
		n->name = p->t.s;
	advance(p);
	return n;
}

static struct chat_node *parse_primary(struct parser *p)
{
	int line = p->t.line;
	struct chat_node *n;
	switch (p->t.kind) {
	case TOKEN_NAME:
		return parse_name(p);
	case TOKEN_INT:
		return literal(p, chat_int(p->t.integer), line);
	case TOKEN_FLOAT:
		return literal(p, (struct chat_value){.kind = CHAT_FLOAT, .d = p->t.number}, line);
	case TOKEN_STRING:
		return literal(
			p, (struct chat_value){.kind = CHAT_STRING, .s = p->t.s, .len = p->t.len},
			line);
	default:
		break;
	}
	if (accept_op(p, "(")) {
		n = parse_expression(p);
		expect_op(p, ")");
		return n;
	}
	if (accept_op(p, "[")) {
		n = node(p, CHAT_ARRAY, line);
		struct chat_node *args = parse_arguments(p, "]");
		if (n)
			n->args = args;
		return n;
	}
	if (accept_op(p, "{"))
		return parse_object(p, line);
	fail_at(p, line, "expected a value", p->t.kind == TOKEN_OP ? p->t.op : NULL);
	return NULL;
}

/* After "[": one index, or a slice. */
static struct chat_node *parse_subscript(struct parser *p, struct chat_node *of, int line)
{
	struct chat_node *n = node(p, CHAT_ITEM, line);
	if (!n)
		return NULL;
	n->a = of;
	struct chat_node **parts[] = {&n->b, &n->c, &n->d};
	for (int i = 0; i < 3 && !p->rc; i++) {
		if (!is_op(p, ":") && !is_op(p, "]"))
			*parts[i] = parse_expression(p);
		if (!accept_op(p, ":"))
			break;
		n->kind = CHAT_SLICE;
	}
	if (n->kind == CHAT_ITEM && !n->b)
		fail_at(p, line, "an index is missing", NULL);
	expect_op(p, "]");
	return n;
}

static struct chat_node *parse_call(struct parser *p, struct chat_node *callee, int line)
{
	if (callee->kind != CHAT_NAME && callee->kind != CHAT_ATTR) {
		fail_at(p, line, "this cannot be called", NULL);
		return NULL;
	}
	/* of a name: a stays NULL; of an attribute: a is the object */
	callee->kind = CHAT_CALL;
	callee->args = parse_arguments(p, ")");
	return callee;
}

static struct chat_node *parse_postfix(struct parser *p, struct chat_node *n)
{
	while (n && !p->rc) {
		int line = p->t.line;
		if (accept_op(p, ".")) {
			struct chat_node *attr = node(p, CHAT_ATTR, line);
			if (!attr)
				return NULL;
			attr->a = n;
			attr->name = expect_name(p);
			n = attr;
		} else if (accept_op(p, "[")) {
			n = parse_subscript(p, n, line);
		} else if (accept_op(p, "(")) {
			n = parse_call(p, n, line);
		} else {
			break;
		}
	}
	return n;
}

static struct chat_node *parse_test(struct parser *p, struct chat_node *of, int line)
{
	bool negate = accept_word(p, "not");
	struct chat_node *n = node(p, CHAT_TEST, line);
	if (!n)
		return NULL;
	n->a = of;
	n->name = expect_name(p);
	if (accept_op(p, "("))
		n->args = parse_arguments(p, ")");
	else if (p->t.kind == TOKEN_STRING || p->t.kind == TOKEN_INT)
		n->args = parse_primary(p); /* "x is divisibleby 2" */
	if (!negate)
		return n;
	struct chat_node *not = node(p, CHAT_NOT, line);
	if (not )
		not ->a = n;
	return not ;
}

/* Filters and tests bind as tightly as subscripts. */
static struct chat_node *parse_filters(struct parser *p, struct chat_node *n)
{
	while (n && !p->rc) {
		int line = p->t.line;
		if (accept_op(p, "|")) {
			struct chat_node *f = node(p, CHAT_FILTER, line);
			if (!f)
				return NULL;
			f->a = n;
			f->name = expect_name(p);
			if (accept_op(p, "("))
				f->args = parse_arguments(p, ")");
			n = f;
		} else if (accept_word(p, "is")) {
			n = parse_test(p, n, line);
		} else {
			break;
		}
	}
	return n;
}

static struct chat_node *parse_unary(struct parser *p)
{
	int line = p->t.line;
	if (++p->depth > DEPTH_LIMIT)
		fail_at(p, line, "nested too deeply", NULL);
	struct chat_node *n = NULL;
	if (p->rc) {
		;
	} else if (accept_op(p, "-")) {
		n = node(p, CHAT_NEGATE, line);
		if (n)
			n->a = parse_unary(p);
	} else {
		n = parse_filters(p, parse_postfix(p, parse_primary(p)));
	}
	p->depth--;
	return n;
}

struct operator
{
	const char *text;
	enum chat_op op;
};

static struct chat_node *parse_left(struct parser *p, struct chat_node *(*tighter)(struct parser *),
				    const struct operator* ops)
{
	struct chat_node *n = tighter(p);
	while (n && !p->rc) {
		const struct operator* o = ops;
		while (o->text && !is_op(p, o->text))
			o++;
		if (!o->text)
			break;
		struct chat_node *binary = node(p, CHAT_BINARY, p->t.line);
		if (!binary)
			return NULL;
		advance(p);
		binary->op = o->op;
		binary->a = n;
		binary->b = tighter(p);
		n = binary;
	}
	return n;
}

static struct chat_node *parse_product(struct parser *p)
{
	static const struct operator ops[] = {{"*", CHAT_MULTIPLY},
					      {"/", CHAT_DIVIDE},
					      {"//", CHAT_FLOOR_DIVIDE},
					      {"%", CHAT_MODULO},
					      {NULL, 0}};
	return parse_left(p, parse_unary, ops);
}

static struct chat_node *parse_concat(struct parser *p)
{
	static const struct operator ops[] = {{"~", CHAT_CONCAT}, {NULL, 0}};
	return parse_left(p, parse_product, ops);
}

static struct chat_node *parse_sum(struct parser *p)
{
	static const struct operator ops[] = {{"+", CHAT_ADD}, {"-", CHAT_SUBTRACT}, {NULL, 0}};
	return parse_left(p, parse_concat, ops);
}

static struct chat_node *parse_comparison(struct parser *p)
{
	static const struct operator ops[] = {{"==", CHAT_EQUAL},
					      {"!=", CHAT_NOT_EQUAL},
					      {"<", CHAT_LESS},
					      {"<=", CHAT_LESS_EQUAL},
					      {">", CHAT_GREATER},
					      {">=", CHAT_GREATER_EQUAL},
					      {NULL, 0}};
	struct chat_node *n = parse_left(p, parse_sum, ops);
	while (n && !p->rc) {
		int line = p->t.line;
		bool negate = is_word(p, "not");
		if (!negate && !is_word(p, "in"))
			break;
		advance(p);
		if (negate && !accept_word(p, "in"))
			fail_at(p, line, "expected", "in");
		struct chat_node *in = node(p, CHAT_BINARY, line);
		if (!in)
			return NULL;
		in->op = negate ? CHAT_NOT_IN : CHAT_IN;
		in->a = n;
		in->b = parse_sum(p);
		n = in;
	}
	return n;
}

static struct chat_node *parse_not(struct parser *p)
{
	int line = p->t.line;
	if (!accept_word(p, "not"))
		return parse_comparison(p);
	if (++p->depth > DEPTH_LIMIT)
		fail_at(p, line, "nested too deeply", NULL);
	struct chat_node *n = node(p, CHAT_NOT, line);
	if (n && !p->rc)
		n->a = parse_not(p);
	p->depth--;
	return n;
}

static struct chat_node *parse_logic(struct parser *p, const char *word, enum chat_node_kind kind,
				     struct chat_node *(*tighter)(struct parser *))
{
	struct chat_node *n = tighter(p);
	while (n && !p->rc && is_word(p, word)) {
		struct chat_node *both = node(p, kind, p->t.line);
		if (!both)
			return NULL;
		advance(p);
		both->a = n;
		both->b = tighter(p);
		n = both;
	}
	return n;
}

static struct chat_node *parse_and(struct parser *p)
{
	return parse_logic(p, "and", CHAT_AND, parse_not);
}

static struct chat_node *parse_or(struct parser *p)
{
	return parse_logic(p, "or", CHAT_OR, parse_and);
}

static struct chat_node *parse_expression(struct parser *p)
{
	if (++p->depth > DEPTH_LIMIT)
		fail_at(p, p->t.line, "nested too deeply", NULL);
	struct chat_node *n = p->rc ? NULL : parse_or(p);
	while (n && !p->rc && is_word(p, "if")) {
		struct chat_node *cond = node(p, CHAT_COND, p->t.line);
		if (!cond)
			return NULL;
		advance(p);
		cond->b = n;
		cond->a = parse_or(p);
		if (accept_word(p, "else"))
			cond->c = parse_expression(p);
		n = cond;
	}
	p->depth--;
	return p->rc ? NULL : n;
}

/* -- statements -- */

static struct chat_node *parse_body(struct parser *p, const char *const *ends, const char **end);

/* Opens a tag: what stands after "{%" or "{{", its marks skipped. */
static void open_tag(struct parser *p, const char *close)
{
	p->close = close;
	p->braces = 0;
	p->p += 2;
	if (*p->p == '-' || *p->p == '+')
		p->p++;
	advance(p);
}

static struct chat_node *parse_if(struct parser *p, int line)
{
	static const char *const ends[] = {"elif", "else", "endif", NULL};
	static const char *const only_end[] = {"endif", NULL};
	if (++p->depth > DEPTH_LIMIT)
		fail_at(p, line, "nested too deeply", NULL);
	struct chat_node *n = node(p, CHAT_IF, line);
	if (!n)
		return NULL;
	n->a = parse_expression(p);
	expect_end(p);
	const char *end = "";
	n->b = parse_body(p, ends, &end);
	if (!strcmp(end, "elif")) {
		n->c = parse_if(p, p->t.line);
	} else if (!strcmp(end, "else")) {
		expect_end(p);
		n->c = parse_body(p, only_end, &end);
		expect_end(p);
	} else {
		expect_end(p);
	}
	p->depth--;
	return n;
}

static struct chat_node *parse_for(struct parser *p, int line)
{
	static const char *const ends[] = {"else", "endfor", NULL};
	struct chat_node *n = node(p, CHAT_FOR, line);
	if (!n)
		return NULL;
	n->name = expect_name(p);
	if (accept_op(p, ","))
		n->name2 = expect_name(p);
	if (!accept_word(p, "in"))
		fail_at(p, p->t.line, "expected", "in");
	n->a = parse_or(p);
	if (accept_word(p, "if"))
		n->d = parse_expression(p);
	expect_end(p);
	const char *end = "";
	n->b = parse_body(p, ends, &end);
	expect_end(p);
	if (!strcmp(end, "else")) {
		n->c = parse_body(p, ends + 1, &end);
		expect_end(p);
	}
	return n;
}

static struct chat_node *parse_set(struct parser *p, int line)
{
	struct chat_node *n = node(p, CHAT_SET, line);
	if (!n)
		return NULL;
	n->name = expect_name(p);
	if (accept_op(p, "."))
		n->name2 = expect_name(p);
	expect_op(p, "=");
	n->a = parse_expression(p);
	expect_end(p);
	return n;
}

static bool white(char c)
{
	return c && strchr(" \t\n\r\v\f", c);
}

/* What the tag before this text asks: strip everything white, or drop one newline. */
static const char *trim_front(struct parser *p, const char *from, const char *to)
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
static const char *trim_back(const struct parser *p, const char *from, const char *to)
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
static struct chat_node *parse_text(struct parser *p)
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
	struct chat_node *n = node(p, CHAT_TEXT, line);
	if (n)
		n->value = chat_string(p->a, from, (size_t)(to - from));
	return n;
}

static void skip_comment(struct parser *p)
{
	const char *end = strstr(p->p, "#}");
	if (!end) {
		fail_at(p, p->line, "a comment does not end", NULL);
		return;
	}
	for (const char *s = p->p; s < end; s++)
		p->line += *s == '\n';
	p->strip = end[-1] == '-' && end > p->p + 2;
	p->trim_newline = end[-1] != '+';
	p->after_tag = true;
	p->p = end + 2;
}

static struct chat_node *parse_output(struct parser *p)
{
	int line = p->line;
	open_tag(p, "}}");
	struct chat_node *n = node(p, CHAT_OUTPUT, line);
	if (n)
		n->a = parse_expression(p);
	expect_end(p);
	return n;
}

/* A block tag's statement; *end is set instead when its word is one of ends. */
static struct chat_node *parse_block(struct parser *p, const char *const *ends, const char **end)
{
	int line = p->line;
	open_tag(p, "%}");
	for (int i = 0; ends[i]; i++)
		if (is_word(p, ends[i])) {
			*end = ends[i];
			advance(p);
			return NULL;
		}
	if (accept_word(p, "if"))
		return parse_if(p, line);
	if (accept_word(p, "for"))
		return parse_for(p, line);
	if (accept_word(p, "set"))
		return parse_set(p, line);
	if (accept_word(p, "generation") || accept_word(p, "endgeneration")) {
		expect_end(p); /* marks what to train on; renders nothing */
		return NULL;
	}
	fail_at(p, line, "tag is not supported:", p->t.kind == TOKEN_NAME ? p->t.s : "?");
	return NULL;
}

/* Statements up to one of the tags in ends (*end; its own tag is open then), or the template's end.
 */
static struct chat_node *parse_body(struct parser *p, const char *const *ends, const char **end)
{
	struct chat_node *first = NULL, **last = &first;
	int line = p->line;
	if (++p->depth > DEPTH_LIMIT)
		fail_at(p, line, "nested too deeply", NULL);
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
			*last = n;
			last = &n->next;
		}
	}
	if (!found && ends[0])
		fail_at(p, line, "a block does not end: expected", ends[0]);
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

int chat_parse_template(const char *text, struct arena *a, struct chat_node **out, struct err *e)
{
	static const char *const no_ends[] = {NULL};
	struct parser p = {.line = 1, .a = a, .e = e, .close = "%}", .line_starts = true};
	const char *end;
	p.p = normalise(text, a);
	if (!p.p)
		return err_set(e, ERR_MEMORY, "no memory for a chat template");
	struct chat_node *first = parse_body(&p, no_ends, &end);
	if (!p.rc)
		*out = first;
	return p.rc;
}
