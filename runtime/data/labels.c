/*
 * data/labels: the names of labels, of all files of a training, and whether they are labels of
 * entities. They are learnt in a reading of their own: their numbers are known when all names are.
 */
#include "runtime/data/internal.h"

#include "base/mem.h"
#include "runtime/data/conll.h"
#include "runtime/files/hash.h"

struct label_found {  /* a label in a file */
    const char *name; /* no NUL ends it */
    int bytes;
    const char *path;
    int64_t line;
};

void data_labels_done(struct data_labels *l)
{
    for (int i = 0; i < l->count; i++)
        mem_free(l->names[i]);
    mem_free(l->names);
    *l = (struct data_labels){.names = NULL};
}

bool data_labels_find(const struct data_labels *l, const char *name, int bytes, int *at)
{
    int low = 0, high = l->count;
    while (low < high) {
        int middle = (low + high) / 2;
        int d = strncmp(l->names[middle], name, (size_t)bytes);
        if (!d && !l->names[middle][bytes]) {
            *at = middle;
            return true;
        }
        if (d < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *at = low;
    return false;
}

uint64_t data_labels_digest(const struct data_labels *l)
{
    uint64_t digest = 0;
    for (int i = 0; i < l->count; i++) {
        uint64_t both[] = {digest, hash_xxh3(l->names[i], strlen(l->names[i]))};
        digest = hash_xxh3(both, sizeof both);
    }
    return digest;
}

static enum data_scheme scheme_of(const struct label_found *f)
{
    if (f->bytes == 1 && *f->name == 'O')
        return DATA_SCHEME_OPEN;
    bool prefixed = f->bytes > 2 && f->name[1] == '-' && memchr("BIES", f->name[0], 4);
    return prefixed ? DATA_SCHEME_ENTITIES : DATA_SCHEME_PLAIN;
}

/* A label of another kind than those before it is a slip, and would change what is reported. */
static int check_scheme(struct data_labels *l, const struct label_found *f, struct err *e)
{
    enum data_scheme is = scheme_of(f);
    if (is == DATA_SCHEME_OPEN || is == l->scheme)
        return 0;
    if (l->scheme != DATA_SCHEME_OPEN)
        return err_set(e, ERR_DATA, "%s: line %lld: label \"%.*s\" is %s", f->path,
            (long long)f->line, f->bytes < 40 ? f->bytes : 40, f->name,
            is == DATA_SCHEME_PLAIN
                ? "none of O, B-, I-, E- and S- with a type, as those before it are"
                : "one of B-, I-, E- and S- with a type, and those before it are not");
    l->scheme = is;
    return 0;
}

static int add_label(struct data_labels *l, const struct label_found *f, bool words, struct err *e)
{
    int at, rc;
    if (data_labels_find(l, f->name, f->bytes, &at))
        return 0;
    if (words && (rc = check_scheme(l, f, e)))
        return rc;
    if (l->count == DATA_LABELS)
        return err_set(e, ERR_DATA, "%s: line %lld: more than %d different labels", f->path,
            (long long)f->line, DATA_LABELS);
    if (l->count == l->capacity) {
        int capacity = l->capacity ? 2 * l->capacity : 16;
        char **names = mem_grow(l->names, (size_t)capacity, sizeof *names);
        if (!names)
            return err_set(e, ERR_MEMORY, "no memory for labels");
        l->names = names;
        l->capacity = capacity;
    }
    char *name = mem_strndup(f->name, (size_t)f->bytes);
    if (!name)
        return err_set(e, ERR_MEMORY, "no memory for labels");
    memmove(l->names + at + 1, l->names + at, (size_t)(l->count - at) * sizeof *l->names);
    l->names[at] = name;
    l->count++;
    return 0;
}

int data_labels_of(
    struct data_labels *l, const char *const *names, int count, bool words, struct err *e)
{
    bool mixed = false;
    if (count > DATA_LABELS)
        return err_set(e, ERR_DATA, "%d labels, and %d are allowed", count, DATA_LABELS);
    for (int i = 0; i < count; i++) {
        const struct label_found f = {.name = names[i], .bytes = (int)strlen(names[i])};
        enum data_scheme is = words ? scheme_of(&f) : DATA_SCHEME_OPEN;
        int rc = add_label(l, &f, false, e);
        if (rc)
            return rc;
        if (l->count <= i)
            return err_set(e, ERR_DATA, "two labels \"%.40s\"", names[i]);
        mixed |= is && l->scheme && is != l->scheme;
        l->scheme = is ? is : l->scheme;
    }
    l->scheme = mixed ? DATA_SCHEME_PLAIN : l->scheme;
    return 0;
}

static int refuse_one(const struct data_labels *l, const char *path, const char *of, struct err *e)
{
    if (l->count != 1)
        return 0;
    return err_set(e, ERR_DATA, "%s: each %s has the label \"%s\": there is nothing to learn", path,
        of, l->names[0]);
}

int data_labels_learn_words(struct data_labels *l, const char *path, struct err *e)
{
    data_text_auto struct data_text text = {.at = NULL};
    int rc = data_text_open(path, &text, e);
    if (rc)
        return rc;
    struct conll c;
    struct conll_word w;
    int event;
    conll_begin(&c, path, text.at, text.size);
    while ((event = conll_next(&c, &w, e)) > CONLL_END) {
        const struct label_found f = {w.label, w.label_bytes, path, w.line};
        if (event == CONLL_WORD && (rc = add_label(l, &f, true, e)))
            return rc;
    }
    return event ? event : refuse_one(l, path, "word", e);
}

/* Texts have one label each or several, and stand alone or in pairs, in all files alike. */
static int check_form(
    struct data_labels *l, const char *path, const struct labelled_text *t, struct err *e)
{
    enum data_arity is = t->several ? DATA_ARITY_SEVERAL : DATA_ARITY_ONE;
    enum data_texts texts = t->second ? DATA_TEXTS_PAIRED : DATA_TEXTS_SINGLE;
    if (l->arity != DATA_ARITY_OPEN && l->arity != is)
        return err_set(e, ERR_DATA, "%s: line %lld: has %s, but texts before it %s", path,
            (long long)t->line, t->several ? "\"labels\"" : "\"label\"",
            t->several ? "\"label\"" : "\"labels\"");
    if (l->texts != DATA_TEXTS_OPEN && l->texts != texts)
        return err_set(e, ERR_DATA,
            "%s: line %lld: has %s \"text_pair\", but texts before it have %s", path,
            (long long)t->line, t->second ? "a" : "no", t->second ? "none" : "one");
    l->arity = is;
    l->texts = texts;
    return 0;
}

struct learner {
    struct data_labels *l;
    const char *path;
};

static int learn_text(void *user, const struct labelled_text *t, struct err *e)
{
    const struct learner *x = user;
    struct labelled_label at = {.name = NULL};
    int rc = check_form(x->l, x->path, t, e);
    while (!rc && labelled_next_label(t, &at)) {
        const struct label_found f = {at.name, at.bytes, x->path, t->line};
        rc = add_label(x->l, &f, false, e);
    }
    return rc;
}

int data_labels_learn_texts(
    struct data_labels *l, const char *path, enum data_format format, struct err *e)
{
    struct learner x = {l, path};
    int rc = data_labelled_each(path, format, false, learn_text, &x, e);
    if (rc)
        return rc;
    if (l->arity == DATA_ARITY_OPEN)
        return err_set(e, ERR_DATA, "%s: no text in it", path);
    if (l->arity != DATA_ARITY_SEVERAL)
        return refuse_one(l, path, "text", e);
    if (l->count)
        return 0;
    return err_set(e, ERR_DATA, "%s: no text has a label: there is nothing to learn", path);
}
