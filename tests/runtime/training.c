/*
 * training: see training.h. Each rank is a child that opens its device and its collective as the
 * program does and runs train_run; rank 0's frames come over a socket. Rank 0's struct lies in
 * shared memory, so that a test can ask it to stop.
 */
#include "tests/runtime/training.h"

#include "api/names.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/point.h"
#include "runtime/ckpt/ckpt.h"
#include "runtime/coll/coll.h"
#include "runtime/evaluate/evaluate.h"
#include "runtime/files/safetensors.h"
#include "runtime/train/train.h"
#include "runtime/train/world.h"
#include "tests/runtime/bytes.h"
#include "tests/runtime/golden.h"

#include <check.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS 60000 /* for a step on the simulator, on a busy machine */

char training_folder[64];
static struct err e;

/* -- what the ranks train: a model folder and a corpus -- */

static void write_corpus(const char *path)
{
    buf_auto struct buf b;
    uint32_t x = 12345;

    buf_init(&b, 1 << 20);
    while (b.len < 9000) { /* words from a small vocabulary: there is something to learn */
        x = x * 1664525u + 1013904223u;
        buf_printf(&b, "%s ",
            (const char *[]){
                "the", "light", "was", "good", "and", "day", "night", "waters"}[x >> 29]);
    }
    golden_write(path, b.data, b.len);
}

const char *training_path(const char *name)
{
    static char path[8][256];
    static int next;
    char *p = path[next++ % 8];

    snprintf(p, 256, "%s/%s", training_folder, name);
    return p;
}

static struct arena *strings; /* of the jobs of one test */

void training_setup(void)
{
    strings = arena_create(1 << 20);
    ck_assert_ptr_nonnull(strings);
    golden_folder(training_folder);
    bytes_model(training_folder);
    write_corpus(training_path("corpus.txt"));
}

void training_teardown(void)
{
    golden_remove(training_folder);
    arena_destroy(strings);
}

struct jobspec training_job(const char *run)
{
    struct jobspec s = {
        .name = "t", .namespace_ = "default", .task = TASK_TRAIN, .precision = PRECISION_FP32};

    s.model.source = arena_strdup(strings, training_path("model"));
    s.model.init = INIT_PRETRAINED;
    s.device.resource = "cpu";
    s.device.per_replica = 1;
    s.checkpoint.path = arena_strdup(strings, training_path(run));
    s.checkpoint.keep = 2;
    s.checkpoint.asynchronous = true;
    s.train.data.train = arena_strdup(strings, training_path("corpus.txt"));
    s.train.data.format = FORMAT_TEXT;
    s.train.sequence_length = TRAINING_T;
    s.train.batch_sequences = TRAINING_BATCH;
    s.train.steps = TRAINING_STEPS;
    s.train.seed = 42;
    s.train.optimizer.learning_rate = 2e-3;
    s.train.optimizer.schedule = SCHEDULE_COSINE;
    s.train.optimizer.warmup_steps = 5;
    s.train.optimizer.weight_decay = 0.1;
    s.train.optimizer.layer_decay = 1;
    s.train.optimizer.momentum = -1;
    s.train.optimizer.beta1 = 0.9;
    s.train.optimizer.beta2 = 0.95;
    s.train.optimizer.epsilon = 1e-8;
    s.train.optimizer.clip_norm = 1;
    s.train.communication.local_steps = 1;
    s.train.evaluate_every_steps = 20;
    s.train.output = arena_strdup(strings, training_path("output"));
    return s;
}

void training_lora(struct jobspec *s)
{
    s->train.method = METHOD_LORA;
    s->train.lora.rank = 4;
    s->train.lora.alpha = 8;
    s->train.lora.target_count = 2;
    s->train.lora.targets[0] = "q_proj";
    s->train.lora.targets[1] = "down_proj";
}

const char *training_mixture(void)
{
    static const char config[] =
        "{\"model_type\":\"qwen3_moe\",\"vocab_size\":256,\"hidden_size\":32,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":2,\"num_key_value_heads\":1,"
        "\"head_dim\":16,\"intermediate_size\":64,\"moe_intermediate_size\":32,\"num_experts\":6,"
        "\"num_experts_per_tok\":2,\"norm_topk_prob\":true,\"router_aux_loss_coef\":0.01}";
    golden_write(training_path("mixture.json"), config, sizeof config - 1);
    return arena_strdup(strings, training_path("mixture.json"));
}

/* -- ranks -- */

struct world {
    struct training conf;
    int listen[TRAINING_WORLD];
    struct wire_peer peers[TRAINING_WORLD];
    pid_t pid[TRAINING_WORLD];
    int64_t killed_ms;
    int lock;            /* of the folder, or -1 */
    struct door *leader; /* in memory that this process shares with rank 0 */
};

