/*
 * Goal: what comes over a mesh link does no harm, whoever sends it, and nobody without the token
 * proves anything. Method: the input as each message of the handshake, at either end, and as a
 * message of a link that proved itself; what is taken lies within the bounds that member and lead
 * index by.
 */
#include "agent/mesh.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void shake(const char *text, size_t size)
{
    static const struct proof_identity of = {"token", "job"};
    buf_auto struct buf call, challenge, answer;
    struct proof coordinator, member;
    struct err e = {0};
    buf_init(&call, PROOF_BYTES);
    buf_init(&challenge, PROOF_BYTES);
    buf_init(&answer, PROOF_BYTES);
    must(!proof_call(&coordinator, &of, "c0", "m1", 3, &call, &e));
    must(proof_answer(&coordinator, text, size, &answer, &e) < 0 && !answer.len);
    int rc = proof_challenge(&member, &of, "m1", text, size, &challenge, &e);
    must(rc ? !challenge.len : challenge.len && member.term >= 1);
    must(proof_check(&member, text, size, &e) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    struct mesh_msg m;
    shake((const char *)data, size);
    if (json_parse_within((const char *)data, size, LIMIT_FRAME_VALUES, &v, &e) ||
        mesh_decode(v, &m, &e))
        return 0;
    must(m.type < MESH_TYPES && m.incarnation >= 0 && m.term >= 0);
    must(m.local >= 0 && m.local < LIMIT_RANKS_PER_REPLICA && m.ranks >= 0 &&
        m.ranks <= LIMIT_RANKS_PER_REPLICA);
    must(m.port_count >= 0 && m.port_count <= LIMIT_RANKS_PER_REPLICA);
    must(m.beat_count >= 0 && m.beat_count <= LIMIT_RANKS_PER_REPLICA);
    for (int i = 0; i < m.beat_count; i++)
        must(memchr(m.beats[i].note, 0, sizeof m.beats[i].note) && m.beats[i].phase < WIRE_PHASES);
    return 0;
}
