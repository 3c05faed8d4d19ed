#!/usr/bin/env python3
"""bench.py PROGRAMS: what bench_gpu, in that folder, and its peers reach on this machine's GPU, in turns.

Prints a table and writes it, after each shape anew, as <device>-<date>.md into BENCH_OUT, by default docs/measurements.
A peer that is not there is left out: PyTorch (torch_peer.py) when python3 has none that sees a GPU, llm.c unless LLMC names
a folder with a built train_gpt2cu. Environment:

  BENCH_SECONDS  of each measurement (5)            BENCH_ROUNDS  turns of each pair (3)
  BENCH_TRAIN    SHAPE:BATCH:TOKENS:MICRO ...       BENCH_DECODE  SHAPE:CONTEXT ..., or empty
  BENCH_COPY_MIB, BENCH_ALLREDUCE_MIB   bytes of a copy (1024) and of a sum between devices (256)
"""
import array
import contextlib
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SECONDS = os.environ.get("BENCH_SECONDS", "5")
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
TRAIN = os.environ.get("BENCH_TRAIN", "gpt2-124m:64:1024:64 smollm2-135m:64:1024:64 llama-1.1b:8:2048:8")
DECODE = os.environ.get("BENCH_DECODE", "llama-1.1b:1024")
PEER = os.environ.get("BENCH_PEER", os.path.join(HERE, "torch_peer.py"))
COPY_MIB = os.environ.get("BENCH_COPY_MIB", "1024")
ALLREDUCE_MIB = os.environ.get("BENCH_ALLREDUCE_MIB", "256")
# For what is not ours: the libraries that run.sh adds are for the plugin.
OUTER = dict(os.environ, LD_LIBRARY_PATH=os.environ.get("GPU_OUTER_LIBRARY_PATH", ""))
# Dense BF16 by the vendor's data sheets, in FLOP/s; the first name that the device's contains.
PEAKS = (("H100 PCIe", 756e12), ("H100 NVL", 835e12), ("H100", 989e12), ("H200", 989e12), ("GH200", 989e12),
         ("A100", 312e12), ("B200", 2250e12), ("L40S", 362e12))


class Failed(Exception):
    pass


