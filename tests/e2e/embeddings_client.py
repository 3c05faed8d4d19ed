"""What test_embeddings.sh asks of servers whose models read whole texts, through the real `openai` client.

    embeddings_client.py api URL GOLDEN MODEL      vectors beside sentence-transformers', forms, comparisons, errors
    embeddings_client.py load URL METRICS BOUND    a full queue, clients that go away
    embeddings_client.py classify URL MODEL        labels of texts
    embeddings_client.py tag URL MODEL             entities

GOLDEN: tests/golden/minilm_embeddings, without its ending. Each line "ok: ..." or "FAILED: ..." is one check; the last line is
their sum.
"""
import concurrent.futures
import json
import math
import random
import struct

import openai

from openai_client import check, client_for, metric, refused, run, until


def vectors(client, model, texts, **more):
    asked = {"model": model, "input": texts, "extra_body": {"truncate_prompt_tokens": -1}}
    return client.embeddings.create(**(asked | more))


def numbers(answer):
    return [d.embedding for d in answer.data]


def read_golden(path):
    said = json.load(open(f"{path}.json"))
    data = open(f"{path}.safetensors", "rb").read()
    size = struct.unpack("<Q", data[:8])[0]
    rows, columns = json.loads(data[8:8 + size])["embeddings"]["shape"]
    flat = struct.unpack(f"<{rows * columns}f", data[8 + size:])
    return said, [flat[i * columns:(i + 1) * columns] for i in range(rows)]


def far(a, b):
    return max(abs(x - y) for u, v in zip(a, b, strict=True) for x, y in zip(u, v, strict=True))


# ---- api -----------------------------------------------------------------------------------------


def embeddings(c, model, golden):
    said, want = read_golden(golden)
    answer = vectors(c, model, said["texts"])  # as the client asks by itself: base64
    distance = far(numbers(answer), want)
    print(f"at most {distance:.2g} from sentence-transformers")
    check("vectors are sentence-transformers'", distance < 1e-4, distance)
    check("in the order of the texts", [d.index for d in answer.data] == list(range(len(want))))
    check("usage counts their tokens", answer.usage.prompt_tokens == answer.usage.total_tokens == sum(said["tokens"]), answer.usage)
    check("of the model that was asked", answer.model == model and answer.object == "list", answer.model)
    plain = vectors(c, model, said["texts"], encoding_format="float")
    check("as numbers they are the same", far(numbers(plain), numbers(answer)) < 1e-8)
    alone = [numbers(vectors(c, model, t, encoding_format="base64"))[0] for t in said["texts"]]
    check("each alone is the same to the bit", alone == numbers(vectors(c, model, said["texts"], encoding_format="base64")))

    few = numbers(vectors(c, model, said["texts"][0], dimensions=64, encoding_format="float"))[0]
    length = math.sqrt(sum(x * x for x in want[0][:64]))
    check("dimensions are the first numbers, of length 1", len(few) == 64
          and far([few], [[x / length for x in want[0][:64]]]) < 1e-4)
    ids = [101, 3000, 102]  # [CLS] paris [SEP]
    check("token ids are a text", far(numbers(vectors(c, model, ids)), [want[1]]) < 1e-4)
    check("lists of them are texts", far(numbers(vectors(c, model, [ids, ids])), [want[1]] * 2) < 1e-4)


def comparisons(c, model):
    texts = ["How do I bake bread?", "Mix flour, water, salt and yeast.", "The stock market fell today."]
    pair = c.post("/score", body={"model": model, "text_1": texts[0], "text_2": texts[1:]}, cast_to=object)
    scores = [d["score"] for d in pair["data"]]
    v = numbers(vectors(c, model, texts, encoding_format="float"))
    dot = [sum(x * y for x, y in zip(v[0], v[i])) for i in (1, 2)]
    check("a score is the cosine of two vectors", max(abs(a - b) for a, b in zip(scores, dot)) < 1e-6, (scores, dot))
    check("what belongs together is nearer", scores[0] > scores[1], scores)
    rank = c.post("/rerank", body={"model": model, "query": texts[0], "documents": [texts[2], {"text": texts[1]}], "top_n": 1}, cast_to=object)
    best = rank["results"]
    check("rerank has the best first, alone if told so", len(best) == 1 and best[0]["index"] == 1
          and best[0]["document"]["text"] == texts[1] and abs(best[0]["relevance_score"] - scores[0]) < 1e-6, rank)
    check("and says its tokens", rank["usage"]["total_tokens"] == rank["usage"]["prompt_tokens"] > 10, rank["usage"])


