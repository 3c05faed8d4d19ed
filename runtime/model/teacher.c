/*
 * teacher: the student's walk over another model. What is planned is what is carved.
 */
#include "runtime/model/teacher.h"

#include "base/mem.h"
#include "runtime/model/net.h"

struct teacher {
    struct dev *dev;
    struct model *model;
    struct net net;
    struct net_memory memory;
    struct batch batch;
    struct head_teacher head;
};

/* Of a model that is only run, with the student's micro-batches. */
static struct model_conf conf_of(const struct model_conf *student)
{
    return (struct model_conf){.config = *student->teacher,
        .t = student->t,
        .train = true,
        .frozen = true,
        .micro_sequences = student->micro_sequences,
        .sequence_length = student->sequence_length,
        .recompute = RECOMPUTE_FULL,
        .logit_rows = student->logit_rows,
        .label_from = student->teacher_label_from,
        .packed = student->packed,
        .page = student->page};
}

/* Everything but memory; what it takes is counted. */
static int describe(struct teacher *t, const struct model *m, struct err *e)
{
    const struct model_conf *c = &m->conf;
    t->batch = (struct batch){.dev = m->dev,
        .config = &c->config,
        .page = c->page,
        .train = true,
        .frozen = true,
        .t = c->t,
        .compute = c->t,
        .b = c->micro_sequences,
        .tokens = c->sequence_length,
        .n = carve_times(c->micro_sequences, c->sequence_length)};
    int rc = net_create(&t->net, m, e);
    if (rc)
        return rc;
    net_bind(&t->net, m, NULL);
    net_carve(&t->net, &t->batch, &t->memory);
    return 0;
}

static int64_t bytes_of(const struct teacher *t)
{
    const struct net_memory *a = &t->memory;
    return carve_plus(
        carve_plus(a->saved.size, a->again.size), carve_plus(a->scratch.size, a->logits.size));
}

int teacher_plan(const struct model_conf *student, int64_t *bytes, struct err *e)
{
    const struct model_conf c = conf_of(student);
    struct model m = {0};
    struct teacher t = {0};
    int rc = model_describe(&m, &c, e);
    if (!rc && !(rc = describe(&t, &m, e)))
        *bytes = carve_plus(carve_times(m.base.elements, dtype_block_bytes(c.t)), bytes_of(&t));
    net_done(&t.net);
    model_done(&m);
    return rc;
}

static int open_teacher(struct teacher *t, const struct model_conf *student, struct err *e)
{
    const struct model_conf c = conf_of(student);
    int rc;
    if ((rc = model_create(t->dev, &c, &t->model, e)) || (rc = describe(t, t->model, e)) ||
        (rc = net_memory_open(&t->memory, t->dev, e)))
        return rc;
    net_carve(&t->net, &t->batch, &t->memory);
    t->head = (struct head_teacher){
        &t->batch, &t->net.head, student->distill_weight, student->distill_temperature};
    return 0;
}

int teacher_create(
    struct dev *d, const struct model_conf *student, struct teacher **out, struct err *e)
{
    struct teacher *t = mem_zalloc(sizeof *t);
    if (!t)
        return err_set(e, ERR_MEMORY, "no memory for a teacher");
    t->dev = d;
    int rc = open_teacher(t, student, e);
    if (rc) {
        teacher_destroy(t);
        return rc;
    }
    *out = t;
    return 0;
}

void teacher_destroy(struct teacher *t)
{
    if (!t)
        return;
    net_memory_close(&t->memory, t->dev);
    net_done(&t->net);
    model_destroy(t->model);
    mem_free(t);
}

struct model *teacher_model(const struct teacher *t)
{
    return t->model;
}

const struct head_teacher *teacher_head(const struct teacher *t)
{
    return &t->head;
}

void teacher_forward(struct teacher *t, const struct batch *student)
{
    struct batch *s = &t->batch;
    s->b = student->b;
    s->tokens = student->tokens;
    s->n = student->n;
    s->first = student->first;
    s->ids = student->ids;
    s->position = student->position;
    s->types = student->types;
    s->lengths = student->lengths;
    s->sees_from = student->sees_from;
    net_forward(s, &t->net);
}
