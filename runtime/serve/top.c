/*
 * top: a heap of the k greatest so far, the least of them on top.
 */
#include "runtime/serve/top.h"

#include <stdbool.h>

static bool top_before(const float *x, int32_t a, int32_t b)
{
    return x[a] != x[b] ? x[a] > x[b] : a < b;
}

static void top_sift(const float *x, int32_t *heap, int64_t k, int64_t at)
{
    int32_t moved = heap[at];
    for (int64_t child; (child = 2 * at + 1) < k; at = child) {
        if (child + 1 < k && top_before(x, heap[child], heap[child + 1]))
            child++;
        if (!top_before(x, moved, heap[child]))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

void top_of(const float *x, int64_t n, int64_t k, int32_t *ids)
{
    for (int64_t i = 0; i < k; i++)
        ids[i] = (int32_t)i;
    for (int64_t i = k / 2; i-- > 0;)
        top_sift(x, ids, k, i);
    for (int64_t i = k; i < n; i++)
        if (top_before(x, (int32_t)i, ids[0])) {
            ids[0] = (int32_t)i;
            top_sift(x, ids, k, 0);
        }
    for (int64_t left = k; left-- > 1;) {
        int32_t least = ids[0];
        ids[0] = ids[left];
        ids[left] = least;
        top_sift(x, ids, left, 0);
    }
}
