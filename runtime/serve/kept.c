/*
 * kept: files of this encoder are open with their keys in memory, the newest first; an embedding is
 * read when it is asked for. Files are put together as a log's are: the largest is left as it is
 * while it is larger than the others together, so each embedding is written anew a few times only.
 * While the thread writes, all is its own, and the owner touches nothing but what tells the end.
 */
#include "runtime/serve/kept.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "api/limits.h"
#include "runtime/files/hash.h"
#include "runtime/serve/kept_file.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOK_MS 100  /* whether it is its turn */
#define LEFT_S  3600 /* what has been unfinished for so long has no writer */

#define TRIES 8 /* to put files together, of which more turn out to be damaged */

enum { ASKED = 1, DAMAGED = 2 }; /* marks of an embedding */

struct kept_held {
    struct kept_file file;
    uint8_t *marks; /* (count) */
    bool heals;     /* some of it is damaged */
};

struct kept_folder {
    pthread_t thread;   /* that writes */
    bool writing, late; /* late: it was said that storage does not answer */
    int64_t since_ms;
    char folder[LIMIT_PATH_BYTES];
    uint64_t encoder; /* reader_digest */
    int64_t dim, most;
    struct kept_held files[2 * KEPT_FILES]; /* (count) the newest last */
    int count;
    struct kept_key pending[KEPT_PENDING];
    int pending_count;
    float *rows; /* (KEPT_PENDING, dim) of the pending */
    float *made; /* (ENCODER_TEXTS, dim) of those that are embedded together */
    void *scratch;
    bool told; /* of a folder that fails */

    int64_t turn_ms;          /* kept_take_turns; 0: no turn is taken, or not any more */
    int turn;                 /* a file that is locked; -1: none */
    bool last;                /* what is written is the turn's end */
    _Atomic int64_t alive_ms; /* storage has answered who waits for a turn */
    _Atomic bool gives_up;    /* nobody waits any more */
};

/* -- files -- */

static void drop_file(struct kept_folder *k, int i)
{
    kept_file_close(&k->files[i].file);
    mem_free(k->files[i].marks);
    memmove(&k->files[i], &k->files[i + 1], (size_t)(--k->count - i) * sizeof *k->files);
}

static bool has_file(const struct kept_folder *k, const char *name)
{
    int i = 0;
    while (i < k->count && strcmp(k->files[i].file.name, name) != 0)
        i++;
    return i < k->count;
}

static int64_t held_count(const struct kept_folder *k)
{
    int64_t sum = 0;
    for (int i = 0; i < k->count; i++)
        sum += k->files[i].file.count;
    return sum;
}

/* A failure of the folder is told once, until it is over. */
static void tell(struct kept_folder *k, const struct err *why)
{
    if (!k->told)
        log_warn("embeddings are not kept", LOG_S("folder", k->folder), LOG_ERR(why));
    k->told = true;
}

static void open_one(struct kept_folder *k, const char *name)
{
    struct kept_held h = {.marks = NULL};
    struct err why = {0};
    int rc =
        kept_file_open(k->folder, name, k->encoder, k->dim, k->most - held_count(k), &h.file, &why);
    if (rc == -ERR_CORRUPT) {
        log_warn("kept embeddings are damaged and made anew", LOG_S("file", name), LOG_ERR(&why));
        kept_file_remove(k->folder, &h.file, NULL);
    } else if (rc) {
        log_info("kept embeddings are passed over", LOG_S("file", name), LOG_ERR(&why));
    } else if ((h.marks = mem_array((size_t)h.file.count, 1))) {
        k->files[k->count++] = h;
        return;
    }
    kept_file_close(&h.file);
}

/* What a writer that is gone has left, if it bears our mark. */
static void remove_left(struct kept_folder *k, const char *name)
{
    char path[LIMIT_PATH_BYTES];
    struct stat st;
    struct kept_file f;
    struct err why = {0};
    if (snprintf(path, sizeof path, "%s/%s", k->folder, name) >= (int)sizeof path ||
        lstat(path, &st) || clock_wall_ms() / 1000 - st.st_mtime < LEFT_S)
        return;
    int rc = kept_file_open(k->folder, name, k->encoder, k->dim, k->most, &f, &why);
    if (!rc || rc == -ERR_CORRUPT)
        kept_file_remove(k->folder, &f, NULL);
    kept_file_close(&f);
}

