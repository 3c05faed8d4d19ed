/*
 * retrieve: what is known of each file is its size and time and the hash of what was read. A look
 * at the folder gives a new list; its files are gone through one after another, and what is known
 * is the new list when the last one is done. A file of the last moments may change again within the
 * tick of its time: it is read anew at the next look.
 */
#include "runtime/serve/retrieve.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "api/limits.h"
#include "runtime/door/beat.h"
#include "runtime/door/door.h"
#include "runtime/files/hash.h"
#include "runtime/model/memplan.h"
#include "runtime/retrieval/folder.h"
#include "runtime/serve/kept.h"

#define ENTRIES   64 /* of a folder, a step */
#define AT_ONCE   8  /* chunks that are embedded together, at most */
#define SWEPT     16 /* chunks that are forgotten, a step */
#define YOUNG_NS  ((int64_t)2000000000)
#define NOT_KNOWN -1 /* in place of a time: read it again */

struct known {
    char *name;
    int64_t size, changed_ns;
    uint64_t hash; /* 0: it was not read */
};

struct known_list {
    struct known *file; /* (count) by name */
    int count;
};

struct retrieve {
    struct retrieve_conf conf;
    struct weights *weights;
    struct reader *reader;
    struct kept_folder *kept; /* or NULL */
    struct library *library;
    struct known_list known, next; /* next: of the last look; those before `at` are done */
    int at;
    bool looks;            /* next is gone through */
    struct folder *folder; /* being walked; or NULL */
    int64_t scan_ms;       /* when the folder is looked at again */
    struct library_file *draft;
    struct cutter cut; /* of the draft */
    bool sweeps, opening;
    bool changed;               /* since it was told */
    int passed_over;            /* files of the last look */
    int64_t embedded;           /* chunks */
    int64_t began_ms, spent_ms; /* of the last look; steps' time since */
    struct tok_ids ids, types;  /* scratch */
    struct buf text;
    float *vectors; /* (AT_ONCE, dim) */
};

/* -- life -- */

static int64_t count_tokens(void *user, const char *text, size_t len, struct err *e)
{
    struct retrieve *r = user;
    r->ids.count = 0;
    int rc = tok_encode(reader_tok(r->reader), text, (int64_t)len, false, &r->ids, e);
    return rc ? rc : r->ids.count;
}

static struct cut_conf cut_conf_of(struct retrieve *r)
{
    return (struct cut_conf){
        r->conf.spec->chunk_tokens, r->conf.spec->overlap_tokens, count_tokens, r};
}

static int open_encoder(struct retrieve *r, struct err *e)
{
    const struct jobspec_retrieval *spec = r->conf.spec;
    const struct reader_facts *f;
    int rc = weights_open(spec->encoder.source, NULL, &r->weights, e);
    const struct reader_conf c = {.weights = r->weights,
        .dev = r->conf.dev,
        .t = model_type_of(r->conf.precision),
        .budget_bytes = r->conf.budget_bytes,
        .beside = true,
        .page = r->conf.door->page};
    if (rc || (rc = reader_open(&c, &r->reader, e)))
        return err_wrap(e, "spec.serve.retrieval.encoder");
    weights_release(r->weights);
    f = reader_facts(r->reader);
    if (f->does != WIRE_DOES_EMBED)
        return err_set(e, ERR_USER, "spec.serve.retrieval.encoder: the model tells labels");
    if (spec->chunk_tokens > f->context)
        return err_set(e, ERR_USER,
            "spec.serve.retrieval.chunkTokens: the encoder reads %lld tokens at most",
            (long long)f->context);
    return 0;
}

