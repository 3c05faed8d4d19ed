/*
 * labelled: a line of JSONL is parsed by itself; a record of a table is read field by field, and
 * only of the two columns that count, or of the first record, is anything kept.
 */
#include "runtime/data/labelled.h"

#include "runtime/data/source.h"

#include <math.h>
#include <string.h>

static const struct labelled_form texts_form = {"text", "text_pair", "label", false};
static const struct labelled_form pairs_form = {"a", "b", "label", true};

static int format_of(const char *path, enum data_format *format, struct err *e)
{
    enum data_format f = source_format(path);
    if (f == FORMAT_JSONL || f == FORMAT_CSV || f == FORMAT_TSV) {
        *format = f;
        return 0;
    }
    return err_set(e, ERR_USER,
        "%s: of texts with labels format Auto knows .jsonl, .ndjson, .csv and .tsv, also with .gz "
        "or .zst: set spec.train.data.format to JSONL, CSV or TSV",
        path);
}

static int check_label(
    const struct labelled *l, int64_t line, const char *label, size_t n, struct err *e)
{
    if (n < 1 || n > LABELLED_LABEL_BYTES)
        return err_set(e, ERR_DATA, "%s: line %lld: a label of %zu bytes, and 1 to %d are allowed",
            l->path, (long long)line, n, LABELLED_LABEL_BYTES);
    if (memchr(label, 0, n))
        return err_set(
            e, ERR_DATA, "%s: line %lld: a NUL byte in a label", l->path, (long long)line);
    return 0;
}

bool labelled_next_label(const struct labelled_text *t, struct labelled_label *at)
{
    const char *end = t->label ? t->label + t->label_bytes : NULL;
    if (t->several && !t->label) { /* a list */
        at->item = at->name ? json_next(at->item) : t->first;
        at->name = json_string_value(at->item);
        at->bytes = at->name ? (int)strnlen(at->name, LABELLED_LABEL_BYTES + 1) : 0;
        return at->item;
    }
    if (at->name ? !t->several || at->name + at->bytes == end : t->several && !t->label_bytes)
        return false;
    at->name = at->name ? at->name + at->bytes + 1 : t->label;
    const char *bar = t->several ? memchr(at->name, '|', (size_t)(end - at->name)) : NULL;
    at->bytes = (int)((bar ? bar : end) - at->name);
    return true;
}

static int check_labels(const struct labelled *l, const struct labelled_text *t, struct err *e)
{
    struct labelled_label at = {.name = NULL};
    while (labelled_next_label(t, &at)) {
        if (!at.name)
            return err_set(e, ERR_DATA, "%s: line %lld: \"labels\" holds what is no string",
                l->path, (long long)t->line);
        int rc = check_label(l, t->line, at.name, (size_t)at.bytes, e);
        if (rc)
            return rc;
    }
    return 0;
}

static bool in_range(const struct json *v)
{
    double x = json_is_number(v) ? json_number_value(v) : NAN;
    return x >= 0 && x <= 1;
}

static int refuse_value(const struct labelled *l, int64_t line, struct err *e)
{
    return err_set(e, ERR_DATA, "%s: line %lld: a label of a pair is a number from 0 to 1", l->path,
        (long long)line);
}

/* -- tables -- */

struct labelled_field {
    size_t from, len; /* in row */
    bool last;        /* of its record */
};

/* The bytes [from, to) as a part of a field that is kept. */
static int keep_bytes(
    struct labelled *l, bool kept, const char *from, const char *to, struct err *e)
{
    size_t n = (size_t)(to - from);
    if (kept && n > LABELLED_BYTES - l->row.len)
        return err_set(e, ERR_DATA, "%s: line %lld: a record of more than %d bytes", l->path,
            (long long)l->line, LABELLED_BYTES);
    if (kept && buf_add(&l->row, from, n))
        return err_set(e, ERR_MEMORY, "no memory for a record");
    return 0;
}

