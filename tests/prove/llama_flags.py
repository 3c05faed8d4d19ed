"""llama_flags.py FLAGS...: stands in llama-server's place for its own tests: takes its flags, serves a model by `llmjob run`, and says
what that says in llama-server's forms.

LLAMA_FLAGS_BUILD is the folder of our four programs, LLAMA_FLAGS_MODELS one with SmolLM2, `talks.gguf`, and the same as a folder, `talks`,
which are served for stories260K, and MiniLM, `embeds`, for bert-bge-small and jina-reranker; a template that --chat-template-file names
goes into a copy of the folder. Without --offline models are only looked for, so nothing but /health answers. What a flag asks that no
job says ends this program with a sentence; MiniLM's own --pooling is taken for each but none. Paths that both have go through as they
are, but for the model's name, which llama-server doesn't read, for which slot is to answer and for what flags say of requests. A field
that we don't know goes through, too, and is refused. Ends with SIGTERM.
"""

import argparse
import http.client
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

MODELS = {"stories260K": "talks", "bert-bge-small": "embeds", "jina-reranker": "embeds"}
DROPPED = ("cache_prompt", "return_tokens", "id_slot")  # what changes no text


def read_flags(words):
    p = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("host", "hf-repo", "hf-file", "alias", "api-key", "chat-template", "chat-template-file", "pooling"):
        p.add_argument(f"--{name}")
    for name in ("port", "ctx-size", "parallel", "n-predict", "seed"):
        p.add_argument(f"--{name}", type=int)
    p.add_argument("--temp", type=float)
    for name in ("offline", "kv-unified", "context-shift"):
        p.add_argument(f"--{name}", action="store_true")
    return p.parse_known_args(words)[0]


def write_job(flags, folder):
    asked = f"{flags.hf_repo} {flags.hf_file}"
    known = [kind for name, kind in MODELS.items() if re.search(rf"{name}(?!-infill)", asked)]
    if not known or flags.chat_template or flags.context_shift or flags.host != "127.0.0.1" or flags.pooling == "none":
        sys.exit(f"llama_flags: not here: {' '.join(sys.argv[1:])}")
    models, kind = pathlib.Path(os.environ["LLAMA_FLAGS_MODELS"]), known[0]
    source = "talks.gguf" if kind == "talks" and not flags.chat_template_file else kind
    if source == kind:
        shutil.copytree(models / source, folder / source, copy_function=os.link)
    else:
        os.link(models / source, folder / source)
    if flags.chat_template_file:
        (folder / source / "chat_template.jinja").unlink(missing_ok=True)
        shutil.copy(flags.chat_template_file, folder / source / "chat_template.jinja")
    slots = flags.parallel or 1
    context = flags.ctx_size // (1 if flags.kv_unified else slots)
    serve = [f"modelName: {json.dumps(flags.alias or 'model')}"] + ([f"contextLength: {context}", f"maxSequences: {slots}"] if kind == "talks" else [])
    (folder / "job.yaml").write_text("\n".join(
        ["apiVersion: llmjob.dev/v1alpha1", "kind: LLMJob", "metadata: {name: llama}", "spec:",
         "  storage: [{name: data, claimName: data, mountPath: /data, readOnly: true}]", f"  model: {{source: /data/{source}}}",
         f"  precision: {'BF16' if kind == 'talks' else 'FP32'}", "  serve:"] + [f"    {line}" for line in serve]) + "\n")


def start_job(flags, folder):
    """llmjob run, and where it serves."""
    keys = []
    if flags.api_key:
        (folder / "keys").write_text(flags.api_key + "\n")
        keys = ["--api-key-file", str(folder / "keys")]
    run = subprocess.Popen(
        [os.environ["LLAMA_FLAGS_BUILD"] + "/llmjob", "run", str(folder / "job.yaml"), "--storage", f"data={folder}", "--plain", "--port", "0"]
        + keys, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"TMPDIR": str(folder)})
    for line in run.stdout:
        print(line, end="", flush=True)
        found = re.search(r"serving at http://([^/]+)/v1", line)
        if found:
            return run, found.group(1)
    sys.exit(f"llama_flags: llmjob run ended with {run.wait()}")


# ---- forms ---------------------------------------------------------------------------------------


def plain(prompt):
    """A prompt of llama-server's as we take it."""
    if isinstance(prompt, dict) and set(prompt) == {"prompt_string"}:
        return prompt["prompt_string"]
    return prompt


def to_text(flags, asked):
    """/completion -> /v1/completions"""
    body = {k: v for k, v in asked.items() if k not in DROPPED + ("n_predict", "n_probs", "prompt", "response_fields")}
    body["prompt"] = plain(asked.get("prompt"))
    most = asked.get("n_predict", flags.n_predict)
    body["max_tokens"] = most if most and most > 0 else 1 << 20
    if asked.get("n_probs"):
        body["logprobs"] = asked["n_probs"]
    if asked.get("stream"):
        body["stream_options"] = {"include_usage": True}
    return body