static int open_all(struct retrieve *r, struct err *e)
{
    struct folder *f = NULL;
    int rc = folder_open(r->conf.spec->documents, &f, e);
    folder_close(f);
    if (rc)
        return err_wrap(e, "spec.serve.retrieval.documents");
    if ((rc = open_encoder(r, e)))
        return rc;
    int64_t dim = reader_facts(r->reader)->dim;
    int32_t most = r->conf.spec->max_chunks;
    if (retrieve_bytes(r) > r->conf.budget_bytes)
        return err_set(e, ERR_MEMORY,
            "spec.serve.retrieval: %lld MiB for the encoder and %d chunks, and there are %lld: "
            "give more memory, or lower maxChunks",
            (long long)(retrieve_bytes(r) >> 20), r->conf.spec->max_chunks,
            (long long)(r->conf.budget_bytes >> 20));
    r->vectors = mem_array((size_t)(AT_ONCE * dim), sizeof *r->vectors);
    if (!r->vectors)
        return err_set(e, ERR_MEMORY, "no memory for embeddings");
    if (r->conf.kept && (rc = kept_open(r->conf.kept, r->reader, most, &r->kept, e)))
        return rc;
    kept_take_turns(r->kept, KEPT_TURN_MS);
    return library_create(dim, most, &r->library, e);
}