/* Files that were not there before; in the order of their names, which is nobody's. */
static void look(struct kept_folder *k, bool cleans)
{
    DIR *d = opendir(k->folder);
    struct err why = {0};
    bool unfinished;
    if (!d) {
        err_sys(&why, ERR_RETRY, errno, "%s", k->folder);
        tell(k, &why);
        return;
    }
    for (struct dirent *f; (f = readdir(d)) && k->count < 2 * KEPT_FILES;) {
        if (!kept_file_bears_name(f->d_name, k->encoder, &unfinished))
            continue;
        if (!unfinished && !has_file(k, f->d_name))
            open_one(k, f->d_name);
        else if (unfinished && cleans)
            remove_left(k, f->d_name);
    }
    closedir(d);
}

/* What is damaged is known from then on. */
static int read_held(
    struct kept_folder *k, struct kept_held *h, int64_t i, float *row, struct err *e)
{
    int rc = kept_file_read(&h->file, i, row, k->scratch, e);
    if (!rc)
        return 0;
    if (!h->heals)
        log_warn(
            "kept embeddings are damaged and made anew", LOG_S("file", h->file.name), LOG_ERR(e));
    h->marks[i] |= DAMAGED;
    h->heals = true;
    return rc;
}

/* -- putting together -- */

#define PENDING (2 * KEPT_FILES) /* newer than all files */

struct kept_one {
    struct kept_key key;
    int file; /* of k->files; PENDING: none yet */
    int64_t at;
    bool asked;
};

struct kept_merge {
    struct kept_folder *k;
    struct kept_one *all; /* (count) */
    int64_t count;
};

static int by_key(const void *a, const void *b)
{
    const struct kept_one *x = a, *y = b;
    int order = memcmp(&x->key, &y->key, sizeof x->key);
    return order ? order : (x->file > y->file) - (x->file < y->file);
}

static int by_asked(const void *a, const void *b)
{
    const struct kept_one *x = a, *y = b;
    if (x->asked != y->asked)
        return x->asked ? -1 : 1;
    return x->file != y->file ? (x->file < y->file) - (x->file > y->file)
                              : (x->at > y->at) - (x->at < y->at);
}

static void gather_file(struct kept_merge *g, int file)
{
    const struct kept_held *h = &g->k->files[file];
    for (int64_t i = 0; i < h->file.count; i++)
        if (!(h->marks[i] & DAMAGED))
            g->all[g->count++] = (struct kept_one){h->file.keys[i], file, i, h->marks[i] & ASKED};
}

static void gather_pending(struct kept_merge *g)
{
    for (int i = 0; i < g->k->pending_count; i++)
        g->all[g->count++] = (struct kept_one){g->k->pending[i], PENDING, i, true};
}

/* Each key once, in their order; of more than the bound those that were asked for first, so that
   some time passes before there are too many again. */
static void sort_gathered(struct kept_merge *g)
{
    int64_t n = 0;
    qsort(g->all, (size_t)g->count, sizeof *g->all, by_key);
    for (int64_t i = 0; i < g->count; i++)
        if (!n || memcmp(&g->all[n - 1].key, &g->all[i].key, sizeof g->all->key) != 0)
            g->all[n++] = g->all[i];
        else
            g->all[n - 1].asked |= g->all[i].asked;
    g->count = n;
    if (n <= g->k->most)
        return;
    qsort(g->all, (size_t)n, sizeof *g->all, by_asked);
    g->count = g->k->most / 4 * 3;
    qsort(g->all, (size_t)g->count, sizeof *g->all, by_key);
}

/* A kept_file_row_fn. */
static int give_row(void *user, int64_t i, float *row, struct err *e)
{
    const struct kept_merge *g = user;
    const struct kept_one *x = &g->all[i];
    if (x->file < PENDING)
        return read_held(g->k, &g->k->files[x->file], x->at, row, e);
    memcpy(row, g->k->rows + x->at * g->k->dim, (size_t)g->k->dim * sizeof *row);
    return 0;
}

/* What is gathered as a file, which is then held; name (KEPT_FILE_NAME). */
static int write_gathered(struct kept_merge *g, char *name, struct err *e)
{
    struct kept_folder *k = g->k;
    mem_autofree struct kept_key *keys = mem_array((size_t)g->count, sizeof *keys);
    if (!keys)
        return err_set(e, ERR_MEMORY, "no memory for the keys of kept embeddings");
    for (int64_t i = 0; i < g->count; i++)
        keys[i] = g->all[i].key;
    const struct kept_file_new n = {k->encoder, k->dim, g->count, keys, give_row, g};
    return kept_file_write(k->folder, &n, name, e);
}