/* From behind its opening quote to behind its closing one. */
static int read_quoted(struct labelled *l, bool kept, struct err *e)
{
    int64_t begun = l->line;
    for (;;) {
        const char *quote = memchr(l->at, '"', (size_t)(l->end - l->at));
        if (!quote)
            return err_set(e, ERR_DATA, "%s: line %lld: a quote that nothing closes", l->path,
                (long long)begun);
        bool doubled = quote + 1 < l->end && quote[1] == '"';
        int rc = keep_bytes(l, kept, l->at, quote + doubled, e);
        if (rc)
            return rc;
        for (const char *p = l->at; p < quote; p++)
            l->line += *p == '\n';
        l->at = quote + 1 + doubled;
        if (!doubled)
            return 0;
    }
}

static int read_plain(struct labelled *l, bool kept, struct err *e)
{
    const char *from = l->at;
    while (l->at < l->end && *l->at != l->separator && *l->at != '\n')
        l->at++;
    const char *to = l->at;
    if (to > from && to[-1] == '\r' && (to == l->end || *to == '\n'))
        to--;
    return keep_bytes(l, kept, from, to, e);
}

/* The next field and what parts it from another. */
static int read_field(struct labelled *l, bool kept, struct labelled_field *out, struct err *e)
{
    struct labelled_field f = {.from = l->row.len};
    bool quoted = l->at < l->end && *l->at == '"';
    l->at += quoted;
    int rc = quoted ? read_quoted(l, kept, e) : read_plain(l, kept, e);
    if (rc)
        return rc;
    if (quoted && l->at < l->end && *l->at == '\r' && (l->at + 1 == l->end || l->at[1] == '\n'))
        l->at++;
    f.len = l->row.len - f.from;
    f.last = l->at == l->end || *l->at == '\n';
    if (!f.last && *l->at != l->separator)
        return err_set(
            e, ERR_DATA, "%s: line %lld: text behind a closing quote", l->path, (long long)l->line);
    l->line += f.last && l->at < l->end;
    l->at += l->at < l->end;
    *out = f;
    return 0;
}

static bool is_field(const struct labelled *l, const struct labelled_field *f, const char *name)
{
    return f->len == strlen(name) && !memcmp(buf_cstr(&l->row) + f->from, name, f->len);
}

static int name_column(
    struct labelled *l, const struct labelled_field *f, int column, struct err *e)
{
    bool several = !l->form->pairs && is_field(l, f, "labels");
    const char *const names[] = {l->form->text, l->form->second, l->form->label};
    int *const places[] = {&l->text, &l->second, &l->label};
    for (int i = 0; i < 3; i++) {
        if (!(several && i == 2) && !is_field(l, f, names[i]))
            continue;
        if (*places[i] >= 0)
            return err_set(e, ERR_DATA, "%s: two columns \"%s\"", l->path, names[i]);
        *places[i] = column;
    }
    l->several |= several;
    return 0;
}

static int refuse_unnamed(const struct labelled *l, const char *name, struct err *e)
{
    return err_set(e, ERR_DATA, "%s: line 1: names no column \"%s\"", l->path, name);
}

/* The first record. */
static int read_names(struct labelled *l, struct err *e)
{
    struct labelled_field f = {.last = false};
    l->text = l->second = l->label = -1;
    for (l->columns = 0; !f.last; l->columns++) {
        if (l->columns == LABELLED_COLUMNS)
            return err_set(
                e, ERR_DATA, "%s: line 1: more than %d columns", l->path, LABELLED_COLUMNS);
        int rc = read_field(l, true, &f, e);
        if (rc || (rc = name_column(l, &f, l->columns, e)))
            return rc;
    }
    if (l->text < 0)
        return refuse_unnamed(l, l->form->text, e);
    if (l->form->pairs && l->second < 0)
        return refuse_unnamed(l, l->form->second, e);
    return l->form->pairs || l->label >= 0 ? 0 : refuse_unnamed(l, l->form->label, e);
}

