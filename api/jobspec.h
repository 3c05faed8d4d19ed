/*
 * jobspec: the decoded LLMJob. JSON ends here.
 *
 * jobspec_decode reads an object as the API server sends it (or the YAML a person wrote,
 * standalone), checks what the CRD checks, fills the same defaults, and names the field at fault:
 * "spec.train.data.train: ...". jobspec_encode writes job.json:
 * {"name":..,"namespace":..,"uid":..,"generation":..,"spec":{..}} fully defaulted, which
 * jobspec_decode reads back to an equal struct. Strings live in the arena or are literals.
 * jobspec_decode ignores unknown members, so that an older program reads what a newer API server
 * sends; jobspec_read_file refuses them, as kubectl does. The source of truth of fields, defaults
 * and bounds is manifests/crd.yaml.
 */
#ifndef API_JOBSPEC_H
#define API_JOBSPEC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/field.h"
#include "base/json.h"
#include "api/limits.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum task { TASK_TRAIN, TASK_SERVE, TASK_RUN, TASK_CONVERT, TASK_EVALUATE };
enum precision { PRECISION_FP32, PRECISION_BF16, PRECISION_FP16 };
enum kv_cache { /* what keys and values are kept in; Auto: the precision */
    KV_CACHE_AUTO,
    KV_CACHE_FP32,
    KV_CACHE_BF16,
    KV_CACHE_FP16,
    KV_CACHE_Q8_0
};
enum init { INIT_PRETRAINED, INIT_RANDOM };
enum train_method { METHOD_FULL, METHOD_LORA, METHOD_ADAPTER };
enum adapter_kind { ADAPTER_HOULSBY, ADAPTER_PFEIFFER };
enum adapter_activation { ADAPTER_RELU, ADAPTER_GELU, ADAPTER_SILU }; /* GELU: x Phi(x) */
enum objective_kind {
    OBJECTIVE_CAUSAL_LM,
    OBJECTIVE_MASKED_LM,
    OBJECTIVE_TOKEN_CLASSIFICATION,
    OBJECTIVE_SEQUENCE_CLASSIFICATION,
    OBJECTIVE_DPO,
    OBJECTIVE_PAIR_MATCHING
};
enum dpo_loss { DPO_SIGMOID, DPO_IPO };
enum evaluated {
    EVALUATED_CAUSAL_LM,
    EVALUATED_TOKEN_CLASSIFICATION,
    EVALUATED_SEQUENCE_CLASSIFICATION,
    EVALUATED_MULTIPLE_CHOICE
};
enum retrieval_answers { ANSWERS_ANY, ANSWERS_CITED }; /* which of a chat's go out as they are */
enum pair_loss { PAIR_IN_BATCH_NEGATIVES, PAIR_COSINE };
enum data_format { FORMAT_AUTO, FORMAT_TEXT, FORMAT_JSONL, FORMAT_CONLL, FORMAT_CSV, FORMAT_TSV };
enum recompute { RECOMPUTE_NONE, RECOMPUTE_SELECTIVE, RECOMPUTE_FULL };
enum optimizer_name {
    OPTIMIZER_ADAMW,
    OPTIMIZER_SGD,
    OPTIMIZER_LION,
    OPTIMIZER_ADAFACTOR,
    OPTIMIZER_MUON
};

enum optimizer_state { OPTIMIZER_STATE_FP32, OPTIMIZER_STATE_BF16, OPTIMIZER_STATE_INT8 };
/* By what each share of the batch is sized. */
enum balance { BALANCE_EQUAL, BALANCE_MEASURED };
/* What of a gradient crosses between ranks. */
enum gradients { GRADIENTS_FP32, GRADIENTS_BF16, GRADIENTS_INT8 };
enum lr_schedule { SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_CONSTANT, SCHEDULE_WSD };
/* How rates follow the batch: as it, or its root, is to the one they were found for. */
enum lr_scaling { LR_SCALING_NONE, LR_SCALING_LINEAR, LR_SCALING_SQUARE_ROOT };
/* Which weights of the layers' matrices are zero: none on purpose; any of a row; two of every four
 * along a row; those that are zero in the model that training begins with. */
