/*
 * powercut: files and folders are numbered as they are made; every call becomes an entry of a list
 * that names numbers, not paths. A state is the list up to a call, replayed: what is sure happens,
 * and of what is pending each entry's choice, a digit of one number, says what does. Contents are
 * written once, under their hash, and linked into each state.
 */
#include "tests/runtime/ckpt/powercut.h"

#include "base/io.h"
#include "base/mem.h"
#include "base/random.h"
#include "runtime/files/hash.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#define CALLS    2048
#define NODES    512
#define FDS      1024
#define NAME     64
#define PENDING  64
#define CONTENTS 4096
#define SEEN     (1 << 20) /* fingerprints */

enum kind { LINK, UNLINK, RENAME, WRITE, TRUNCATE, SYNC, SETTLE };

struct call {
    enum kind kind;
    int folder; /* of the entry: a node */
    int node;   /* that is linked, written or synced */
    int mark;
    char name[NAME], to[NAME]; /* to: of a rename */
    int64_t at;
    size_t n;
    uint8_t *data;
};

struct entry {
    int folder, node;
    char name[NAME];
};

static struct {
    char root[PATH_MAX];
    struct call calls[CALLS];
    int count, mark;
    struct entry now[NODES]; /* what programs see */
    int entries;
    bool is_folder[NODES];
    int nodes;
    int fd[FDS]; /* node + 1; 0: none of ours */
} w;

/* -- telling -- */

void powercut_end(void)
{
    for (int i = 0; i < w.count; i++)
        mem_free(w.calls[i].data);
    memset(&w, 0, sizeof w);
}

void powercut_begin(const char *root)
{
    powercut_end();
    snprintf(w.root, sizeof w.root, "%s", root);
    w.is_folder[w.nodes++] = true;
}

static int find(const struct entry *list, int n, int folder, const char *name)
{
    for (int i = 0; i < n; i++)
        if (list[i].folder == folder && !strcmp(list[i].name, name))
            return i;
    return -1;
}

/* The folder of a path, and the name in it; false: not below the root, or the root. */
static bool resolve(const char *path, int *folder, char name[NAME])
{
    size_t n = strlen(w.root);
    if (!n || strncmp(path, w.root, n) != 0 || path[n] != '/')
        return false;
    *folder = 0;
    for (path += n + 1;; path += n + 1) {
        n = strcspn(path, "/");
        ck_assert_msg(n > 0 && n < NAME, "%s", path);
        snprintf(name, NAME, "%.*s", (int)n, path);
        if (!path[n])
            return true;
        int i = find(w.now, w.entries, *folder, name);
        ck_assert_msg(i >= 0, "%s in %s was never made", name, path);
        *folder = w.now[i].node;
    }
}

static struct call *add_call(enum kind kind, int folder, int node, const char *name)
{
    ck_assert_int_lt(w.count, CALLS);
    struct call *c = &w.calls[w.count++];
    *c = (struct call){.kind = kind, .folder = folder, .node = node, .mark = w.mark};
    snprintf(c->name, sizeof c->name, "%s", name);
    return c;
}

static void put_entry(struct entry *list, int *n, int folder, const char *name, int node)
{
    int i = find(list, *n, folder, name);
    if (i < 0) {
        ck_assert_int_lt(*n, NODES);
        i = (*n)++;
    }
    list[i] = (struct entry){.folder = folder, .node = node};
    snprintf(list[i].name, NAME, "%s", name);
}

static void drop_entry(struct entry *list, int *n, int folder, const char *name)
{
    int i = find(list, *n, folder, name);
    if (i >= 0)
        list[i] = list[--*n];
}

static int make_node(int folder, const char *name, bool is_folder)
{
    ck_assert_int_lt(w.nodes, NODES);
    w.is_folder[w.nodes] = is_folder;
    put_entry(w.now, &w.entries, folder, name, w.nodes);
    add_call(LINK, folder, w.nodes, name);
    return w.nodes++;
}