def said_by(choice, usage, asked):
    """One answer of /completion, without its settings."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {"content": choice["text"], "stop": True, "stop_type": "limit" if choice["finish_reason"] == "length" else "eos",
            "prompt": asked.get("prompt"), "truncated": False, "has_new_line": "\n" in choice["text"], "tokens": [],
            "timings": {"prompt_n": usage["prompt_tokens"] - cached, "cache_n": cached, "predicted_n": usage["completion_tokens"]}}


class Failed(Exception):
    """An answer that goes through: status, body."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def asked_of_us(self, method, path, body=None):
        """The response, open."""
        c = http.client.HTTPConnection(self.server.to, timeout=600)
        keep = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length", "connection", "accept-encoding")}
        c.request(method, path, None if body is None else json.dumps(body).encode(), keep)
        return c.getresponse()

    def asked_json(self, path, body):
        answer = self.asked_of_us("POST", path, body)
        said = answer.read()
        if answer.status != 200:
            raise Failed(answer.status, said)
        return json.loads(said)

    def tell(self, status, said, headers=()):
        said = said if isinstance(said, bytes) else json.dumps(said).encode()
        self.send_response(status)
        for name, value in headers or [("content-type", "application/json")]:
            self.send_header(name, value)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def pass_on(self, answer):
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                self.send_header(name, value)
        self.send_header("connection", "close")
        self.end_headers()
        while piece := answer.read1(1 << 16):
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    # ---- paths -----------------------------------------------------------------------------------

    def complete(self, asked):
        flags = self.server.flags
        body = to_text(flags, asked)
        if asked.get("stream"):
            return self.stream(self.asked_of_us("POST", "/v1/completions", body), asked)
        prompts = body["prompt"] if isinstance(body["prompt"], list) and not any(isinstance(x, int) for x in body["prompt"]) else None
        found = [self.asked_json("/v1/completions", body | {"prompt": plain(p)}) for p in prompts or [body["prompt"]]]
        told = [said_by(f["choices"][0], f["usage"], asked) for f in found]
        if asked.get("return_tokens"):
            for t in told:
                t["tokens"] = self.asked_json("/tokenize", {"prompt": t["content"], "add_special_tokens": False})["tokens"]
        return self.tell(200, told if prompts else told[0])

    def stream(self, answer, asked):
        if answer.status != 200:
            raise Failed(answer.status, answer.read())
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        last = None
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            piece = json.loads(line[6:])
            if piece["choices"]:
                choice = piece["choices"][0]
                last = choice if choice["finish_reason"] else last
                say = {"content": choice["text"], "tokens": [0], "stop": False} if choice["text"] else None
            else:
                say = said_by(last | {"text": ""}, piece["usage"], asked)
            if say:
                self.wfile.write(b"data: " + json.dumps(say).encode() + b"\n\n")
                self.wfile.flush()
        self.close_connection = True

    def tokenize(self, asked):
        ids = self.asked_json("/tokenize", {"prompt": asked["content"], "add_special_tokens": bool(asked.get("add_special"))})["tokens"]
        if asked.get("with_pieces"):
            ids = [{"id": i, "piece": self.asked_json("/detokenize", {"tokens": [i]})["prompt"]} for i in ids]
        return self.tell(200, {"tokens": ids})

    def rerank(self, asked):
        body = {k: v for k, v in asked.items() if k not in ("texts", "model")}
        if "texts" in asked:
            body["documents"] = asked["texts"]
        found = self.asked_json("/v1/rerank", body)
        return self.tell(200, [{"index": r["index"], "score": r["relevance_score"]} for r in found["results"]] if "texts" in asked else found)

    def with_defaults(self, path, asked):
        flags = self.server.flags
        if not isinstance(asked, dict):
            return asked
        asked = {name: value for name, value in asked.items() if name not in DROPPED[2:] + ("model",)}
        if path.endswith("completions"):
            asked = {"temperature": flags.temp, "seed": flags.seed} | asked
            if flags.n_predict and "/chat/" in path and not {"max_tokens", "max_completion_tokens"} & set(asked):
                asked["max_tokens"] = flags.n_predict
        return asked

    def do_POST(self):
        path = self.path.split("?")[0]
        try:
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
            if path in ("/completion", "/completions"):
                return self.complete(self.with_defaults("/v1/completions", asked))
            if path == "/tokenize":
                return self.tokenize(asked)
            if path == "/detokenize":
                return self.tell(200, {"content": self.asked_json("/detokenize", {"tokens": asked["tokens"]})["prompt"]})
            if path in ("/rerank", "/v1/rerank", "/reranking"):
                return self.rerank(asked)
            if path == "/chat/completions/input_tokens":
                return self.tell(200, {"input_tokens": self.asked_json("/tokenize", asked)["count"]})
            if path in ("/embedding", "/embeddings"):
                found = self.asked_json("/v1/embeddings", {"input": asked.get("input", asked.get("content"))})
                return self.tell(200, [{"index": d["index"], "embedding": [d["embedding"]]} for d in found["data"]])
            return self.pass_on(self.asked_of_us("POST", path, self.with_defaults(path, asked)))
        except Failed as e:
            return self.tell(*e.args)

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.server.to is None or path == "/health":
            return self.tell(200 if path == "/health" else 404, {"status": "ok"})
        return self.pass_on(self.asked_of_us("GET", path))

    def do_OPTIONS(self):
        self.pass_on(self.asked_of_us("OPTIONS", self.path.replace("/completions", "/v1/completions", 1)))


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64


def main(words):
    flags = read_flags(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as name:
        run, to = None, None
        if flags.offline:
            write_job(flags, pathlib.Path(name))
            run, to = start_job(flags, pathlib.Path(name))
        try:
            with Server(("127.0.0.1", flags.port), Handler) as server:
                server.flags, server.to = flags, to
                server.serve_forever()
        finally:
            if run:
                run.kill()  # what it started ends with it: nobody waits for what these tests leave behind
                run.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
