/*
 * limits: a bound on everything that has one, in one place. Units last in the name. The CRD's
 * bounds (manifests/crd.yaml) are the same numbers, which tests/api/test_jobspec.c compares.
 */
#ifndef API_LIMITS_H
#define API_LIMITS_H

#define LIMIT_NAME_BYTES         64  /* a Kubernetes label or DNS label plus NUL */
#define LIMIT_SUBDOMAIN_BYTES    254 /* object names plus NUL */
#define LIMIT_PATH_BYTES         1024
#define LIMIT_ADDRESS_BYTES      80   /* "[v6]:port" plus NUL */
#define LIMIT_REPLICAS           5000 /* members dialled by one coordinator */
#define LIMIT_ROUTED_REPLICAS    64   /* each of which knows all others */
#define LIMIT_RANKS_PER_REPLICA  64
#define LIMIT_REASON_BYTES       256 /* why a layout was chosen, plus NUL */
#define LIMIT_STORAGE            16
#define LIMIT_SECONDS            31536000 /* a year; of what the user may set */
#define LIMIT_WAIT_SECONDS       86400    /* a day */
#define LIMIT_RESTARTS           1000
#define LIMIT_ATTEMPTS           10     /* kept in status */
#define LIMIT_RUN_CHARACTERS     200000 /* of a command, its arguments and environment together */
#define LIMIT_LORA_TARGETS       16
#define LIMIT_ADAPTERS           256 /* beside a model that is served */
#define LIMIT_MEMBERS            8   /* models that answer as one */
#define LIMIT_RUN_ARGS           64
#define LIMIT_GENERATE_PROMPTS   16   /* that a model in training goes on with */
#define LIMIT_GENERATE_BYTES     4096 /* of one */
#define LIMIT_GENERATE_TOKENS    1024
#define LIMIT_TRACE_STEPS        100 /* of one training, that are recorded */
#define LIMIT_TRIALS             256 /* of a search */
#define LIMIT_PARALLEL_TRIALS    64
#define LIMIT_SEARCH_PARAMETERS  8
#define LIMIT_SEARCH_VALUES      32
#define LIMIT_PAIRS              4096 /* of a step: each text is compared with all others */
#define LIMIT_LOG_TAIL_BYTES     1024 /* of a failed rank, kept in an attempt */
#define LIMIT_FRAME_BYTES        (4 << 20)
#define LIMIT_FRAME_VALUES       ((size_t)1 << 20) /* of JSON among agents and ranks of a job */
#define LIMIT_REPORT_BYTES       (4 << 20)
#define LIMIT_REPORT_FACTS_BYTES (128 << 10) /* of a report beside its ranks */
#define LIMIT_REPORT_VALUES      1024        /* of JSON, in those */
#define LIMIT_REPORT_RANK_BYTES  512         /* of a report for each of its ranks */
#define LIMIT_JOB_FILE_BYTES     (256 << 10)
#define LIMIT_TENSORS            65536
#define LIMIT_LOSS_HISTORY       64         /* points of the sparkline in a report */
#define LIMIT_QUEUE_REQUESTS     256        /* of one serving pod, beyond it 429 */
#define LIMIT_SEQUENCES          64         /* of those, that a rank answers at once */
#define LIMIT_SPECULATION_TOKENS 16         /* guessed of one at once */
#define LIMIT_RANK_REQUESTS      10         /* handed to a rank beside those: its next ones, */
#define LIMIT_RANK_TURNS         8          /* of these, of keys or priorities without one */
#define LIMIT_QUEUE_BYTES        (16 << 20) /* of their bodies, likewise */
#define LIMIT_QUEUE_TOKENS       (1 << 30)  /* likewise, of what may be set */
#define LIMIT_REQUEST_BYTES      (1 << 20)
#define LIMIT_ANSWER_BYTES       (16 << 20) /* of a whole answer */
#define LIMIT_STOP_STRINGS       4          /* of a request */
#define LIMIT_STOP_BYTES         256
#define LIMIT_BIASES             1024 /* of a request: tokens in logit_bias */
#define LIMIT_LOGPROBS           20   /* of a token: the likeliest that are told with it */
#define LIMIT_TOOLS              128  /* of a request; of a message: calls */
#define LIMIT_AGENT_VALUES       64   /* of JSON, that the agent adds to a client's request */
#define LIMIT_ANSWERS            8    /* to a prompt: n */
#define LIMIT_CHOICES            128  /* of a request: answers to all its prompts */
#define LIMIT_API_KEYS           64   /* of a served model */
#define LIMIT_API_KEY_BYTES      256  /* of one, plus NUL */
#define LIMIT_API_KEYS_BYTES     (LIMIT_API_KEYS * (LIMIT_API_KEY_BYTES + 16)) /* of their text */
#define LIMIT_KEY_WEIGHT         100                                           /* of one, at most */
#define LIMIT_PRIORITY           1000 /* of a request, at most, and below 0 */
#define LIMIT_SALT_BYTES         256  /* of a request's cache_salt */

/* Of documents that a served model answers from. */
#define LIMIT_RETRIEVAL_CHUNKS    65536
#define LIMIT_RETRIEVAL_RESULTS   20          /* chunks that an answer is made of */
#define LIMIT_RETRIEVAL_NOT_FOUND 500         /* bytes of what is said where there is no answer */
#define LIMIT_RETRIEVAL_FOUND     50          /* hits of a search */
#define LIMIT_CITATIONS_BYTES     (256 << 10) /* of what an answer cites, as JSON */

/* Of a model that reads whole texts: texts, or pairs of them, of a request; bytes of its answer. */
#define LIMIT_ITEMS       2048
#define LIMIT_ITEMS_BYTES (8 << 20)

/* Of a classifier that watches streams: alerts; bytes of a webhook's URL, and of a label, plus NUL;
 * requests of the watch that a rank has at once. */
#define LIMIT_ALERTS          16
#define LIMIT_URL_BYTES       1024
#define LIMIT_LABEL_BYTES     129
#define LIMIT_WEBHOOK_BYTES   4096 /* of what proves to one who asks */
#define LIMIT_RANK_WATCHING   2
/* Of a catalogue that is recommended from. */
#define LIMIT_CATALOGUE_ITEMS (1 << 20)
#define LIMIT_FEATURES        16
#define LIMIT_FEATURE_WEIGHT  1000 /* of a part of a score, and below 0 */
#define LIMIT_HISTORY         1000 /* of a request: items that somebody had */

#endif