enum sparsity_pattern { SPARSITY_NONE, SPARSITY_UNSTRUCTURED, SPARSITY_2_4, SPARSITY_SOURCE };
enum convert_format { CONVERT_GGUF, CONVERT_HUGGING_FACE };
enum quantize {
    QUANTIZE_NONE,
    QUANTIZE_F32,
    QUANTIZE_F16,
    QUANTIZE_BF16,
    QUANTIZE_Q8_0,
    QUANTIZE_Q4_0,
    QUANTIZE_Q4_K_M
};

enum quantized_base { BASE_NONE, BASE_STORED, BASE_Q8_0, BASE_Q4_0, BASE_Q4_K_M };

/* What a feature of an item adds to its score: more where it is greater, by its logarithm, where it
 * is near to those of the history, or where it has what they have. */
enum feature_use { FEATURE_VALUE, FEATURE_LOG_VALUE, FEATURE_NEAR, FEATURE_SHARED };

enum search_algorithm { SEARCH_RANDOM, SEARCH_GRID, SEARCH_SUCCESSIVE_HALVING };
enum search_metric {
    SEARCH_LOSS,
    SEARCH_VALIDATION_LOSS,
    SEARCH_VALIDATION_F1,
    SEARCH_VALIDATION_MATCH
};
enum search_goal { SEARCH_MINIMIZE, SEARCH_MAXIMIZE };
enum search_scale { SEARCH_LINEAR, SEARCH_LOG };

struct jobspec_storage {
    const char *name;
    const char *claim;      /* PersistentVolumeClaim, or NULL for scratch */
    int64_t scratch_bytes;  /* emptyDir size limit when claim is NULL */
    const char *mount_path; /* absolute */
    bool read_only;
};

#define JOBSPEC_MAP_ENTRIES 64

struct jobspec_map { /* small string maps: nodeSelector, requests, limits, env */
    const char **keys;
    const char **values;
    int count;
};

struct jobspec_toleration {
    const char *key, *operator_, *value, *effect;
    int64_t seconds; /* -1: none */
};

