/*
 * stores: OpenAI's ranking_options.hybrid_search are the weights of the two rankings.
 */
#include "agent/stores.h"

#include "agent/meter.h"
#include "agent/openai_internal.h"
#include "api/limits.h"
#include "base/clock.h"
#include "base/log.h"

#include <string.h>

#define RESULTS 10 /* of a search that does not say how many */

void stores_hear(struct stores *s, const struct wire_frame *frame)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (json_parse_within(frame->data, frame->len, LIMIT_FRAME_VALUES, &v, &e)) {
        log_warn("an indexed frame is no JSON", LOG_ERR(&e));
        return;
    }
    int64_t now = clock_wall_ms() / 1000;
    *s = (struct stores){.there = true,
        .files = json_int(v, "files", 0),
        .passed_over = json_int(v, "passed_over", 0),
        .bytes = json_int(v, "bytes", 0),
        .created = s->there ? s->created : now,
        .changed = now};
    meter_indexed(s->files, s->passed_over, json_int(v, "chunks", 0), json_num(v, "seconds", 0));
}

static int copy_ranking(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *ranking = openai_given(v, "ranking_options"),
                      *hybrid = openai_given(ranking, "hybrid_search");
    if (ranking && !json_is_object(ranking))
        return REFUSE(r, "ranking_options", "ranking_options must be an object");
    if (openai_check_fields(ranking, OPENAI_RANKING, "ranking_options.", r))
        return -1;
    if (hybrid && !json_is_object(hybrid))
        return REFUSE(
            r, "ranking_options.hybrid_search", "ranking_options.hybrid_search must be an object");
    if (hybrid && openai_check_fields(hybrid, OPENAI_HYBRID, "ranking_options.hybrid_search.", r))
        return -1;
    double words = json_num(hybrid, "text_weight", 1),
           vectors = json_num(hybrid, "embedding_weight", 1);
    if (!(words + vectors > 0))
        return REFUSE(r, "ranking_options.hybrid_search",
            "ranking_options.hybrid_search must weigh one of both");
    jsonw_num(w, "threshold", json_num(ranking, "score_threshold", 0));
    jsonw_num(w, "words", words);
    jsonw_num(w, "vectors", vectors);
    return 0;
}

int stores_copy_search(const struct json *v, struct jsonw *w, struct openai_refusal *r)
{
    const struct json *query = openai_given(v, "query");
    bool alone = json_is_array(query) && json_count(query) == 1;
    const char *text = json_string_value(alone ? json_first(query) : query);
    if (!text || !*text)
        return REFUSE(r, "query", "query must be a string, not an empty one, or a list with one");
    jsonw_open(w, "search", '{');
    jsonw_str(w, "query", text);
    jsonw_int(w, "most", json_int(v, "max_num_results", RESULTS));
    if (copy_ranking(v, w, r))
        return -1;
    jsonw_close(w);
    return 0;
}

static void write_store(struct jsonw *w, const struct stores *s, const char *model)
{
    jsonw_open(w, NULL, '{');
    jsonw_str(w, "id", STORES_ID);
    jsonw_str(w, "object", "vector_store");
    jsonw_str(w, "name", model);
    jsonw_str(w, "status", "completed");
    jsonw_int(w, "created_at", s->created);
    jsonw_int(w, "last_active_at", s->changed);
    jsonw_int(w, "usage_bytes", s->bytes);
    jsonw_open(w, "file_counts", '{');
    jsonw_int(w, "in_progress", 0);
    jsonw_int(w, "completed", s->files);
    jsonw_int(w, "failed", s->passed_over);
    jsonw_int(w, "cancelled", 0);
    jsonw_int(w, "total", s->files + s->passed_over);
    jsonw_close(w);
    jsonw_open(w, "metadata", '{');
    jsonw_close(w);
    jsonw_close(w);
}

int stores_write(struct buf *out, const struct stores *s, const char *model, const char *id,
    struct openai_refusal *r)
{
    struct jsonw w;
    if (id && (!s->there || strcmp(id, STORES_ID) != 0))
        return openai_refuse(r, 404, NULL, NULL, "There is no vector store `%.100s`", id);
    jsonw_init(&w, out);
    if (id) {
        write_store(&w, s, model);
        return 0;
    }
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "object", "list");
    jsonw_open(&w, "data", '[');
    if (s->there)
        write_store(&w, s, model);
    jsonw_close(&w);
    jsonw_str(&w, "first_id", s->there ? STORES_ID : NULL);
    jsonw_str(&w, "last_id", s->there ? STORES_ID : NULL);
    jsonw_bool(&w, "has_more", false);
    jsonw_close(&w);
    jsonw_end(&w);
    return 0;
}
