/*
 * meter: each figure is kept once; vLLM's names are metrics `of` those. Only where it counts
 * otherwise than we do is there a metric of its own.
 */
#include "agent/meter.h"

#include "api/names.h"
#include "base/metric.h"

#include <stdio.h>
#include <string.h>

#define VLLM_LABELS "model_name=\"%s\",engine=\"0\""

static char labels[192], stop_labels[256], length_labels[256];

static struct metric requests = {.name = NAME_METRIC_REQUESTS,
    .help = "Requests to the OpenAI API that were accepted",
    .kind = METRIC_COUNTER};
static struct metric refused = {.name = NAME_METRIC_REFUSED,
    .help = "Requests answered with an error status",
    .kind = METRIC_COUNTER};
static struct metric tokens = {
    .name = NAME_METRIC_TOKENS, .help = "Tokens generated", .kind = METRIC_COUNTER};
static struct metric prompt_tokens = {.name = NAME_METRIC_PROMPT_TOKENS,
    .help = "Tokens of prompts that were answered",
    .kind = METRIC_COUNTER};
static struct metric cached_tokens = {.name = NAME_METRIC_CACHED_TOKENS,
    .help = "Of these, whose keys were kept",
    .kind = METRIC_COUNTER};
static struct metric guessed_tokens = {.name = NAME_METRIC_GUESSED_TOKENS,
    .help = "Tokens that were guessed ahead (spec.serve.speculation)",
    .kind = METRIC_COUNTER};
static struct metric right_tokens = {
    .name = NAME_METRIC_RIGHT_TOKENS, .help = "Of these, that came true", .kind = METRIC_COUNTER};
static struct metric first_token = {.name = NAME_METRIC_FIRST_TOKEN,
    .help = "From request to first token",
    .kind = METRIC_HISTOGRAM};
static struct metric next_token = {.name = NAME_METRIC_NEXT_TOKEN,
    .help = "From one token of an answer to the next",
    .kind = METRIC_HISTOGRAM};
static struct metric whole = {.name = NAME_METRIC_ANSWER,
    .help = "From request to the end of its answer",
    .kind = METRIC_HISTOGRAM};
static struct metric in_flight = {
    .name = NAME_METRIC_IN_FLIGHT, .help = "Requests waiting or generating", .kind = METRIC_GAUGE};
static struct metric waiting = {.name = NAME_METRIC_WAITING,
    .help = "Requests that the rank has not been handed yet",
    .kind = METRIC_GAUGE};

static struct metric oldest = {.name = NAME_METRIC_WAIT,
    .help = "Since the oldest request came that the rank has not been handed yet, 0: there is none",
    .kind = METRIC_GAUGE};
static struct metric texts = {.name = NAME_METRIC_ITEMS,
    .help = "Texts that were embedded or labelled",
    .kind = METRIC_COUNTER};
static struct metric text_tokens = {
    .name = NAME_METRIC_ITEM_TOKENS, .help = "Their tokens", .kind = METRIC_COUNTER};
static struct metric members = {.name = NAME_METRIC_MEMBERS,
    .help = "Models that answers are the average of, 0: there is one",
    .kind = METRIC_GAUGE};
static struct metric members_missing = {.name = NAME_METRIC_MISSING,
    .help = "Models that they are to be of, too, and are not there",
    .kind = METRIC_GAUGE};

static struct metric recommended = {
    .name = NAME_METRIC_RECOMMENDED, .help = "Items that were recommended", .kind = METRIC_COUNTER};

static struct metric routed[] = {
    [METER_FORWARDED] = {.name = NAME_METRIC_FORWARDED,
        .help = "Requests that the replica with their prefix answered, by way of this one",
        .kind = METRIC_COUNTER},
    [METER_KEPT] = {.name = NAME_METRIC_KEPT,
        .help = "Requests whose prefix is this replica's",
        .kind = METRIC_COUNTER},
    [METER_FALLBACK] = {.name = NAME_METRIC_FALLBACK,
        .help = "Requests that were another's, which was gone, not ready or had too long a queue",
        .kind = METRIC_COUNTER},
};
static struct metric adapters = {.name = NAME_METRIC_ADAPTERS,
    .help = "Adapters that are in memory (spec.serve.adapterMemory)",
    .kind = METRIC_GAUGE};