/* Of files that become one: all, or all but the largest if that is larger than the others. */
static bool is_merged(const struct kept_folder *k, int i, bool all)
{
    int largest = 0;
    int64_t sum = held_count(k);
    for (int j = 1; j < k->count; j++)
        if (k->files[j].file.count > k->files[largest].file.count)
            largest = j;
    return all || i != largest || k->files[i].heals || 2 * k->files[largest].file.count < sum;
}

static void mark_asked(struct kept_folder *k, const struct kept_merge *g, const char *name)
{
    for (int i = 0; i < k->count; i++)
        for (int64_t j = 0; !strcmp(k->files[i].file.name, name) && j < g->count; j++)
            if (g->all[j].asked && j < k->files[i].file.count)
                k->files[i].marks[j] |= ASKED;
}

/* Some of the files, and what is pending, become one; their files go, damaged ones before, for what
   heals them may have their name. */
static int put_together(struct kept_folder *k, bool every, struct err *e)
{
    struct kept_merge g = {.k = k};
    bool merged[2 * KEPT_FILES];
    char name[KEPT_FILE_NAME];
    mem_autofree struct kept_one *all =
        mem_array((size_t)(held_count(k) + k->pending_count) + 1, sizeof *all);
    if (!all)
        return err_set(e, ERR_MEMORY, "no memory for the keys of kept embeddings");
    g.all = all;
    for (int i = 0; i < k->count; i++)
        if ((merged[i] = is_merged(k, i, every)))
            gather_file(&g, i);
    for (int i = 0; i < k->count; i++)
        if (k->files[i].heals)
            kept_file_remove(k->folder, &k->files[i].file, NULL);
    gather_pending(&g);
    sort_gathered(&g);
    int rc = g.count ? write_gathered(&g, name, e) : 0;
    if (rc)
        return rc;
    for (int i = k->count - 1; i >= 0; i--) {
        bool same = g.count && !strcmp(k->files[i].file.name, name);
        if (!merged[i] || (same && !k->files[i].heals))
            continue;
        kept_file_remove(k->folder, &k->files[i].file, NULL);
        drop_file(k, i);
    }
    if (g.count && !has_file(k, name))
        open_one(k, name);
    mark_asked(k, &g, g.count ? name : "");
    k->pending_count = 0;
    return 0;
}

static int write_pending(struct kept_folder *k, struct err *e)
{
    struct kept_one all[KEPT_PENDING];
    struct kept_merge g = {.k = k, .all = all};
    char name[KEPT_FILE_NAME];
    if (!k->pending_count)
        return 0;
    gather_pending(&g);
    sort_gathered(&g);
    int rc = write_gathered(&g, name, e);
    if (rc)
        return rc;
    if (!has_file(k, name))
        open_one(k, name);
    mark_asked(k, &g, name);
    k->pending_count = 0;
    return 0;
}

static void write_all(struct kept_folder *k, bool heals)
{
    struct err why = {0};
    look(k, false);
    bool over = held_count(k) + k->pending_count > k->most;
    int rc = heals || over || k->count >= KEPT_FILES ? -ERR_CORRUPT : write_pending(k, &why);
    for (int i = 0; i < TRIES && rc == -ERR_CORRUPT; i++)
        rc = put_together(k, over, &why);
    if (rc)
        tell(k, &why);
    else
        k->told = false;
    k->pending_count = 0;
}

/* -- the thread -- */

static bool is_damaged(const struct kept_folder *k)
{
    bool heals = false;
    for (int i = 0; i < k->count; i++)
        heals |= k->files[i].heals;
    return heals;
}

static void write_last(struct kept_folder *k)
{
    bool heals = is_damaged(k);
    if (heals || k->pending_count)
        write_all(k, heals);
    if (!k->last || k->turn < 0)
        return;
    io_close(k->turn);
    k->turn = -1;
}

static void *write_behind(void *user)
{
    write_last(user);
    return NULL;
}

/* Waits for at most wait_ms. */
static bool end_writing(struct kept_folder *k, int64_t wait_ms)
{
    if (k->writing && clock_join(k->thread, wait_ms))
        return false;
    k->writing = k->late = false;
    return true;
}

/* That are left until it is late. */
static int64_t patience_ms(const struct kept_folder *k)
{
    int64_t left = k->since_ms + KEPT_LATE_MS - clock_ms();
    return left > 0 ? left : 0;
}

