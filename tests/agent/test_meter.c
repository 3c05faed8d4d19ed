/*
 * meter: goal: vLLM's names show our figures, with its labels, and each figure is what happened.
 * Method: what a server would tell is told, and lines of the page are looked for.
 * needs: faults
 */
#include "agent/meter.h"

#include "base/metric.h"
#include "tests/unit.h"

#include <string.h>

static bool shows(const char *line)
{
    buf_auto struct buf page;
    char between[256];
    buf_init(&page, 1 << 20);
    metric_print(&page);
    snprintf(between, sizeof between, "\n%s\n", line);
    return strstr(buf_cstr(&page), between) != NULL;
}

#define OF "{model_name=\"org/m\",engine=\"0\"} "

START_TEST(both_names_show_it)
{
    meter_register("org/m");
    meter_accepted();
    meter_refused();
    meter_queue(5, 2);
    meter_first_token(300);
    meter_token(-1);
    meter_token(40);
    json_auto struct json *told = NULL;
    static const char text[] = "{\"prompt_tokens\":20,\"cached_tokens\":16,\"guessed_tokens\":9,"
                               "\"right_tokens\":4}";
    ck_assert(!json_parse(text, sizeof text - 1, &told, NULL));
    meter_ended("length", 2000, true, told);
    meter_ended("tool_calls", 2000, false, told);
    meter_indexed(3, 1, 40, 0.5);
    meter_searched(0.25);
    static const char loaded[] =
        "{\"loaded\":2,\"bytes\":4096,\"loads\":5,\"drops\":3,\"failures\":"
        "1,\"seconds\":0.5}";
    json_auto struct json *adapters = NULL;
    ck_assert(!json_parse(loaded, sizeof loaded - 1, &adapters, NULL));
    meter_adapters(adapters);
    meter_adapters(adapters); /* nothing was loaded in between */
    static const char *const lines[] = {"llmjob_requests_total 1",
        "llmjob_requests_refused_total 1", "llmjob_requests_in_flight 5",
        "llmjob_requests_waiting 2", "vllm:num_requests_waiting" OF "2",
        "vllm:num_requests_running" OF "3", "llmjob_generated_tokens_total 2",
        "vllm:generation_tokens_total" OF "2", "llmjob_prompt_tokens_total 20",
        "vllm:prompt_tokens_total" OF "20", "vllm:prefix_cache_queries_total" OF "20",
        "vllm:prefix_cache_hits_total" OF "16", "llmjob_cached_prompt_tokens_total 16",
        "llmjob_guessed_tokens_total 18", "llmjob_guessed_tokens_right_total 8",
        "vllm:spec_decode_num_draft_tokens_total" OF "18",
        "vllm:spec_decode_num_accepted_tokens_total" OF "8",
        "vllm:time_to_first_token_seconds_sum" OF "0.300",
        "vllm:inter_token_latency_seconds_sum" OF "0.040",
        "vllm:inter_token_latency_seconds_count" OF "1",
        "vllm:e2e_request_latency_seconds_count" OF "2",
        "vllm:time_to_first_token_seconds_bucket{model_name=\"org/m\",engine=\"0\",le=\"0.5\"} 1",
        "vllm:request_success_total{model_name=\"org/m\",engine=\"0\",finished_reason=\"stop\"} 1",
        "vllm:request_success_total{model_name=\"org/m\",engine=\"0\","
        "finished_reason=\"length\"} 1",
        "llmjob_adapters_loaded 2", "llmjob_adapters_bytes 4096", "llmjob_adapter_loads_total 5",
        "llmjob_adapter_drops_total 3", "llmjob_adapter_load_failures_total 1",
        "llmjob_adapter_load_seconds_count 1", "llmjob_adapter_load_seconds_sum 0.500",
        "llmjob_documents 3", "llmjob_documents_passed_over 1", "llmjob_document_chunks 40",
        "llmjob_index_seconds_sum 0.500", "llmjob_search_seconds_sum 0.250",
        "llmjob_search_seconds_count 1", "# TYPE vllm:inter_token_latency_seconds histogram"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        ck_assert_msg(shows(lines[i]), "%s", lines[i]);
}
END_TEST

UNIT_MAIN("meter", both_names_show_it)