/* As the program does it, from orders to train_run; only the device is the test's choice. */
static int rank_body(const struct world *w, int rank, int fd)
{
    static struct door own;
    struct door *d = rank ? &own : w->leader;
    door_init(d, rank ? -1 : fd, NULL);
    d->rank = rank;
    d->end_ms = w->conf.end_ms ? w->conf.end_ms : DOOR_END_MS;
    bool other = w->conf.last && rank == w->conf.size - 1;
    struct orders orders = {.spec = other ? w->conf.last : w->conf.spec,
        .rank = rank,
        .world = w->conf.size,
        .local_world = 1,
        .incarnation = w->conf.incarnation,
        .secret = "00112233445566778899aabbccddeeff",
        .peers = (struct wire_peer *)w->peers,
        .listen_fd = w->listen[rank],
        .copies_fd = w->conf.copies ? w->conf.copies[w->peers[rank].replica] : -1};
    const char *kind = w->conf.kind ? w->conf.kind : "cpu";
    kind = w->conf.last_kind && rank == w->conf.size - 1 ? w->conf.last_kind : kind;
    int local = w->peers[rank].local_rank, devices = w->conf.devices;
    int device = strncmp(kind, "cpu", 3) ? local % (devices ? devices : TRAINING_WORLD) : 0;
    struct train_conf c = {.door = d,
        .orders = &orders,
        .budget_bytes = w->conf.budget_bytes ? w->conf.budget_bytes : 1 << 30};
    struct err why = {0};
    const struct rlimit data = {(rlim_t)w->conf.data_bytes, (rlim_t)w->conf.data_bytes};
    ck_assert(!w->conf.data_bytes || !setrlimit(RLIMIT_DATA, &data));
    if (w->conf.die_at)
        setenv(POINT_DIE_AT, w->conf.die_at, 1);
    setenv(NAME_ENV_COLL, w->conf.staged ? NAME_ENV_COLL_STAGED : "", 1);
    int rc = dev_open(kind, device, 1, &c.dev, &why);
    if (!rc && !(rc = world_connect(&orders, d, c.dev, &c.coll, &why)))
        rc = orders.spec->task == TASK_EVALUATE ? evaluate_run(&c, &why) : train_run(&c, &why);
    if (rc && rc != -ERR_DRAINED)
        door_send_failed(d, &why);
    coll_destroy(c.coll);
    dev_close(c.dev);
    return (int)exit_class_of(rc ? why.code : ERR_NONE);
}

/* As a commit does, which then waits. */
static void lock_checkpoints(struct world *w)
{
    char path[LIMIT_PATH_BYTES];
    snprintf(path, sizeof path, "%s/lock", w->conf.spec->checkpoint.path);
    w->lock = io_append(path, 0644, &e);
    ck_assert_msg(w->lock >= 0 && !flock(w->lock, LOCK_EX), "%s", path);
}

static void take_frame(struct world *w, const struct wire_frame *f, struct outcome *o)
{
    json_auto struct json *v = NULL;
    int step;

    ck_assert_msg(!json_parse(f->data, f->len, &v, &e), "%s", e.text);
    step = (int)json_int(v, "step", 0);
    if (f->type == WIRE_STEP) {
        if (w->conf.spec->task == TASK_TRAIN) {
            ck_assert(step >= 1 && step <= TRAINING_STEPS && o->loss[step] == 0);
            o->loss[step] = json_num(v, "loss", 0);
        }
        o->first = o->first ? o->first : step;
        o->last = step;
        if (w->conf.stop_after && step >= w->conf.stop_after)
            atomic_store(&w->leader->stop, true);
        if (step == w->conf.kill_after) {
            kill(w->pid[w->conf.size - 1], SIGKILL);
            w->killed_ms = clock_ms();
        }
    }
    if (f->type == WIRE_EVALUATED) {
        o->validation = json_num(v, "loss", 0);
        o->f1 = json_num(v, "f1", -1);
        o->match = json_num(v, "match", -1);
        o->first_validation = o->evaluations++ ? o->first_validation : o->validation;
    }
    if (f->type == WIRE_LOADED) {
        o->memory_bytes = json_int(v, "memory_bytes", 0);
        o->held_out = json_int(v, "held_out", -1);
        o->tensor = (int)json_int(v, "tensor", -1);
        o->pipeline = (int)json_int(v, "pipeline", -1);
        o->zero_stage = (int)json_int(v, "zero_stage", -1);
        snprintf(o->layout_reason, sizeof o->layout_reason, "%s",
            json_str(v, "layout_reason", "absent"));
        snprintf(o->damaged, sizeof o->damaged, "%s", json_str(v, "damaged", "absent"));
        o->damaged_bytes = json_int(v, "damaged_bytes", -1);
    }
    if (f->type == WIRE_SAVED) {
        ck_assert(step >= 1 && step <= TRAINING_STEPS && !o->saved_at[step]);
        o->saved_at[step] = o->last;
        o->saves++;
        if (step == w->conf.lock_after)
            lock_checkpoints(w);
    }
    if (f->type == WIRE_BALANCED)
        snprintf(o->balance, sizeof o->balance, "%s", json_str(v, "text", "absent"));
    o->done |= f->type == WIRE_DONE;
    o->drained |= f->type == WIRE_DONE && json_bool(v, "drained", false);
    if (f->type == WIRE_FAILED)
        snprintf(o->message, sizeof o->message, "%s", json_str(v, "message", ""));
}