static struct metric adapter_bytes = {
    .name = NAME_METRIC_ADAPTER_BYTES, .help = "What they take", .kind = METRIC_GAUGE};
static struct metric adapter_loads = {.name = NAME_METRIC_ADAPTER_LOADS,
    .help = "Adapters that were loaded because a request wanted them",
    .kind = METRIC_COUNTER};
static struct metric adapter_drops = {.name = NAME_METRIC_ADAPTER_DROPS,
    .help = "Adapters that made room for others",
    .kind = METRIC_COUNTER};
static struct metric adapter_failures = {.name = NAME_METRIC_ADAPTER_WRONG,
    .help = "Adapters that could not be loaded",
    .kind = METRIC_COUNTER};
static struct metric adapter_load = {.name = NAME_METRIC_ADAPTER_LOAD,
    .help = "To load an adapter, from when its turn came",
    .kind = METRIC_HISTOGRAM};

static struct metric documents = {.name = NAME_METRIC_DOCUMENTS,
    .help = "Documents that answers are made from",
    .kind = METRIC_GAUGE};
static struct metric documents_passed_over = {.name = NAME_METRIC_PASSED_OVER,
    .help = "Files among them that cannot be read",
    .kind = METRIC_GAUGE};
static struct metric chunks = {
    .name = NAME_METRIC_CHUNKS, .help = "Chunks of the documents", .kind = METRIC_GAUGE};
static struct metric indexing = {.name = NAME_METRIC_INDEXING,
    .help = "To index what had changed of the documents",
    .kind = METRIC_HISTOGRAM};
static struct metric searches = {.name = NAME_METRIC_SEARCHES,
    .help = "A search in the documents, its query's embedding included",
    .kind = METRIC_HISTOGRAM};

#define VLLM(what, say, sort, is) \
    { \
        .name = "vllm:" what, .help = say, .kind = sort, .labels = labels, .of = is \
    }
static struct metric vllm_running = {.name = "vllm:num_requests_running",
    .help = "Requests handed to the rank",
    .kind = METRIC_GAUGE,
    .labels = labels};
static struct metric vllm_stopped = {.name = "vllm:request_success_total",
    .help = "Answers that ended, by the reason",
    .kind = METRIC_COUNTER,
    .labels = stop_labels};
static struct metric vllm_cut = {.name = "vllm:request_success_total",
    .help = "Answers that ended, by the reason",
    .kind = METRIC_COUNTER,
    .labels = length_labels};
static struct metric vllm[] = {
    VLLM("num_requests_waiting", "As " NAME_METRIC_WAITING, METRIC_GAUGE, &waiting),
    VLLM("prompt_tokens_total", "As " NAME_METRIC_PROMPT_TOKENS, METRIC_COUNTER, &prompt_tokens),
    VLLM("generation_tokens_total", "As " NAME_METRIC_TOKENS, METRIC_COUNTER, &tokens),
    VLLM("prefix_cache_queries_total", "As " NAME_METRIC_PROMPT_TOKENS, METRIC_COUNTER,
        &prompt_tokens),
    VLLM(
        "prefix_cache_hits_total", "As " NAME_METRIC_CACHED_TOKENS, METRIC_COUNTER, &cached_tokens),
    VLLM("spec_decode_num_draft_tokens_total", "As " NAME_METRIC_GUESSED_TOKENS, METRIC_COUNTER,
        &guessed_tokens),
    VLLM("spec_decode_num_accepted_tokens_total", "As " NAME_METRIC_RIGHT_TOKENS, METRIC_COUNTER,
        &right_tokens),
    VLLM("time_to_first_token_seconds", "As " NAME_METRIC_FIRST_TOKEN, METRIC_HISTOGRAM,
        &first_token),
    VLLM(
        "inter_token_latency_seconds", "As " NAME_METRIC_NEXT_TOKEN, METRIC_HISTOGRAM, &next_token),
    VLLM("e2e_request_latency_seconds", "As " NAME_METRIC_ANSWER, METRIC_HISTOGRAM, &whole),
};