/* Whether it may be touched; whose storage is late is passed by, and said to be so. */
static bool is_free(struct kept_folder *k)
{
    if (end_writing(k, k->writing ? patience_ms(k) : 0))
        return true;
    if (!k->late)
        log_warn(
            "embeddings are not kept: their storage does not answer", LOG_S("folder", k->folder));
    k->late = true;
    return false;
}

bool kept_rests(struct kept_folder *k, int64_t wait_ms)
{
    return !k || end_writing(k, wait_ms) || !patience_ms(k);
}

static void begin_writing(struct kept_folder *k)
{
    if (!is_free(k) || (!k->pending_count && !is_damaged(k) && k->turn < 0))
        return;
    k->since_ms = clock_ms();
    k->writing = true;
    if (pthread_create(&k->thread, NULL, write_behind, k)) {
        k->writing = false; /* then here */
        write_last(k);
    }
}

void kept_write(struct kept_folder *k)
{
    if (!k)
        return;
    k->turn_ms = 0;
    k->last = true;
    begin_writing(k);
}

/* -- turns -- */

void kept_take_turns(struct kept_folder *k, int64_t wait_ms)
{
    if (k)
        k->turn_ms = wait_ms;
}

/* Whether it is worth to wait on: *since_ms is when the folder was seen to change last. */
static bool waits_on(struct kept_folder *k, struct timespec *changed, int64_t *since_ms)
{
    struct stat st;
    int64_t now_ms = clock_ms();
    if (!stat(k->folder, &st) &&
        (st.st_mtim.tv_sec != changed->tv_sec || st.st_mtim.tv_nsec != changed->tv_nsec)) {
        *changed = st.st_mtim;
        *since_ms = now_ms;
    }
    atomic_store(&k->alive_ms, now_ms);
    return !atomic_load(&k->gives_up) && now_ms - *since_ms < k->turn_ms;
}

static void lock_turn(struct kept_folder *k)
{
    char path[LIMIT_PATH_BYTES + 32];
    struct timespec changed = {0};
    int64_t since_ms = 0;
    snprintf(path, sizeof path, "%s/%016" PRIx64 ".turn", k->folder, k->encoder);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644), rc = fd < 0 ? -1 : 0;
    for (bool told = false; !rc && (rc = flock(fd, LOCK_EX | LOCK_NB)) && errno == EWOULDBLOCK;) {
        if (!told)
            log_info("another makes embeddings, which are waited for", LOG_S("folder", k->folder));
        told = true;
        if (!waits_on(k, &changed, &since_ms))
            break;
        usleep(LOOK_MS * 1000);
        rc = 0;
    }
    if (rc || atomic_load(&k->gives_up))
        io_close(fd);
    else
        k->turn = fd;
}

/* And what the others have made. */
static void *wait_behind(void *user)
{
    struct kept_folder *k = user;
    lock_turn(k);
    look(k, false);
    return NULL;
}

/* Its thread is as one that writes: where storage does not answer it is left behind. */
static void wait_for_turn(struct kept_folder *k, const struct reader *r)
{
    int64_t patience_ms = k->turn_ms < KEPT_LATE_MS ? k->turn_ms : KEPT_LATE_MS;
    k->since_ms = clock_ms();
    atomic_store(&k->alive_ms, k->since_ms);
    k->writing = !pthread_create(&k->thread, NULL, wait_behind, k);
    while (!end_writing(k, LOOK_MS)) {
        reader_beat(r);
        if (clock_ms() - atomic_load(&k->alive_ms) < patience_ms)
            continue;
        atomic_store(&k->gives_up, true);
        k->since_ms = clock_ms() - KEPT_LATE_MS;
        break;
    }
    k->turn_ms = 0;
}

/* -- life -- */

int64_t kept_bytes(int64_t dim, int64_t asked)
{
    return 2 * asked * (int64_t)(2 * sizeof(struct kept_key) + 1 + 2 * sizeof(struct kept_one)) +
        (KEPT_PENDING + ENCODER_TEXTS + 2) * dim * (int64_t)sizeof(float) +
        (int64_t)sizeof(struct kept_folder);
}

