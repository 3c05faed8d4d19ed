/*
 * Goal: the rules that cross fields hold, each naming the field at fault, and a job that its own
 * parts could not read is refused before it is accepted (kind: a limit met only after the job has
 * begun).
 * Method: a table of changes to documents that are right; environments at and beyond the limits,
 * beside the rule of manifests/crd.yaml.
 */
#include "api/jobspec_check.h"

#include "api/limits.h"
#include "base/io.h"
#include "tests/api/jobspecs.h"
#include "tests/unit.h"

#include <glob.h>
#include <string.h>

/* Of eight ranks four each see the same sequences. */
static const char shares[] = JOBSPECS_HEAD
    "{" JOBSPECS_STORAGE ", replicas: 4, device: {perReplica: 2}, model: {source: /data/m}, "
    "parallelism: {tensor: 2, pipeline: 2}, checkpoint: {path: /data/c}, train: {data: {train: "
    "/data/t.txt}, sequenceLength: 32, batchSequences: 2, steps: 9, output: /data/o}}}";

static const struct {
    const char *document, *target, *value, *expect;
} rules[] = {
    {jobspecs_run, "run", "null", "exactly one of train, evaluate, convert, serve and run"},
    {jobspecs_run, "serve", "{}", "exactly one of train, evaluate, convert, serve and run"},
    {jobspecs_train, "model", "null", "spec.model: required"},
    {jobspecs_run, "convert", "{output: /o}",
        "exactly one of train, evaluate, convert, serve and run"},
    {jobspecs_convert, "model", "null", "spec.model: required"},
    {jobspecs_convert, "model.init", "Random", "spec.model.init"},
    {jobspecs_convert, "replicas", "2", "spec.replicas: a converting job has at most 1"},
    {jobspecs_convert, "convert.format", "HuggingFace", "spec.convert.quantize: only None, F32,"},
    {jobspecs_convert, "convert.output", "null", "spec.convert.output: required"},
    {jobspecs_convert, "convert.output", "/data", "spec.convert.output: must not be or contain"},
    {jobspecs_convert, "convert.output", "/data/m/a", "lie inside spec.model.source"},
    {jobspecs_convert, "convert.output", "/data/a", "lie inside spec.convert.mergeAdapter"},
    {jobspecs_convert, "convert.mergeAdapter", "/a", "spec.convert.mergeAdapter: must lie under"},
    {jobspecs_convert, "convert.calibration", "/k", "spec.convert.calibration: must lie under"},
    {jobspecs_convert, "convert.output", "/data/k", "lie inside spec.convert.calibration"},
    {jobspecs_convert, "convert.quantize", "Q8_0", "spec.convert.calibration: only allowed with"},
    {jobspecs_convert, "convert.evaluate.data", "/t", "spec.convert.evaluate.data: must lie"},
    {jobspecs_convert, "convert.evaluate.data", "/data/o/t", "inside spec.convert.evaluate.data"},
    {jobspecs_prune, "convert.prune.pattern", "'2:4'",
        "spec.convert.prune.target: required with pattern Unstructured, and only allowed there"},
    {jobspecs_prune, "convert.prune.target", "null", "spec.convert.prune.target: required"},
    {jobspecs_prune, "convert.prune", "{}", "spec.convert.prune.pattern: required"},
    {jobspecs_prune, "convert.prune", "{pattern: Source}",
        "spec.convert.prune.pattern: \"Source\""},
    {jobspecs_prune, "convert.prune", "{pattern: None}", "spec.convert.calibration: only allowed"},
    {jobspecs_convert, "convert.prune", "{pattern: '2:4'}",
        "spec.convert.quantize: Q4_K_M is not allowed with prune"},
    {jobspecs_evaluate, "model", "null", "spec.model: required"},
    {jobspecs_evaluate, "model.init", "Random", "spec.model.init"},
    {jobspecs_evaluate, "evaluate.data", "null", "spec.evaluate.data: required"},
    {jobspecs_evaluate, "evaluate.output", "null", "spec.evaluate.output: required"},
    {jobspecs_evaluate, "evaluate.output", "/data", "spec.evaluate.output: must not be or contain"},
    {jobspecs_evaluate, "evaluate.output", "/data/m", "lie inside spec.model.source"},
    {jobspecs_evaluate, "evaluate.output", "/data/a/r", "lie inside spec.evaluate.adapter"},
    {jobspecs_evaluate, "evaluate.output", "/o", "spec.evaluate.output: must lie under"},
    {jobspecs_evaluate, "evaluate.data", "/data/o/q", "lie inside spec.evaluate.data"},
    {jobspecs_evaluate, "evaluate.adapter", "/a", "spec.evaluate.adapter: must lie under"},
    {jobspecs_evaluate, "evaluate.format", "Text", "spec.evaluate.format: must be JSONL with Mul"},
    {jobspecs_evaluate, "evaluate.objective", "CausalLM", "spec.evaluate.chat: only allowed with"},
    {jobspecs_evaluate, "evaluate", "{objective: MultipleChoice, data: /data/q, output: /data/o}",
        "spec.evaluate.format: must be JSONL with MultipleChoice, or Auto with a file that"},
    {jobspecs_evaluate, "evaluate", "{data: /data/q, format: CSV, output: /data/o}",
        "spec.evaluate.format: must be Auto, Text or JSONL with CausalLM"},
    {jobspecs_evaluate, "evaluate",
        "{objective: TokenClassification, data: /data/q.txt, output: /data/o}",
        "spec.evaluate.format: must be CoNLL with TokenClassification"},
    {jobspecs_evaluate, "evaluate",
        "{objective: SequenceClassification, data: /data/q.conll, output: /data/o}",
        "spec.evaluate.format: must be JSONL, CSV or TSV with SequenceClassification"},
    {jobspecs_evaluate, "evaluate",
        "{objective: TokenClassification, data: /data/q.conll, adapter: /data/a, output: /data/o}",
        "spec.evaluate.adapter: only allowed with CausalLM and MultipleChoice"},
    {jobspecs_serve, "model", "null", "spec.model: required"},
    {jobspecs_serve, "model.init", "Random", "spec.model.init"},
    {jobspecs_train, "model.init", "Pretrained", "spec.model.config"},
    {jobspecs_train, "parallelism.tensor", "2",
        "spec.parallelism: tensor, pipeline and expert above 1 not with"},
    {jobspecs_convert, "parallelism", "{tensor: 2}",
        "spec.parallelism: tensor and pipeline above 1 only with train, evaluate and serve"},
    {jobspecs_serve, "parallelism", "{tensor: 2}",
        "spec.parallelism: tensor x pipeline must be replicas x device.perReplica with serve"},
    {jobspecs_serve, "parallelism", "{expert: 2}",
        "spec.parallelism: expert and context above 1 only with train so far"},
    {jobspecs_serve, "device", "{resource: nvidia.com/gpu}",
        "spec.serve.kvCache: Q8_0 only with device.resource cpu so far"},
    {jobspecs_serve, "serve.adapters", "[{name: m, path: /data/x}]",
        "spec.serve.adapters: names must differ from modelName"},
    {jobspecs_serve, "serve.adapters", "[{name: x, path: /data/x}, {name: x, path: /data/z}]",
        "spec.serve.adapters[1]: names must differ from one another"},
    {jobspecs_serve, "serve.speculation", "{method: Draft}",
        "spec.serve.speculation.model: required with method Draft, and only allowed there"},
    {jobspecs_serve, "serve.speculation.method", "NGram",
        "spec.serve.speculation.model: required with method Draft, and only allowed there"},
    {jobspecs_serve, "serve.speculation.model.source", "/d",
        "spec.serve.speculation.model.source: must lie under the mountPath of a storage entry"},
    {jobspecs_serve, "serve.speculation.tokens", "0",
        "spec.serve.speculation.tokens: 0 is outside"},
    {jobspecs_recommend, "serve.recommend.items", "/x",
        "spec.serve.recommend.items: must lie under"},
    {jobspecs_recommend, "serve.recommend.features", "[{name: text, weight: 1}]",
        "spec.serve.recommend.features: names must differ from id and text"},
    {jobspecs_recommend, "serve.recommend.features", "[{name: x, weight: 1}, {name: x, weight: 1}]",
        "spec.serve.recommend.features[1]: names must differ from one another"},
    {jobspecs_serve, "serve.recommend", "{items: /data/i}",
        "spec.serve.adapters: not with serve.classify and serve.recommend: models that read"},
    {jobspecs_classify, "serve.recommend", "{items: /data/i}",
        "spec.serve.recommend: not with serve.classify: the model of that has labels"},
    {jobspecs_serve, "serve.adapters", "[{name: x, path: /x}]",
        "spec.serve.adapters: path must lie under the mountPath of a storage entry"},
    {jobspecs_serve, "serve.retrieval.overlapTokens", "17",
        "spec.serve.retrieval.overlapTokens: must be at most a quarter of chunkTokens"},
    {jobspecs_serve, "serve.retrieval.documents", "/d",
        "spec.serve.retrieval.documents: must lie under the mountPath of a storage entry"},
    {jobspecs_serve, "serve.retrieval.encoder.source", "/n",
        "spec.serve.retrieval.encoder.source: must lie under the mountPath of a storage entry"},
    {jobspecs_serve, "serve.embeddingCache", "/e",
        "spec.serve.embeddingCache: must lie under the mountPath of a storage entry"},
    {jobspecs_serve, "serve.embeddingCache", "/data/d/e",
        "spec.serve.embeddingCache: must not lie in serve.retrieval.documents"},
    {jobspecs_ensemble, "serve.embeddingCache", "/data/e",
        "spec.serve.embeddingCache: only with serve.retrieval or serve.recommend"},
    {jobspecs_serve, "serve.retrieval.encoder", "null",
        "spec.serve.retrieval.encoder.source: required"},
    {jobspecs_ensemble, "serve.ensemble.members", "[{name: a}, {name: b}, {name: a}]",
        "spec.serve.ensemble.members[2]: names must differ from one another"},
    {jobspecs_ensemble, "serve.ensemble.members", "[{name: a}]", "spec.serve.ensemble.members"},
    {jobspecs_ensemble, "serve.ensemble.members", "[{name: a}, {name: b, source: /x}]",
        "spec.serve.ensemble: source and adapter of members must lie under the mountPath of"},
    {jobspecs_ensemble, "serve.ensemble.members", "[{name: a}, {name: b, adapter: /x}]",
        "spec.serve.ensemble: source and adapter of members must lie under the mountPath of"},
    {jobspecs_ensemble, "serve.adapters", "[{name: x, path: /data/x}]",
        "spec.serve.ensemble: not with serve.adapters so far"},
    {jobspecs_ensemble, "replicas", "65",
        "spec.serve.routing.prefixAffinity: with at most 64 of replicas"},
    {jobspecs_ensemble, "serve", "{routing: {maxAhead: 3}}",
        "spec.serve.routing.prefixAffinity: required"},
    {jobspecs_ensemble, "serve",
        "{routing: {prefixAffinity: true}, recommend: {items: /data/i.jsonl}}",
        "spec.serve.routing.prefixAffinity: not with serve.recommend, whose model has no prompts"},
    {jobspecs_ensemble, "serve",
        "{routing: {prefixAffinity: true}, classify: {alerts: [{name: a, label: b, share: 1}]}}",
        "spec.serve.routing.prefixAffinity: not with serve.classify, whose model has no prompts"},
    {jobspecs_ensemble, "serve.ensemble.average", "Votes", "spec.serve.ensemble.average"},
    {jobspecs_ensemble, "serve.ensemble.ranks", "3",
        "spec.serve.ensemble.ranks: must not exceed the members"},
    {jobspecs_ensemble, "serve.ensemble.ranks", "2",
        "spec.serve.ensemble.ranks: above 1 must be replicas x device.perReplica"},
    {jobspecs_evaluate, "parallelism", "{expert: 2}",
        "spec.parallelism: expert and context above 1 only with train so far"},
    {jobspecs_evaluate, "parallelism", "{context: 2}",
        "spec.parallelism: expert and context above 1 only with train so far"},
    {jobspecs_evaluate, "parallelism", "{zeroStage: 1}",
        "spec.parallelism.zeroStage: only allowed with train"},
    {jobspecs_masked, "parallelism", "{tensor: 5}",
        "spec.parallelism: tensor x pipeline x expert x context must divide"},
    {jobspecs_train, "parallelism.pipeline", "2",
        "spec.parallelism: tensor, pipeline and expert above 1 not with"},
    {jobspecs_texts, "parallelism", "{pipeline: 2}",
        "spec.parallelism: tensor x pipeline x expert x context must divide replicas x"},
    {jobspecs_texts, "train.optimizer", "{name: Adafactor, offload: /data/o}",
        "spec.train.optimizer.offload: not with Adafactor"},
    {jobspecs_texts, "train.optimizer", "{offload: /elsewhere}",
        "spec.train.optimizer.offload: must lie under the mountPath of a storage entry"},
    {jobspecs_serve, "parallelism", "{virtualStages: 2}",
        "spec.parallelism.virtualStages: above 1 needs pipeline to be told, above 1"},
    {jobspecs_evaluate, "parallelism", "{virtualStages: 2}",
        "spec.parallelism.virtualStages: above 1 needs pipeline to be told, above 1"},
    {shares, "parallelism", "{virtualStages: 2}",
        "spec.parallelism.virtualStages: above 1 needs pipeline to be told, above 1"},
    {shares, "parallelism", "{pipeline: 2, virtualStages: 2, balance: Measured}",
        "spec.parallelism.virtualStages: above 1 not with balance Measured"},
    {jobspecs_train, "parallelism.context", "2",
        "spec.parallelism.context: above 1 not with train.lora.dropout"},
    {jobspecs_train, "train.modelDropout", "true",
        "spec.train.modelDropout: not with dropout and attentionDropout"},
    {jobspecs_texts, "parallelism", "{context: 2}",
        "spec.parallelism: tensor x pipeline x expert x context must divide replicas x"},
    {jobspecs_train, "parallelism.expert", "4",
        "spec.parallelism: tensor, pipeline and expert above 1 not with"},
    {jobspecs_masked, "parallelism", "{expert: 2}",
        "spec.parallelism: tensor x pipeline x expert x context must divide replicas x"},
    {jobspecs_masked, "parallelism", "{expert: 2, pipeline: 2}",
        "spec.parallelism: tensor x pipeline x expert x context must divide replicas x"},
    {jobspecs_train, "parallelism.zeroStage", "2",
        "spec.parallelism.zeroStage: not with train.histogramEverySteps"},
    {jobspecs_dpo, "parallelism", "{zeroStage: 2}",
        "spec.parallelism.zeroStage: 2 and 3 not with objective DPO"},
    {jobspecs_pairs, "parallelism", "{zeroStage: 3}",
        "spec.parallelism.zeroStage: 2 and 3 not with objective PairMatching"},
    {jobspecs_epochs, "parallelism", "{zeroStage: 3}",
        "spec.parallelism.zeroStage: 2 and 3 not with train.sparsity"},
    {jobspecs_masked, "parallelism", "{zeroStage: 2, balance: Measured}",
        "spec.parallelism.zeroStage: 2 and 3 not with balance Measured"},
    {jobspecs_pairs, "parallelism", "{balance: Measured}",
        "spec.parallelism.balance: Measured not with objective PairMatching"},
    {jobspecs_serve, "parallelism", "{balance: Measured}",
        "spec.parallelism.balance: Measured is only allowed with train"},
    {jobspecs_train, "precision", "FP16",
        "spec.train.communication: BF16 and Int8 gradients, and localSteps above 1, not with "
        "precision FP16"},
    {jobspecs_masked, "train.communication", "{gradients: Int8}",
        "spec.train.communication: BF16 and Int8 gradients, and localSteps above 1, not with "
        "parallelism.zeroStage above 0"},
    {jobspecs_train, "train.communication.localSteps", "4",
        "spec.checkpoint.everySteps: must be a multiple of train.communication.localSteps"},
    {jobspecs_train, "train.communication.localSteps", "5",
        "spec.train.evaluateEverySteps: must be a multiple of communication.localSteps"},
    {jobspecs_texts, "train.communication", "{localSteps: 2}",
        "spec.train.communication.localSteps: above 1 only with objectives CausalLM and"},
    {jobspecs_serve, "parallelism", "{data: 2}",
        "spec.parallelism.data: only allowed with train and evaluate"},
    {jobspecs_run, "parallelism", "{zeroStage: 1}",
        "spec.parallelism.zeroStage: only allowed with train"},
    {jobspecs_run, "parallelism", "{context: 2}",
        "spec.parallelism: expert and context above 1 only with train so far"},
    {jobspecs_train, "model.source", "/elsewhere/m", "spec.model.source: must lie under"},
    {jobspecs_train, "model.source", "/database/m", "spec.model.source: must lie under"},
    {jobspecs_train, "model.config", "/c.json", "spec.model.config: must lie under"},
    {jobspecs_train, "train.data.train", "/t", "spec.train.data.train: must lie under"},
    {jobspecs_train, "train.data.validation", "/v", "spec.train.data.validation: must lie under"},
    {jobspecs_epochs, "train.data.test", "/s.conll", "spec.train.data.test: must lie under"},
    {jobspecs_train, "train.tensorboard", "/tb", "spec.train.tensorboard: must lie under"},
    {jobspecs_train, "train.output", "/o", "spec.train.output: must lie under"},
    {jobspecs_train, "checkpoint.path", "/c", "spec.checkpoint.path: must lie under"},
    {jobspecs_train, "storage[0].readOnly", "true", "not readOnly"},
    {jobspecs_train, "train.output", "/data", "spec.train.output: must not be or contain"},
    {jobspecs_train, "train.output", "/data/m/a", "lie inside spec.model.source"},
    {jobspecs_train, "train.output", "/data/ckpt", "lie inside spec.checkpoint.path"},
    {jobspecs_train, "checkpoint.path", "/data/out/c", "lie inside spec.checkpoint.path"},
    {jobspecs_train, "train.tensorboard", "/data/out/tb", "lie inside spec.train.tensorboard"},
    {jobspecs_train, "train.data.validation", "/data/out/v", "inside spec.train.data.validation"},
    {jobspecs_epochs, "train.output", "/data/s.conll/o", "inside spec.train.data.test"},
    {jobspecs_train, "train.data.test", "/data/s.conll", "spec.train.data.test: only allowed"},
    {jobspecs_train, "train.data.format", "CoNLL", "spec.train.data.format: CoNLL is only allowed"},
    {jobspecs_train, "train.tensorboard", "null",
        "spec.train.histogramEverySteps: needs train.tensorboard"},
    {jobspecs_masked, "train.generate", "{everySteps: 1, prompts: [a]}",
        "spec.train.generate: only allowed with objective CausalLM or DPO"},
    {jobspecs_train, "train.generate.prompts", "[]", "spec.train.generate.prompts: "},
    {jobspecs_train, "train.exportedBy", "B", "train.exportedBy: \"B\" is not a DNS label that"},
    {jobspecs_search, "train.exportedBy", "b", "spec.train.exportedBy: not allowed with search"},
    {jobspecs_epochs, "train.objective", "CausalLM", "spec.train.data.test: only allowed"},
    {jobspecs_epochs, "train.data.format", "JSONL", "spec.train.data.format: must be CoNLL"},
    {jobspecs_epochs, "train.data.train", "/data/t.txt", "spec.train.data.format: must be CoNLL"},
    {jobspecs_epochs, "train.data.train", "/data/conll", "spec.train.data.format: must be CoNLL"},
    {jobspecs_epochs, "train.data.test", "/data/s", "spec.train.data.format: must be CoNLL"},
    {jobspecs_epochs, "train.data.skipBadRecords", "7",
        "spec.train.data.skipBadRecords: only allowed with objective CausalLM, MaskedLM or DPO"},
    {jobspecs_epochs, "train.data.packing", "true",
        "spec.train.data.packing: only allowed with objective CausalLM"},
    {jobspecs_epochs, "train.data.validation", "/data/v", "spec.train.data.format: must be CoNLL"},
    {jobspecs_epochs, "train.method", "LoRA", "spec.train.lora: required"},
    {jobspecs_train, "train.objective", "TokenClassification",
        "spec.train.data.format: must be CoNLL"},
    {jobspecs_epochs, "train.data.format", "CSV", "spec.train.data.format: must be CoNLL"},
    {jobspecs_train, "train.data.format", "TSV", "CSV and TSV are only allowed with Sequence"},
    {jobspecs_texts, "train.objective", "CausalLM", "spec.train.data.test: only allowed"},
    {jobspecs_texts, "train.objective", "TokenClassification", "data.format: must be CoNLL"},
    {jobspecs_texts, "train.data.format", "CoNLL", "CoNLL is only allowed with TokenClass"},
    {jobspecs_texts, "train.data.format", "Text", "data.format: must be JSONL, CSV or TSV"},
    {jobspecs_texts, "train.data.train", "/data/t.txt", "data.format: must be JSONL, CSV or TSV"},
    {jobspecs_texts, "train.data.test", "/data/tcsv", "data.format: must be JSONL, CSV or TSV"},
    {jobspecs_texts, "train.data.validation", "/data/v.conll", "must be JSONL, CSV or TSV"},
    {jobspecs_texts, "train.dpo", "{}", "spec.train.dpo: only allowed with objective DPO"},
    {jobspecs_dpo, "train.objective", "CausalLM", "spec.train.dpo: only allowed with objective"},
    {jobspecs_dpo, "train.data.format", "Text", "spec.train.data.format: must be JSONL or Auto"},
    {jobspecs_dpo, "train.data.format", "CSV", "spec.train.data.format: CSV and TSV"},
    {jobspecs_dpo, "train.data.packing", "true", "spec.train.data.packing: only allowed with"},
    {jobspecs_dpo, "train.data.test", "/data/t.jsonl", "spec.train.data.test: only allowed with"},
    {jobspecs_dpo, "train.dpo.loss", "IPO", "spec.train.dpo.labelSmoothing: only allowed with"},
    {jobspecs_dpo, "train.dpo.loss", "Hinge", "spec.train.dpo.loss"},
    {jobspecs_dpo, "train.dpo.beta", "0", "spec.train.dpo.beta"},
    {jobspecs_dpo, "train.dpo.labelSmoothing", "0.5", "spec.train.dpo.labelSmoothing"},
    {jobspecs_dpo, "train.lora.dora", "true", "spec.train.lora.dora: not allowed with adalora"},
    {jobspecs_dpo, "train.lora.rankStabilized", "true", "rankStabilized: not allowed with adalora"},
    {jobspecs_dpo, "train.lora.rank", "6", "adalora.initialRank: must be above lora.rank"},
    {jobspecs_dpo, "train.lora.adalora.initialSteps", "2",
        "spec.train.lora.adalora.finalSteps: must be less than steps, together with initialSteps"},
    {jobspecs_dpo, "train.lora.adalora.interval", "0", "spec.train.lora.adalora.interval"},
    {jobspecs_dpo, "train.lora.adalora.beta1", "1", "spec.train.lora.adalora.beta1"},
    {jobspecs_dpo, "train.lora.adalora.beta2", "0", "spec.train.lora.adalora.beta2"},
    {jobspecs_masked, "train.objective", "CausalLM", "spec.train.masking: only allowed with"},
    {jobspecs_masked, "train.masking.share", "0", "spec.train.masking.share: "},
    {jobspecs_masked, "train.masking.share", "1", "spec.train.masking.share: "},
    {jobspecs_masked, "train.data.format", "CSV", "CSV and TSV are only allowed with Sequence"},
    {jobspecs_masked, "train.data.format", "CoNLL", "CoNLL is only allowed with TokenClass"},
    {jobspecs_masked, "train.data.test", "/data/s.txt", "spec.train.data.test: only allowed"},
    {jobspecs_masked, "train.data.packing", "true", "data.packing: only allowed with objective"},
    {jobspecs_pairs, "train.objective", "CausalLM", "spec.train.data.test: only allowed"},
    {jobspecs_pairs, "train.objective", "SequenceClassification",
        "spec.train.pair: only allowed with objective PairMatching"},
    {jobspecs_pairs, "train.pair.loss", "Cosine",
        "spec.train.pair.temperature: only allowed with loss InBatchNegatives"},
    {jobspecs_pairs, "train.pair.temperature", "0", "spec.train.pair.temperature"},
    {jobspecs_pairs, "train.data.format", "CoNLL", "CoNLL is only allowed with TokenClass"},
    {jobspecs_pairs, "train.data.train", "/data/t.txt", "must be JSONL, CSV or TSV"},
    {jobspecs_pairs, "train.data.packing", "true", "spec.train.data.packing: only allowed"},
    {jobspecs_pairs, "train.data.skipBadRecords", "1", "skipBadRecords: only allowed"},
    {jobspecs_pairs, "train.batchSequences", "4097", "spec.train.batchSequences: from 2 to"},
    {jobspecs_pairs, "train.batchSequences", "1", "spec.train.batchSequences: from 2 to 4096"},
    {jobspecs_train, "checkpoint", "null", "spec.checkpoint: required"},
    {jobspecs_train, "train.steps", "null", "exactly one of steps and epochs"},
    {jobspecs_train, "train.epochs", "2", "exactly one of steps and epochs"},
    {jobspecs_train, "train.lora", "null", "spec.train.lora: required with method LoRA"},
    {jobspecs_train, "train.method", "Full", "spec.train.lora"},
    {jobspecs_epochs, "train.method", "Adapter",
        "spec.train.adapter: required with method Adapter"},
    {jobspecs_train, "train.adapter", "{kind: Houlsby}",
        "spec.train.adapter: required with method"},
    {jobspecs_adapter, "train.adapter.kind", "null", "spec.train.adapter.kind: required"},
    {jobspecs_adapter, "train.adapter.kind", "Parallel", "spec.train.adapter.kind"},
    {jobspecs_adapter, "train.adapter.reductionFactor", "0", "spec.train.adapter.reductionFactor"},
    {jobspecs_adapter, "train.adapter.activation", "Tanh", "spec.train.adapter.activation"},
    {jobspecs_train, "train.lora.dora", "true", "spec.train.lora.dropout: not allowed with dora"},
    {jobspecs_train, "train.lora.quantizedBase", "Q8_0",
        "spec.train.lora.quantizedBase: not allowed with model.init Random"},
    {jobspecs_train, "train.lora.quantizedBase", "Q5_1", "spec.train.lora.quantizedBase: "},
    {jobspecs_train, "train.lora.rank", "null", "spec.train.lora.rank: required"},
    {jobspecs_train, "train.data", "null", "spec.train.data.train: required"},
    {jobspecs_train, "train.output", "null", "spec.train.output: required"},
    {jobspecs_train, "train.optimizer.warmupSteps", "101", "spec.train.optimizer.warmupSteps"},
    {jobspecs_train, "train.optimizer.name", "SGD", "spec.train.optimizer.beta1: only allowed"},
    {jobspecs_train, "train.optimizer.name", "Adafactor",
        "spec.train.optimizer.state: must be FP32 with Adafactor, which keeps a row and a"},
    {jobspecs_train, "train.optimizer.name", "Lion", "spec.train.optimizer.epsilon: only allowed"},
    {jobspecs_train, "train.optimizer.name", "Muon", "spec.train.optimizer.name: Muon is only"},
    {jobspecs_texts, "train.optimizer", "{name: Adafactor, state: BF16}",
        "spec.train.optimizer.state: must be FP32 with Adafactor"},
    {jobspecs_epochs, "train.optimizer.state", "Int8",
        "spec.train.optimizer.state: must be FP32 with sparsity"},
    {jobspecs_train, "train.optimizer", "{name: SGD, beta2: 0.9}", "optimizer.beta2: only allowed"},
    {jobspecs_train, "train.optimizer.momentum", "0",
        "spec.train.optimizer.momentum: only allowed"},
    {jobspecs_train, "train.optimizer.minLearningRate", "0.6", "must not exceed learningRate"},
    {jobspecs_train, "train.optimizer.schedule", "Constant", "minLearningRate: not allowed"},
    {jobspecs_train, "train.optimizer.decaySteps", "5", "decaySteps: only allowed with schedule"},
    {jobspecs_train, "train.optimizer", "{schedule: WSD, warmupSteps: 60, decaySteps: 41}",
        "spec.train.optimizer.decaySteps: must not exceed steps"},
    {jobspecs_run, "search", "{parameters: [{name: seed, values: [1]}]}",
        "only allowed with train"},
    {jobspecs_search, "search.parameters", "null", "spec.search.parameters: required"},
    {jobspecs_search, "search.parameters[0].min", "null", "[0]: set either values, or min and max"},
    {jobspecs_search, "search.parameters[1].max", "1", "[1]: set either values, or min and max"},
    {jobspecs_search, "search.parameters[0].min", "1", "[0]: min must be below max"},
    {jobspecs_search, "search.parameters[0].min", "0", "[0]: scale Log needs a min above 0"},
    {jobspecs_search, "search.parameters[0].max", "11",
        "spec.search.parameters[0]: 11 is no value of spec.train.optimizer.learningRate"},
    {jobspecs_search, "search.parameters[1].name", "optimizer.learningRate", "names must differ"},
    {jobspecs_search, "search.parameters[1].name", "lora.rank",
        "spec.search.parameters: those of lora need train.method LoRA"},
    {jobspecs_search, "search.parameters[1].name", "seed", "[1]: 0.1 is no value of"},
    {jobspecs_search, "search.parameters[1].name", "train.output", "is not one of"},
    {jobspecs_search, "search.parameters[1].name", "optimizer.momentum",
        "spec.search: trial 0: spec.train.optimizer.momentum: only allowed with SGD and Muon"},
    {jobspecs_search, "search.algorithm", "Grid",
        "spec.search.halving: required with algorithm SuccessiveHalving, and only allowed"},
    {jobspecs_search, "search.algorithm", "Random", "spec.search.halving: required with"},
    {jobspecs_search, "search.halving", "null", "spec.search.halving"},
    {jobspecs_search, "search.halving.minSteps", "101", "spec.search.halving.minSteps: needs"},
    {jobspecs_search, "search.earlyStopTrials", "1", "spec.search.earlyStopTrials: not allowed"},
    {jobspecs_search, "search.goal", "Maximize", "spec.search.goal: Maximize with metric"},
    {jobspecs_search, "search.metric", "validationF1", "spec.search.goal: Maximize with metric"},
    {jobspecs_search, "train.optimizer.schedule", "Cosine", "schedule: must be Constant"},
    {jobspecs_train, "search",
        "{goal: Maximize, metric: validationF1, parameters: [{name: seed, values: [1]}]}",
        "spec.search.metric: validationF1 is only known of classification"},
    {jobspecs_train, "search",
        "{goal: Maximize, metric: validationMatch, parameters: [{name: seed, values: [1]}]}",
        "spec.search.metric: validationMatch is only known of PairMatching"},
    {jobspecs_epochs, "search",
        "{algorithm: Grid, maxTrials: 3, parameters: [{name: seed, values: [1, 2, 3, 4]}]}",
        "spec.search.maxTrials: the grid has more points than these 3"},
    {jobspecs_train, "train.sparsity", "{pattern: '2:4'}",
        "spec.train.optimizer.state: must be FP32 with sparsity"},
    {jobspecs_epochs, "train.sparsity.target", "null", "spec.train.sparsity.target: required with"},
    {jobspecs_epochs, "train.sparsity.pattern", "'2:4'", "spec.train.sparsity.target: required"},
    {jobspecs_epochs, "train.sparsity", "{pattern: Source, endStep: 3}",
        "spec.train.sparsity.endStep: only allowed with patterns"},
    {jobspecs_epochs, "train.sparsity", "{pattern: '2:4', startStep: 3}",
        "spec.train.sparsity.endStep: must not be below startStep"},
    {jobspecs_epochs, "train.sparsity", "{pattern: '2:4', startStep: 3, endStep: 3, everySteps: 1}",
        "spec.train.sparsity.everySteps: only allowed with endStep above startStep"},
    {jobspecs_masked, "train.distill", "{teacher: /data/z}",
        "spec.train.distill: only allowed with objective CausalLM, TokenClassification or S"},
    {jobspecs_train, "train.distill.teacher", "/z", "spec.train.distill.teacher: must lie under"},
    {jobspecs_train, "train.output", "/data/z/o", "lie inside spec.train.distill.teacher"},
    {jobspecs_train, "train.batchSequences", "3", "spec.train.batchSequences"},
    {shares, "train.batchSequences", "1",
        "spec.train.batchSequences: must be at least replicas x device.perReplica / (parallelism."},
    {shares, "replicas", "6", "spec.train.batchSequences: must be at least"},
    {shares, "parallelism", "{tensor: 2}", "spec.train.batchSequences: must be at least"},
    {shares, "parallelism", "{expert: 4}", "spec.train.batchSequences: must be at least"},
    {jobspecs_train, "elastic.minReplicas", "3", "spec.elastic.minReplicas"},
    {jobspecs_train, "storage[0].claimName", "null", "spec.storage[0]: set exactly one"},
    {jobspecs_train, "storage[0].scratch", "1Gi", "spec.storage[0]: set exactly one"},
    {jobspecs_train, "storage[1].name", "d", "spec.storage[1]: names"},
    {jobspecs_train, "storage[1].mountPath", "/data",
        "spec.storage: mountPaths must differ from one another"},
    {jobspecs_train, "storage[1].mountPath", "/etc", "spec.storage[1].mountPath"},
    {jobspecs_train, "storage[1].mountPath", "/dev/shm", "spec.storage[1].mountPath"},
    {jobspecs_train, "storage[1].mountPath", "relative", "spec.storage[1].mountPath"},
    {jobspecs_train, "placement.tolerations[0].operator", "Exists",
        "spec.placement.tolerations[0]: Exists"},
    {jobspecs_train, "placement.tolerations[0].key", "null",
        "spec.placement.tolerations[0]: Exists"},
    {jobspecs_train, "placement.tolerations[0].effect", "null",
        "spec.placement.tolerations[0]: tolerationSeconds"},
    {jobspecs_train, "placement.topology.key", "null", "spec.placement.topology.key: required"},
    {jobspecs_train, "device", "7", "spec.device: must be an object"},
    {jobspecs_train, "train.optimizer", "[]", "spec.train.optimizer: must be an object"},
    {jobspecs_train, "storage[0]", "7", "spec.storage[0]: must be an object"},
    {jobspecs_run, "run.env", "{A-B: c}", "spec.run.env: A-B"},
    {jobspecs_run, "run.env", "{A: 1}", "spec.run.env: A"},
    {jobspecs_train, "resources.limits", "{'-': 1}", "spec.resources.limits: -"},
    {jobspecs_train, "resources.limits", "{cpu: -1}", "spec.resources.limits: cpu"},
    {jobspecs_train, "resources.limits", "{cpu: 0.5}", "spec.resources.limits: cpu"},
};

