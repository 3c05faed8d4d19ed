/*
 * jobspecs: LLMJobs for tests: documents in which every leaf of the schema stands at least once,
 * and what the decoder says to one change of them. One arena a test, between begin and end.
 */
#ifndef TESTS_API_JOBSPECS_H
#define TESTS_API_JOBSPECS_H

#include "api/jobspec.h"
#include "base/json.h"
#include "base/mem.h"

#define JOBSPECS_KIND    "apiVersion: llmjob.dev/v1alpha1, kind: LLMJob, "
#define JOBSPECS_HEAD    "{" JOBSPECS_KIND "metadata: {name: j}, spec: "
#define JOBSPECS_STORAGE "storage: [{name: d, claimName: c, mountPath: /data}]"

extern const char jobspecs_train[], jobspecs_epochs[], jobspecs_texts[], jobspecs_dpo[],
    jobspecs_adapter[], jobspecs_serve[], jobspecs_classify[], jobspecs_recommend[],
    jobspecs_ensemble[], jobspecs_run[], jobspecs_convert[], jobspecs_search[], jobspecs_prune[],
    jobspecs_evaluate[], jobspecs_masked[], jobspecs_pairs[];
extern struct arena *jobspecs_arena;

void jobspecs_begin(void);
void jobspecs_end(void);
struct json *jobspecs_parse(const char *yaml); /* the documents, in a list */
/* Decodes a document with one change; target is below spec. What is decoded is in the arena. */
int jobspecs_decode(const char *document, const char *target, const char *value,
    struct jobspec *out, struct err *e);
/* Likewise: the error's text, or "" when it is accepted. */
const char *jobspecs_verdict(const char *document, const char *target, const char *value);

#endif
