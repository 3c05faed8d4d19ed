/*
 * matcher: a lazily determinised pushdown automaton. Calls that are open are a chain of links, each
 * of which is there once, so that a place is two numbers, and a set of places a sorted list of
 * them.
 */
#include "runtime/grammar/matcher.h"

#include "base/mem.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>

#define STATES      16384 /* within one token */
#define STATES_KEPT 2048
#define PLACES      ((size_t)1 << 20) /* of all states */
#define SET         4096              /* places of a state */
#define LINKS       ((size_t)1 << 20)
#define BYTES_KEPT  ((size_t)1 << 20) /* of the caller's */

struct matcher_link {
    int32_t back, up; /* the node behind the call; the link above it, 0: none */
    int32_t depth;
};

struct matcher_state {
    uint32_t first, count; /* its places */
    bool end;
    uint16_t *row; /* (256) what follows each byte; NULL: not asked for yet */
    void *kept;
};

struct index { /* of numbers from 1 by a hash of what they stand for, open addressing */
    uint32_t *slot;
    size_t size; /* a power of two */
};

struct tables {
    struct matcher_state *state;
    size_t states, state_room;
    uint64_t *place; /* node << 32 | link */
    size_t places, place_room;
    struct matcher_link *link;
    size_t links, link_room;
    struct index state_index, link_index;
    size_t kept_bytes;
};

struct matcher {
    const struct automaton *a;
    struct tables t;
    int32_t now;
    int64_t work;
    const char *fault;
    bool no_memory;
    uint64_t *set, *todo; /* (SET) places of a state in the making; those to be looked at */
    size_t set_count, todo_count;
    uint64_t *seen; /* (2 * SET) a hash set of those looked at */
    uint32_t *seen_in, round;
    bool end;
};

/* -- tables -- */

static void tables_done(struct tables *t)
{
    for (size_t i = 0; i < t->states; i++) {
        mem_free(t->state[i].row);
        mem_free(t->state[i].kept);
    }
    mem_free(t->state);
    mem_free(t->place);
    mem_free(t->link);
    mem_free(t->state_index.slot);
    mem_free(t->link_index.slot);
    *t = (struct tables){0};
}

static bool fail(struct matcher *m, const char *fault)
{
    if (!fault)
        m->no_memory = true;
    else if (!m->fault)
        m->fault = fault;
    return false;
}

static bool has_failed(const struct matcher *m)
{
    return m->fault || m->no_memory;
}

static bool reserve(
    struct matcher *m, void **p, size_t *room, size_t want, size_t most, size_t size)
{
    if (want <= *room)
        return true;
    if (want > most)
        return fail(m, "the grammar takes too many states");
    size_t more = *room ? 2 * *room : 256;
    while (more < want)
        more *= 2;
    void *q = mem_grow(*p, more, size);
    if (!q)
        return fail(m, NULL);
    *p = q;
    *room = more;
    return true;
}

static uint64_t hash_places(const uint64_t *place, size_t count)
{
    uint64_t h = count;
    for (size_t i = 0; i < count; i++)
        h = random_mix(h ^ place[i]);
    return h;
}

static uint64_t hash_link(int32_t back, int32_t up)
{
    return random_mix((uint64_t)(uint32_t)back << 32 | (uint32_t)up);
}

static uint64_t hash_of(const struct tables *t, const struct index *x, size_t i)
{
    if (x == &t->link_index)
        return hash_link(t->link[i].back, t->link[i].up);
    return hash_places(t->place + t->state[i].first, t->state[i].count);
}

/* Makes room for number i, of which all before are in it. */
static bool index_reserve(struct matcher *m, struct index *x, size_t i)
{
    if (2 * (i + 1) <= x->size)
        return true;
    size_t size = x->size ? 2 * x->size : 512;
    uint32_t *slot = mem_array(size, sizeof *slot);
    if (!slot)
        return fail(m, NULL);
    mem_free(x->slot);
    *x = (struct index){slot, size};
    for (size_t k = 1; k < i; k++) {
        size_t at = hash_of(&m->t, x, k) & (size - 1);
        while (slot[at])
            at = (at + 1) & (size - 1);
        slot[at] = (uint32_t)k;
    }
    return true;
}

/* The link of that call; 0: it has failed. */
static int32_t link_of(struct matcher *m, int32_t back, int32_t up)
{
    struct tables *t = &m->t;
    if (!index_reserve(m, &t->link_index, t->links))
        return 0;
    size_t mask = t->link_index.size - 1, at = hash_link(back, up) & mask;
    for (uint32_t i; (i = t->link_index.slot[at]); at = (at + 1) & mask)
        if (t->link[i].back == back && t->link[i].up == up)
            return (int32_t)i;
    if (!reserve(m, (void **)&t->link, &t->link_room, t->links + 1, LINKS, sizeof *t->link))
        return 0;
    t->link[t->links] = (struct matcher_link){back, up, t->link[up].depth + 1};
    t->link_index.slot[at] = (uint32_t)t->links;
    return (int32_t)t->links++;
}

