/*
 * names: every string that outsiders see: API group, labels, condition types, states, reasons,
 * environment names, paths inside a pod and of HTTP, ports, metrics. A name stands here or it is
 * private.
 */
#ifndef API_NAMES_H
#define API_NAMES_H

#define NAME_GROUP       "llmjob.dev"
#define NAME_VERSION     "v1alpha1"
#define NAME_API_VERSION NAME_GROUP "/" NAME_VERSION
#define NAME_KIND        "LLMJob"
#define NAME_PLURAL      "llmjobs"
#define NAME_CONTROLLER  "llmjob.dev/controller" /* spec.managedBy */
#define NAME_FIELD_OWNER "llmjob-controller"

/* labels and annotations */
#define NAME_LABEL_JOB      "llmjob.dev/job"
#define NAME_LABEL_REPLICA  "llmjob.dev/replica"
#define NAME_LABEL_REVISION "llmjob.dev/revision"          /* of a served model's pod: its spec */
#define NAME_LABEL_SEARCH   "llmjob.dev/search"            /* of a trial: the job that searches */
#define NAME_LABEL_TRIAL    "llmjob.dev/trial"             /* and the trial's number */
#define NAME_LABEL_APP      "app.kubernetes.io/name"       /* = llmjob */
#define NAME_LABEL_INSTANCE "app.kubernetes.io/instance"   /* = the job */
#define NAME_LABEL_MANAGED  "app.kubernetes.io/managed-by" /* = llmjob-controller */
#define NAME_LABEL_API_KEY \
    "llmjob.dev/api-key" /* "true": spec.serve.apiKeySecret may name this Secret */
#define NAME_LABEL_WEBHOOK \
    "llmjob.dev/webhook" /* "true": spec.serve.classify.webhookSecret may name this Secret */
#define NAME_ANNOTATION_GENERATION "llmjob.dev/generation" /* of the job file in a Secret */
#define NAME_CONTAINER             "llmjob"
#define NAME_SECRET_SUFFIX         "-job" /* the Secret of job j is j-job */

/* condition types */
#define NAME_COND_READY       "Ready"
#define NAME_COND_PROGRESSING "Progressing"
#define NAME_COND_COMPLETE    "Complete"
#define NAME_COND_FAILED      "Failed"
#define NAME_COND_SUSPENDED   "Suspended"
#define NAME_COND_HEALTHY     "Healthy"
#define NAME_COND_RECONCILING "Reconciling"
#define NAME_COND_STALLED     "Stalled"
#define NAME_COND_ADAPTERS    "AdaptersReady" /* of a model under spec.serve.adapterMemory */

/* states, in status.state beside the reasons Training, Serving, Converting, Evaluating and
   Running */
#define NAME_STATE_PENDING     "Pending"
#define NAME_STATE_FORMING     "Forming"
#define NAME_STATE_UNREACHABLE "Unreachable"
#define NAME_STATE_BLOCKED     "Blocked"
#define NAME_STATE_SUSPENDING  "Suspending"
#define NAME_STATE_SUSPENDED   "Suspended"
#define NAME_STATE_COMPLETE    "Complete"
#define NAME_STATE_FAILED      "Failed"
#define NAME_STATE_INVALID     "Invalid"
#define NAME_STATE_STARTING    "Starting" /* no agent has answered yet */
#define NAME_STATE_UNKNOWN     "Unknown"

/* states of an alert, in status.alerts */
#define NAME_ALERT_FIRING   "Firing"
#define NAME_ALERT_INACTIVE "Inactive"