START_TEST(test_rules_that_cross_fields)
{
    const char *text = jobspecs_verdict(rules[_i].document, rules[_i].target, rules[_i].value);
    ck_assert_msg(strstr(text, rules[_i].expect), "%s: %s gave \"%s\", not \"%s\"",
        rules[_i].target, rules[_i].value, text, rules[_i].expect);
}
END_TEST

static const char *const accepted_objectives[][3] = {
    {shares, "replicas", "2"},
    {shares, "replicas", "0"},
    {shares, "parallelism", "{tensor: 4}"},
    {shares, "parallelism", "{pipeline: 2, context: 4}"},
    {shares, "parallelism", "{pipeline: 2, context: 4, virtualStages: 2}"},
    {jobspecs_epochs, "train.data.format", "CoNLL"},
    {jobspecs_epochs, "train.data.validation", "/data/v.conll"},
    {jobspecs_epochs, "train.data.test", "null"},
    {jobspecs_epochs, "train.objective", "TokenClassification"},
    {jobspecs_texts, "train.data.format", "CSV"},
    {jobspecs_texts, "train.data.format", "TSV"},
    {jobspecs_texts, "train.data.format", "JSONL"},
    {jobspecs_texts, "train.data.validation", "/data/v.tsv"},
    {jobspecs_texts, "train.data.validation", "/data/v.ndjson"},
    {jobspecs_texts, "train.data.test", "null"},
    {jobspecs_dpo, "train.dpo", "null"},
    {jobspecs_dpo, "train.dpo", "{loss: IPO}"},
    {jobspecs_dpo, "train.data.skipBadRecords", "3"},
    {jobspecs_evaluate, "replicas", "3"},
    {jobspecs_evaluate, "evaluate.format", "Auto"},
    {jobspecs_evaluate, "evaluate",
        "{objective: TokenClassification, data: /data/q.CONLL, output: /data/o}"},
    {jobspecs_evaluate, "evaluate",
        "{objective: SequenceClassification, data: /data/q.tsv, output: /data/o}"},
    {jobspecs_masked, "train.masking", "null"},
    {jobspecs_masked, "train.masking", "{}"},
    {jobspecs_masked, "train.data.format", "JSONL"},
    {jobspecs_pairs, "train.pair", "null"},
    {jobspecs_pairs, "train.pair", "{loss: Cosine}"},
    {jobspecs_pairs, "train.batchSequences", "4096"},
    {jobspecs_epochs, "train.optimizer.name", "Muon"},
    {jobspecs_epochs, "train.optimizer", "{schedule: WSD, decaySteps: 1000}"},
};