void powercut_opened(int fd, const char *path, bool made, bool truncated)
{
    int folder, node = 0;
    char name[NAME];
    ck_assert_int_lt(fd, FDS);
    w.fd[fd] = 0;
    if (strcmp(path, w.root) != 0) {
        if (!resolve(path, &folder, name))
            return;
        int i = find(w.now, w.entries, folder, name);
        ck_assert_msg(made || i >= 0, "%s was never made", path);
        node = made ? make_node(folder, name, false) : w.now[i].node;
        if (truncated && !made)
            add_call(TRUNCATE, 0, node, "");
    }
    w.fd[fd] = node + 1;
}

bool powercut_watches(int fd)
{
    return fd >= 0 && fd < FDS && w.fd[fd];
}

void powercut_wrote(int fd, int64_t at, const void *data, size_t n)
{
    if (!powercut_watches(fd))
        return;
    struct call *c = add_call(WRITE, 0, w.fd[fd] - 1, "");
    c->at = at;
    c->n = n;
    c->data = mem_alloc(n);
    ck_assert_ptr_nonnull(c->data);
    memcpy(c->data, data, n);
}

void powercut_synced(int fd)
{
    if (powercut_watches(fd))
        add_call(SYNC, 0, w.fd[fd] - 1, "");
}

void powercut_closed(int fd)
{
    if (fd >= 0 && fd < FDS)
        w.fd[fd] = 0;
}

void powercut_made(const char *path)
{
    int folder;
    char name[NAME];
    if (resolve(path, &folder, name))
        make_node(folder, name, true);
}

void powercut_renamed(const char *from, const char *to)
{
    int folder, target;
    char name[NAME], new[NAME];
    if (!resolve(from, &folder, name))
        return;
    ck_assert(resolve(to, &target, new) && target == folder);
    int i = find(w.now, w.entries, folder, name);
    ck_assert_msg(i >= 0, "%s was never made", from);
    int node = w.now[i].node;
    snprintf(add_call(RENAME, folder, node, name)->to, NAME, "%s", new);
    drop_entry(w.now, &w.entries, folder, name);
    put_entry(w.now, &w.entries, folder, new, node);
}

void powercut_removed(const char *path)
{
    int folder;
    char name[NAME];
    if (!resolve(path, &folder, name))
        return;
    int i = find(w.now, w.entries, folder, name);
    ck_assert_msg(i >= 0, "%s was never made", path);
    add_call(UNLINK, folder, w.now[i].node, name);
    drop_entry(w.now, &w.entries, folder, name);
}

void powercut_settle(void)
{
    add_call(SETTLE, 0, 0, "");
}

void powercut_mark(int m)
{
    w.mark = m;
}

int powercut_count(void)
{
    return w.count;
}

/* -- states -- */

enum content_way { ALL, OLD, ZEROS, CUT, FIRST_LOST, LAST_LOST, CONTENT_WAYS };
enum rename { BEFORE, AFTER, BOTH, RENAME_WAYS };

struct moment {           /* after the first `calls` calls */
    int calls, marks;     /* mark of the last of them */
    int synced[NODES];    /* the calls before this one are sure, of a file's or folder's own */
    int pending[PENDING]; /* calls, each a choice of two or, of a rename, three */
    int files[PENDING];   /* nodes with data that is not sure, each a choice of six */
    int pendings, file_count;
    double combinations;
    uint8_t chosen[CALLS];  /* of pending calls */
    uint8_t content[NODES]; /* enum content_way */
    struct entry entries[NODES];
    int entry_count;
    uint64_t hash[NODES];
};

static bool of_folder(const struct call *c)
{
    return c->kind == LINK || c->kind == UNLINK || c->kind == RENAME;
}

static bool of_file(const struct call *c)
{
    return c->kind == WRITE || c->kind == TRUNCATE;
}

/* A folder that is gone for sure: what happened in it no longer matters. */
static bool gone(const struct moment *m, int folder)
{
    for (int i = 0; i < m->calls; i++)
        if (w.calls[i].kind == UNLINK && w.calls[i].node == folder &&
            i < m->synced[w.calls[i].folder])
            return true;
    return false;
}

static void add_file(struct moment *m, int node)
{
    for (int i = 0; i < m->file_count; i++)
        if (m->files[i] == node)
            return;
    ck_assert_int_lt(m->file_count, PENDING);
    m->files[m->file_count++] = node;
    m->combinations *= CONTENT_WAYS;
}

