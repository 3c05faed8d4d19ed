"""What support.sh asks of a server that answers out of Debian's policy (tests/e2e/policy).

    support.py recall URL QUESTIONS              of the five and the one chunk found first: is one of a right section? by words alone, by
                                                 vectors alone, by both
    support.py pairs URL QUESTIONS RESULTS FILE  conversations to learn from, of every other question: the prompt as the server makes it,
                                                 and as the answer the sentence of a right chunk that has most of the question's words
    support.py ask URL MODEL QUESTIONS           the other questions are answered: how many answers cite, and how many a right section; each
                                                 quote is looked for in its document
    support.py others URL QUESTIONS              questions of another matter: how many are said not to be in the documents

Questions are JSON lines {"question", "sections"}; those of another matter {"question", ...}.
"""
import json
import random
import re
import sys
import urllib.request

NOT_FOUND = "This is not in the documents."


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=600))


def read(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def search(url, query, most, words=1, vectors=1):
    ranking = {"hybrid_search": {"text_weight": words, "embedding_weight": vectors}}
    asked = {"query": query, "max_num_results": most, "ranking_options": ranking}
    return post(f"{url}/vector_stores/vs_documents/search", asked)["data"]


def is_right(filename, sections):
    number = filename.removesuffix(".txt")
    return any(number == s or number.startswith(s + ".") for s in sections)


def recall(url, questions):
    asked = read(questions)
    for name, words, vectors in (("words", 1, 0), ("vectors", 0, 1), ("both", 1, 1)):
        found = [[is_right(x["filename"], q["sections"]) for x in search(url, q["question"], 10, words, vectors)] for q in asked]
        at = {k: sum(any(f[:k]) for f in found) / len(found) for k in (1, 5, 10)}
        rank = sum(1 / (f.index(True) + 1) for f in found if any(f)) / len(found)
        print(json.dumps({"by": name, "questions": len(found), **{f"recall@{k}": round(v, 3) for k, v in at.items()}, "mrr": round(rank, 3)}))


def words_of(text):
    return set(re.findall(r"[a-z0-9]+", text.lower()))


def best_sentence(question, text):
    sentences = [s for s in re.split(r"(?<=[.:])\s+|\n+", text) if 5 <= len(s.split()) <= 40]
    wanted = words_of(question)
    return max(sentences, key=lambda s: len(wanted & words_of(s)) / (4 + len(words_of(s))), default=None)


def prompt(question, found):
    text = "Documents:\n\n"
    for i, x in enumerate(found):
        content, title = x["content"][0]["text"], x["attributes"].get("title", "")
        head = f": {title}" if title and not content.startswith(title) else ""
        text += f"[{i + 1}] {x['filename']}{head}\n{content}\n\n"
    return text + f"Answer from these documents, in their words. If they do not say it, answer: {NOT_FOUND}\n\nQuestion: {question}"


def pairs(url, questions, results, path):
    draw, asked, made = random.Random(1), read(questions)[::2], []
    found = [search(url, q["question"], int(results)) for q in asked]
    for i, q in enumerate(asked):
        right = next((x for x in found[i] if is_right(x["filename"], q["sections"])), None)
        answer = right and best_sentence(q["question"], right["content"][0]["text"])
        if answer:
            made.append((q["question"], found[i], answer))
        if i % 6 == 0:  # with chunks of other questions
            made.append((q["question"], found[(i + len(asked) // 2) % len(asked)], NOT_FOUND))
    draw.shuffle(made)
    with open(path, "w", encoding="utf-8") as out:
        for question, chunks, answer in made:
            turns = [{"role": "user", "content": prompt(question, chunks)}, {"role": "assistant", "content": answer}]
            out.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    print(f"{len(made)} conversations")


def chat(url, model, question):
    return post(f"{url}/chat/completions", {"model": model, "temperature": 0, "max_tokens": 60,
                                            "messages": [{"role": "user", "content": question}]})["choices"][0]["message"]


def stands_in(url, citation, question):
    """a search finds the chunk that it is from"""
    found = [x["content"][0]["text"] for x in search(url, question, 50) if x["file_id"] == citation["file_id"]]
    return any(citation["quote"] in text for text in found)


def ask(url, model, questions):
    asked = read(questions)[1::2]
    cited = right = quotes = true = none = 0
    for q in asked:
        message = chat(url, model, q["question"])
        notes = message["annotations"]
        cited += bool(notes)
        right += any(is_right(n["filename"], q["sections"]) for n in notes)
        none += message["content"].strip() == NOT_FOUND
        quotes += len(notes)
        true += sum(stands_in(url, n, q["question"]) and re.sub(r"\s+", " ", n["quote"]) in re.sub(r"\s+", " ", message["content"])
                    for n in notes)
    n = len(asked)
    print(json.dumps({"model": model, "questions": n, "cited": round(cited / n, 3), "right": round(right / n, 3),
                      "not_found": round(none / n, 3), "quotes": quotes, "quotes_in_chunks": true}))
    sys.exit(true != quotes)


def others(url, questions):
    asked = [q["question"] for q in read(questions) if "question" in q]
    said = sum(chat(url, "support", q)["content"] == NOT_FOUND for q in asked)
    print(json.dumps({"other_questions": len(asked), "not_found": round(said / len(asked), 3)}))


{"recall": recall, "pairs": pairs, "ask": ask, "others": others}[sys.argv[1]](*sys.argv[2:])
