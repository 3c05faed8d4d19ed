/*
 * automaton: nodes in one array that grows to its bound. Heights are found in their order, the
 * least first (Knuth's generalisation of Dijkstra's algorithm, 1977), so each node is looked at
 * once for each way that leads to it.
 */
#include "runtime/grammar/automaton.h"

#include "base/mem.h"

#include <string.h>

#define UNKNOWN 255

void automaton_init(struct automaton *a)
{
    *a = (struct automaton){0};
}

void automaton_done(struct automaton *a)
{
    mem_free(a->node);
    mem_free(a->rule);
    *a = (struct automaton){0};
}

static void set_fault(struct automaton *a, const char *fault)
{
    if (!a->fault)
        a->fault = fault;
}

static bool grow_nodes(struct automaton *a)
{
    int32_t more = a->capacity ? 2 * a->capacity : 256;
    if (a->count == AUTOMATON_NODES) {
        set_fault(a, "it is too large");
        return false;
    }
    void *p = mem_grow(a->node, (size_t)more, sizeof *a->node);
    if (!p) {
        a->no_memory = true;
        return false;
    }
    a->node = p;
    a->capacity = more;
    if (!a->count) /* AUTOMATON_NEVER */
        a->node[a->count++] = (struct automaton_node){.kind = AUTOMATON_FORK, .height = UNKNOWN};
    return true;
}

static int32_t add_node(struct automaton *a, struct automaton_node n)
{
    if (a->count == a->capacity && !grow_nodes(a))
        return AUTOMATON_NEVER;
    n.height = UNKNOWN;
    a->node[a->count] = n;
    return a->count++;
}

/* -- fragments -- */

int32_t automaton_byte(struct automaton *a, int low, int high, int32_t next)
{
    if (next == AUTOMATON_NEVER || low > high)
        return AUTOMATON_NEVER;
    return add_node(a,
        (struct automaton_node){
            .kind = AUTOMATON_BYTE, .low = (uint8_t)low, .high = (uint8_t)high, .next = next});
}

int32_t automaton_text(struct automaton *a, const char *bytes, size_t len, int32_t next)
{
    while (len--)
        next = automaton_byte(a, (uint8_t)bytes[len], (uint8_t)bytes[len], next);
    return next;
}

int32_t automaton_fork(struct automaton *a, int32_t x, int32_t y)
{
    if (x == AUTOMATON_NEVER || y == AUTOMATON_NEVER || x == y)
        return x == AUTOMATON_NEVER ? y : x;
    return add_node(a, (struct automaton_node){.kind = AUTOMATON_FORK, .next = x, .other = y});
}

int32_t automaton_return(struct automaton *a)
{
    return add_node(a, (struct automaton_node){.kind = AUTOMATON_RETURN});
}

int32_t automaton_rule(struct automaton *a)
{
    if (a->rules == AUTOMATON_RULES) {
        set_fault(a, "it is too large");
        return -1;
    }
    if (a->rules == a->rule_capacity) {
        int32_t more = a->rule_capacity ? 2 * a->rule_capacity : 32;
        void *p = mem_grow(a->rule, (size_t)more, sizeof *a->rule);
        if (!p) {
            a->no_memory = true;
            return -1;
        }
        a->rule = p;
        a->rule_capacity = more;
    }
    a->rule[a->rules] = AUTOMATON_NEVER;
    return a->rules++;
}

void automaton_begin(struct automaton *a, int32_t rule, int32_t node)
{
    if (rule >= 0)
        a->rule[rule] = node;
}

int32_t automaton_call(struct automaton *a, int32_t rule, int32_t next)
{
    if (next == AUTOMATON_NEVER || rule < 0)
        return AUTOMATON_NEVER;
    return add_node(
        a, (struct automaton_node){.kind = AUTOMATON_CALL, .next = next, .other = rule});
}

int32_t automaton_knot(struct automaton *a)
{
    return add_node(a, (struct automaton_node){.kind = AUTOMATON_FORK});
}

void automaton_tie(struct automaton *a, int32_t knot, int32_t x, int32_t y)
{
    if (knot == AUTOMATON_NEVER)
        return;
    a->node[knot].next = x;
    a->node[knot].other = y;
}

int32_t automaton_repeat(
    struct automaton *a, int32_t rule, int64_t least, int64_t most, int32_t next)
{
    int32_t node = next;
    if (most < 0) {
        node = automaton_knot(a);
        automaton_tie(a, node, automaton_call(a, rule, node), next);
    }
    for (int64_t i = most; i > least && !a->fault && !a->no_memory; i--)
        node = automaton_fork(a, automaton_call(a, rule, node), next);
    for (int64_t i = 0; i < least && !a->fault && !a->no_memory; i++)
        node = automaton_call(a, rule, node);
    return node;
}

/* -- UTF-8 -- */