/* A field of a pair. */
static int read_value(
    const struct labelled *l, const char *text, struct labelled_text *out, struct err *e)
{
    json_auto struct json *v = NULL;
    if (out->label_bytes < 1 || out->label_bytes > LABELLED_LABEL_BYTES ||
        json_parse(text, (size_t)out->label_bytes, &v, NULL) || !in_range(v))
        return refuse_value(l, out->line, e);
    out->value = json_number_value(v);
    return 0;
}

static int next_record(struct labelled *l, struct labelled_text *out, struct err *e)
{
    struct labelled_field f = {.last = false}, text = {0}, second = {0}, label = {0};
    int64_t line = l->line;
    int n = 0;
    buf_reset(&l->row);
    for (; !f.last; n++) {
        int rc = read_field(l, n == l->text || n == l->second || n == l->label, &f, e);
        if (rc)
            return rc;
        text = n == l->text ? f : text;
        second = n == l->second ? f : second;
        label = n == l->label ? f : label;
    }
    if (n != l->columns)
        return err_set(e, ERR_DATA, "%s: line %lld: %d column%s, but the first line names %d",
            l->path, (long long)line, n, n == 1 ? "" : "s", l->columns);
    const char *row = buf_cstr(&l->row);
    struct labelled_text t = {.text = row + text.from,
        .label = row + label.from,
        .text_bytes = (int64_t)text.len,
        .label_bytes = (int)label.len,
        .line = line,
        .several = l->several,
        .second = l->second >= 0 ? row + second.from : NULL,
        .second_bytes = (int64_t)second.len,
        .value = NAN};
    int rc = !l->form->pairs ? check_labels(l, &t, e)
        : l->label >= 0      ? read_value(l, t.label, &t, e)
                             : 0;
    if (rc)
        return rc;
    *out = t;
    return 1;
}

/* -- lines of JSON -- */

static int take_list(
    struct labelled *l, const struct json *list, struct labelled_text *out, struct err *e)
{
    if (json_get(l->object, "label"))
        return err_set(e, ERR_DATA, "%s: line %lld: both \"label\" and \"labels\"", l->path,
            (long long)out->line);
    if (!json_is_array(list))
        return err_set(
            e, ERR_DATA, "%s: line %lld: \"labels\" is no list", l->path, (long long)out->line);
    out->several = true;
    out->first = json_first(list);
    return check_labels(l, out, e);
}

static int take_label(struct labelled *l, struct labelled_text *out, struct err *e)
{
    int64_t n;
    const struct json *list = json_get(l->object, "labels");
    if (list)
        return take_list(l, list, out, e);
    out->label = json_str(l->object, "label", NULL);
    if (!out->label && !json_i64(l->object, "label", &n, NULL)) {
        snprintf(l->number, sizeof l->number, "%lld", (long long)n);
        out->label = l->number;
    }
    if (!out->label)
        return err_set(e, ERR_DATA,
            "%s: line %lld: no \"label\" that is a string or a whole number, and no \"labels\"",
            l->path, (long long)out->line);
    out->label_bytes = (int)strnlen(out->label, LABELLED_LABEL_BYTES + 1);
    return check_label(l, out->line, out->label, strlen(out->label), e);
}

static int take_pair(struct labelled *l, int64_t line, struct labelled_text *out, struct err *e)
{
    const struct json *label = json_get(l->object, l->form->label);
    struct labelled_text t = {.line = line,
        .text = json_str(l->object, l->form->text, NULL),
        .second = json_str(l->object, l->form->second, NULL),
        .value = label ? json_number_value(label) : NAN};
    if (!t.text || !t.second)
        return err_set(e, ERR_DATA, "%s: line %lld: no object with strings \"%s\" and \"%s\"",
            l->path, (long long)line, l->form->text, l->form->second);
    if (label && !in_range(label))
        return refuse_value(l, line, e);
    t.text_bytes = (int64_t)strlen(t.text);
    t.second_bytes = (int64_t)strlen(t.second);
    *out = t;
    return 1;
}

