/*
 * rules: what an LLMJob may not say though each of its fields may. They are written once, as
 * x-kubernetes-validations of manifests/crd.yaml, by which the API server refuses; the same texts
 * are a table here (api/rules.awk), by which all else refuses, with the same sentences. What is no
 * rule there: of what a text or a map may be (api/jobspec_text) and of what may
 * change. Pure.
 */
#ifndef API_RULES_H
#define API_RULES_H

#include "api/jobspec.h"
#include "base/field.h"

extern const struct rule {
    const char *at;      /* the node that is asked: "spec.storage[].mountPath" */
    const char *rule;    /* in CEL; NULL: of a list's items the member `field` differs */
    const char *field;   /* at fault, below it: ".lora.rank", or nothing */
    const char *message; /* one sentence */
} rules_table[];
extern const int rules_count;

/* The job as the API server has it when it looks at rules, defaults filled in: {"metadata":
 * {"name": ..}, "spec": {..}}. body: what spec was decoded from, which tells what of it was given;
 * NULL: what spec does not use is not there. The caller destroys *out. */
int rules_subject(
    const struct jobspec *spec, const struct json *body, struct json **out, struct err *e);

/* Refuses by the first rule, in the CRD's order, that is broken, those of spec itself last; about:
 * of those that have this word in them, "momentum"; NULL: of all. */
int rules_check(
    const struct field_source *s, const struct json *subject, const char *about, struct err *e);

/* Of a training: the most that of each axis a planner may choose, beside what is told: ranks, or a
 * stage of ZeRO; of tensor and pipeline 0 where there may be none, else `ranks`. */
struct rules_most {
    int tensor, pipeline, zero_stage;
};
int rules_most_of_training(
    const struct jobspec *spec, int ranks, struct rules_most *out, struct err *e);

#endif