int retrieve_open(const struct retrieve_conf *c, struct retrieve **out, struct err *e)
{
    struct retrieve *r = mem_zalloc(sizeof *r);
    if (!r)
        return err_set(e, ERR_MEMORY, "no memory for documents");
    r->conf = *c;
    buf_init(&r->text, DOCUMENT_BYTES);
    int rc = open_all(r, e);
    if (rc) {
        retrieve_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

static void list_free(struct known_list *l)
{
    for (int i = 0; i < l->count; i++)
        mem_free(l->file[i].name);
    mem_free(l->file);
    *l = (struct known_list){0};
}

void retrieve_close(struct retrieve *r)
{
    if (!r)
        return;
    folder_close(r->folder);
    list_free(&r->known);
    list_free(&r->next);
    library_destroy(r->library);
    kept_write(r->kept);
    kept_close(r->kept);
    reader_close(r->reader);
    weights_close(r->weights);
    tok_ids_done(&r->ids);
    tok_ids_done(&r->types);
    buf_done(&r->text);
    mem_free(r->vectors);
    mem_free(r);
}

/* Beside the encoder. */
static int64_t index_bytes(const struct jobspec_retrieval *spec, const char *kept, int64_t dim)
{
    return library_bytes(dim, spec->max_chunks) + (kept ? kept_bytes(dim, spec->max_chunks) : 0);
}

int64_t retrieve_bytes(const struct retrieve *r)
{
    const struct reader_facts *f = reader_facts(r->reader);
    return f->memory_bytes + index_bytes(r->conf.spec, r->conf.kept, f->dim);
}

int64_t retrieve_embedded(const struct retrieve *r)
{
    return r->embedded;
}

int retrieve_plan(const struct jobspec *spec, bool pods, int64_t *bytes, struct err *e)
{
    const struct jobspec_retrieval *v = &spec->serve.retrieval;
    struct reader_conf c = {.t = model_type_of(spec->precision)};
    int64_t context, own = 0;
    if (!v->documents) {
        *bytes = 0;
        return 0;
    }
    int rc = weights_open(v->encoder.source, NULL, &c.weights, e);
    if (!rc && !(rc = reader_plan(&c, &context, &own, e))) {
        const struct model_config *is = weights_config(c.weights);
        *bytes = own + (pods ? memplan_vocabulary(is->vocab) : 0) +
            index_bytes(v, spec->serve.embedding_cache, is->dim);
    }
    weights_close(c.weights);
    return rc ? err_wrap(e, "spec.serve.retrieval.encoder") : 0;
}

/* -- embedding -- */

/* rows (n, dim): of the texts in ids, whose beginnings are given; of chunks some are kept. */
static int embed(struct retrieve *r, struct kept_folder *kept, const int64_t *begins, int n,
    int64_t *made, struct err *e)
{
    struct encoder_text texts[AT_ONCE];
    for (int i = 0; i < n; i++)
        texts[i] = (struct encoder_text){
            r->ids.id + begins[i], r->types.id + begins[i], begins[i + 1] - begins[i]};
    beat_phase(r->conf.door->page, WIRE_PHASE_SERVE_PREFILL);
    return kept_embed(kept, r->reader, texts, n, r->vectors, made, e);
}

/* A longer text's beginning is read. */
static int add_tokens(struct retrieve *r, const char *text, struct err *e)
{
    const struct reader_text t = {.first = text, .most = reader_facts(r->reader)->context};
    int64_t before = r->ids.count;
    int rc = reader_tokens(r->reader, &t, &r->ids, &r->types, e);
    const struct encoder_text read = {
        r->ids.id + before, r->types.id + before, r->ids.count - before};
    return rc ? rc : reader_check(r->reader, &read, e);
}

/* A chunk under the title of its section. */
static int add_chunk(struct retrieve *r, const struct cut_chunk *c, struct err *e)
{
    const struct document *d = library_text(r->draft);
    const struct document_section *s = &d->sections[c->section];
    const char *text = buf_cstr(&d->text);
    buf_reset(&r->text);
    if (c->from > s->from && s->title) {
        buf_add(&r->text, text + s->from, s->title);
        buf_str(&r->text, "\n\n");
    }
    buf_add(&r->text, text + c->from, c->to - c->from);
    if (!buf_ok(&r->text))
        return err_set(e, ERR_MEMORY, "no memory for a chunk");
    return add_tokens(r, buf_cstr(&r->text), e);
}

/* -- the draft -- */

static const char *draft_name(const struct retrieve *r)
{
    return r->next.file[r->at].name;
}

static void end_file(struct retrieve *r)
{
    r->draft = NULL;
    r->at++;
}

/* The next chunks of the draft; *n of them, 0 at its end. */
static int embed_some(struct retrieve *r, int most, struct cut_chunk *chunks, int *n, struct err *e)
{
    const struct cut_conf conf = cut_conf_of(r);
    int64_t begins[AT_ONCE + 1] = {0}, dim = reader_facts(r->reader)->dim;
    int rc = 1;
    for (*n = 0; *n < most && (rc = cut_next(&r->cut, &conf, &chunks[*n], e)) == 1;)
        ++*n;
    if (rc < 0)
        return rc;
    r->ids.count = r->types.count = 0;
    for (int i = 0; i < *n; i++) {
        if ((rc = add_chunk(r, &chunks[i], e)))
            return rc;
        begins[i + 1] = r->ids.count;
    }
    rc = *n ? embed(r, r->kept, begins, *n, &r->embedded, e) : 0;
    for (int i = 0; i < *n && !rc; i++)
        rc = library_add(r->library, r->draft, &chunks[i], r->vectors + i * dim, e);
    return rc;
}

/* A file's own failure: it is passed over, unless there is room to be had for it. */
static int pass_over(struct retrieve *r, const struct err *why, struct err *e)
{
    const char *name = draft_name(r);
    bool own = why->code == ERR_USER || why->code == ERR_DATA || why->code == ERR_MEMORY;
    if (!own || (r->opening && why->code == ERR_USER)) {
        *e = *why;
        return own ? err_wrap(e, "spec.serve.retrieval.maxChunks: %.100s", name) : -(int)e->code;
    }
    if (r->draft)
        library_drop(r->library, r->draft);
    r->sweeps = true;
    struct library_file *old = library_find(r->library, name);
    if (old && why->code == ERR_USER) { /* both do not fit: the old one goes first */
        library_drop(r->library, old);
        while (library_sweep(r->library, SWEPT)) {
        }
        r->draft = NULL;
        return 0;
    }
    log_warn("document passed over", LOG_S("file", name), LOG_ERR(why));
    r->passed_over++;
    end_file(r);
    return 0;
}

static int go_on_with_draft(struct retrieve *r, int most, struct err *e)
{
    struct cut_chunk chunks[AT_ONCE];
    struct err why = {0};
    int n;
    if (embed_some(r, most < AT_ONCE ? most : AT_ONCE, chunks, &n, &why))
        return pass_over(r, &why, e);
    if (n)
        return 0;
    library_publish(r->library, r->draft);
    r->sweeps = r->changed = true;
    end_file(r);
    return 0;
}

/* -- files -- */

static int read_document(struct retrieve *r, const struct buf *bytes, struct err *e)
{
    struct document d;
    const char *name = draft_name(r);
    int rc = document_read(document_kind_of(name), buf_cstr(bytes), bytes->len, &d, e);
    if (!rc)
        rc = library_begin(r->library, name, &d, &r->draft, e);
    document_done(&d);
    if (!rc)
        r->cut = (struct cutter){.document = library_text(r->draft)};
    return rc;
}

/* The next file of the list: as it was, or to be read. */
static int begin_file(struct retrieve *r, struct err *e)
{
    struct known *f = &r->next.file[r->at];
    char path[2 * LIMIT_PATH_BYTES];
    buf_auto struct buf bytes;
    struct err why = {0};
    buf_init(&bytes, DOCUMENT_BYTES);
    if (document_kind_of(f->name) == DOCUMENT_NONE) {
        err_set(&why, ERR_DATA, "only .txt, .md, .html and .jsonl are read");
        return pass_over(r, &why, e);
    }
    snprintf(path, sizeof path, "%s/%s", r->conf.spec->documents, f->name);
    if (f->size > (int64_t)DOCUMENT_BYTES)
        err_set(&why, ERR_DATA, "it has more than %zu MiB", DOCUMENT_BYTES >> 20);
    if (why.code || io_read_file(path, DOCUMENT_BYTES, &bytes, &why))
        return pass_over(r, &why, e);
    uint64_t hash = hash_xxh3(buf_cstr(&bytes), bytes.len) | 1;
    if (hash == f->hash && library_find(r->library, f->name)) {
        end_file(r);
        return 0;
    }
    f->hash = hash;
    return read_document(r, &bytes, &why) ? pass_over(r, &why, e) : 0;
}

static const struct known *find_known(const struct known_list *l, const char *name)
{
    int from = 0, to = l->count;
    while (from < to) {
        int mid = (from + to) / 2, by = strcmp(l->file[mid].name, name);
        if (!by)
            return &l->file[mid];
        if (by < 0)
            from = mid + 1;
        else
            to = mid;
    }
    return NULL;
}

/* One that is as it was costs nothing. */
static bool is_unchanged(const struct retrieve *r, const struct known *f)
{
    const struct known *was = find_known(&r->known, f->name);
    return was && was->size == f->size && was->changed_ns == f->changed_ns &&
        f->changed_ns != NOT_KNOWN;
}

static int go_through_files(struct retrieve *r, struct err *e)
{
    while (r->at < r->next.count && is_unchanged(r, &r->next.file[r->at])) {
        const char *name = draft_name(r);
        r->passed_over += !library_find(r->library, name);
        r->at++;
    }
    return r->at < r->next.count ? begin_file(r, e) : 0;
}

/* -- the folder -- */

/* What it has now becomes the next list; what it has no more is dropped. */
static int take_list(struct retrieve *r, struct err *e)
{
    int64_t now_ns = clock_wall_ms() * 1000000;
    const struct folder_file *found = folder_files(r->folder, &r->next.count);
    r->next.file = mem_array((size_t)r->next.count + 1, sizeof *r->next.file);
    int n = r->next.count;
    r->next.count = 0;
    for (int i = 0; i < n && r->next.file; i++) {
        const struct known *was = find_known(&r->known, found[i].name);
        char *name = mem_strdup(found[i].name);
        if (!name)
            break;
        bool young = now_ns - found[i].changed_ns < YOUNG_NS;
        r->next.file[r->next.count++] = (struct known){
            name, found[i].size, young ? NOT_KNOWN : found[i].changed_ns, was ? was->hash : 0};
    }
    if (r->next.count < n || !r->next.file) {
        list_free(&r->next);
        return err_set(e, ERR_MEMORY, "no memory for the names of files");
    }
    for (int i = 0; i < r->known.count; i++) {
        const char *name = r->known.file[i].name;
        struct library_file *f = library_find(r->library, name);
        if (!f || find_known(&r->next, name))
            continue;
        library_drop(r->library, f);
        r->sweeps = r->changed = true;
    }
    r->looks = true;
    r->at = r->passed_over = 0;
    return 0;
}

static int walk_folder(struct retrieve *r, struct err *e)
{
    bool over = false;
    int rc = r->folder ? 0 : folder_open(r->conf.spec->documents, &r->folder, e);
    if (!rc && !(rc = folder_walk(r->folder, ENTRIES, &over, e)) && over)
        rc = take_list(r, e);
    if (rc || over) {
        folder_close(r->folder);
        r->folder = NULL;
    }
    return rc ? err_wrap(e, "spec.serve.retrieval.documents") : 0;
}

/* A look that fails changes nothing: the next one may not. */
static int look_at_folder(struct retrieve *r, struct err *e)
{
    struct err why = {0};
    if (!r->folder) {
        r->began_ms = clock_ms();
        r->spent_ms = 0;
    }
    int rc = walk_folder(r, &why);
    if (rc && r->opening) {
        *e = why;
        return rc;
    }
    if (rc) {
        log_warn("documents were not looked at", LOG_ERR(&why));
        r->scan_ms = clock_ms() + (int64_t)r->conf.spec->scan_seconds * 1000;
    }
    return 0;
}

/* The last file is done. */
static int end_look(struct retrieve *r, struct err *e)
{
    struct library_counts n = library_counts(r->library);
    list_free(&r->known);
    r->known = r->next;
    r->next = (struct known_list){0};
    r->looks = false;
    r->scan_ms = clock_ms() + (int64_t)r->conf.spec->scan_seconds * 1000;
    kept_write(r->kept);
    if (!r->changed && !r->opening)
        return 0;
    r->changed = false;
    log_info("documents are indexed", LOG_I("files", n.files), LOG_I("passed_over", r->passed_over),
        LOG_I("chunks", n.chunks), LOG_I("embedded", retrieve_embedded(r)), LOG_I("bytes", n.bytes),
        LOG_I("ms", r->spent_ms));
    return door_send_fields(r->conf.door, WIRE_INDEXED,
        (struct door_field[]){{"files", (double)n.files, NULL},
            {"passed_over", (double)r->passed_over, NULL}, {"chunks", (double)n.chunks, NULL},
            {"bytes", (double)n.bytes, NULL}, {"seconds", (double)r->spent_ms / 1000, NULL},
            {NULL, 0, NULL}},
        e);
}

/* -- steps -- */

/* Who has tokens to draw does not wait for storage. */
int64_t retrieve_wait(const struct retrieve *r)
{
    int64_t left = r->scan_ms - clock_ms();
    if (!r->opening && !kept_rests(r->kept, 0))
        return RETRIEVE_REST_MS;
    return r->draft || r->looks || r->folder || r->sweeps || left < 0 ? 0 : left;
}

static int take_step(struct retrieve *r, int chunks, struct err *e)
{
    if (r->draft)
        return go_on_with_draft(r, chunks, e);
    if (r->sweeps) {
        r->sweeps = library_sweep(r->library, SWEPT);
        return 0;
    }
    if (!r->looks)
        return look_at_folder(r, e);
    return r->at < r->next.count ? go_through_files(r, e) : end_look(r, e);
}

int retrieve_step(struct retrieve *r, int chunks, struct err *e)
{
    int64_t from = clock_ms();
    if (retrieve_wait(r))
        return 0;
    int rc = take_step(r, chunks, e);
    r->spent_ms += clock_ms() - from;
    beat(r->conf.door->page);
    return rc;
}

int retrieve_index(struct retrieve *r, struct err *e)
{
    int rc = 0;
    r->opening = true;
    do
        rc = atomic_load(&r->conf.door->stop) ? err_set(e, ERR_DRAINED, "stopped on request")
                                              : retrieve_step(r, AT_ONCE, e);
    while (!rc && !retrieve_wait(r));
    r->opening = false;
    return rc;
}

int retrieve_search(
    struct retrieve *r, const struct retrieve_query *q, struct library_hit *hits, struct err *e)
{
    int64_t begins[2] = {0};
    if (!q->text[strspn(q->text, " \t\r\n")])
        return err_set(e, ERR_USER, "the query is empty");
    r->ids.count = r->types.count = 0;
    int rc = add_tokens(r, q->text, e);
    begins[1] = r->ids.count;
    if (rc || (rc = embed(r, NULL, begins, 1, &(int64_t){0}, e)))
        return rc;
    const struct library_query l = {q->text, r->vectors, q->words, q->vectors, q->most};
    return library_search(r->library, &l, hits, e);
}