int kept_open(const char *folder, const struct reader *reader, int64_t asked,
    struct kept_folder **out, struct err *e)
{
    struct kept_folder *k = mem_zalloc(sizeof *k);
    struct err why = {0};
    if (!k)
        return err_set(e, ERR_MEMORY, "no memory for kept embeddings");
    snprintf(k->folder, sizeof k->folder, "%s", folder);
    k->turn = -1;
    k->encoder = reader_digest(reader);
    k->dim = reader_facts(reader)->dim;
    k->most = 2 * asked;
    k->rows = mem_array((size_t)(KEPT_PENDING * k->dim), sizeof *k->rows);
    k->made = mem_array((size_t)(ENCODER_TEXTS * k->dim), sizeof *k->made);
    k->scratch = mem_alloc((size_t)kept_file_record(k->dim));
    if (!k->rows || !k->made || !k->scratch) {
        kept_close(k);
        return err_set(e, ERR_MEMORY, "no memory for kept embeddings");
    }
    if (io_mkdirs(folder, 0755, &why))
        tell(k, &why);
    else
        look(k, true);
    *out = k;
    return 0;
}

void kept_close(struct kept_folder *k)
{
    if (!k)
        return;
    if (!end_writing(k, KEPT_END_MS)) { /* its thread's */
        log_warn("embeddings that storage holds up are left behind", LOG_S("folder", k->folder));
        return;
    }
    while (k->count)
        drop_file(k, k->count - 1);
    io_close(k->turn);
    mem_free(k->rows);
    mem_free(k->made);
    mem_free(k->scratch);
    mem_free(k);
}

/* -- embedding -- */

/* What is read, length and kinds among it. */
static int key_of(const struct encoder_text *t, struct kept_key *out, struct err *e)
{
    char hex[HASH_SHA256_HEX];
    buf_auto struct buf b;
    size_t bytes = (size_t)t->count * sizeof *t->ids;
    buf_init(&b, 2 * bytes + sizeof t->count);
    buf_add(&b, &t->count, sizeof t->count);
    buf_add(&b, t->ids, bytes);
    buf_add(&b, t->types, t->types ? bytes : 0);
    int rc = buf_ok(&b) ? hash_sha256_hex(b.data, b.len, hex, e)
                        : err_set(e, ERR_MEMORY, "no memory for the key of an embedding");
    if (!rc)
        memcpy(out->hex, hex, sizeof out->hex);
    return rc;
}

static bool find_pending(const struct kept_folder *k, const struct kept_key *key, float *row)
{
    int i = 0;
    while (i < k->pending_count && memcmp(&k->pending[i], key, sizeof *key) != 0)
        i++;
    if (i == k->pending_count)
        return false;
    memcpy(row, k->rows + i * k->dim, (size_t)k->dim * sizeof *row);
    return true;
}

static bool find(struct kept_folder *k, const struct kept_key *key, float *row)
{
    if (find_pending(k, key, row))
        return true;
    for (int f = k->count - 1; f >= 0; f--) {
        struct kept_held *h = &k->files[f];
        struct err why = {0};
        int64_t i = kept_file_find(&h->file, key);
        if (i < 0 || h->marks[i] & DAMAGED || read_held(k, h, i, row, &why))
            continue;
        h->marks[i] |= ASKED;
        return true;
    }
    return false;
}

static void add(struct kept_folder *k, const struct kept_key *key, const float *row)
{
    assert(k->pending_count < KEPT_PENDING);
    k->pending[k->pending_count] = *key;
    memcpy(k->rows + k->pending_count++ * k->dim, row, (size_t)k->dim * sizeof *row);
}

int kept_embed(struct kept_folder *k, struct reader *r, const struct encoder_text *texts, int n,
    float *out, int64_t *made, struct err *e)
{
    struct encoder_text missing[ENCODER_TEXTS];
    struct kept_key keys[ENCODER_TEXTS];
    int places[ENCODER_TEXTS], count = 0, rc;
    assert(n <= ENCODER_TEXTS);
    if (!k || !is_free(k)) {
        *made += n;
        return reader_embed(r, texts, n, out, e);
    }
    for (int i = 0; i < n; i++) {
        if ((rc = key_of(&texts[i], &keys[i], e)))
            return rc;
        if (find(k, &keys[i], out + i * k->dim))
            continue;
        places[count] = i;
        missing[count++] = texts[i];
    }
    reader_beat(r);
    if (count && k->turn_ms) {
        wait_for_turn(k, r);
        return kept_embed(k, r, texts, n, out, made, e);
    }
    if (count && (rc = reader_embed(r, missing, count, k->made, e)))
        return rc;
    *made += count;
    for (int i = 0; i < count; i++) {
        memcpy(out + places[i] * k->dim, k->made + i * k->dim, (size_t)k->dim * sizeof *out);
        add(k, &keys[places[i]], k->made + i * k->dim);
    }
    if (k->pending_count >= KEPT_TOGETHER)
        begin_writing(k);
    return 0;
}