struct jobspec_train {
    enum objective_kind objective;
    enum train_method method;
    double dropout;           /* of what sub-layers add, embeddings, what a classifier reads */
    double attention_dropout; /* of attention's probabilities */
    bool model_dropout;       /* of all these, what the model's config.json says */
    struct {
        int rank;
        double alpha, dropout;
        const char *targets[LIMIT_LORA_TARGETS]; /* "q_proj", ... */
        int target_count;
        bool rank_stabilized;               /* scaled by alpha / sqrt(rank), not alpha / rank */
        bool dora;                          /* lengths of rows are learnt apart */
        enum quantized_base quantized_base; /* what the frozen matrices are in memory */
        struct {
            int initial_rank; /* of each matrix; rank is their mean in the end. 0: no AdaLoRA */
            int64_t initial_steps, final_steps, interval;
            double beta1, beta2, orthogonal_weight;
        } adalora;
    } lora;
    struct { /* behind sub-layers: runtime/model/bottleneck.h */
        enum adapter_kind kind;
        int reduction_factor; /* of columns inside */
        enum adapter_activation activation;
    } adapter;
    struct { /* of preferences */
        double beta, label_smoothing;
        enum dpo_loss loss;
    } dpo;
    struct { /* of PairMatching */
        enum pair_loss loss;
        double temperature; /* of InBatchNegatives: cosines are divided by it */
    } pair;
    struct {
        const char *train, *validation, *test; /* paths; all but train may be NULL */
        enum data_format format;
        int64_t skip_bad_records; /* of JSONL, at most so many of a file */
        bool packing;             /* of documents, several in a sequence */
    } data;
    struct {
        double share;    /* of the tokens, 0 but with MaskedLM */
        bool whole_word; /* all tokens of a word, or none */
    } masking;
    int sequence_length; /* tokens */
    int batch_sequences; /* sequences of the global batch, whatever the world size */
    int64_t steps;       /* > 0; epochs is 0 then */
    double epochs;
    uint64_t seed;
    struct {
        enum optimizer_name name;
        enum optimizer_state state;
        double learning_rate;
        enum lr_scaling lr_scaling;
        int lr_batch_sequences; /* of the batch that rates were found for; 0 with none */
        enum lr_schedule schedule;
        double min_learning_rate;
        int64_t warmup_steps, decay_steps;      /* decay_steps 0: a tenth of all */
        double layer_decay;                     /* 1: off */
        double weight_decay, clip_norm;         /* clip_norm 0: off */
        double momentum, beta1, beta2, epsilon; /* -1 where the optimizer has none */
        const char *offload;                    /* a folder for a file of state; or NULL */
    } optimizer;
    struct {
        enum sparsity_pattern pattern;
        double target;                /* share of each row; 0 unless UNSTRUCTURED */
        int64_t start_step, end_step; /* gradual in between; the same: at once */
        int64_t every_steps;          /* between two prunings; 0: not gradual, or 10 */
    } sparsity;
    struct {
        const char *teacher; /* a model as spec.model.source, or NULL: none */
        double temperature, weight;
    } distill;
    struct { /* between ranks: runtime/train/exchange.h, outer.h */
        enum gradients gradients;
        int64_t local_steps; /* of each rank, from one outer step to the next; 0, 1: none are */
        double outer_learning_rate, outer_momentum;
    } communication;
    enum recompute recompute; /* of activations, in backward */
    /* 0: only before the first and after the last step, and for classification and PairMatching
       with epochs at the end of each. */
    int64_t evaluate_every_steps;
    const char *tensorboard; /* folder or NULL */
    /* To it: how gradient and weights are spread, tensor by tensor; 0: never */
    int64_t histogram_every_steps;
    struct { /* where time goes, a file a rank: runtime/door/trace.h */
        int64_t from_step;
        int steps; /* 0: none */
    } trace;
    struct { /* texts that the model goes on with while it trains; 0 prompts: none */
        int64_t every_steps;
        const char *prompts[LIMIT_GENERATE_PROMPTS];
        int prompt_count;
        int tokens; /* that it adds, at most */
    } generate;
    const char *output;      /* folder of the finished model, Hugging Face layout */
    const char *exported_by; /* job that writes it there; NULL: this one */
};

struct jobspec_served_adapter {
    const char *name; /* in the API */
    const char *path; /* folder in peft's format */
};

enum speculation { SPECULATION_NONE, SPECULATION_NGRAM, SPECULATION_DRAFT };

struct jobspec_alert { /* when so many of what is read have a label */
    const char *name, *label;
    int window_seconds;
    double share;            /* of the window, from which on it is so; */
    double clear_share;      /* it is over below this; -1: below that */
    int for_seconds;         /* that it must have been so */
    int min_items;           /* of the window: fewer tell nothing */
    const char *webhook;     /* URL that hears of it, or NULL */
    const char *webhook_key; /* of webhook_secret: what is sent as Authorization; or NULL */
};

enum average { AVERAGE_LOGITS, AVERAGE_PROBABILITIES };

struct jobspec_member { /* of several models that answer as one */
    const char *name;
    const char *source;  /* NULL: model.source */
    const char *adapter; /* folder in peft's format, or NULL */
};

struct jobspec_feature { /* a member of each item */
    const char *name;
    enum feature_use use;
    double weight;
};

struct jobspec_retrieval { /* documents NULL: none */
    const char *documents; /* folder */
    struct {
        const char *source; /* a model that embeds */
    } encoder;
    int chunk_tokens, overlap_tokens; /* of the encoder's */
    int max_chunks;
    int results;      /* chunks that an answer is made of, at most */
    double min_score; /* cosine of question and chunk: with none of as much there is no answer */
    enum retrieval_answers answers;
    const char *not_found; /* what is said instead */
    int scan_seconds;      /* from one look at the folder to the next */
};

