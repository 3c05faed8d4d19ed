/*
 * preview: a struct train with no more in it than a plan needs, and tables. What only texts tell is
 * taken to be usual: labels are as many as one column of the head's blocks holds.
 */
#include "runtime/train/preview.h"

#include "base/conf.h"
#include "runtime/train/choose.h"
#include "runtime/train/internal.h"

#include <stddef.h>
#include <sys/stat.h>

#define LABELS 64

struct preview {
    int64_t memory_bytes, best;
    double tflops, memory_gb_s, inside_gb_s, inside_us, between_gb_s, between_us;
    /* what follows from the job */
    struct jobspec spec;
    struct train t;
    struct model_conf model;
    struct planner_input in;
    struct cost_speed speed;
    FILE *out;
};

#define FIGURE(name_, member) \
    { \
        name_, CONF_NUM, offsetof(struct preview, member), NULL, "0", "" \
    }

static const struct conf_item items[] = {
    {"memory-bytes", CONF_INT, offsetof(struct preview, memory_bytes), NULL, "0", "of one rank"},
    {"best", CONF_INT, offsetof(struct preview, best), NULL, "8", "layouts that are shown"},
    FIGURE("tflops", tflops),
    FIGURE("memory-gb-s", memory_gb_s),
    FIGURE("inside-gb-s", inside_gb_s),
    FIGURE("inside-us", inside_us),
    FIGURE("between-gb-s", between_gb_s),
    FIGURE("between-us", between_us),
    {0},
};

/* -- the job -- */

static bool is_on_gpu(const struct preview *p)
{
    const char *kind = device_kind(p->spec.device.resource);
    return kind && strcmp(kind, "cpu") != 0;
}

static void set_speed(struct preview *p)
{
    bool gpu = is_on_gpu(p);
    p->speed = (struct cost_speed){.flops_per_s = 1e12 *
            (p->tflops > 0 ? p->tflops
                    : gpu  ? 0.7 * 312
                           : 0.2),
        .memory_bytes_per_s = 1e9 *
            (p->memory_gb_s > 0 ? p->memory_gb_s
                    : gpu       ? 2039
                                : 20),
        .inside = {.latency_s = 1e-6 *
                (p->inside_us > 0 ? p->inside_us
                        : gpu     ? 3.4
                                  : 20),
            .bytes_per_s = 1e9 *
                (p->inside_gb_s > 0 ? p->inside_gb_s
                        : gpu       ? 300
                                    : 5)},
        .between = {.latency_s = 1e-6 *
                (p->between_us > 0 ? p->between_us
                        : gpu      ? 14
                                   : 100),
            .bytes_per_s = 1e9 *
                (p->between_gb_s > 0 ? p->between_gb_s
                        : gpu        ? 25
                                     : 1.25)},
        .pod_ranks = p->spec.device.per_replica,
        .trees = gpu,
        .shared = !gpu};
}

/* Only the configuration where weights are drawn. */
static int read_config(struct preview *p, struct err *e)
{
    const struct jobspec *s = &p->spec;
    char path[LIMIT_PATH_BYTES + 32];
    struct stat st;
    if (s->model.init == INIT_RANDOM && s->model.config)
        return model_config_read(s->model.config, &p->t.config, e);
    if (s->model.init == INIT_RANDOM && !stat(s->model.source, &st) && S_ISDIR(st.st_mode)) {
        snprintf(path, sizeof path, "%s/config.json", s->model.source);
        return model_config_read(path, &p->t.config, e);
    }
    int rc = weights_open(s->model.source, NULL, &p->t.weights, e);
    if (!rc)
        p->t.config = *weights_config(p->t.weights);
    return rc;
}

/* As objectives shape it, without their texts. */
static void shape_head(struct preview *p)
{
    struct model_config *c = &p->t.config;
    enum objective_kind o = p->spec.train.objective;
    bool texts = o == OBJECTIVE_SEQUENCE_CLASSIFICATION;
    c->labels = texts || o == OBJECTIVE_TOKEN_CLASSIFICATION ? LABELS : 0;
    c->masked = o == OBJECTIVE_MASKED_LM;
    c->pooled = texts && c->bidirectional;
    c->last = texts && !c->bidirectional;
    c->several = false;
}