class Bench:
    """bench_gpu: a process a measurement, which then leaves the device's memory to its peers."""

    def __init__(self, folder):
        self.program = os.path.join(folder, "bench_gpu")

    def __call__(self, *words):
        done = subprocess.run([self.program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise Failed(done.stderr.strip() or f"bench_gpu {words[0]} ended with status {done.returncode}")
        lines = done.stdout.splitlines()
        return json.loads(lines[-1]) if lines else None


class Torch:
    """torch_peer.py: one process a shape, compiled once."""

    def __init__(self, what, shape, *numbers):
        self.process = subprocess.Popen([sys.executable, PEER, what, json.dumps(shape), *map(str, numbers)], env=OUTER,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self):
        with contextlib.suppress(BrokenPipeError):  # then it says nothing either
            self.process.stdin.write(SECONDS + "\n")
            self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries may print what they like before
                return json.loads(line)
        raise Failed(f"{os.path.basename(PEER)} ended with status {self.process.wait()}")

    def close(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def has_torch():
    if "BENCH_PEER" in os.environ:
        return True
    look = "import torch; assert torch.cuda.is_available()"
    return not subprocess.run([sys.executable, "-c", look], stderr=subprocess.DEVNULL, env=OUTER).returncode


def llmc_rate(log, tokens):
    """Tokens a second by the median of llm.c's step times, the first ten left out."""
    times = [float(x) for x in re.findall(r"^step\s+\d+/\d+ .*?\|\s*([\d.]+) ms \|", log, re.M)][10:]
    if not times:
        raise Failed("train_gpt2cu printed no steps")
    return tokens / statistics.median(times) * 1e3


def llmc(folder, batch, tokens):
    """GPT-2 124M from random weights over random tokens, in llm.c's own file format."""
    steps, per_step = 40, batch * tokens
    with tempfile.TemporaryDirectory() as data:
        path = os.path.join(data, "tokens.bin")
        with open(path, "wb") as f:
            array.array("i", [20240520, 1, 4 * per_step + 1] + [0] * 253).tofile(f)
            array.array("H", ((i * 40503 >> 3) % 50257 for i in range(4 * per_step + 1))).tofile(f)
        done = subprocess.run(["./train_gpt2cu", "-e", "d12", "-i", path, "-j", path, "-b", str(batch), "-t", str(tokens),
                               "-d", str(per_step), "-x", str(steps), "-v", "0", "-s", "0", "-h", "0", "-r", "0"],
                              cwd=folder, env=OUTER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed("train_gpt2cu: " + (done.stdout.strip().splitlines() or [f"status {done.returncode}"])[-1])
    return llmc_rate(done.stdout, per_step)


def thousands(x):
    return f"{x:,.0f}" if x >= 1000 else f"{x:.1f}"


def ratio(ours, theirs):
    """Of the medians, and what single rounds said."""
    rounds = [a / b for a, b in zip(ours, theirs)]
    if not rounds:
        return "-"
    return f"{statistics.median(ours) / statistics.median(theirs):.2f} ({min(rounds):.2f} to {max(rounds):.2f})"


class Report:
    def __init__(self, device):
        self.device, self.name = device, device["name"].split(" GPU-")[0]
        self.peak = next((p for n, p in PEAKS if n in self.name), None)
        self.training, self.decoding, self.notes = [], [], []
        self.torch = None
        simulated = device["kind"] != "cuda" or "simulated" in self.name
        if simulated:
            self.notes.append("A rehearsal: nothing of this ran on a GPU.")
        self.folder = os.environ.get("BENCH_OUT") or (None if simulated else "docs/measurements")

    def note(self, text):
        print(text, flush=True)
        self.notes.append(text)

    def text(self):
        lines = [f"# {datetime.date.today().isoformat()}: {self.name}", "",
                 f"`make gpu-bench` at {os.environ.get('GPU_COMMIT') or 'an unknown commit'}: {ROUNDS} rounds, bench_gpu and its "
                 f"peers in turns, {SECONDS} s each after a warm-up, medians; the ratio of single rounds in brackets. Peer: " +
                 (f"PyTorch {self.torch}, compiled, flash attention, fused AdamW, BF16." if self.torch else "none was here.") +
                 f" Devices: {self.device['devices']}.", ""]
        if self.training:
            lines += ["| training, BF16 | B x T | llmjob, tokens/s | PyTorch | ratio | llm.c | of the BF16 peak | memory, PyTorch's |",
                      "|---|---|---|---|---|---|---|---|", *self.training, "",
                      "Share of the peak: 6 N + 6 L C T operations a token (L layers, C heads times their size), " +
                      (f"of {self.peak / 1e12:.0f} TFLOP/s." if self.peak else "a peak that is not known for this device."), ""]
        if self.decoding:
            lines += ["| decoding, BF16, batch 1 | llmjob, tokens/s | PyTorch | ratio | weights read | of a copy's bandwidth |",
                      "|---|---|---|---|---|---|", *self.decoding, ""]
        return "\n".join(lines + [f"- {n}" for n in self.notes]).rstrip() + "\n"

    def write(self):
        if not self.folder:
            return None
        os.makedirs(self.folder, exist_ok=True)
        stem = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")
        path = os.path.join(self.folder, f"{stem}-{datetime.date.today().isoformat()}.md")
        with open(path, "w") as f:
            f.write(self.text())
        return path


def rounds(report, name, ours, peers):
    """Each measures in turn, ROUNDS times; one that fails is noted and left out from then on."""
    results = {"llmjob": [], **{k: [] for k in peers}}
    for _ in range(ROUNDS):
        for who, measure in [("llmjob", ours), *peers.items()]:
            if measure is None or (results[who] and results[who][-1] is None):
                continue
            try:
                got = measure()
                print(f"  {name}, {who}: {thousands(got['rate'])} tokens/s", flush=True)
            except Failed as e:
                report.note(f"{name}, {who}: {e}")
                got = None
            results[who].append(got)
    return {k: [r for r in v if r] for k, v in results.items()}


def train(bench, report, with_torch, words):
    name, batch, tokens, micro = words[0], *map(int, words[1:])
    peer = Torch("train", bench("shape", name), batch, tokens) if with_torch else None
    folder = os.environ.get("LLMC") if name == "gpt2-124m" else None
    got = rounds(report, name, lambda: bench("train", name, batch, tokens, micro, SECONDS),
                 {"torch": peer and peer.measure, "llm.c": folder and (lambda: {"rate": llmc(folder, batch, tokens)})})
    if peer:
        peer.close()
    rate = {k: [r["rate"] for r in v] for k, v in got.items()}
    if not rate["llmjob"]:
        return
    mid = {k: statistics.median(v) for k, v in rate.items() if v}
    share = f"{mid['llmjob'] * got['llmjob'][0]['flops'] / report.peak:.1%}" if report.peak else "-"
    memory = f"{got['llmjob'][0]['memory_mib']:,} MiB" + (f", {got['torch'][0]['memory_mib']:,}" if got["torch"] else "")
    if got["torch"]:
        report.torch = got["torch"][0]["version"]
    report.training.append(f"| {name} | {batch} x {tokens} | {thousands(mid['llmjob'])} | " +
                           (thousands(mid["torch"]) if "torch" in mid else "-") + f" | {ratio(rate['llmjob'], rate['torch'])} | " +
                           (f"{thousands(mid['llm.c'])}, ratio {ratio(rate['llmjob'], rate['llm.c'])}" if "llm.c" in mid else "-") +
                           f" | {share} | {memory} |")


def decode(bench, report, with_torch, words):
    name, context = words[0], int(words[1])
    peer = Torch("decode", bench("shape", name), context) if with_torch else None
    copy = bench("bandwidth", COPY_MIB, SECONDS)["bytes_per_s"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, name)
        bench("model", name, folder)
        got = rounds(report, name + " decoding", lambda: bench("decode", folder, context, SECONDS),
                     {"torch": peer and peer.measure})
    if peer:
        peer.close()
    rate = {k: [r["rate"] for r in v] for k, v in got.items()}
    if not rate["llmjob"]:
        return
    mine = statistics.median(rate["llmjob"])
    moved = mine * got["llmjob"][0]["bytes"]
    report.decoding.append(f"| {name}, context {context} | {mine:.1f} | " +
                           (f"{statistics.median(rate['torch']):.1f}" if rate["torch"] else "-") +
                           f" | {ratio(rate['llmjob'], rate['torch'])} | {moved / 1e9:.0f} GB/s | {moved / copy:.0%} of {copy / 1e9:.0f} GB/s |")


def allreduce(bench, report):
    devices = report.device["devices"] if report.device["kind"] == "cuda" else 1
    for world in sorted({2, devices} if devices > 1 else ()):
        try:
            rate = bench("allreduce", world, ALLREDUCE_MIB)["bytes_per_s"]
            report.note(f"all-reduce of {ALLREDUCE_MIB} MiB over {world} devices: {rate / 1e9:.1f} GB/s sent and received by each")
        except Failed as e:
            report.note(f"all-reduce over {world} devices: {e}")


def main():
    bench = Bench(sys.argv[1])
    try:
        report = Report(bench("device"))
        with_torch = has_torch()
        print(f"on {report.name}" + ("" if with_torch else "; no PyTorch that sees a GPU: not measured"), flush=True)
        for words in TRAIN.split():
            train(bench, report, with_torch, words.split(":"))
            report.write()
        for words in DECODE.split():
            decode(bench, report, with_torch, words.split(":"))
            report.write()
        allreduce(bench, report)
    except Failed as e:
        print(f"gpu-bench: {e}", file=sys.stderr)
        return 1
    print("\n" + report.text(), end="")
    path = report.write()
    if path:
        print(f"written to {path}")
    return 0 if report.training or report.decoding else 1


if __name__ == "__main__":
    sys.exit(main())
