/*
 * Goal: a rank that loads adapters when they are wanted answers as one that has them all, tells
 * what it has loaded, and what is wrong with one, or slow about it, is its own requests' alone.
 * Method: a rank in a child process over the tiny byte model; requests for adapters and for none at
 * once, with room for one adapter, beside those to a rank that has them all; a damaged folder among
 * them, which is mended; one that is exchanged for another; one whose storage does not answer
 * while others are asked.
 */
#include "runtime/serve/infer.h"

#include "runtime/convert/adapters.h"
#include "tests/runtime/peft.h"
#include "tests/runtime/serve/rank.h"

#include <fcntl.h>
#include <sys/stat.h>

#define PROMPT   "In the beginning "
#define ADAPTERS 3
#define REQUESTS 12
#define DAMAGED  2 /* by its number, from 1 on */

static const char *const names[1 + ADAPTERS] = {"m", "a", "b", "c"};
static char paths[1 + ADAPTERS][96], model[96];
static int64_t limit; /* of the greatest */

static void write_adapter(int i, uint64_t seed, const struct model_config *c)
{
    const struct peft p = {
        .folder = paths[i], .config = c, .rank = i, .seed = seed, .type = DTYPE_F32};
    peft_write(&p);
}

/* first: the seed of the first of them */
static void write_adapters(uint64_t first)
{
    struct weights *w;
    struct beside *all;
    struct jobspec_served_adapter named[ADAPTERS];
    struct jobspec_serve s = {.adapters = named, .adapter_count = ADAPTERS};
    snprintf(model, sizeof model, "%s/model", folder);
    ck_assert_msg(!weights_open(model, NULL, &w, &e), "%s", e.text);
    for (int i = 1; i <= ADAPTERS; i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", folder, names[i]);
        write_adapter(i, i > 1 ? (uint64_t)i : first, weights_config(w));
        s.adapters[i - 1] = (struct jobspec_served_adapter){names[i], paths[i]};
    }
    ck_assert_msg(!adapters_describe(&s, weights_config(w), &all, &e), "%s", e.text);
    for (int i = 0; i < ADAPTERS; i++) {
        int64_t bytes = beside_bytes_of(all, i, weights_config(w));
        limit = bytes > limit ? bytes : limit;
    }
    beside_destroy(all);
    weights_close(w);
}

static void serve_adapters(int64_t memory)
{
    buf_auto struct buf more;
    buf_init(&more, 1 << 10);
    for (int i = 1; i <= ADAPTERS; i++)
        buf_printf(&more, "%s{\"name\":\"%s\",\"path\":\"%s\"}", i > 1 ? "," : ",\"adapters\":[",
            names[i], paths[i]);
    buf_printf(&more, "]");
    if (memory)
        buf_printf(&more, ",\"adapterMemory\":%lld", (long long)memory);
    serve_with(model, 64, buf_cstr(&more));
}

static void write_request(int i, char out[256])
{
    int adapter = i % (1 + ADAPTERS);
    snprintf(out, 256,
        "\"prompt\":\"" PROMPT "\",\"max_tokens\":%d,\"temperature\":%g,\"seed\":%d%s%s%s", 12 + i,
        i % 3 * 0.8, i, adapter ? ",\"adapter\":\"" : "", adapter ? names[adapter] : "",
        adapter ? "\"" : "");
}

static void ask_all(struct answer *answers)
{
    char rest[256], text[512];
    for (int i = 0; i < REQUESTS; i++) {
        write_request(i, rest);
        snprintf(text, sizeof text, "{\"id\":%d,%s}", 1 + i, rest);
        agent_send(&a, WIRE_REQUEST, text);
    }
    for (int ended = 0; ended < REQUESTS;) {
        struct answer end = {0};
        next_frame();
        bool token = a.frame.type == WIRE_TOKEN;
        int i = (token ? token_of() : take_end(&end)) - 1;
        ck_assert(i >= 0 && i < REQUESTS);
        if (token) {
            take_text(&answers[i]);
            continue;
        }
        memcpy(answers[i].reason, end.reason, sizeof end.reason);
        memcpy(answers[i].message, end.message, sizeof end.message);
        ended++;
    }
}

static void write_damage(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/adapter_config.json", paths[DAMAGED]);
    golden_write(path, text, strlen(text));
}

START_TEST(they_answer_as_if_all_were_there)
{
    static struct answer all[REQUESTS], some[REQUESTS], again;
    char rest[256];
    write_adapters(1);
    serve_adapters(0);
    ask_all(all);
    stop_serving();
    ck_assert_ptr_null(adapters);
    write_damage("{\"peft_type\":\"IA3\"}");
    serve_adapters(limit);
    ask_all(some);
    for (int i = 0; i < REQUESTS; i++) {
        ck_assert_str_eq(all[i].reason, "length");
        if (i % (1 + ADAPTERS) == DAMAGED) {
            ck_assert_str_eq(some[i].reason, "error");
            ck_assert_msg(strstr(some[i].message, "b: ") && strstr(some[i].message, "IA3"), "%s",
                some[i].message);
            continue;
        }
        ck_assert_str_eq(some[i].reason, "length");
        ck_assert_uint_eq(some[i].len, all[i].len);
        ck_assert_mem_eq(some[i].text, all[i].text, all[i].len);
    }
    ck_assert_int_eq(json_int(adapters, "loaded", 0), 1);
    ck_assert_int_ge(json_int(adapters, "loads", 0), 2);
    ck_assert_int_ge(json_int(adapters, "drops", 0), 1);
    ck_assert_int_ge(json_int(adapters, "failures", 0), 1);
    ck_assert_int_le(json_int(adapters, "bytes", 0), limit);
    write_adapters(1); /* it is mended */
    write_request(DAMAGED, rest);
    again = ask(99, rest);
    ck_assert_mem_eq(again.text, all[DAMAGED].text, all[DAMAGED].len);
    stop_serving();
    json_destroy(adapters);
}
END_TEST