static int check_model(const struct preview *p, struct err *e)
{
    const struct train *t = &p->t;
    if (!t->objective->model->takes_fn(&t->config))
        return err_set(e, ERR_USER, "spec.train.objective: %s needs a %s, and spec.model is a %s",
            t->objective->name, t->objective->model->name, t->config.architecture);
    if (t->spec->train.sequence_length > t->config.context)
        return err_set(e, ERR_USER,
            "spec.train.sequenceLength: %d exceeds the model's context of %lld",
            t->spec->train.sequence_length, (long long)t->config.context);
    if (t->spec->train.distill.teacher)
        return err_set(e, ERR_USER, "spec.train.distill: a teacher is not counted here");
    return 0;
}

static int read_job(struct preview *p, const char *file, struct arena *a, struct err *e)
{
    int rc;
    if ((rc = jobspec_load(file, a, &p->spec, e)))
        return rc;
    struct train *t = &p->t;
    t->spec = &p->spec;
    t->steps = p->spec.train.steps;
    t->objective = objective_of(&p->spec.train);
    if ((rc = read_config(p, e)))
        return rc;
    shape_head(p);
    if ((rc = check_model(p, e)))
        return rc;
    t->optim_conf = train_optim_conf(t);
    p->model = train_model_conf(t);
    int world = p->spec.replicas * p->spec.device.per_replica;
    if ((rc = train_planner_input(t, &p->model, world, p->memory_bytes, &p->in, e)))
        return rc;
    p->in.rows = is_on_gpu(p) ? TRAIN_GPU_ROWS : 0;
    set_speed(p);
    return 0;
}

/* -- what is printed -- */

static void print_head(const struct preview *p)
{
    const struct model_config *c = &p->t.config;
    const struct jobspec_train *s = &p->spec.train;
    fprintf(p->out,
        "%s of %lld layers, %lld channels, %lld tokens of vocabulary; %d ranks in pods of %d, each "
        "of %.1f GiB\n",
        c->architecture, (long long)c->layers, (long long)c->dim, (long long)c->vocab, p->in.world,
        p->spec.device.per_replica, (double)p->memory_bytes / (1 << 30));
    fprintf(p->out, "a step of %d sequences of %d tokens; recompute %s\n", s->batch_sequences,
        s->sequence_length, recompute_name(s->recompute));
    fprintf(p->out,
        "taken to be: a rank's %.4g TFLOP/s, memory of %.4g GB/s; a pod's links %.4g GB/s, %.3g "
        "us; between pods %.4g GB/s, %.3g us\n\n",
        1e-12 * p->speed.flops_per_s, 1e-9 * p->speed.memory_bytes_per_s,
        1e-9 * p->speed.inside.bytes_per_s, 1e6 * p->speed.inside.latency_s,
        1e-9 * p->speed.between.bytes_per_s, 1e6 * p->speed.between.latency_s);
}

static void print_columns(FILE *out)
{
    fprintf(out, "  %-22s %5s %9s %9s = %8s %8s %8s %8s %8s %8s %8s %9s\n", "layout", "micro",
        "MiB", "seconds", "compute", "tensor", "expert", "context", "pipeline", "idle", "data",
        "optimizer");
}

static void print_one(FILE *out, const struct layout_choice *c, bool taken)
{
    char text[CHOOSE_TEXT_BYTES];
    const struct cost *k = &c->cost;
    choose_text(c, text);
    fprintf(out, "%c %-22s %5lld %9lld %9.4g = %8.3g %8.3g %8.3g %8.3g %8.3g %8.3g %8.3g %9.3g\n",
        taken ? '*' : ' ', text, (long long)c->plan.micro_sequences,
        (long long)(c->plan.memory.total >> 20), k->total, k->compute, k->tensor, k->expert,
        k->context, k->pipeline, k->idle, k->data, k->optimizer);
}

