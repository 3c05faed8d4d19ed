/*
 * world_sim: a world (agent/world) over simulated pods: agents join and go, ranks load, step, save
 * a checkpoint every fifth step, fail and exit. After each event it checks what must always hold:
 * an incarnation only grows, and no rank starts while a joined member has ranks of an older one.
 */
#ifndef TESTS_AGENT_WORLD_SIM_H
#define TESTS_AGENT_WORLD_SIM_H

#include "agent/world.h"

#define SIM_MEMBERS 4
#define SIM_RANKS   2 /* a member */

struct sim_pod {
    bool up, joined, leaving;
    int64_t live; /* incarnation of its ranks, 0: none */
    int64_t greatest;
    bool started, loaded;
    bool killed[SIM_RANKS];
    int64_t end_ms; /* when ranks that were told to stop are gone, 0: not told */
    bool drain;
};

extern struct world_sim {
    struct world *world;
    struct sim_pod pods[SIM_MEMBERS];
    struct desired desired;
    struct desired_member members[SIM_MEMBERS];
    struct world_now now;
    int64_t last_incarnation, step, checkpoint;
    int starts, prepares, stops, releases;
    bool user_error;
    uint64_t random;
} sim;

void sim_begin(enum task task); /* nothing is wanted yet; minReplicas 2, waitSeconds 5 */
void sim_run_three(void);       /* a training over three members, incarnation 7 */
uint64_t sim_random(uint64_t n);

void sim_want(int replicas, bool suspend, bool release);
void sim_join(int replica);
void sim_lose(int replica); /* the agent dies and its ranks with it */
void sim_exit_rank(
    int replica, int local, enum exit_class c, int signal, bool asked, const char *message);
void sim_frame(int replica, int local, enum wire_type type, const char *text);
void sim_advance(int64_t ms);
void sim_settle(void); /* until the world decides nothing more */
bool sim_in_world(int replica);
struct report sim_report(void); /* valid until the next */

#endif