/* Its configuration is a pipe that nobody writes to. */
/* What was computed with the one is not found by requests for the other. */
START_TEST(one_that_is_exchanged_is_another)
{
    struct answer before, again, alone;
    char rest[256], other[256];
    write_adapters(1);
    write_request(1, rest);
    write_request(3, other);
    serve_adapters(limit);
    before = ask(1, rest);
    ck_assert_int_eq(ask(2, rest).cached, 16);        /* of one that is there, a page is */
    ck_assert_str_eq(ask(3, other).reason, "length"); /* it makes room */
    ck_assert_int_eq(ask(4, rest).cached, 16);        /* and comes back as it was */
    ck_assert_str_eq(ask(5, other).reason, "length");
    write_adapters(99);
    again = ask(6, rest);
    stop_serving();
    serve_adapters(0);
    alone = ask(1, rest);
    stop_serving();
    ck_assert_int_eq(again.cached, 0);
    ck_assert_uint_eq(again.len, alone.len);
    ck_assert_mem_eq(again.text, alone.text, alone.len);
    ck_assert(before.len != alone.len || memcmp(before.text, alone.text, alone.len));
    json_destroy(adapters);
}
END_TEST

START_TEST(slow_storage_holds_up_nobody)
{
    char path[128], rest[256], text[512];
    write_adapters(1);
    snprintf(path, sizeof path, "%s/adapter_config.json", paths[1]);
    ck_assert(!unlink(path) && !mkfifo(path, 0600));
    serve_adapters(limit);
    write_request(1, rest);
    for (int id = 1; id <= 2; id++) {
        snprintf(text, sizeof text, "{\"id\":%d,%s}", id, rest);
        agent_send(&a, WIRE_REQUEST, text);
    }
    write_request(0, rest);
    ck_assert_str_eq(ask(3, rest).reason, "length");
    agent_send(&a, WIRE_CANCEL, "{\"id\":1}");
    ck_assert_str_eq(collect(1, 0).reason, "cancelled");
    int fd = open(path, O_WRONLY); /* it reads */
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(collect(2, 0).status, 503);
    write_request(3, rest);
    ck_assert_str_eq(ask(4, rest).reason, "length");
    stop_serving();
    json_destroy(adapters);
}
END_TEST

static void list(int number, const char *listed)
{
    char text[512];
    snprintf(text, sizeof text, "{\"list\":%d,\"adapters\":[%s]}", number, listed);
    agent_send(&a, WIRE_LISTED, text);
}

/* As an agent asks whose list may change. */
static struct answer ask_listed(int id, const char *name, const char *path)
{
    char rest[512];
    snprintf(rest, sizeof rest,
        "\"prompt\":\"" PROMPT "\",\"max_tokens\":12,\"temperature\":0,\"adapter\":\"%s\","
        "\"adapter_path\":\"%s\"",
        name, path);
    return ask(id, rest);
}

/* Until the rank has told of the list that it has looked at all of it. */
static void wait_for_list(int number)
{
    int64_t until_ms = clock_ms() + 10000;
    for (int id = 1000; !adapters || json_int(adapters, "list", -1) != number ||
         json_int(adapters, "unseen", -1) != 0;
         id++) {
        ck_assert_int_lt(clock_ms(), until_ms);
        ck_assert_str_ne(ask(id, "\"prompt\":\"x\",\"max_tokens\":1").reason, "error");
    }
}

/* It serves on, of the same process: what comes, goes, and is exchanged is what the frames say. */
START_TEST(a_list_that_changes_is_followed)
{
    char text[512];
    write_adapters(1);
    serve_adapters(limit);
    struct answer first = ask_listed(1, "a", paths[1]), other = ask_listed(2, "c", paths[3]);
    ck_assert_str_eq(first.reason, "length");
    ck_assert(first.len != other.len || memcmp(first.text, other.text, first.len));
    snprintf(text, sizeof text,
        "{\"name\":\"c\",\"path\":\"%s\"},{\"name\":\"n\",\"path\":\"%s/none\"}", paths[1], folder);
    list(1, text);
    wait_for_list(1);
    ck_assert_msg(
        strstr(json_str(adapters, "wrong", ""), "n: "), "%s", json_str(adapters, "wrong", ""));
    struct answer now = ask_listed(3, "c", paths[1]);
    ck_assert_mem_eq(now.text, first.text, first.len);
    struct answer before = ask_listed(4, "c", paths[3]); /* it was accepted before the edit */
    ck_assert_mem_eq(before.text, other.text, other.len);
    ck_assert_int_eq(ask(5, "\"prompt\":\"x\",\"adapter\":\"a\"").status, 0);
    snprintf(text, sizeof text, "%s/none", folder);
    struct answer none = ask_listed(6, "n", text);
    ck_assert(none.status == 503 && strstr(none.message, "n: ") && strstr(none.message, text));
    list(2, "");
    wait_for_list(2);
    ck_assert_str_eq(json_str(adapters, "wrong", "?"), "");
    ck_assert_int_eq(json_int(adapters, "loaded", -1), 0); /* nobody has any */
    stop_serving();
    json_destroy(adapters);
    adapters = NULL;
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"infer_adapters", 60, setup, teardown},
        (const TTest *const[]){they_answer_as_if_all_were_there, one_that_is_exchanged_is_another,
            slow_storage_holds_up_nobody, a_list_that_changes_is_followed, NULL});
}