/* reasons of conditions and Events */
#define NAME_REASON_PODS_PENDING   "PodsPending"
#define NAME_REASON_UNSCHEDULABLE  "Unschedulable"
#define NAME_REASON_IMAGE          "ImageUnavailable"
#define NAME_REASON_FORMING_WORLD  "FormingWorld"
#define NAME_REASON_TRAINING       "Training"
#define NAME_REASON_SERVING        "Serving"
#define NAME_REASON_CONVERTING     "Converting"
#define NAME_REASON_EVALUATING     "Evaluating"
#define NAME_REASON_RUNNING        "Running"
#define NAME_REASON_SEARCHING      "Searching"
#define NAME_REASON_TRIALS_FAILED  "TrialsFailed"
#define NAME_REASON_NOT_WRITTEN    "ModelNotWritten"
#define NAME_REASON_TRIAL_STARTED  "TrialStarted"
#define NAME_REASON_TRIAL_DELETED  "TrialDeleted"
#define NAME_REASON_COMPLETED      "Completed"
#define NAME_REASON_SUSPENDED      "Suspended"
#define NAME_REASON_SCALED_TO_ZERO "ScaledToZero"
#define NAME_REASON_NOT_SUSPENDED  "NotSuspended"
#define NAME_REASON_USER_ERROR     "UserError"
#define NAME_REASON_BAD_DATA       "BadData"
#define NAME_REASON_OUT_OF_MEMORY  "OutOfMemory"
#define NAME_REASON_RESTARTS       "RestartsExhausted"
#define NAME_REASON_DEADLINE       "DeadlineExceeded"
#define NAME_REASON_HANG           "Hang"
#define NAME_REASON_STRAGGLER      "Straggler"
#define NAME_REASON_LOST_PEER      "LostPeer"
#define NAME_REASON_BAD_DEVICE     "BadDevice"
#define NAME_REASON_ALL_WELL       "AllRanksProgressing"
#define NAME_REASON_NOT_STARTED    "NotStarted"
#define NAME_REASON_COORDINATOR    "CoordinatorUnreachable"
#define NAME_REASON_POD_CREATED    "PodCreated"
#define NAME_REASON_POD_DELETED    "PodDeleted"
#define NAME_REASON_SCALING        "Scaling"
#define NAME_REASON_LISTED         "AdaptersListed"
#define NAME_REASON_LISTING        "ListingAdapters"
#define NAME_REASON_ADAPTER        "AdapterNotLoaded"
#define NAME_REASON_ROLLING_OUT    "RollingOut"
#define NAME_REASON_WORLD_FORMED   "WorldFormed"
#define NAME_REASON_RANK_FAILED    "RankFailed"
#define NAME_REASON_CHECKPOINT     "CheckpointSaved"
#define NAME_REASON_DAMAGED        "CheckpointDamaged"
#define NAME_REASON_ALERT_FIRING   "AlertFiring"
#define NAME_REASON_ALERT_RESOLVED "AlertResolved"
#define NAME_REASON_SKIPPED        "ObjectSkipped"  /* an object that the controller cannot read */
#define NAME_REASON_REFUSED        "RequestRefused" /* what a pass asked of the API server */
#define NAME_REASON_POD_FAILED     "PodFailed"      /* and Kubernetes gives no reason */

/* and of events of `llmjob run` */
#define NAME_REASON_NOT_LOCKED     "NotLocked" /* a second run here would go unnoticed */
#define NAME_REASON_INTERRUPTED    "Interrupted"
#define NAME_REASON_FILE_IGNORED   "FileIgnored"
#define NAME_REASON_EDITED         "Edited"
#define NAME_REASON_AGENT_ENDED    "AgentEnded"
#define NAME_REASON_AGENTS_STARTED "AgentsStarted"

/* causes of the end of an attempt, beside some of these reasons */
#define NAME_CAUSE_SCALED           "Scaled"
#define NAME_CAUSE_LEAVING          "Leaving"
#define NAME_CAUSE_RELEASED         "Released"
#define NAME_CAUSE_REFUSED          "Refused"
#define NAME_CAUSE_SUPERSEDED       "Superseded"
#define NAME_CAUSE_DRAINED          "Drained"
#define NAME_CAUSE_COORDINATOR_LOST "CoordinatorLost" /* no agent could tell */

/* environment of the agent's container (set by the controller) */
#define NAME_ENV_JOB       "LLMJOB_JOB"
#define NAME_ENV_NAMESPACE "LLMJOB_NAMESPACE"
#define NAME_ENV_REPLICA   "LLMJOB_REPLICA"
#define NAME_ENV_POD       "LLMJOB_POD"
#define NAME_ENV_POD_UID   "LLMJOB_POD_UID"
#define NAME_ENV_NODE      "LLMJOB_NODE"
#define NAME_ENV_JOB_DIR   "LLMJOB_JOB_DIR"
#define NAME_ENV_ALONE     "LLMJOB_ALONE"
#define NAME_ENV_LINGER    "LLMJOB_LINGER_SECONDS"