struct jobspec_serve {
    const char *model_name;
    int context_length;   /* 0: the model's own */
    int max_sequences;    /* requests that are answered at once */
    int max_queue;        /* waiting requests, beyond it 429 */
    int max_queue_tokens; /* that they are thought to take, likewise; 0: any */
    int drain_seconds;
    enum kv_cache kv_cache;
    const char *embedding_cache;             /* folder of embeddings that outlive pods, or NULL */
    const char *api_key_secret;              /* Secret with key "apiKey", or NULL */
    struct jobspec_served_adapter *adapters; /* (adapter_count) beside the model */
    int adapter_count;
    int64_t adapter_memory; /* bytes of those that are in memory at once; 0: all are */
    struct {                /* tokens that are guessed ahead */
        enum speculation method;
        int tokens;        /* of a sequence in a step, at most */
        const char *model; /* that guesses: folder or file; NULL but of a draft */
    } speculation;
    struct {                          /* streams that a classifier watches */
        const char *file, *directory; /* read as they grow; at most one, else NULL */
        const char *state;            /* folder that outlives a pod, or NULL */
        const char *ca_file;          /* for webhooks' https, or NULL */
        const char *webhook_secret;   /* Secret that has the alerts' webhook_key, or NULL */
        struct jobspec_alert alerts[LIMIT_ALERTS];
        int alert_count; /* 0: nothing is watched */
    } classify;
    struct {
        struct jobspec_member members[LIMIT_MEMBERS];
        int member_count; /* 0: the model alone is served */
        enum average average;
        bool allow_missing; /* members whose files are not there are done without */
        int ranks;          /* that have some of the members each; 0, 1: each rank has all */
    } ensemble;
    struct { /* items that are recommended to who had others: runtime/serve/recommend.h */
        const char *items;  /* file, a JSON object a line; NULL: none */
        double text_weight; /* of how near an item's text is */
        double half_life;   /* items of a history after which one counts half; 0: all alike */
        struct jobspec_feature features[LIMIT_FEATURES];
        int feature_count;
    } recommend;
    struct jobspec_retrieval retrieval;
    struct { /* of replicas that have the model each, by whom a request is answered */
        bool prefix_affinity; /* by the one that its prompt's beginning names */
        int max_ahead;        /* by which that one's queue may be longer */
    } routing;
};

struct jobspec_run {
    const char *command[LIMIT_RUN_ARGS];
    int command_count;
    const char *args[LIMIT_RUN_ARGS];
    int arg_count;
    struct jobspec_map env;
};

struct jobspec_convert {
    enum convert_format format;
    enum quantize quantize;
    const char *merge_adapter; /* folder of an adapter in peft's format, or NULL */
    const char *calibration;   /* text that tells which columns count more, or NULL */
    struct {
        enum sparsity_pattern pattern; /* SOURCE excepted */
        double target;                 /* as in train.sparsity */
    } prune;
    struct {
        const char *data; /* text, or NULL: nothing is evaluated */
        enum data_format format;
        int sequence_length; /* tokens of a window */
        int sequences;       /* windows, at most */
    } evaluate;
    const char *output; /* folder */
};

struct jobspec_parameter {
    int name; /* of search's table of names */
    double values[LIMIT_SEARCH_VALUES];
    int value_count;
    double min, max; /* -1: values */
    enum search_scale scale;
};

struct jobspec_search { /* parameter_count 0: none */
    enum search_algorithm algorithm;
    enum search_metric metric;
    enum search_goal goal;
    int max_trials, parallel_trials;
    uint64_t seed;
    struct jobspec_parameter parameters[LIMIT_SEARCH_PARAMETERS];
    int parameter_count;
    struct {
        int factor;
        int64_t min_steps;
    } halving;
    int early_stop_trials; /* 0: off */
};

struct jobspec_evaluate {
    enum evaluated objective;
    const char *data; /* file */
    enum data_format format;
    int sequence_length; /* tokens that the model sees together, at most */
    int samples;         /* windows, texts or questions, at most; 0: all */
    bool chat;           /* a question is a turn of the user's */
    const char *adapter; /* folder of an adapter in peft's format, or NULL */
    const char *output;  /* folder of the report */
};

/* What may change while the job runs, beside replicas, suspend and placement. */
struct jobspec_elastic {
    int min_replicas, wait_seconds;
};
struct jobspec_restart {
    int max_restarts, window_seconds;
};
struct jobspec_health {
    int hang_seconds; /* 0: max(10 s, five median steps); a minute until one was timed */
    double straggler_factor;
};