START_TEST(test_accepted_of_another_objective)
{
    const char *const *x = accepted_objectives[_i];
    ck_assert_str_eq(jobspecs_verdict(x[0], x[1], x[2]), "");
}
END_TEST

static const char *const accepted[][2] = {
    {"replicas", "0"},
    {"elastic", "null"},
    {"resources.limits", "{cpu: '0.5'}"},
    {"checkpoint.path", "/s"},
    {"checkpoint.path", "/data/output"},
    {"train.tensorboard", "/data/ckpt/tb"},
    {"train.optimizer", "{schedule: WSD, warmupSteps: 60, decaySteps: 40}"},
    {"train.optimizer", "{name: Lion, beta1: 0.95, beta2: 0.98}"},
    {"model.source", "/s/m"},
    {"placement.tolerations", "[{operator: Exists}]"},
    {"newField", "{from: tomorrow}"},
};

START_TEST(test_accepted)
{
    ck_assert_str_eq(jobspecs_verdict(jobspecs_train, accepted[_i][0], accepted[_i][1]), "");
}
END_TEST

/* `count` variables of 4096 times the byte that `text` is in JSON. */
static int decode_large(int count, const char *text, struct err *e)
{
    buf_auto struct buf b;
    json_auto struct json *v = NULL;
    struct jobspec spec;
    buf_init(&b, 4 << 20);
    buf_str(&b, "{\"name\":\"a\",\"spec\":{\"replicas\":1,\"run\":{\"command\":[\"x\"],\"env\":{");
    for (int i = 0; i < count; i++) {
        buf_printf(&b, "%s\"E%d\":\"", i ? "," : "", i);
        for (int n = 0; n < 4096; n++)
            buf_str(&b, text);
        buf_str(&b, "\"");
    }
    buf_str(&b, "}}}}");
    ck_assert_int_eq(json_parse(b.data, b.len, &v, e), 0);
    struct arena *a = arena_create(16 << 20);
    int rc = jobspec_decode(v, a, &spec, e);
    arena_destroy(a);
    return rc;
}

