/*
 * jobpath: the rules are the CEL of manifests/crd.yaml in the same words. It must
 * not touch the file system.
 */
#include "api/jobpath.h"

#define PATH(member) .offset = offsetof(struct jobspec, member)

#define ADAPTER(i) \
    { \
        "serve.adapters[" #i "].path", PATH(serve.adapters[i].path) \
    }
#define ADAPTERS(a, b, c, d) ADAPTER(a), ADAPTER(b), ADAPTER(c), ADAPTER(d)
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
    ADAPTERS(0, 1, 2, 3),
    ADAPTERS(4, 5, 6, 7),
    ADAPTERS(8, 9, 10, 11),
    ADAPTERS(12, 13, 14, 15),
    ADAPTERS(16, 17, 18, 19),
    ADAPTERS(20, 21, 22, 23),
    ADAPTERS(24, 25, 26, 27),
    ADAPTERS(28, 29, 30, 31),
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

void jobpath_set(struct jobspec *spec, const struct jobpath *p, const char *path)
{
    *(const char **)(void *)((char *)spec + p->offset) = path;
}

const struct jobpath *jobpath_output(const struct jobspec *spec)
{
    for (int i = 0; i < jobpath_count; i++)
        if (jobpath_table[i].output && jobpath_of(spec, &jobpath_table[i]))
            return &jobpath_table[i];
    return NULL;
}
