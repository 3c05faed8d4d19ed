/*
 * jobpath: the rules are the CEL of manifests/crd.yaml in the same words. It must
 * not touch the file system.
 */
#include "api/jobpath.h"

#define PATH(member) .offset = offsetof(struct jobspec, member)

#define MEMBER(i) \
    {"serve.ensemble.members[" #i "].source", PATH(serve.ensemble.members[i].source)}, \
    { \
        "serve.ensemble.members[" #i "].adapter", PATH(serve.ensemble.members[i].adapter) \
    }
#define MEMBERS(a, b) MEMBER(a), MEMBER(b)

const struct jobpath jobpath_table[] = {
    {"model.source", PATH(model.source), .apart = true},
    {"model.config", PATH(model.config), .apart = true},
    {"checkpoint.path", PATH(checkpoint.path), .written = true, .apart = true},
    {"train.data.train", PATH(train.data.train), .apart = true},
    {"train.data.validation", PATH(train.data.validation), .apart = true},
    {"train.data.test", PATH(train.data.test), .apart = true},
    {"train.distill.teacher", PATH(train.distill.teacher), .apart = true},
    {"train.tensorboard", PATH(train.tensorboard), .written = true, .apart = true},
    {"train.output", PATH(train.output), .written = true, .output = true},
    {"train.optimizer.offload", PATH(train.optimizer.offload), .written = true},
    {"convert.mergeAdapter", PATH(convert.merge_adapter), .apart = true},
    {"convert.calibration", PATH(convert.calibration), .apart = true},
    {"convert.evaluate.data", PATH(convert.evaluate.data), .apart = true},
    {"convert.output", PATH(convert.output), .written = true, .output = true},
    {"evaluate.data", PATH(evaluate.data), .apart = true},
    {"evaluate.adapter", PATH(evaluate.adapter), .apart = true},
    {"evaluate.output", PATH(evaluate.output), .written = true, .output = true},
    {"serve.classify.file", PATH(serve.classify.file)},
    {"serve.classify.directory", PATH(serve.classify.directory)},
    {"serve.classify.state", PATH(serve.classify.state), .written = true},
    {"serve.classify.caFile", PATH(serve.classify.ca_file)},
    {"serve.speculation.model.source", PATH(serve.speculation.model)},
    {"serve.recommend.items", PATH(serve.recommend.items), .apart = true},
    {"serve.retrieval.documents", PATH(serve.retrieval.documents), .apart = true},
    {"serve.retrieval.encoder.source", PATH(serve.retrieval.encoder.source), .apart = true},
    {"serve.embeddingCache", PATH(serve.embedding_cache), .written = true},
    MEMBERS(0, 1),
    MEMBERS(2, 3),
    MEMBERS(4, 5),
    MEMBERS(6, 7),
};
const int jobpath_count = sizeof jobpath_table / sizeof *jobpath_table;

const char *jobpath_of(const struct jobspec *spec, const struct jobpath *p)
{
    return *(const char *const *)(const void *)((const char *)spec + p->offset);
}

int jobpath_places(const struct jobspec *spec)
{
    return jobpath_count + spec->serve.adapter_count;
}

const char **jobpath_place(struct jobspec *spec, int i)
{
    if (i >= jobpath_count)
        return &spec->serve.adapters[i - jobpath_count].path;
    return (const char **)(void *)((char *)spec + jobpath_table[i].offset);
}

const struct jobpath *jobpath_output(const struct jobspec *spec)
{
    for (int i = 0; i < jobpath_count; i++)
        if (jobpath_table[i].output && jobpath_of(spec, &jobpath_table[i]))
            return &jobpath_table[i];
    return NULL;
}