void meter_register(const char *model)
{
    struct metric *all[] = {&requests, &refused, &tokens, &prompt_tokens, &cached_tokens,
        &guessed_tokens, &right_tokens, &first_token, &next_token, &whole, &in_flight, &waiting,
        &oldest, &texts, &text_tokens, &recommended, &members, &members_missing, &documents,
        &adapters, &adapter_bytes, &adapter_loads, &adapter_drops, &adapter_failures, &adapter_load,
        &documents_passed_over, &chunks, &indexing, &searches, &vllm_running, &vllm_stopped,
        &vllm_cut};
    snprintf(labels, sizeof labels, VLLM_LABELS, model);
    snprintf(stop_labels, sizeof stop_labels, "%s,finished_reason=\"stop\"", labels);
    snprintf(length_labels, sizeof length_labels, "%s,finished_reason=\"length\"", labels);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        metric_register(all[i]);
    for (size_t i = 0; i < sizeof routed / sizeof *routed; i++)
        metric_register(&routed[i]);
    for (size_t i = 0; i < sizeof vllm / sizeof *vllm; i++)
        metric_register(&vllm[i]);
}

void meter_accepted(void)
{
    metric_add(&requests, 1);
}

void meter_refused(void)
{
    metric_add(&refused, 1);
}

void meter_queue(int in_flight_now, int waiting_now)
{
    metric_set(&in_flight, in_flight_now);
    metric_set(&waiting, waiting_now);
    metric_set(&vllm_running, in_flight_now - waiting_now);
}

void meter_routed(enum meter_route r)
{
    if (r != METER_UNROUTED)
        metric_add(&routed[r], 1);
}

void meter_members(int there, int of)
{
    metric_set(&members, there);
    metric_set(&members_missing, of - there);
}

void meter_oldest(int64_t since_ms)
{
    metric_set(&oldest, (double)since_ms / 1000);
}

void meter_read(const struct json *finished)
{
    int64_t count = json_int(finished, "items", 0);
    metric_add(&texts, (double)count);
    metric_add(&text_tokens, count ? json_num(finished, "prompt_tokens", 0) : 0);
    metric_add(&recommended, json_num(finished, "recommended", 0));
}

/* Since the rank began; one that begins again counts from 0 on. */
static void follow(struct metric *m, double *last, double now)
{
    metric_add(m, now < *last ? now : now - *last);
    *last = now;
}

void meter_adapters(const struct json *told)
{
    static double loads, drops, failures;
    double before = loads;
    metric_set(&adapters, json_num(told, "loaded", 0));
    metric_set(&adapter_bytes, json_num(told, "bytes", 0));
    follow(&adapter_loads, &loads, json_num(told, "loads", 0));
    follow(&adapter_drops, &drops, json_num(told, "drops", 0));
    follow(&adapter_failures, &failures, json_num(told, "failures", 0));
    if (loads != before)
        metric_observe(&adapter_load, json_num(told, "seconds", 0));
}

void meter_indexed(int64_t files, int64_t passed_over, int64_t chunks_now, double seconds)
{
    metric_set(&documents, (double)files);
    metric_set(&documents_passed_over, (double)passed_over);
    metric_set(&chunks, (double)chunks_now);
    metric_observe(&indexing, seconds);
}

void meter_searched(double seconds)
{
    metric_observe(&searches, seconds);
}

void meter_token(int64_t since_ms)
{
    metric_add(&tokens, 1);
    if (since_ms >= 0)
        metric_observe(&next_token, (double)since_ms / 1000);
}

void meter_first_token(int64_t since_ms)
{
    metric_observe(&first_token, (double)since_ms / 1000);
}

void meter_ended(const char *finish, int64_t since_ms, bool first, const struct json *told)
{
    metric_observe(&whole, (double)since_ms / 1000);
    metric_add(&prompt_tokens, first ? (double)json_int(told, "prompt_tokens", 0) : 0);
    metric_add(&cached_tokens, first ? (double)json_int(told, "cached_tokens", 0) : 0);
    metric_add(&guessed_tokens, (double)json_int(told, "guessed_tokens", 0));
    metric_add(&right_tokens, (double)json_int(told, "right_tokens", 0));
    metric_add(strcmp(finish, "length") ? &vllm_stopped : &vllm_cut, 1);
}