static void print_out(const struct preview *p, const struct choices *all)
{
    int left = all->count - all->fitting;
    if (left)
        fprintf(p->out, "\n%d that do not fit:\n", left);
    for (int i = all->fitting; i < all->count && i - all->fitting < p->best; i++) {
        char text[CHOOSE_TEXT_BYTES];
        choose_text(&all->at[i], text);
        fprintf(p->out, "  %-22s %s\n", text, all->at[i].why.text);
    }
    if (left > p->best)
        fprintf(p->out, "  and %lld more\n", (long long)(left - p->best));
}

/* Of a processor's ranks it comes out of the same memory. */
static void print_snapshot(const struct preview *p, const struct memplan *m)
{
    const char *how = "copied and written while it trains";
    if (!p->spec.checkpoint.asynchronous)
        return;
    if (is_on_gpu(p))
        how = "copied to the pod's memory if half of that holds its ranks' copies, and written "
              "while it trains";
    else if (m->snapshot > p->in.budget_bytes - m->total)
        how = "not copied, for there is no room beside: the training waits for its checkpoints";
    fprintf(p->out, "  a rank's part of a checkpoint, up to %lld MiB, is %s\n",
        (long long)(m->snapshot >> 20), how);
}

/* The job's own, and the others. told: what nothing is chosen for. */
static void print_table(
    const struct preview *p, const struct choices *all, const struct layout_choice *told)
{
    print_columns(p->out);
    if (told)
        print_one(p->out, told, true);
    int shown = 0;
    for (int i = 0; i < all->fitting && shown < p->best; i++) {
        const struct layout_choice *c = &all->at[i];
        bool same = told && c->tensor == told->tensor && c->pipeline == told->pipeline &&
            c->zero_stage == told->zero_stage;
        if (same)
            continue;
        print_one(p->out, c, !told && !i);
        shown++;
    }
    if (all->fitting > shown + (told ? 1 : 0))
        fprintf(p->out, "  and %d more\n", all->fitting - shown - (told ? 1 : 0));
    print_out(p, all);
    fprintf(p->out, "\n* what the job gets: %s\n",
        told               ? "it fits with nothing chosen for it"
            : all->fitting ? "the fastest that fits"
                           : "nothing fits");
    if (told || all->fitting)
        print_snapshot(p, told ? &told->plan.memory : &all->at[0].plan.memory);
}

static int print_all(struct preview *p, struct err *e)
{
    struct choices all;
    struct layout_choice told = {.tensor = p->in.tensor > 1 ? p->in.tensor : 1,
        .pipeline = p->in.pipeline > 1 ? p->in.pipeline : 1,
        .zero_stage = p->in.zero_stage};
    struct planner_plan plan;
    int rc = choose_layouts(&p->in, &p->speed, &all, e);
    if (rc)
        return rc;
    told.fits = !planner_plan(&p->in, &told.plan, &told.why);
    if (told.fits)
        cost_step(&p->in, &told.plan, &p->speed, &told.cost);
    print_head(p);
    print_table(p, &all, told.fits ? &told : NULL);
    if (!told.fits && !all.fitting)
        rc = choose_plan(&p->in, &p->speed, &told.why, &plan, e);
    choose_done(&all);
    return rc;
}

int preview_run(int argc, char **argv, FILE *out, struct err *e)
{
    static struct preview p;
    p.out = out;
    int next = conf_load(items, argc + 1, argv - 1, &p, e);
    if (next <= 0)
        return next;
    if (next != argc || p.memory_bytes < 1)
        return err_set(e, ERR_USER, "--memory-bytes N and a job.json are expected");
    arena_auto struct arena *a = arena_create(1 << 20);
    if (!a)
        return err_set(e, ERR_MEMORY, "out of memory");
    int rc = read_job(&p, argv[next - 1], a, e);
    if (!rc)
        rc = print_all(&p, e);
    weights_close(p.t.weights);
    return rc;
}
