/*
 * health: goal: a hang gets the right name, and only a real one does. Method: tables of heartbeat
 * rows, one field at a time away from a healthy world.
 */
#include "agent/health.h"

#include <check.h>
#include <string.h>

#define N 4

static struct health_rank ranks[N];
static struct health_busy busy[N];
static struct health_verdict v;

static void all_waiting(int64_t silent_ms)
{
    memset(busy, 0, sizeof busy);
    for (int i = 0; i < N; i++)
        ranks[i] = (struct health_rank){.phase = WIRE_PHASE_COLLECTIVE,
            .step = 9,
            .silent_ms = silent_ms,
            .collective = 50,
            .in_collective = true,
            .operation = 1,
            .waiting_for = -1};
}

static void judge(int64_t hang_ms, int64_t median_ms)
{
    struct health_conf conf = {.hang_ms = hang_ms, .straggler_factor = 2};
    health_judge(&conf, ranks, N, median_ms, busy, &v);
}

START_TEST(the_limit)
{
    static const struct {
        int64_t silent_ms, hang_ms, median_ms;
        bool hang;
    } table[] = {
        {9999, 0, 1, false},
        {10000, 0, 1, true},
        {10000, 0, 2001, false},
        {15000, 0, 3000, true},
        {14999, 0, 3000, false},
        {3000, 3000, 60000, true},
        {2999, 3000, 1, false},
        {59999, 0, 0, false},
        {60000, 0, 0, true},
        {3000, 3000, 0, true},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        all_waiting(table[i].silent_ms);
        judge(table[i].hang_ms, table[i].median_ms);
        ck_assert_int_eq(v.kind == HEALTH_HANG, table[i].hang);
    }
}
END_TEST

START_TEST(one_rank_that_moves_is_no_hang)
{
    all_waiting(60000);
    ranks[2].silent_ms = 100;
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_WELL);
}
END_TEST

START_TEST(names_the_rank_outside_the_collective)
{
    all_waiting(20000);
    ranks[3].in_collective = false;
    ranks[3].phase = WIRE_PHASE_FORWARD;
    ranks[3].collective = 49;
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_HANG);
    ck_assert_int_eq(v.rank, 3);
    ck_assert_str_eq(v.operation, wire_operation_name(1));
    ck_assert_ptr_nonnull(strstr(v.message, "rank 3"));
}
END_TEST

START_TEST(says_what_the_network_knows)
{
    all_waiting(20000);
    ranks[0].in_collective = false;
    judge(0, 100);
    ck_assert_msg(strstr(v.message, "silent for 20 s") != NULL, "%s", v.message);
    ck_assert_msg(!strchr(v.message, ';'), "%s", v.message);
    snprintf(ranks[2].note, sizeof ranks[2].note, "NCCL: rank 0 is missing");
    judge(0, 100);
    ck_assert_int_eq(v.rank, 0);
    ck_assert_msg(
        strstr(v.message, "silent for 20 s; NCCL: rank 0 is missing") != NULL, "%s", v.message);
    memset(ranks[2].note, 'x', sizeof ranks[2].note - 1);
    judge(0, 100);
    ck_assert_uint_gt(strlen(v.message), sizeof ranks[2].note);
}
END_TEST

START_TEST(names_the_rank_that_is_behind)
{
    all_waiting(20000);
    ranks[1].collective = 48;
    judge(0, 100);
    ck_assert_int_eq(v.rank, 1);
}
END_TEST

START_TEST(follows_who_waits_for_whom)
{
    all_waiting(20000);
    ranks[0].waiting_for = 3;
    ranks[3].waiting_for = 2;
    ranks[1].waiting_for = 2;
    judge(0, 100);
    ck_assert_int_eq(v.rank, 2);
    ranks[2].waiting_for = 0; /* a ring: someone is named, and it ends */
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_HANG);
    ranks[2].waiting_for = 77; /* nonsense from a page is no index */
    judge(0, 100);
    ck_assert_int_eq(v.rank, 2);
}
END_TEST

START_TEST(first_work_gets_longer)
{
    static const enum wire_phase first[] = {
        WIRE_PHASE_EVALUATE, WIRE_PHASE_FORWARD, WIRE_PHASE_BACKWARD, WIRE_PHASE_OPTIMIZER};
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
        all_waiting(59000);
        ranks[1].phase = first[i];
        judge(0, 0);
        ck_assert_int_eq(v.kind, HEALTH_WELL);
        judge(0, 100);
        ck_assert_int_eq(v.kind, HEALTH_HANG);
    }
    static const enum wire_phase serving[] = {
        WIRE_PHASE_SERVE_RENDER, WIRE_PHASE_SERVE_PREFILL, WIRE_PHASE_SERVE_DECODE};
    for (size_t k = 0; k < sizeof serving / sizeof *serving; k++) {
        for (int i = 0; i < N; i++) /* there are no steps to wait for */
            ranks[i] = (struct health_rank){.phase = serving[k], .silent_ms = 10000};
        judge(0, 0);
        ck_assert_int_eq(v.kind, HEALTH_HANG);
        ck_assert_str_eq(v.operation, wire_phase_name(serving[k]));
    }
}
END_TEST