static void follow(struct world *w, int fd, struct outcome *o)
{
    struct wire_reader reader;
    struct wire_frame f;
    int rc;

    wire_reader_init(&reader);
    while ((rc = wire_wait(&reader, fd, clock_ms() + WAIT_MS, &f, &e)) >= 0)
        take_frame(w, &f, o);
    ck_assert_msg(rc == -ERR_PEER, "%s", e.text); /* the ranks ended and closed it */
    wire_reader_done(&reader);
}

static void listen_all(struct world *w)
{
    int pod = w->conf.pod ? w->conf.pod : 2;

    for (int i = 0; i < w->conf.size; i++) {
        uint16_t port = 0;

        w->listen[i] = io_listen("127.0.0.1", 0, &port, &e);
        ck_assert_msg(w->listen[i] >= 0, "%s", e.text);
        w->peers[i] = (struct wire_peer){.rank = i, .replica = i / pod, .port = port};
        w->peers[i].local_rank = i % pod;
        snprintf(w->peers[i].host, sizeof w->peers[i].host, "127.0.0.1");
        snprintf(w->peers[i].node, sizeof w->peers[i].node, "n%d", i);
    }
}

static void start_all(struct world *w, const int pair[2])
{
    for (int i = 0; i < w->conf.size; i++) {
        w->pid[i] = fork();
        ck_assert(w->pid[i] >= 0);
        if (!w->pid[i]) {
            close(pair[0]);
            _exit(rank_body(w, i, pair[1]));
        }
    }
    close(pair[1]);
    for (int i = 0; i < w->conf.size; i++)
        io_close(w->listen[i]);
}

static void collect(const struct world *w, struct outcome *o)
{
    for (int i = 0; i < w->conf.size; i++) {
        bool killed = w->killed_ms && i == w->conf.size - 1;
        int status;

        ck_assert_int_eq(waitpid(w->pid[i], &status, 0), w->pid[i]);
        killed |= w->conf.die_at && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
        ck_assert_msg(WIFEXITED(status) || killed, "rank %d: signal %d", i, WTERMSIG(status));
        o->exit[i] = killed ? (enum exit_class) - 1 : (enum exit_class)WEXITSTATUS(status);
    }
    o->end_ms = w->killed_ms ? clock_ms() - w->killed_ms : 0;
}

int training_copies(void)
{
    int fd = memfd_create("copies", MFD_CLOEXEC);
    ck_assert(fd >= 0 && !ftruncate(fd, (off_t)1 << 50));
    return fd;
}

struct outcome training_run(const struct training *t)
{
    struct world w = {.conf = *t, .lock = -1};
    struct outcome o = {0};
    int pair[2], few = 1; /* frames that fit: rank 0 runs ahead of its reader by a few steps */

    w.leader =
        mmap(NULL, sizeof *w.leader, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(w.leader != MAP_FAILED);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    ck_assert(!setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &few, sizeof few));
    listen_all(&w);
    start_all(&w, pair);
    follow(&w, pair[0], &o);
    close(pair[0]);
    collect(&w, &o);
    io_close(w.lock);
    munmap(w.leader, sizeof *w.leader);
    return o;
}

struct outcome training_run_whole(const struct jobspec *spec, int size)
{
    struct outcome o =
        training_run(&(struct training){.spec = spec, .size = size, .incarnation = 1});

    for (int i = 0; i < size; i++)
        ck_assert_msg(
            o.exit[i] == EXIT_CLASS_DONE, "rank %d: class %d, %s", i, o.exit[i], o.message);
    ck_assert_int_eq(o.first, 1);
    ck_assert_int_eq(o.last, spec->train.steps);
    ck_assert(o.done && !o.drained);
    return o;
}

/* -- what they left -- */

void training_same_files(const char *a, const char *b)
{
    struct io_map x, y;

    ck_assert_msg(!io_map(a, &x, &e), "%s", e.text);
    ck_assert_msg(!io_map(b, &y, &e), "%s", e.text);
    ck_assert_uint_eq(x.size, y.size);
    ck_assert_msg(!memcmp(x.data, y.data, x.size), "%s and %s differ", a, b);
    io_unmap(&x);
    io_unmap(&y);
}