static int by_place(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* The state of the set; MATCHER_NO: it is empty, or has failed. */
static int32_t state_of(struct matcher *m)
{
    struct tables *t = &m->t;
    size_t n = m->set_count;
    if (has_failed(m) || (!n && !m->end) || !index_reserve(m, &t->state_index, t->states))
        return MATCHER_NO;
    qsort(m->set, n, sizeof *m->set, by_place);
    size_t mask = t->state_index.size - 1, at = hash_places(m->set, n) & mask;
    for (uint32_t i; (i = t->state_index.slot[at]); at = (at + 1) & mask)
        if (t->state[i].count == n && t->state[i].end == m->end &&
            !memcmp(t->place + t->state[i].first, m->set, n * sizeof *m->set))
            return (int32_t)i;
    if (!reserve(m, (void **)&t->place, &t->place_room, t->places + n, PLACES, sizeof *t->place) ||
        !reserve(m, (void **)&t->state, &t->state_room, t->states + 1, STATES, sizeof *t->state))
        return MATCHER_NO;
    t->state[t->states] =
        (struct matcher_state){(uint32_t)t->places, (uint32_t)n, m->end, NULL, NULL};
    if (n)
        memcpy(t->place + t->places, m->set, n * sizeof *m->set);
    t->places += n;
    t->state_index.slot[at] = (uint32_t)t->states;
    return (int32_t)t->states++;
}

/* -- sets -- */

static void set_clear(struct matcher *m)
{
    m->set_count = 0;
    m->end = false;
    m->round++;
}

/* Was it not looked at yet in this set? Failing, too, says no. */
static bool is_new(struct matcher *m, uint64_t place)
{
    size_t mask = 2 * SET - 1, at = random_mix(place) & mask;
    for (size_t tries = 0; tries < SET; tries++, at = (at + 1) & mask) {
        if (m->seen_in[at] != m->round) {
            m->seen_in[at] = m->round;
            m->seen[at] = place;
            return true;
        }
        if (m->seen[at] == place)
            return false;
    }
    return fail(m, "the grammar is too ambiguous");
}

static void put_todo(struct matcher *m, int32_t node, int32_t link)
{
    uint64_t place = (uint64_t)(uint32_t)node << 32 | (uint32_t)link;
    if (m->t.link[link].depth + m->a->node[node].height > AUTOMATON_DEPTH || !is_new(m, place))
        return;
    if (m->todo_count == SET)
        fail(m, "the grammar is too ambiguous");
    else
        m->todo[m->todo_count++] = place;
}

/* Adds the place, or those that it leads to without a byte. */
static void set_add(struct matcher *m, int32_t node, int32_t link)
{
    put_todo(m, node, link);
    while (m->todo_count && !has_failed(m)) {
        uint64_t place = m->todo[--m->todo_count];
        const struct automaton_node *n = &m->a->node[place >> 32];
        int32_t up = (int32_t)(uint32_t)place;
        if (++m->work > MATCHER_WORK) {
            fail(m, "the grammar takes too long");
        } else if (n->kind == AUTOMATON_BYTE) {
            if (m->set_count < SET)
                m->set[m->set_count++] = place;
            else
                fail(m, "the grammar is too ambiguous");
        } else if (n->kind == AUTOMATON_FORK) {
            put_todo(m, n->next, up);
            put_todo(m, n->other, up);
        } else if (n->kind == AUTOMATON_CALL) {
            int32_t own = link_of(m, n->next, up);
            if (own)
                put_todo(m, n->other, own);
        } else if (up) {
            put_todo(m, m->t.link[up].back, m->t.link[up].up);
        } else {
            m->end = true;
        }
    }
    m->todo_count = 0;
}

/* -- ways -- */

static int32_t step(struct matcher *m, int32_t state, int byte)
{
    uint32_t count = m->t.state[state].count, first = m->t.state[state].first;
    set_clear(m);
    for (uint32_t i = 0; i < count && !has_failed(m); i++) {
        uint64_t place = m->t.place[first + i];
        const struct automaton_node *n = &m->a->node[place >> 32];
        m->work++;
        if (byte >= n->low && byte <= n->high)
            set_add(m, n->next, (int32_t)(uint32_t)place);
    }
    return state_of(m);
}

/* Bytes between two ends of ranges lead to the same. */
static bool find_row(struct matcher *m, int32_t state)
{
    bool cut[257] = {true};
    uint16_t *row = mem_array(256, sizeof *row);
    if (!row)
        return fail(m, NULL);
    const struct matcher_state *s = &m->t.state[state];
    for (uint32_t i = 0; i < s->count; i++) {
        const struct automaton_node *n = &m->a->node[m->t.place[s->first + i] >> 32];
        cut[n->low] = cut[n->high + 1] = true;
    }
    for (int byte = 0; byte < 256; byte++)
        row[byte] = cut[byte] ? (uint16_t)step(m, state, byte) : row[byte - 1];
    m->t.state[state].row = row;
    return !has_failed(m);
}

int32_t matcher_next(struct matcher *m, int32_t state, uint8_t byte)
{
    if (state == MATCHER_NO || has_failed(m) || (!m->t.state[state].row && !find_row(m, state)))
        return MATCHER_NO;
    return m->t.state[state].row[byte];
}

int32_t matcher_known(const struct matcher *m, int32_t state, uint8_t byte)
{
    if (state == MATCHER_NO || has_failed(m))
        return MATCHER_NO;
    return m->t.state[state].row ? m->t.state[state].row[byte] : MATCHER_UNKNOWN;
}

/* -- life -- */

static bool tables_open(struct matcher *m)
{
    struct tables *t = &m->t;
    if (!reserve(m, (void **)&t->state, &t->state_room, 1, STATES, sizeof *t->state) ||
        !reserve(m, (void **)&t->link, &t->link_room, 1, LINKS, sizeof *t->link))
        return false;
    t->state[0] = (struct matcher_state){0}; /* MATCHER_NO */
    t->link[0] = (struct matcher_link){0};
    t->states = t->links = 1;
    return true;
}

static int32_t move_link(struct matcher *m, const struct matcher_link *old, int32_t i)
{
    return i ? link_of(m, old[i].back, move_link(m, old, old[i].up)) : 0;
}

/* Only the present state stays. */
static void begin_anew(struct matcher *m)
{
    struct tables old = m->t;
    const struct matcher_state *s = &old.state[m->now];
    m->t = (struct tables){0};
    m->now = MATCHER_NO;
    set_clear(m);
    if (tables_open(m)) {
        for (uint32_t i = 0; i < s->count; i++) {
            uint64_t place = old.place[s->first + i];
            m->set[i] =
                place >> 32 << 32 | (uint32_t)move_link(m, old.link, (int32_t)(uint32_t)place);
        }
        m->set_count = s->count;
        m->end = s->end;
        m->now = state_of(m);
    }
    tables_done(&old);
}

int matcher_failure(const struct matcher *m, struct err *e)
{
    if (m->no_memory)
        return err_set(e, ERR_MEMORY, "no memory for what the grammar allows");
    return m->fault ? err_set(e, ERR_USER, "%s", m->fault) : 0;
}

int matcher_create(const struct automaton *a, struct matcher **out, struct err *e)
{
    struct matcher *m = mem_zalloc(sizeof *m);
    if (!m)
        return err_set(e, ERR_MEMORY, "no memory for a grammar's text");
    m->a = a;
    m->set = mem_array(SET, sizeof *m->set);
    m->todo = mem_array(SET, sizeof *m->todo);
    m->seen = mem_array(2 * SET, sizeof *m->seen);
    m->seen_in = mem_array(2 * SET, sizeof *m->seen_in);
    if (!m->set || !m->todo || !m->seen || !m->seen_in)
        m->no_memory = true;
    else if (tables_open(m)) {
        set_clear(m);
        set_add(m, a->start, 0);
        m->now = state_of(m);
    }
    int rc = matcher_failure(m, e);
    if (rc) {
        matcher_destroy(m);
        return rc;
    }
    *out = m;
    return 0;
}

void matcher_destroy(struct matcher *m)
{
    if (!m)
        return;
    tables_done(&m->t);
    mem_free(m->set);
    mem_free(m->todo);
    mem_free(m->seen);
    mem_free(m->seen_in);
    mem_free(m);
}

int32_t matcher_state(const struct matcher *m)
{
    return m->now;
}

bool matcher_may_end(const struct matcher *m, int32_t state)
{
    return !has_failed(m) && m->t.state[state].end;
}

bool matcher_is_over(const struct matcher *m)
{
    return matcher_may_end(m, m->now) && !m->t.state[m->now].count;
}

int matcher_take(struct matcher *m, const char *bytes, size_t len, struct err *e)
{
    int32_t state = m->now;
    for (size_t i = 0; i < len; i++)
        state = matcher_next(m, state, (uint8_t)bytes[i]);
    int rc = matcher_failure(m, e);
    if (rc)
        return rc;
    if (state == MATCHER_NO)
        return err_set(e, ERR_DATA, "the grammar does not allow this text");
    m->now = state;
    m->work = 0;
    if (m->t.states > STATES_KEPT || m->t.kept_bytes > BYTES_KEPT)
        begin_anew(m);
    return matcher_failure(m, e);
}

void *matcher_kept(const struct matcher *m, int32_t state)
{
    return m->t.state[state].kept;
}

void matcher_keep(struct matcher *m, int32_t state, void *p, size_t bytes)
{
    m->t.state[state].kept = p;
    m->t.kept_bytes += bytes;
}