START_TEST(loading_gets_longer_and_an_idle_server_for_ever)
{
    all_waiting(59000);
    ranks[0].phase = WIRE_PHASE_LOAD;
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_WELL);
    for (int i = 0; i < N; i++)
        ranks[i].silent_ms = 61000;
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_HANG);
    ranks[0].phase = WIRE_PHASE_SERVE_IDLE;
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_HANG); /* it waits for the others, too */
    ranks[0].in_collective = false;
    judge(0, 100);
    ck_assert_int_eq(v.kind, HEALTH_WELL);
}
END_TEST

/* The rank that has the requests waits for some, and the others for what it tells. */
START_TEST(a_team_waits_for_requests_and_not_for_a_rank)
{
    all_waiting(61000);
    for (int i = 0; i < N; i++)
        ranks[i].phase = WIRE_PHASE_SERVE_IDLE;
    ranks[0].in_collective = false;
    for (int i = 0; i < 60; i++) { /* nor is it a straggler */
        judge(0, 0);
        ck_assert_int_eq(v.kind, HEALTH_WELL);
    }
    ranks[2].in_collective = false; /* it heard of a step, and did not go on */
    ranks[2].phase = WIRE_PHASE_SERVE_DECODE;
    judge(0, 0);
    ck_assert_int_eq(v.kind, HEALTH_HANG);
    all_waiting(61000);
    for (int i = 0; i < N; i++)
        ranks[i].phase = WIRE_PHASE_SERVE_IDLE;
    ranks[2].collective = 49; /* stopped while it waited */
    judge(0, 0);
    ck_assert_int_eq(v.kind, HEALTH_HANG);
    ck_assert_int_eq(v.rank, 2);
}
END_TEST

/* A request waits for the first rank, which passes over it and keeps the others going. */
START_TEST(the_first_rank_of_a_server_answers_for_itself)
{
    all_waiting(500);
    for (int i = 0; i < N; i++)
        ranks[i].phase = WIRE_PHASE_SERVE_IDLE;
    ranks[0] = (struct health_rank){
        .phase = WIRE_PHASE_SERVE_PREFILL, .silent_ms = 9999, .waiting_for = -1};
    judge(0, 0);
    ck_assert_int_eq(v.kind, HEALTH_WELL);
    ranks[0].silent_ms = 10000;
    judge(0, 0);
    ck_assert_int_eq(v.kind, HEALTH_HANG);
    ck_assert_int_eq(v.rank, 0);
    ranks[0].in_collective = true; /* it waits for the others, who move */
    judge(0, 0);
    ck_assert_int_eq(v.kind, HEALTH_WELL);
}
END_TEST

START_TEST(a_straggler_shows_over_time)
{
    all_waiting(0);
    for (int i = 0; i < 60; i++) { /* rank 1 computes always, the others a quarter of the time */
        for (int k = 0; k < N; k++)
            ranks[k].in_collective = k != 1 && i % 4 != 0;
        judge(0, 100);
        if (i < 15)
            ck_assert_int_eq(v.kind, HEALTH_WELL); /* too early to say */
    }
    ck_assert_int_eq(v.kind, HEALTH_STRAGGLER);
    ck_assert_int_eq(v.rank, 1);
    for (int i = 0; i < 60; i++) { /* all alike again */
        for (int k = 0; k < N; k++)
            ranks[k].in_collective = i % 4 == 0;
        judge(0, 100);
    }
    ck_assert_int_eq(v.kind, HEALTH_WELL);
}
END_TEST

START_TEST(no_ranks_no_verdict)
{
    struct health_conf conf = {0};
    health_judge(&conf, NULL, 0, 0, NULL, &v);
    ck_assert_int_eq(v.kind, HEALTH_WELL);
    ck_assert_int_eq(v.rank, -1);
}
END_TEST

#include "tests/unit.h"
UNIT_MAIN("health", the_limit, one_rank_that_moves_is_no_hang,
    names_the_rank_outside_the_collective, says_what_the_network_knows,
    names_the_rank_that_is_behind, follows_who_waits_for_whom, first_work_gets_longer,
    a_team_waits_for_requests_and_not_for_a_rank, loading_gets_longer_and_an_idle_server_for_ever,
    the_first_rank_of_a_server_answers_for_itself, a_straggler_shows_over_time, no_ranks_no_verdict)
