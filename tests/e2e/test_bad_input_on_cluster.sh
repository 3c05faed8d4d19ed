#!/bin/bash
# Goal: on a cluster, too, what only the runtime can see wrong (a model file, a dataset) ends the job as Failed, with the file
# and, where it has lines, the line in status; it is tried once, by one rank, by two or as a server. Method: a few rows of
# test_bad_input.sh's table, as jobs of their own on the real cluster, all at once. Before them stands a job that no operator
# can read: it must hide none of the others, and be told of.
. "$(dirname "$0")/lib.sh"
need_llmjob
need_namespace
need_material

model=/data/models/$(basename "$(tests/golden/fetch.sh smollm2)")
real=$data/models/${model##*/}
mkdir "$data/bad"
cd "$data/bad"
head -c 60000000 "$real" >cut-late.gguf # within the weights
{ head -n 40 ../kjv.txt && printf 'caf\xe9 is Latin-1\n' && head -n 40 ../kjv.txt; } >latin1.txt
printf '{"text": "a line"}\n{"text": "and one that does not end}\n' >broken.jsonl
cd "$top"

jobs=() wanted=()
job() { # name model data text-in-the-message...
	wanted[${#jobs[@]}]=$(printf '%s\n' "${@:4}")
	jobs+=("$1")
	cat <<-E
		---
		apiVersion: llmjob.dev/v1alpha1
		kind: LLMJob
		metadata: {name: $1}
		spec:
		  replicas: ${replicas:-1}
		  storage: [{name: data, claimName: llmjob-data, mountPath: /data}]
		  model: {source: $2}
		  checkpoint: {path: /data/ckpt/$1}
		  train:
		    data: {train: $3}
		    sequenceLength: 64
		    batchSequences: 2
		    steps: 2
		    output: /data/out/$1
	E
}

text=/data/kjv.txt bad=/data/bad
{
	job missing-model /data/none.gguf $text /data/none.gguf
	job cut-late $bad/cut-late.gguf $text $bad/cut-late.gguf
	job broken-jsonl $model $bad/broken.jsonl $bad/broken.jsonl "line 2"
	replicas=2 job both-ranks $model $bad/latin1.txt $bad/latin1.txt "line 41"
} >"$data/jobs.yaml"
k create --raw "/apis/llmjob.dev/v1alpha1/namespaces/$namespace/llmjobs" -f - >/dev/null <<'E'
{"apiVersion": "llmjob.dev/v1alpha1", "kind": "LLMJob", "metadata": {"name": "a-poison"},
 "spec": {"run": {"command": ["/bin/true"], "args": ["\u0000"]}}}
E
kn create -f "$data/jobs.yaml" >/dev/null
kn create -f - >/dev/null <<E
apiVersion: llmjob.dev/v1alpha1
kind: LLMJob
metadata: {name: serve-cut}
spec:
  storage: [{name: data, claimName: llmjob-data, mountPath: /data, readOnly: true}]
  model: {source: $bad/cut-late.gguf}
  serve: {modelName: cut}
E
wanted[${#jobs[@]}]=$bad/cut-late.gguf
jobs+=(serve-cut)

# All of them are asked for at once, and looked at one by one.
kn wait llmjob --for=condition=Failed --timeout=180s "${jobs[@]}" >/dev/null 2>&1 || true
kn get llmjobs -o json | jq 'reduce .items[] as $job ({}; .[$job.metadata.name] = $job.status)' >"$data/ends.json"
status_of() { jq -er ".[\"$1\"] | $2" "$data/ends.json"; }
has_failed() { status_of "$1" '.conditions[] | select(.type == "Failed" and .status == "True")'; }
message_of() { status_of "$1" '.conditions[] | select(.type == "Failed") | "\(.reason): \(.message)"'; }
says() { # job lines-of-text
	local message line
	has_failed "$1" >/dev/null || { status_of "$1" .; return 1; }
	message=$(message_of "$1")
	while read -r line; do
		grep -qF -- "$line" <<<"$message" || { echo "lacks: $line"; echo "$message"; return 1; }
	done <<<"$2"
}
# One attempt, ended by the rank's own verdict on its input: neither a signal nor a retry.
tried_once() { # job
	status_of "$1" '.restarts == 0 and (.attempts | length) == 1
		and (.attempts[0].exitClass | . == "data" or . == "user" or . == "corrupt")
		and (.conditions | map({(.type): .status}) | add
			| .Complete == "False" and .Ready == "False")' >/dev/null || { status_of "$1" .; return 1; }
}
for ((i = 0; i < ${#jobs[@]}; i++)); do
	check "${jobs[i]} fails and says where" says "${jobs[i]}" "${wanted[$i]}"
	check "${jobs[i]} is tried once" tried_once "${jobs[i]}"
	echo "   $(message_of "${jobs[i]}")"
done
told() { [ -n "$1" ]; }
check "a job that cannot be read is told of" \
	watch 30 "an Event" told get events --field-selector reason=ObjectSkipped -o name
check "all pods come to their end" \
	kn wait pod --all --for=jsonpath={.status.phase}=Succeeded --timeout=45s
restarts='{range .items[*]}{.status.containerStatuses[0].restartCount}{"\n"}{end}'
check "no container was started twice" equal "$(kn get pods -o jsonpath="$restarts" | sort -u)" 0
check "one pod for each replica" equal "$(kn get pods -o name | wc -l)" $((${#jobs[@]} + 1))
finish