def errors(c, model):
    bad = openai.BadRequestError
    e = refused("chat is not answered", bad, 400, lambda: c.chat.completions.create(model=model, messages=[{"role": "user", "content": "a"}]))
    check("which the error says by name", e and e.code == "unsupported_task" and "embeds texts" in e.message, e)
    refused("nor completions", bad, 400, lambda: c.completions.create(model=model, prompt="a"))
    refused("nor classify", bad, 400, lambda: c.post("/classify", body={"model": model, "input": "a"}, cast_to=object))
    refused("another model is none", openai.NotFoundError, 404, lambda: c.embeddings.create(model="other", input="a"))
    long = "word " * 600
    e = refused("a text that is too long", bad, 400, lambda: c.embeddings.create(model=model, input=["a", long]))
    check("whose number and bound are said", e and "text number 1" in e.message and "256" in e.message, e)
    refused("too many texts", bad, 400, lambda: c.embeddings.create(model=model, input=["a"] * 2049))
    e = refused("an answer that is too long", bad, 400,
                lambda: c.embeddings.create(model=model, input=["a"] * 2048, encoding_format="float"))
    check("which base64 would not be", e and "base64" in e.message, e)
    refused("dimensions that there are not", bad, 400, lambda: c.embeddings.create(model=model, input="a", dimensions=385))
    refused("no texts", bad, 400, lambda: c.embeddings.create(model=model, input=[]))
    refused("a field that there is not", bad, 400, lambda: c.embeddings.create(model=model, input="a", extra_body={"x": 1}))


def api(url, golden, model):
    c = client_for(url)
    embeddings(c, model, golden)
    comparisons(c, model)
    errors(c, model)


# ---- load ----------------------------------------------------------------------------------------


def some_texts(n, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(["bread", "water", "market", "the", "of", "Paris"], k=draw.randint(1, 30))) for _ in range(n)]


def load(url, metrics, bound):
    bound, model = int(bound), client_for(url).models.list().data[0].id
    before = metric(metrics, "llmjob_texts_read_total")

    def ask(i):
        try:
            return numbers(vectors(client_for(url), model, some_texts(20, i), encoding_format="base64"))
        except openai.RateLimitError as e:
            return e

    with concurrent.futures.ThreadPoolExecutor(6 * bound) as pool:
        answers = list(pool.map(ask, range(6 * bound)))
    taken = {i: a for i, a in enumerate(answers) if isinstance(a, list)}
    late = [a for a in answers if not isinstance(a, list)]
    print(f"{len(taken)} answered, {len(late)} refused")
    check("beyond the queue's bound comes 429, with when to ask again", len(taken) >= bound and late
          and all(e.response.headers.get("retry-after") for e in late), late[:1])
    check("those together have the bits of those alone", all(ask(i) == a for i, a in list(taken.items())[:8]))
    check("texts are counted", metric(metrics, "llmjob_texts_read_total") == before + 20 * (len(taken) + min(8, len(taken))))
    check("and their tokens", metric(metrics, "llmjob_texts_read_tokens_total") > 0)

    done = metric(metrics, "llmjob_texts_read_total")
    try:
        vectors(client_for(url, timeout=0.3), model, some_texts(2000, 7))
        gone = False
    except openai.APITimeoutError:
        gone = True
    check("a client that goes away", gone)
    check("frees its place", until(10, lambda: metric(metrics, "llmjob_requests_in_flight") == 0))
    vectors(client_for(url), model, "a")
    read = metric(metrics, "llmjob_texts_read_total") - done
    check("and what it asked for is read no more", read < 2001, read)


# ---- labels --------------------------------------------------------------------------------------


def classify(url, model):
    c = client_for(url)
    a = c.post("/classify", body={"model": model, "input": ["the", "anna was in berlin"]}, cast_to=object)
    check("each text has a label", [d["index"] for d in a["data"]] == [0, 1] and a["object"] == "list", a)
    check("the likeliest of probabilities that add up to 1", all(abs(sum(d["probs"]) - 1) < 1e-5 and d["num_classes"] == 3
          and d["label"] == ["negative", "neutral", "positive"][d["probs"].index(max(d["probs"]))] for d in a["data"]), a)
    one = c.post("/classify", body={"model": model, "input": "anna was in berlin"}, cast_to=object)
    check("alone it has the same", one["data"][0]["probs"] == a["data"][1]["probs"], one)
    refused("it has no embeddings", openai.BadRequestError, 400, lambda: c.embeddings.create(model=model, input="a"))


def tag(url, model):
    c = client_for(url)
    text = "für anna in berlin, the of"
    a = c.post("/classify", body={"model": model, "input": [text]}, cast_to=object)
    entities = a["data"][0]["entities"]
    check("entities stand where they say", entities and all(text[x["start"]:x["end"]] == x["word"] for x in entities), a)
    check("with kind and score", all(x["entity_group"] in ("PER", "LOC") and 0 < x["score"] <= 1 for x in entities), a)


if __name__ == "__main__":
    run(globals())
