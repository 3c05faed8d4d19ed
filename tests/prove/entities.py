#!/usr/bin/env python3
"""entities.py: the training of a classifier of words as transformers does it, beside ours.

    entities.py theirs MODEL DATA SEED [--epochs 5] [--batch 16] [--length 128] [--rate 2e-5]
                       [--schedule linear|constant] [--dropout 0]
    entities.py ours OUT TENSORBOARD       of a finished job: its report.json and what it told TensorBoard
    entities.py compare FILE TOLERANCE     lines of both, as they print them: means over seeds; fails when
                                           the mean of our test F1 is less by more

The first two print a line: who, the dev F1 of each epoch, the test F1, all by seqeval's default mode. DATA holds
train.conll, dev.conll and test.conll. The loop is plain torch with the model, tokenizer and label alignment of
transformers: AdamW on all weights with decay 0.01 of matrices, clipped at norm 1, the mean loss of a batch's labels;
the first piece of a word speaks for it. Dropout is 0 as in ours unless a job says otherwise; 0.1 is what the published
configuration says.
"""
import argparse
import json
import pathlib
import statistics
import struct
import sys


def sentences(path):
    """(words, labels) of each sentence."""
    found, words, labels = [], [], []
    for line in pathlib.Path(path).read_text("utf-8").splitlines() + [""]:
        columns = line.split()
        if columns and columns[0] != "-DOCSTART-":
            words.append(columns[0])
            labels.append(columns[-1])
        elif words:
            found.append((words, labels))
            words, labels = [], []
    return found


def encode(tokenizer, data, ids, length):
    """(token ids, label ids) of each sentence; -100 where no word begins."""
    out = []
    for words, labels in data:
        pieces = tokenizer(words, is_split_into_words=True, truncation=True, max_length=length)
        of = pieces.word_ids()
        out.append((pieces["input_ids"], [-100 if w is None or w == before else ids[labels[w]]
                                          for w, before in zip(of, [None] + of[:-1])]))
    return out


def padded(samples, pad):
    import torch
    longest = max(len(s[0]) for s in samples)
    fill = lambda row, value: row + [value] * (longest - len(row))
    return {"input_ids": torch.tensor([fill(s[0], pad) for s in samples]),
            "attention_mask": torch.tensor([fill([1] * len(s[0]), 0) for s in samples]),
            "labels": torch.tensor([fill(s[1], -100) for s in samples])}


def score(model, data, names, pad):
    """Micro F1 of the entities that the model finds."""
    import torch
    from seqeval.metrics import f1_score
    truth, guess = [], []
    model.eval()
    for at in range(0, len(data), 32):
        batch = padded(data[at:at + 32], pad)
        with torch.no_grad():
            best = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.argmax(-1)
        for labels, row in zip(batch["labels"].tolist(), best.tolist()):
            truth.append([names[t] for t in labels if t >= 0])
            guess.append([names[g] for t, g in zip(labels, row) if t >= 0])
    return f1_score(truth, guess)


def optimizer_of(model, rate, schedule, steps):
    import torch
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}], lr=rate)
    left = (lambda s: max(0.0, 1 - s / steps)) if schedule == "linear" else (lambda s: 1.0)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, left)


def theirs(a):
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer
    torch.manual_seed(a.seed)
    train, dev, test = (sentences(pathlib.Path(a.data) / (name + ".conll")) for name in ("train", "dev", "test"))
    names = sorted({label for _, labels in train for label in labels})
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    model = AutoModelForTokenClassification.from_pretrained(
        a.model, num_labels=len(names), id2label=dict(enumerate(names)), label2id=ids, dtype=torch.float32,
        hidden_dropout_prob=a.dropout, attention_probs_dropout_prob=a.dropout)
    train, dev, test = (encode(tokenizer, data, ids, a.length) for data in (train, dev, test))
    pad = tokenizer.pad_token_id
    optimizer, scheduler = optimizer_of(model, a.rate, a.schedule, a.epochs * -(-len(train) // a.batch))
    figures = []
    for epoch in range(a.epochs):
        model.train()
        order = torch.randperm(len(train)).tolist()
        for at in range(0, len(order), a.batch):
            model(**padded([train[i] for i in order[at:at + a.batch]], pad)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        figures.append(score(model, dev, names, pad))
        print("seed %d, epoch %d: dev %.4f" % (a.seed, epoch + 1, figures[-1]), file=sys.stderr)
    tell("theirs", figures, score(model, test, names, pad))


def ours(a):
    import facts
    dev = {step: struct.unpack("<f", bits)[0]
           for step, tag, bits in facts.points(a.tensorboard) if tag == "f1/validation" and step > 0}
    report = json.loads((pathlib.Path(a.out) / "report.json").read_text())
    tell("ours", [dev[step] for step in sorted(dev)], report["test"]["entities"]["lenient"]["micro avg"]["f1-score"])


def tell(who, dev, test):
    print(who, "dev", *("%.4f" % f for f in dev), "test", "%.4f" % test)


def compare(a):
    rows = {"theirs": [], "ours": []}
    for line in pathlib.Path(a.file).read_text().splitlines():
        words = line.split()
        rows[words[0]].append([float(w) for w in words[2:-2] + words[-1:]])
    if not all(rows.values()):
        print("there are no figures of", " and ".join(who for who in rows if not rows[who]))
        return 1
    means = {}
    for who, figures in rows.items():
        means[who] = [statistics.mean(column) for column in zip(*figures)]
        print("%-6s of %d seeds: dev" % (who, len(figures)), *("%.4f" % f for f in means[who][:-1]),
              "test %.4f (%.4f to %.4f)" % (means[who][-1], min(f[-1] for f in figures), max(f[-1] for f in figures)))
    ahead = means["ours"][-1] - means["theirs"][-1]
    print("ours is %.4f %s; it may be %.4f behind" % (abs(ahead), "ahead" if ahead >= 0 else "behind", a.tolerance))
    return ahead < -a.tolerance


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    c = commands.add_parser("theirs")
    c.set_defaults(fn=theirs)
    c.add_argument("model")
    c.add_argument("data")
    c.add_argument("seed", type=int)
    c.add_argument("--epochs", type=int, default=5)
    c.add_argument("--batch", type=int, default=16)
    c.add_argument("--length", type=int, default=128)
    c.add_argument("--rate", type=float, default=2e-5)
    c.add_argument("--schedule", choices=["linear", "constant"], default="linear")
    c.add_argument("--dropout", type=float, default=0.0)
    c = commands.add_parser("ours")
    c.set_defaults(fn=ours)
    c.add_argument("out")
    c.add_argument("tensorboard")
    c = commands.add_parser("compare")
    c.set_defaults(fn=compare)
    c.add_argument("file")
    c.add_argument("tolerance", type=float)
    a = parser.parse_args()
    return a.fn(a)


if __name__ == "__main__":
    sys.exit(main())