/* environment of programs in place of flags */
#define NAME_ENV_LISTEN     "LLMJOB_LISTEN"
#define NAME_ENV_LOG_LEVEL  "LLMJOB_LOG_LEVEL"
#define NAME_ENV_LOG_FORMAT "LLMJOB_LOG_FORMAT"
#define NAME_ENV_IMAGE      "LLMJOB_IMAGE"
#define NAME_ENV_IMAGE_CUDA "LLMJOB_IMAGE_CUDA"
#define NAME_ENV_KUBECTL    "LLMJOB_KUBECTL"

/* likewise, of an agent */
#define NAME_ENV_LOG_JSON     "LLMJOB_LOG_JSON"
#define NAME_ENV_RUN_DIR      "LLMJOB_RUN_DIR"
#define NAME_ENV_SERVE_LISTEN "LLMJOB_SERVE_LISTEN"
#define NAME_ENV_RANK_PROGRAM "LLMJOB_RANK_PROGRAM"

/* environment of a rank; "staged": device memory is reduced through the host, so that several ranks
 * may share a GPU (tests, trials) */
#define NAME_ENV_COLL        "LLMJOB_COLL"
#define NAME_ENV_COLL_STAGED "staged"
/* "1": F32 matrix products on a GPU may round their inputs to TF32 (10 bits of mantissa) */
#define NAME_ENV_TF32        "LLMJOB_TF32"
/* "1": ranks of one GPU reach each other over the network, as if on several hosts (trials) */
#define NAME_ENV_NCCL_SHARE  "LLMJOB_NCCL_SHARE"
/* the instruction set that a CPU computes with, in place of the best that it has */
#define NAME_ENV_ISA         "LLMJOB_ISA"

/* in the pod */
#define NAME_JOB_DIR       "/etc/llmjob" /* the job Secret: job.json, token */
#define NAME_JOB_FILE      "job.json"
#define NAME_TOKEN_FILE    "token"
#define NAME_API_KEY_FILE  "apiKey" /* in the job folder, and the key of spec.serve.apiKeySecret */
#define NAME_WEBHOOK_DIR   "webhooks" /* in the job folder: keys of ...classify.webhookSecret */
#define NAME_METRICS_FILE  "metrics.jsonl"   /* in spec.checkpoint.path: a line a step */
#define NAME_TRACE_FILE    "trace-%d.json"   /* beside it, of a rank: of spec.train.trace */
#define NAME_RUN_DIR       "/run/llmjob"     /* emptyDir, writable */
#define NAME_LIB_DIR       "/usr/lib/llmjob" /* rank binary and plugins */
#define NAME_AGENT_PROGRAM "/usr/bin/llmjob-agent"

/* ports, and their names in pods and Services */
#define NAME_PORT_AGENT      7070 /* control */
#define NAME_PORT_SERVE      8000 /* OpenAI API */
#define NAME_PORT_AGENT_TEXT "agent"
#define NAME_PORT_SERVE_TEXT "http"

/* HTTP paths: of replica 0's agent, and of every agent and the controller */
#define NAME_PATH_DESIRED "/v1/desired"
#define NAME_PATH_JOB     "/v1/job"
#define NAME_PATH_HEALTH  "/healthz"
#define NAME_PATH_READY   "/readyz"
#define NAME_PATH_METRICS "/metrics"
#define NAME_HEADER_TOKEN \
    "X-Llmjob-Token" /* as Authorization: Bearer, but survives the API server's proxy */
/* Between replicas, of a request that one is to serve for the other (agent/vouch.h). */
#define NAME_HEADER_FORWARDED "X-Llmjob-Forwarded"
#define NAME_HEADER_PROOF     "X-Llmjob-Proof"