void training_same_checkpoints(const char *a, const char *b)
{
    const char *path[2] = {training_path(a), training_path(b)};
    struct ckpt_reader *r[2];
    struct ckpt_state st[2];
    struct safetensors *names;
    static float x[2][1 << 16];

    for (int i = 0; i < 2; i++) {
        ck_assert_msg(!ckpt_open_newest(path[i], INT64_MAX, &r[i], &st[i], &e), "%s", e.text);
        ck_assert_msg(r[i] != NULL, "%s holds no checkpoint", path[i]);
    }
    ck_assert_int_eq(st[0].step, st[1].step);
    ck_assert_int_eq(st[0].samples, st[1].samples);
    ck_assert_int_eq(st[0].tokens, st[1].tokens);
    ck_assert(st[0].loss == st[1].loss && st[0].first_loss == st[1].first_loss);
    ck_assert(st[0].validation_loss == st[1].validation_loss);
    ck_assert_msg(
        !safetensors_open(training_path("model/model.safetensors"), &names, &e), "%s", e.text);
    for (int i = 0; i < safetensors_count(names) * 3; i++) {
        const struct safetensors_tensor *t = safetensors_at(names, i / 3);
        char name[256];

        snprintf(name, sizeof name, "%s%s", t->name,
            (const char *[]){"", ".exp_avg", ".exp_avg_sq"}[i % 3]);
        for (int j = 0; j < 2; j++)
            ck_assert_msg(!ckpt_get(r[j], name, t->bytes / 4, 0, t->bytes / 4, DTYPE_F32, x[j], &e),
                "%s", e.text);
        ck_assert_msg(!memcmp(x[0], x[1], (size_t)t->bytes), "%s differs", name);
    }
    safetensors_close(names);
    ckpt_close(r[0]);
    ckpt_close(r[1]);
}

#define NEAR_STEPS 8

/* What the metrics say of steps that change nothing: losses, and norms of gradients, NaN where a
   step was skipped. */
static void look_at_gradients(
    struct jobspec *s, const char *run, double loss[NEAR_STEPS], double norm[NEAR_STEPS])
{
    char name[64];
    buf_auto struct buf text;
    s->train.steps = NEAR_STEPS;
    s->train.epochs = 0;
    s->train.evaluate_every_steps = 0;
    s->train.optimizer.learning_rate = 1e-30;
    struct outcome o = training_run(&(struct training){.spec = s, .size = 2, .incarnation = 1});
    ck_assert_msg(o.exit[0] == EXIT_CLASS_DONE && o.exit[1] == EXIT_CLASS_DONE, "%s", o.message);
    snprintf(name, sizeof name, "%s/metrics.jsonl", run);
    buf_init(&text, 1 << 20);
    ck_assert(!io_read_file(training_path(name), 1 << 20, &text, &e));
    int n = 0;
    for (char *left, *line = strtok_r(text.data, "\n", &left); line;
         line = strtok_r(NULL, "\n", &left)) {
        json_auto struct json *v = NULL;
        ck_assert_msg(!json_parse(line, strlen(line), &v, &e), "%s", line);
        if (!json_get(v, "learningRate"))
            continue;
        ck_assert_int_eq(!json_get(v, "lossScale"), s->precision != PRECISION_FP16);
        ck_assert_int_lt(n, NEAR_STEPS);
        loss[n] = json_num(v, "loss", NAN);
        norm[n++] = json_num(v, "gradientNorm", NAN);
    }
    ck_assert_int_eq(n, NEAR_STEPS);
    golden_remove(training_path(run));
    golden_remove(training_path("output"));
}

void training_near_in_fp16(struct jobspec (*job_fn)(const char *run))
{
    double loss[2][NEAR_STEPS], norm[2][NEAR_STEPS];
    struct jobspec wide = job_fn("wide"), narrow = job_fn("narrow");
    int taken = 0, same = 0;
    narrow.precision = PRECISION_FP16;
    look_at_gradients(&wide, "wide", loss[0], norm[0]);
    look_at_gradients(&narrow, "narrow", loss[1], norm[1]);
    for (int i = 0; i < NEAR_STEPS; i++) {
        ck_assert_msg(fabs(loss[1][i] / loss[0][i] - 1) < 2e-3, "step %d: loss %.9g, in FP32 %.9g",
            i + 1, loss[1][i], loss[0][i]);
        if (isnan(norm[1][i]))
            continue;
        ck_assert_msg(fabs(norm[1][i] / norm[0][i] - 1) < 1e-2, "step %d: norm %.9g, in FP32 %.9g",
            i + 1, norm[1][i], norm[0][i]);
        taken++;
        same += norm[1][i] == norm[0][i];
    }
    ck_assert_msg(taken >= 2 && same < taken, "%d steps, %d of them in FP32", taken, same);
}