/* A job that its own parts could not read is refused before it is accepted, with the limit
 * named. */
START_TEST(a_job_too_large_for_its_parts_is_refused)
{
    struct err e = {.text = ""};
    ck_assert_msg(!decode_large(48, "x", &e), "%s", e.text);
    ck_assert_int_eq(decode_large(49, "x", &e), -ERR_USER);
    ck_assert_str_eq(e.text,
        "spec.run: command, args and env hold 200842 characters together, and 200000 are allowed");
    /* Few characters may still be many bytes of JSON. */
    ck_assert_msg(!decode_large(30, "\\\"", &e), "%s", e.text);
    ck_assert_int_eq(decode_large(48, "\\\"", &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "spec: 39") && strstr(e.text, " bytes as job.json, and 262144"),
        "%s", e.text);
    ck_assert_int_eq(decode_large(11, "\\u0001", &e), -ERR_USER);
    /* The API server bounds the same. */
    char rule[32];
    struct buf crd buf_auto;
    buf_init(&crd, 1 << 20);
    snprintf(rule, sizeof rule, ".sum() : 0) <= %d\"", LIMIT_RUN_CHARACTERS);
    ck_assert_int_eq(io_read_file("manifests/crd.yaml", 1 << 20, &crd, &e), 0);
    ck_assert_ptr_nonnull(strstr(crd.data, rule));
}
END_TEST