/* Of a text that may have a second one: all have, or none. */
static int take_second(struct labelled *l, struct labelled_text *out, struct err *e)
{
    const struct json *v = json_get(l->object, l->form->second);
    if (l->met && l->paired != (v != NULL))
        return err_set(e, ERR_DATA, "%s: line %lld: %s \"%s\", unlike the texts before it", l->path,
            (long long)out->line, v ? "a" : "no", l->form->second);
    l->met = true;
    l->paired = v;
    out->second = json_string_value(v);
    if (v && !out->second)
        return err_set(e, ERR_DATA, "%s: line %lld: \"%s\" is no string", l->path,
            (long long)out->line, l->form->second);
    out->second_bytes = v ? (int64_t)strlen(out->second) : 0;
    return 0;
}

static int take_object(struct labelled *l, int64_t line, struct labelled_text *out, struct err *e)
{
    if (l->form->pairs)
        return take_pair(l, line, out, e);
    struct labelled_text t = {.line = line, .text = json_str(l->object, "text", NULL)};
    if (!t.text)
        return err_set(e, ERR_DATA, "%s: line %lld: no object with a string \"text\"", l->path,
            (long long)line);
    t.text_bytes = (int64_t)strlen(t.text);
    int rc = take_second(l, &t, e);
    if (rc || (rc = take_label(l, &t, e)))
        return rc;
    *out = t;
    return 1;
}

static int next_object(struct labelled *l, struct labelled_text *out, struct err *e)
{
    const char *newline = memchr(l->at, '\n', (size_t)(l->end - l->at));
    const char *from = l->at, *to = newline ? newline : l->end;
    int64_t line = l->line++;
    l->at = newline ? newline + 1 : l->end;
    if (to - from > LABELLED_BYTES)
        return err_set(e, ERR_DATA, "%s: line %lld: longer than %d bytes", l->path, (long long)line,
            LABELLED_BYTES);
    json_destroy(l->object);
    l->object = NULL;
    if (json_parse(from, (size_t)(to - from), &l->object, e))
        return err_wrap(e, "%s: line %lld", l->path, (long long)line);
    return take_object(l, line, out, e);
}

/* -- both -- */

/* Lines without anything; of JSON also those of blanks. */
static void skip_empty(struct labelled *l)
{
    const char *blanks = l->separator ? "\r" : " \t\r";
    while (l->at < l->end) {
        const char *p = l->at;
        while (p < l->end && *p && strchr(blanks, *p))
            p++;
        if (p < l->end && *p != '\n')
            return;
        l->line += p < l->end;
        l->at = p + (p < l->end);
    }
}

int labelled_begin(struct labelled *l, const char *path, enum data_format format, bool pairs,
    const char *text, size_t size, struct err *e)
{
    const struct labelled_form *form = pairs ? &pairs_form : &texts_form;
    *l = (struct labelled){.path = path, .at = text, .end = text + size, .line = 1, .form = form};
    buf_init(&l->row, LABELLED_BYTES);
    int rc = source_check(path, text, size, e);
    if (!rc && format == FORMAT_AUTO)
        rc = format_of(path, &format, e);
    if (rc)
        return rc;
    l->separator = format == FORMAT_CSV ? ',' : format == FORMAT_TSV ? '\t' : 0;
    skip_empty(l);
    if (l->separator)
        return read_names(l, e);
    if (l->at < l->end && *l->at == '[')
        return err_set(e, ERR_DATA,
            "%s: a JSON array, not JSONL: put each text on a line of its own, %s", path,
            form->pairs ? "{\"a\": \"...\", \"b\": \"...\"}"
                        : "{\"text\": \"...\", \"label\": \"...\"}");
    return 0;
}

int labelled_next(struct labelled *l, struct labelled_text *out, struct err *e)
{
    skip_empty(l);
    if (l->at == l->end)
        return 0;
    return l->separator ? next_record(l, out, e) : next_object(l, out, e);
}

void labelled_done(struct labelled *l)
{
    buf_done(&l->row);
    json_destroy(l->object);
    l->object = NULL;
}