/* Values low..high of the 6 * bytes bits that so many bytes hold, the first of them marked. */
static int32_t bytes_of(
    struct automaton *a, uint32_t low, uint32_t high, int bytes, int mark, int32_t next)
{
    if (!bytes)
        return next;
    int shift = 6 * (bytes - 1);
    uint32_t mask = (1u << shift) - 1, first = low >> shift, last = high >> shift;
    int32_t node = AUTOMATON_NEVER;
    if (first == last)
        return automaton_byte(a, mark | (int)first, mark | (int)first,
            bytes_of(a, low & mask, high & mask, bytes - 1, 0x80, next));
    if (low & mask) {
        node = automaton_byte(a, mark | (int)first, mark | (int)first,
            bytes_of(a, low & mask, mask, bytes - 1, 0x80, next));
        first++;
    }
    if ((high & mask) != mask) {
        node = automaton_fork(a, node,
            automaton_byte(a, mark | (int)last, mark | (int)last,
                bytes_of(a, 0, high & mask, bytes - 1, 0x80, next)));
        last--;
    }
    if (first <= last)
        node = automaton_fork(a, node,
            automaton_byte(a, mark | (int)first, mark | (int)last,
                bytes_of(a, 0, mask, bytes - 1, 0x80, next)));
    return node;
}

int32_t automaton_point(struct automaton *a, uint32_t low, uint32_t high, int32_t next)
{
    static const struct {
        uint32_t low, high;
        int bytes, mark;
    } forms[] = {{0, 0x7f, 1, 0}, {0x80, 0x7ff, 2, 0xc0}, {0x800, 0xd7ff, 3, 0xe0},
        {0xe000, 0xffff, 3, 0xe0}, {0x10000, 0x10ffff, 4, 0xf0}};
    int32_t node = AUTOMATON_NEVER;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        uint32_t from = low > forms[i].low ? low : forms[i].low;
        uint32_t to = high < forms[i].high ? high : forms[i].high;
        if (from <= to)
            node =
                automaton_fork(a, node, bytes_of(a, from, to, forms[i].bytes, forms[i].mark, next));
    }
    return node;
}

/* -- heights -- */

struct heights { /* while they are found */
    struct automaton *a;
    int32_t *first, *way; /* of each node, those that lead to it: way[first[i]..first[i + 1]) */
    int32_t *todo, *link; /* a list of nodes for each height */
};

static int ways_of(const struct automaton *a, int32_t i, int32_t out[2])
{
    const struct automaton_node *n = &a->node[i];
    if (n->kind == AUTOMATON_RETURN)
        return 0;
    out[0] = n->next;
    out[1] = n->other;
    return n->kind == AUTOMATON_BYTE ? 1 : 2;
}

static bool open_heights(struct heights *h, struct automaton *a)
{
    size_t n = (size_t)a->count;
    *h = (struct heights){.a = a};
    h->first = mem_array(n + 2, sizeof *h->first);
    h->way = mem_array(2 * n, sizeof *h->way);
    h->link = mem_array(n, sizeof *h->link);
    h->todo = mem_array(AUTOMATON_DEPTH + 2, sizeof *h->todo);
    if (!h->first || !h->way || !h->link || !h->todo)
        return false;
    int32_t to[2];
    for (int32_t i = 0; i < a->count; i++)
        for (int k = ways_of(a, i, to); k--;)
            h->first[to[k] + 2]++;
    for (int32_t i = 2; i <= a->count; i++)
        h->first[i] += h->first[i - 1];
    for (int32_t i = 0; i < a->count; i++)
        for (int k = ways_of(a, i, to); k--;)
            h->way[h->first[to[k] + 1]++] = i;
    return true;
}

static void close_heights(struct heights *h)
{
    mem_free(h->first);
    mem_free(h->way);
    mem_free(h->link);
    mem_free(h->todo);
}

/* The first height that is put is the least. A list holds ids + 1, a link one more. */
static void put_height(struct heights *h, int32_t i, int height)
{
    if (height > AUTOMATON_DEPTH || h->link[i])
        return;
    h->link[i] = h->todo[height] + 1;
    h->todo[height] = i + 1;
}

static void find_heights(struct heights *h)
{
    struct automaton *a = h->a;
    for (int32_t i = 1; i < a->count; i++)
        if (a->node[i].kind == AUTOMATON_RETURN)
            put_height(h, i, 0);
    for (int height = 0; height <= AUTOMATON_DEPTH; height++)
        while (h->todo[height]) {
            int32_t i = h->todo[height] - 1;
            h->todo[height] = h->link[i] - 1;
            a->node[i].height = (uint8_t)height;
            for (int32_t w = h->first[i]; w < h->first[i + 1]; w++) {
                const struct automaton_node *n = &a->node[h->way[w]];
                int within = a->node[n->other].height, behind = a->node[n->next].height;
                if (n->kind != AUTOMATON_CALL)
                    put_height(h, h->way[w], height);
                else if (within != UNKNOWN && behind != UNKNOWN)
                    put_height(h, h->way[w], within + 1 > behind ? within + 1 : behind);
            }
        }
}

int automaton_finish(struct automaton *a, int32_t rule, struct err *e)
{
    struct heights h = {0};
    if (a->no_memory)
        return err_set(e, ERR_MEMORY, "no memory for a grammar");
    if (a->fault)
        return err_set(e, ERR_USER, "%s", a->fault);
    for (int32_t i = 1; i < a->count; i++)
        if (a->node[i].kind == AUTOMATON_CALL)
            a->node[i].other = a->rule[a->node[i].other];
    a->start = a->rule[rule];
    if (a->start == AUTOMATON_NEVER)
        return err_set(e, ERR_USER, "no value can satisfy it");
    bool opened = open_heights(&h, a);
    if (opened)
        find_heights(&h);
    close_heights(&h);
    if (!opened)
        return err_set(e, ERR_MEMORY, "no memory for a grammar");
    if (a->node[a->start].height > AUTOMATON_DEPTH)
        return err_set(e, ERR_USER, "no value can satisfy it");
    return 0;
}