START_TEST(so_many_adapters_are_read)
{
    for (int more = 0; more < 2; more++) {
        buf_auto struct buf b;
        char want[96] = "";
        buf_init(&b, 1 << 20);
        for (int i = 0; i < LIMIT_ADAPTERS + more; i++)
            buf_printf(&b, "%s{name: a%d, path: /data/%d}", i ? ", " : "[", i, i);
        buf_str(&b, "]");
        if (more)
            snprintf(want, sizeof want, "spec.serve.adapters: more than %d items", LIMIT_ADAPTERS);
        ck_assert_str_eq(jobspecs_verdict(jobspecs_serve, "serve.adapters", b.data), want);
    }
}
END_TEST

/* Each file of bad-manifests/ is refused here as it is by the API server, naming the same field. */
START_TEST(test_bad_manifests)
{
    glob_t g;
    ck_assert_int_eq(glob("tests/e2e/bad-manifests/*.yaml", 0, NULL, &g), 0);
    ck_assert_int_gt((int)g.gl_pathc, 100);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        struct err e = {.text = ""};
        struct jobspec spec;
        struct buf b buf_auto;
        buf_init(&b, LIMIT_JOB_FILE_BYTES);
        ck_assert_int_eq(io_read_file(g.gl_pathv[i], LIMIT_JOB_FILE_BYTES, &b, &e), 0);
        char *expect = b.data + strlen("# expect: ");
        *strchr(expect, '\n') = 0;
        int rc = jobspec_read_file(g.gl_pathv[i], jobspecs_arena, &spec, &e);
        ck_assert_msg(rc == -ERR_USER && strstr(e.text, expect), "%s: wanted \"%s\", got \"%s\"",
            g.gl_pathv[i], expect, rc ? e.text : "accepted");
    }
    globfree(&g);
}
END_TEST

#define COUNT(a) (int)(sizeof a / sizeof *(a))

int main(void)
{
    Suite *s = suite_create("jobspec_check");
    TCase *t = tcase_create("jobspec_check");
    tcase_add_checked_fixture(t, jobspecs_begin, jobspecs_end);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_rules_that_cross_fields, 0, COUNT(rules));
    tcase_add_loop_test(t, test_accepted, 0, COUNT(accepted));
    tcase_add_loop_test(t, test_accepted_of_another_objective, 0, COUNT(accepted_objectives));
    tcase_add_test(t, a_job_too_large_for_its_parts_is_refused);
    tcase_add_test(t, so_many_adapters_are_read);
    tcase_add_test(t, test_bad_manifests);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