/* metrics of an agent */
#define NAME_METRIC_INCARNATION    "llmjob_incarnation"
#define NAME_METRIC_IN_WORLD       "llmjob_in_world"
#define NAME_METRIC_STEP           "llmjob_step"
#define NAME_METRIC_RATE           "llmjob_tokens_per_second"
#define NAME_METRIC_RESTARTS       "llmjob_restarts"
#define NAME_METRIC_SEQUENCES      "llmjob_step_sequences"
#define NAME_METRIC_REQUESTS       "llmjob_requests_total"
#define NAME_METRIC_REFUSED        "llmjob_requests_refused_total"
#define NAME_METRIC_IN_FLIGHT      "llmjob_requests_in_flight"
#define NAME_METRIC_WAITING        "llmjob_requests_waiting"
#define NAME_METRIC_WAIT           "llmjob_queue_seconds"
#define NAME_METRIC_TOKENS         "llmjob_generated_tokens_total"
#define NAME_METRIC_PROMPT_TOKENS  "llmjob_prompt_tokens_total"
#define NAME_METRIC_CACHED_TOKENS  "llmjob_cached_prompt_tokens_total"
#define NAME_METRIC_GUESSED_TOKENS "llmjob_guessed_tokens_total"
#define NAME_METRIC_RIGHT_TOKENS   "llmjob_guessed_tokens_right_total"
#define NAME_METRIC_FIRST_TOKEN    "llmjob_first_token_seconds"
#define NAME_METRIC_NEXT_TOKEN     "llmjob_next_token_seconds"
#define NAME_METRIC_ANSWER         "llmjob_answer_seconds"
#define NAME_METRIC_ITEMS          "llmjob_texts_read_total"
#define NAME_METRIC_ITEM_TOKENS    "llmjob_texts_read_tokens_total"
#define NAME_METRIC_RECOMMENDED    "llmjob_recommended_items_total"
#define NAME_METRIC_FORWARDED      "llmjob_requests_forwarded_total"
#define NAME_METRIC_KEPT           "llmjob_requests_kept_total"
#define NAME_METRIC_FALLBACK       "llmjob_requests_fallback_total"
#define NAME_METRIC_MEMBERS        "llmjob_ensemble_members"
#define NAME_METRIC_MISSING        "llmjob_ensemble_members_missing"
#define NAME_METRIC_ADAPTERS       "llmjob_adapters_loaded"
#define NAME_METRIC_ADAPTER_BYTES  "llmjob_adapters_bytes"
#define NAME_METRIC_ADAPTER_LOADS  "llmjob_adapter_loads_total"
#define NAME_METRIC_ADAPTER_DROPS  "llmjob_adapter_drops_total"
#define NAME_METRIC_ADAPTER_WRONG  "llmjob_adapter_load_failures_total"
#define NAME_METRIC_ADAPTER_LOAD   "llmjob_adapter_load_seconds"
#define NAME_METRIC_DOCUMENTS      "llmjob_documents"
#define NAME_METRIC_PASSED_OVER    "llmjob_documents_passed_over"
#define NAME_METRIC_CHUNKS         "llmjob_document_chunks"
#define NAME_METRIC_INDEXING       "llmjob_index_seconds"
#define NAME_METRIC_SEARCHES       "llmjob_search_seconds"

/* likewise, of one that watches streams */
#define NAME_METRIC_WATCH_TEXTS     "llmjob_watched_texts_total"
#define NAME_METRIC_WATCH_WRONG     "llmjob_watched_lines_refused_total"
#define NAME_METRIC_WATCH_LATE      "llmjob_watched_texts_late_total"
#define NAME_METRIC_WATCH_SOURCE    "llmjob_watched_source_late_seconds"
#define NAME_METRIC_WATCH_STATE     "llmjob_watched_state_late_seconds"
#define NAME_METRIC_ALERT_SHARE     "llmjob_alert_share"
#define NAME_METRIC_ALERT_FIRING    "llmjob_alert_firing"
#define NAME_METRIC_HOOKS_DELIVERED "llmjob_alert_webhooks_total"
#define NAME_METRIC_HOOKS_DROPPED   "llmjob_alert_webhooks_dropped_total"

/* metrics of the controller */
#define NAME_METRIC_JOBS            "llmjob_jobs"
#define NAME_METRIC_QUEUE           "llmjob_queue_keys"
#define NAME_METRIC_LEADER          "llmjob_leader"
#define NAME_METRIC_PASS_SECONDS    "llmjob_pass_seconds"
#define NAME_METRIC_SKIPPED         "llmjob_objects_skipped_total"
#define NAME_METRIC_ACTIONS         "llmjob_actions_total"
#define NAME_METRIC_ACTION_FAILURES "llmjob_action_failures_total"
#define NAME_METRIC_EVENTS_DROPPED  "llmjob_events_dropped_total"
#define NAME_METRIC_KUBE_REQUESTS   "llmjob_kube_requests_total"

#endif