struct jobspec {
    const char *name, *namespace_, *uid;
    int64_t generation;

    int replicas;
    bool suspend;
    const char *managed_by;
    const char *image; /* "" = the controller's own */
    struct {
        const char *resource; /* "cpu" or an extended resource */
        int per_replica;      /* ranks a pod */
    } device;
    struct jobspec_map requests, limits;
    struct {
        struct jobspec_map node_selector;
        struct jobspec_toleration tolerations[16];
        int toleration_count;
        const char *priority_class, *runtime_class; /* or NULL */
        const char *topology_key;                   /* or NULL */
        bool topology_required;
    } placement;
    struct jobspec_storage storage[LIMIT_STORAGE];
    int storage_count;
    struct {
        const char *source; /* a GGUF file or Hugging Face folder; NULL for run */
        enum init init;
        const char *config; /* INIT_RANDOM: path of a config.json, or NULL: source's */
        const char *sha256; /* of a GGUF file, or NULL */
    } model;
    struct { /* sizes of the axes; 0: the planner's choice */
        int data, tensor, pipeline, context, expert;
        int virtual_stages; /* runs of layers of each of a pipeline's ranks */
        int zero_stage; /* what the data axis divides: 1 optimizer state, 2 gradients, 3 weights */
        enum balance balance;
    } parallelism;
    enum precision precision;
    struct jobspec_elastic elastic;
    struct {
        const char *path;                   /* folder */
        int64_t every_steps, every_seconds; /* 0: off */
        int keep;
        bool asynchronous;             /* written while the training goes on */
        int64_t in_memory_every_steps; /* copies that outlive a rank; 0: off */
    } checkpoint;
    struct jobspec_restart restart;
    struct jobspec_health health;
    int64_t active_deadline_seconds;    /* 0: none */
    int64_t ttl_seconds_after_finished; /* -1: none */

    enum task task;
    struct jobspec_train train; /* the one that task names is set */
    struct jobspec_serve serve;
    struct jobspec_run run;
    struct jobspec_convert convert;
    struct jobspec_search search; /* beside train */
    struct jobspec_evaluate evaluate;
};

/* object: a whole LLMJob (apiVersion, kind, metadata, spec) or a job.json. ERR_USER names the
 * field. */
int jobspec_decode(const struct json *object, struct arena *a, struct jobspec *out, struct err *e);
/* path: a job.json. */
int jobspec_load(const char *path, struct arena *a, struct jobspec *out, struct err *e);
/* path: YAML or JSON by content; exactly one LLMJob document is expected (others are skipped when
 * kind differs). */
int jobspec_read_file(const char *path, struct arena *a, struct jobspec *out, struct err *e);
int jobspec_encode(const struct jobspec *spec, struct buf *out, struct err *e);
/* The member "spec" alone, into the object that w has open; body: NULL, or what it was decoded
 * from, all of whose groups are written then. */
void jobspec_write(const struct jobspec *spec, const struct json *body, struct jsonw *w);
/* The row of a field of struct jobspec, "train.seed"; NULL: there is none. */
const struct field *jobspec_field(const char *path);

/* Whether each pod serves the whole model by itself, all of them under one name. */
bool jobspec_replicated(const struct jobspec *spec);

const char *task_name(enum task t);                     /* "Train", "Serve", "Run", ... */
const char *recompute_name(enum recompute r);           /* "None", "Selective", "Full" */
const char *convert_format_name(enum convert_format f); /* "GGUF", "HuggingFace" */
const char *quantize_name(enum quantize q);             /* "None", "F32", ... */
const char *sparsity_name(enum sparsity_pattern p);     /* "None", "Unstructured", "2:4", ... */
const char *evaluated_name(enum evaluated e);           /* "CausalLM", ... */
/* What computes on spec.device.resource: "cpu", "cuda" (nvidia.com/gpu, nvidia.com/mig-*), or NULL:
 * only spec.run can use it. */
const char *device_kind(const char *resource);

#endif