static void look(struct moment *m, int calls)
{
    memset(m, 0, sizeof *m);
    m->calls = calls;
    m->combinations = 1;
    for (int i = 0; i < calls; i++) {
        const struct call *c = &w.calls[i];
        for (int k = 0; c->kind == SETTLE && k < w.nodes; k++)
            m->synced[k] = i;
        if (c->kind == SYNC)
            m->synced[c->node] = i;
        m->marks = c->mark;
    }
    for (int i = 0; i < calls; i++) {
        const struct call *c = &w.calls[i];
        if (of_folder(c) && i >= m->synced[c->folder] && !gone(m, c->folder)) {
            ck_assert_int_lt(m->pendings, PENDING);
            m->pending[m->pendings++] = i;
            m->combinations *= c->kind == RENAME ? RENAME_WAYS : 2;
        }
        if (of_file(c) && i >= m->synced[c->node])
            add_file(m, c->node);
    }
}

/* Digits of x, each of the number of ways that there are. */
static void choose(struct moment *m, uint64_t x)
{
    for (int i = 0; i < m->pendings; i++) {
        uint64_t ways = w.calls[m->pending[i]].kind == RENAME ? RENAME_WAYS : 2;
        m->chosen[m->pending[i]] = (uint8_t)(x % ways);
        x /= ways;
    }
    for (int i = 0; i < m->file_count; i++) {
        m->content[m->files[i]] = (uint8_t)(x % CONTENT_WAYS);
        x /= CONTENT_WAYS;
    }
}

static void draw(struct moment *m, uint64_t *random)
{
    for (int i = 0; i < m->pendings; i++) {
        uint64_t ways = w.calls[m->pending[i]].kind == RENAME ? RENAME_WAYS : 2;
        m->chosen[m->pending[i]] = (uint8_t)(random_next(random) % ways);
    }
    for (int i = 0; i < m->file_count; i++)
        m->content[m->files[i]] = (uint8_t)(random_next(random) % CONTENT_WAYS);
}

static void replay_entries(struct moment *m)
{
    m->entry_count = 0;
    for (int i = 0; i < m->calls; i++) {
        const struct call *c = &w.calls[i];
        if (!of_folder(c))
            continue;
        uint8_t way = i < m->synced[c->folder] ? AFTER : m->chosen[i];
        if (way == BEFORE)
            continue;
        if (c->kind == UNLINK || (c->kind == RENAME && way == AFTER))
            drop_entry(m->entries, &m->entry_count, c->folder, c->name);
        if (c->kind != UNLINK)
            put_entry(m->entries, &m->entry_count, c->folder, c->kind == RENAME ? c->to : c->name,
                c->node);
    }
}

/* Bytes of a file, in mem_alloc's memory. */
static uint8_t *replay_content(const struct moment *m, int node, size_t *size)
{
    enum content_way way = m->content[node];
    size_t sure = 0, all = 0;
    int first = -1, last = -1;
    for (int i = 0; i < m->calls; i++) {
        const struct call *c = &w.calls[i];
        if (!of_file(c) || c->node != node)
            continue;
        bool pending = i >= m->synced[node];
        size_t end = (size_t)c->at + c->n;
        all = c->kind == TRUNCATE ? 0 : end > all ? end : all;
        sure = pending ? sure : all;
        first = pending && first < 0 ? i : first;
        last = pending ? i : last;
    }
    uint8_t *data = mem_zalloc(all + sure + 1);
    ck_assert_ptr_nonnull(data);
    for (int i = 0; i < m->calls; i++) {
        const struct call *c = &w.calls[i];
        bool lost = (first >= 0 && i >= first && (way == OLD || way == ZEROS)) ||
            (i == first && way == FIRST_LOST) || (i == last && way == LAST_LOST);
        if (c->node != node || lost)
            continue;
        if (c->kind == TRUNCATE)
            memset(data, 0, all + sure);
        if (c->kind == WRITE)
            memcpy(data + c->at, c->data, c->n);
    }
    *size = first < 0 ? all : way == OLD ? sure : way == CUT ? (sure + all) / 2 : all;
    return data;
}

static struct content { /* of a file, known by what it came from */
    int node, last;
    bool synced, stored;
    uint8_t way;
    uint64_t hash;
} contents[CONTENTS];
static int content_count;

