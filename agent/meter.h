/*
 * meter: what the API of a serving pod is measured by: counters, gauges and histograms under our
 * names (api/names.h), and the same figures under vLLM's, by which dashboards and autoscalers know
 * a server (https://docs.vllm.ai/en/latest/usage/metrics/). Of one front in a process.
 */
#ifndef AGENT_METER_H
#define AGENT_METER_H

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

/* model: its name in the API, which stands in vLLM's labels; copied. */
void meter_register(const char *model);
void meter_accepted(void);
void meter_refused(void);
/* Answers that wait or are being given, and those of them that the rank was not handed. */
void meter_queue(int in_flight, int waiting);
/* What became of a request whose prompt is routed; UNROUTED: it is not, and counts for nothing. */
enum meter_route { METER_UNROUTED = -1, METER_FORWARDED, METER_KEPT, METER_FALLBACK };
void meter_routed(enum meter_route r);
void meter_oldest(int64_t since_ms);   /* the request came that the rank was not handed; 0: none */
void meter_members(int there, int of); /* models that are averaged, of so many; 0: there is one */
void meter_read(const struct json *finished); /* what a WIRE_FINISHED says of texts and items */
void meter_adapters(const struct json *told); /* what a WIRE_ADAPTERS says */
/* Documents: files that are found or were passed over, their chunks, and how long the last look at
 * what had changed took; a search in them. */
void meter_indexed(int64_t files, int64_t passed_over, int64_t chunks, double seconds);
void meter_searched(double seconds);
/* A token was generated; since_ms: after the answer's last one, -1: nobody hears it, or it is the
 * first, which meter_first_token tells. */
void meter_token(int64_t since_ms);
void meter_first_token(int64_t since_ms); /* after the request */
/* An answer has ended: why, as the API says it, how long after its request, whether it is the first
 * to its prompt, whose tokens count once, and what the rank said of it (WIRE_FINISHED). */
void meter_ended(const char *finish, int64_t since_ms, bool first, const struct json *told);

#endif
