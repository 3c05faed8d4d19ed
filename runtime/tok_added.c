/*
 * tok_added: one list sorted so that the candidates of a place are a short run. The flags mean what
 * tokenizers' AddedVocabulary makes of them: `lstrip` and `rstrip` take the spaces beside the token
 * along, `single_word` wants no letter or digit there. Called by tok.c only.
 */
#include "runtime/tok_added.h"

#include "base/mem.h"
#include "base/utf8.h"
#include "runtime/tok_normal.h"

static int by_first_byte_and_length(const void *a, const void *b)
{
	const struct tok_added_one *x = a, *y = b;
	int d = (uint8_t)*x->text - (uint8_t)*y->text;
	return d                  ? d
	       : x->len != y->len ? (x->len < y->len) - (x->len > y->len)
				  : (x->id > y->id) - (x->id < y->id);
}

static bool is_added(const struct tok_def *d, int32_t i, bool normalized)
{
	return (d->kinds[i] == TOK_ADDED || d->kinds[i] == TOK_SPECIAL) &&
	       (d->flags && d->flags[i] & TOK_NORMALIZED) == normalized;
}

int tok_added_init(struct tok_added *a, const struct tok_def *d, const char *bytes,
		   const uint32_t *start, bool normalized, struct err *e)
{
	size_t most = 1;
	for (int32_t i = 0; i < d->vocab; i++)
		most += is_added(d, i, normalized);
	a->list = mem_array(most, sizeof *a->list);
	if (!a->list)
		return err_set(e, ERR_MEMORY, "no memory for the vocabulary");
	for (int32_t i = 0; i < d->vocab; i++)
		if (is_added(d, i, normalized) && start[i + 1] > start[i])
			a->list[a->count++] = (struct tok_added_one){
				bytes + start[i], start[i + 1] - start[i], i,
				d->flags ? d->flags[i] : 0, d->kinds[i] == TOK_SPECIAL};
	qsort(a->list, (size_t)a->count, sizeof *a->list, by_first_byte_and_length);
	for (int32_t b = 0, k = 0; b <= 256; b++) {
		while (k < a->count && (uint8_t)*a->list[k].text < b)
			k++;
		a->from[b] = k;
	}
	return 0;
}

void tok_added_done(struct tok_added *a)
{
	mem_free(a->list);
	a->list = NULL;
}

/* The longest one that text begins with. */
static const struct tok_added_one *one_at(const struct tok_added *a, const char *text, size_t len)
{
	uint8_t b = (uint8_t)*text;
	for (int32_t k = a->from[b]; k < a->from[b + 1]; k++)
		if (a->list[k].len <= len && !memcmp(text, a->list[k].text, a->list[k].len))
			return &a->list[k];
	return NULL;
}

/* The character before text[at], of *size bytes; text is valid UTF-8. */
static uint32_t char_before(const char *text, size_t at, size_t *size)
{
	size_t n = 1;
	while (n < at && ((uint8_t)text[at - n] & 0xc0) == 0x80)
		n++;
	*size = n;
	return tok_normal_char(text + at - n, n);
}

static bool stands_alone(const char *text, size_t len, size_t from, size_t to)
{
	size_t n;
	if (from && tok_normal_is_word(char_before(text, from, &n)))
		return false;
	return to == len ||
	       !tok_normal_is_word(tok_normal_char(text + to, utf8_sequence(text + to, len - to)));
}

bool tok_added_next(const struct tok_added *a, const char *text, size_t len, size_t at,
		    bool special, struct tok_match *out)
{
	for (size_t i = at, n; a->count && i < len; i += n) {
		const struct tok_added_one *one = one_at(a, text + i, len - i);
		n = one ? one->len : 1;
		if (!one || (one->special && !special) ||
		    ((one->flags & TOK_SINGLE_WORD) && !stands_alone(text, len, i, i + n)))
			continue;
		size_t from = i, to = i + n, size;
		while ((one->flags & TOK_LSTRIP) && from > at &&
		       tok_normal_is_space(char_before(text, from, &size)))
			from -= size;
		while ((one->flags & TOK_RSTRIP) && to < len &&
		       tok_normal_is_space(tok_normal_char(
			       text + to, size = utf8_sequence(text + to, len - to))))
			to += size;
		*out = (struct tok_match){one->id, from, to};
		return true;
	}
	return false;
}

/* Is text a special token's beginning, or does it begin with one? */
static bool looks_special(const struct tok_added *a, const char *text, size_t len)
{
	uint8_t b = (uint8_t)*text;
	for (int32_t k = a->from[b]; k < a->from[b + 1]; k++) {
		size_t n = a->list[k].len < len ? a->list[k].len : len;
		if (a->list[k].special && !memcmp(text, a->list[k].text, n))
			return true;
	}
	return false;
}

int tok_added_guard(const struct tok_added *lists, int count, const char *text, size_t len,
		    struct buf *out)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_sequence(text + i, len - i);
		n = n ? n : 1;
		bool guard = n == TOK_GUARD_BYTES && !memcmp(text + i, TOK_GUARD, n);
		for (int k = 0; k < count && !guard; k++)
			guard = looks_special(&lists[k], text + i, len - i);
		buf_add(out, text + i, n);
		if (guard)
			buf_str(out, TOK_GUARD);
	}
	return buf_ok(out) ? 0 : -ERR_MEMORY;
}

int tok_added_unguard(const char *text, size_t len, struct buf *out)
{
	const char *end = text + len, *at;
	while ((at = memmem(text, (size_t)(end - text), TOK_GUARD, TOK_GUARD_BYTES))) {
		size_t left = (size_t)(end - at) - TOK_GUARD_BYTES;
		buf_add(out, text, (size_t)(at - text));
		text = at + TOK_GUARD_BYTES;
		if (left >= TOK_GUARD_BYTES && !memcmp(text, TOK_GUARD, TOK_GUARD_BYTES)) {
			buf_str(out, TOK_GUARD);
			text += TOK_GUARD_BYTES;
		}
	}
	buf_add(out, text, (size_t)(end - text));
	return buf_ok(out) ? 0 : -ERR_MEMORY;
}