static struct content *content_of(const struct moment *m, int node)
{
    int last = -1;
    for (int i = 0; i < m->calls; i++)
        if (of_file(&w.calls[i]) && w.calls[i].node == node)
            last = i;
    bool synced = last < m->synced[node];
    uint8_t way = synced ? ALL : m->content[node];
    for (int i = 0; i < content_count; i++) {
        struct content *x = &contents[i];
        if (x->node == node && x->last == last && x->synced == synced && x->way == way)
            return x;
    }
    ck_assert_int_lt(content_count, CONTENTS);
    size_t size;
    mem_autofree uint8_t *data = replay_content(m, node, &size);
    struct content *x = &contents[content_count++];
    *x = (struct content){
        .node = node, .last = last, .synced = synced, .way = way, .hash = hash_xxh3(data, size)};
    return x;
}

/* Links a file's content, which is written once. */
static void link_content(const struct moment *m, int node, const char *to, const char *folder)
{
    struct content *x = content_of(m, node);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%016llx", folder, (unsigned long long)x->hash);
    if (!x->stored && !io_exists(path)) {
        size_t size;
        mem_autofree uint8_t *data = replay_content(m, node, &size);
        golden_write(path, data, size);
    }
    x->stored = true;
    ck_assert(!link(path, to));
}

/* Adds up what lies in a folder; to non-NULL: builds it there. */
static uint64_t walk(
    const struct moment *m, int folder, const char *path, const char *to, const char *from)
{
    uint64_t sum = 0;
    for (int i = 0; i < m->entry_count; i++) {
        const struct entry *x = &m->entries[i];
        char inner[PATH_MAX], target[PATH_MAX];
        if (x->folder != folder)
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, x->name);
        snprintf(target, sizeof target, "%s%s", to ? to : "", inner);
        uint64_t h = hash_xxh3(inner, strlen(inner));
        if (w.is_folder[x->node]) {
            ck_assert(!to || !mkdir(target, 0755));
            sum += random_mix(h) + walk(m, x->node, inner, to, from);
            continue;
        }
        if (to)
            link_content(m, x->node, target, from);
        sum += random_mix(h ^ random_mix(content_of(m, x->node)->hash));
    }
    return sum;
}

static bool seen_before(uint64_t *seen, uint64_t x)
{
    x += !x;
    for (size_t i = x % SEEN;; i = (i + 1) % SEEN) {
        if (seen[i] == x)
            return true;
        if (!seen[i]) {
            seen[i] = x;
            return false;
        }
    }
}

static void show(struct powercut_states *s, struct moment *m, uint64_t *seen)
{
    char store[PATH_MAX], state[PATH_MAX];
    struct err e = {0};
    snprintf(store, sizeof store, "%s/contents", s->to);
    snprintf(state, sizeof state, "%s/state", s->to);
    replay_entries(m);
    uint64_t x = walk(m, 0, "", NULL, store);
    if (seen_before(seen, random_mix(x) ^ random_mix((uint64_t)m->marks)))
        return;
    if (random_mix(s->seed + (uint64_t)(s->shown + s->skipped)) % s->one_in) {
        s->skipped++;
        return;
    }
    ck_assert(!mkdir(state, 0755));
    walk(m, 0, "", state, store);
    s->shown++;
    s->fn(s->user, state, m->marks);
    ck_assert_msg(!io_remove_tree(state, &e), "%s", e.text);
}

void powercut_each(struct powercut_states *s)
{
    struct moment *m = mem_zalloc(sizeof *m);
    uint64_t *seen = mem_array(SEEN, sizeof *seen), random = s->seed;
    char store[PATH_MAX];
    ck_assert(m && seen);
    content_count = 0;
    snprintf(store, sizeof store, "%s/contents", s->to);
    ck_assert(!mkdir(store, 0755));
    for (int k = s->from; k <= s->end; k++) {
        look(m, k);
        for (uint64_t i = 0; i < (uint64_t)s->most && (double)i < m->combinations; i++) {
            if (m->combinations <= s->most)
                choose(m, i);
            else
                draw(m, &random);
            show(s, m, seen);
        }
    }
    mem_free(seen);
    mem_free(m);
}
