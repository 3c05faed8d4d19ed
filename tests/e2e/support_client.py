"""What test_support.sh asks of a server that answers out of documents, through the real `openai` client.

    support_client.py everything URL METRICS FOLDER     searches, answers that cite, files that come, change and go

FOLDER: the documents. Each line "ok: ..." or "FAILED: ..." is one check; the last line is their sum.
"""
import os
import re

import openai

from openai_client import check, client_for, metric, refused, run, until

STORE, MODEL = "vs_documents", "support"
QUESTION = "What is the priority of an essential package?"


def flat(text):
    return re.sub(r"\s+", " ", text)


def names(c, query, **more):
    return [x.filename for x in c.vector_stores.search(STORE, query=query, **more).data]


def searches(c, metrics, folder):
    store = c.vector_stores.retrieve(STORE)
    check("documents are a vector store", store.status == "completed" and store.file_counts.completed == 7
          and store.file_counts.failed == 1 and [s.id for s in c.vector_stores.list().data] == [STORE], store)
    before = metric(metrics, "llmjob_search_seconds_count")
    found = c.vector_stores.search(STORE, query="Which file is run to build a package?", max_num_results=3)
    best = found.data[0]
    check("a search finds the section", best.filename == "4.9.txt" and len(found.data) == 3 and best.file_id.startswith("file-"), found)
    whole = flat(open(os.path.join(folder, "4.9.txt"), encoding="utf-8").read())
    check("whose text it has, with a score", flat(best.content[0].text) in whole and 0.2 < best.score <= 1
          and "debian/rules" in best.attributes["title"], best)
    check("searches and chunks are counted", metric(metrics, "llmjob_search_seconds_count") == before + 1
          and metric(metrics, "llmjob_document_chunks") > 7 and metric(metrics, "llmjob_documents") == 7)
    by_words = {"hybrid_search": {"embedding_weight": 0, "text_weight": 1}}
    check("by words alone a word finds where it is", names(c, "makefile", ranking_options=by_words)[:1] == ["4.9.txt"])
    check("with a threshold what is farther is left out", names(c, "whales", ranking_options={"score_threshold": 0.6}) == [])
    bad = openai.BadRequestError
    e = refused("filters are refused", bad, 400, lambda: c.vector_stores.search(
        STORE, query="a", filters={"type": "eq", "key": "a", "value": "b"}))
    check("by name", e and e.param == "filters", e)
    refused("another store is none", openai.NotFoundError, 404, lambda: c.vector_stores.retrieve("vs_other"))


def are_quotes(notes, text, folder):
    return all(n["type"] == "file_citation" and flat(n["quote"]) == flat(text[n["start_index"]:n["end_index"]])
               and flat(n["quote"]) in flat(open(os.path.join(folder, n["filename"]), encoding="utf-8").read()) for n in notes)


def ask(c, question, **more):
    asked = {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 48}
    return c.chat.completions.create(**(asked | more))


def answers(c, folder):
    notes = []
    for question in (QUESTION, "What must the file debian/rules be?", "What must be in the maintainer field?"):
        message = ask(c, question).choices[0].message
        notes += message.annotations or []
        check(f"quotes are in their files and in the answer: {question}", message.annotations is not None
              and are_quotes([dict(n) for n in message.annotations], message.content, folder), message)
    check("some answer cites", notes)
    text, last = "", None
    for chunk in ask(c, QUESTION, stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        last = getattr(delta, "annotations", None) if chunk.choices[0].finish_reason else last
    whole = ask(c, QUESTION).choices[0].message
    check("a stream has them in its last delta", text == whole.content and last == [dict(n) for n in whole.annotations], (last, whole))
    r = c.responses.create(model=MODEL, input=QUESTION, temperature=0, max_output_tokens=48)
    part = r.output[0].content[0]
    check("a response has them, too", [n.filename for n in part.annotations] == [n["filename"] for n in last], part)
    said = ask(c, "Who built the ark?")
    check("what has nothing to do with them is not in the documents", said.choices[0].message.content
          == "This is not in the documents." and said.usage.completion_tokens == 0, said)
    again = [{"role": "user", "content": QUESTION}, dict(whole.model_dump(exclude_none=True)), {"role": "user", "content": "And of others?"}]
    check("an answer with annotations may be sent back", ask(c, "", messages=again, max_tokens=4).choices[0].message.content)


def changes(c, metrics, folder):
    path, count = os.path.join(folder, "ferry.md"), metric(metrics, "llmjob_index_seconds_count")
    with open(path, "w", encoding="utf-8") as f:
        f.write("# The ferry\n\nThe ferry to the island leaves at noon.\n")
    check("a new file is found", until(60, lambda: names(c, "When does the ferry leave?")[:1] == ["ferry.md"]))
    with open(path, "w", encoding="utf-8") as f:
        f.write("# The ferry\n\nThe ferry to the island leaves at nine.\n")
    check("as it is now", until(60, lambda: "at nine" in c.vector_stores.search(STORE, query="ferry").data[0].content[0].text))
    os.remove(path)
    check("and no more when it is gone", until(60, lambda: "ferry.md" not in names(c, "When does the ferry leave?")))
    check("each of which is counted", metric(metrics, "llmjob_index_seconds_count") >= count + 3)


def everything(url, metrics, folder):
    c = client_for(url)
    searches(c, metrics, folder)
    answers(c, folder)
    changes(c, metrics, folder)


if __name__ == "__main__":
    run(globals())
