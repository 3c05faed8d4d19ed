/*
 * Goal: items come in the order of the sum of their parts, which are what the header says of each;
 * weights, queries, texts in a history and what is left out count as they are said to. Method: a
 * few items of texts that a tiny BERT of tests/golden embeds, scores worked out here from its
 * vectors, orders and numbers compared.
 */
#include "runtime/serve/items.h"

#include "tests/runtime/golden.h"
#include "tests/unit.h"

#include <math.h>

#define DIM   32
#define ITEMS 5

static const struct {
    const char *id, *text, *line;
    double year; /* scaled; -1: none */
    double liked;
    const char *genres; /* a letter each */
} films[ITEMS] = {
    {"a", "anna in berlin", "\"year\":1980,\"liked\":0,\"genres\":[\"x\",\"y\"]", 0, 0, "xy"},
    {"7", "the of", "\"year\":2000,\"liked\":15,\"genres\":\"y\"", 1, 1, "y"},
    {"c", "berlin", "\"year\":1990,\"liked\":3,\"genres\":[\"x\"]", 0.5, 0.5, "x"},
    {"d", "anna", "\"liked\":1,\"genres\":[]", -1, 0.25, ""},
    {"e", "the of in", "\"year\":1985,\"genres\":\"z\"", 0.25, 0, "z"},
};

static struct err e;
static struct dev *d;
static struct weights *w;
static struct reader *r;
static struct jobspec_serve serve;
static struct recommend *rec;
static char folder[64], path[96];
static float vector[ITEMS][DIM];

static void embed_text(const char *text, float out[DIM])
{
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    ck_assert(!reader_tokens(r, &(struct reader_text){.first = text}, &ids, &types, &e));
    const struct encoder_text one = {ids.id, types.id, ids.count};
    ck_assert_msg(!reader_embed(r, &one, 1, out, &e), "%s", e.text);
    tok_ids_done(&ids);
    tok_ids_done(&types);
}

static void setup(void)
{
    buf_auto struct buf lines;
    buf_init(&lines, 4096);
    ck_assert_msg(!dev_open("cpu", 0, 2, &d, &e), "%s", e.text);
    ck_assert_msg(!weights_open(GOLDEN "tiny-bert-masked", NULL, &w, &e), "%s", e.text);
    const struct reader_conf c = {
        .weights = w, .dev = d, .t = DTYPE_F32, .budget_bytes = (int64_t)1 << 30};
    ck_assert_msg(!reader_open(&c, &r, &e), "%s", e.text);
    for (int i = 0; i < ITEMS; i++) {
        buf_printf(&lines, "{\"id\":\"%s\",\"text\":\"%s\",%s}\n", films[i].id, films[i].text,
            films[i].line);
        embed_text(films[i].text, vector[i]);
    }
    golden_folder(folder);
    snprintf(path, sizeof path, "%s/items.jsonl", folder);
    ck_assert(!io_write_file(path, lines.data, lines.len, 0600, NULL));
    serve = (struct jobspec_serve){
        .recommend = {.items = path,
            .text_weight = 2,
            .half_life = 1,
            .features = {{"year", FEATURE_NEAR, 0.5}, {"liked", FEATURE_LOG_VALUE, -0.25},
                {"genres", FEATURE_SHARED, 1}},
            .feature_count = 3}};
    ck_assert_msg(!recommend_open(&serve, r, 1 << 22, &rec, &e), "%s", e.text);
}

static void done(void)
{
    recommend_close(rec);
    reader_close(r);
    weights_close(w);
    dev_close(d);
    golden_remove(folder);
}

static struct json *ask(const char *body);

/* Another start reads none of them again, and answers alike. */
START_TEST(kept_items_are_not_embedded_again)
{
    static const char body[] = "{\"read\":\"recommend\",\"history\":[\"a\",\"c\"],\"top\":5}";
    char cache[96];
    struct buf first, again;
    buf_init(&first, 1 << 16);
    buf_init(&again, 1 << 16);
    ck_assert_int_eq(recommend_embedded(rec), ITEMS);
    snprintf(cache, sizeof cache, "%s/cache", folder);
    serve.embedding_cache = cache;
    for (int i = 0; i < 3; i++) {
        recommend_close(rec);
        ck_assert_msg(!recommend_open(&serve, r, 1 << 22, &rec, &e), "%s", e.text);
        ck_assert_int_eq(recommend_embedded(rec), i ? 0 : ITEMS);
        json_auto struct json *v = ask(body);
        buf_reset(&again);
        ck_assert(v && !json_print(v, i ? &again : &first));
        ck_assert(!i || !strcmp(first.data, again.data));
    }
    buf_done(&first);
    buf_done(&again);
}
END_TEST

/* The answer's elements, as a list; NULL: it is refused, and e says why. */
static struct json *ask(const char *body)
{
    struct items_asked t;
    struct tok_ids ids = {.id = NULL}, types = {.id = NULL};
    float found[DIM];
    struct json *v = NULL;
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    buf_char(&out, '[');
    int rc = items_open(&t, r, rec, body, strlen(body), &e);
    if (!rc && items_over(&t))
        rc = items_tell_at_once(&t, &out, &e);
    while (!rc && !items_over(&t)) {
        ids.count = types.count = 0;
        if ((rc = items_read(&t, &ids, &types, &e)))
            break;
        const struct encoder_text text = {ids.id, types.id, ids.count};
        ck_assert_msg(!reader_embed(r, &text, 1, found, &e), "%s", e.text);
        rc = items_tell(&t, found, ids.count, &out, &e);
    }
    buf_char(&out, ']');
    if (!rc) {
        ck_assert_msg(!json_parse(out.data, out.len, &v, &e), "%s: %s", out.data, e.text);
        ck_assert_int_eq(json_count(v), t.recommends.told);
    }
    items_done(&t);
    tok_ids_done(&ids);
    tok_ids_done(&types);
    return v;
}

static int item_of(const char *id)
{
    for (int i = 0; i < ITEMS; i++)
        if (!strcmp(films[i].id, id))
            return i;
    ck_abort_msg("no item %s", id);
}

/* x (DIM) of length 1 times weight onto sum. */
static void add_unit(double sum[DIM], const float x[DIM], double weight)
{
    double squares = 0;
    for (int i = 0; i < DIM; i++)
        squares += (double)x[i] * x[i];
    for (int i = 0; i < DIM; i++)
        sum[i] += weight * x[i] / sqrt(squares);
}

static double cosine_of(const double sum[DIM], const float x[DIM])
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < DIM; i++) {
        ab += sum[i] * x[i];
        aa += sum[i] * sum[i];
        bb += (double)x[i] * x[i];
    }
    return aa > 0 ? ab / sqrt(aa * bb) : 0;
}

/* Elements are in the order of scores that are the sums of their parts. */
static void check_sums(const struct json *v)
{
    double last = INFINITY;
    json_each (one, v) {
        double sum = 0, score = json_num(one, "score", NAN);
        json_each (part, json_get(one, "parts"))
            sum += json_number_value(part);
        ck_assert_double_eq_tol(sum, score, 1e-5);
        ck_assert(score <= last);
        last = score;
        ck_assert_str_eq(json_str(one, "text", ""), films[item_of(json_str(one, "id", ""))].text);
    }
}

static double part(const struct json *one, const char *name)
{
    return json_num(json_get(one, "parts"), name, NAN);
}

/* The history: 7, then a text, then a: a counts 1, the text a half, 7 a quarter. */
START_TEST(scores_are_the_sums_of_their_parts)
{
    double sum[DIM] = {0};
    float text[DIM];
    embed_text("in the", text);
    add_unit(sum, vector[1], 0.25);
    add_unit(sum, text, 0.5);
    add_unit(sum, vector[0], 1);
    json_auto struct json *v = ask("{\"read\":\"recommend\",\"exclude\":false,"
                                   "\"history\":[\"7\",{\"text\":\"in the\"},\"a\"]}");
    ck_assert_msg(v, "%s", e.text);
    ck_assert_int_eq(json_count(v), ITEMS);
    check_sums(v);
    const double mean = 0.25 * 1 / 1.25, x = 1 / 1.25, y = 1; /* of years; who has x, and y */
    json_each (one, v) {
        int i = item_of(json_str(one, "id", ""));
        double near = films[i].year < 0 ? 0 : 1 - fabs(films[i].year - mean), shared = 0;
        for (const char *g = films[i].genres; *g; g++)
            shared += (*g == 'x' ? x : *g == 'y' ? y : 0) / (double)strlen(films[i].genres);
        ck_assert_double_eq_tol(part(one, "text"), 2 * cosine_of(sum, vector[i]), 1e-5);
        ck_assert_double_eq_tol(part(one, "year"), 0.5 * near, 1e-6);
        ck_assert_double_eq_tol(part(one, "liked"), -0.25 * films[i].liked, 1e-6);
        ck_assert_double_eq_tol(part(one, "genres"), shared, 1e-6);
    }
}
END_TEST

/* Ids in their order, a comma behind each. */
static const char *order(const char *body)
{
    static char ids[64];
    json_auto struct json *v = ask(body);
    int n = 0;
    ck_assert_msg(v, "%s", e.text);
    json_each (one, v)
        n += snprintf(ids + n, sizeof ids - (size_t)n, "%s,", json_str(one, "id", ""));
    check_sums(v);
    return ids;
}

#define ALONE(name, weight) \
    "\"weights\":{\"text\":0,\"year\":0,\"liked\":0,\"genres\":0,\"" name "\":" weight "}"

START_TEST(orders_are_those_worked_out)
{
    static const struct {
        const char *body, *ids;
    } cases[] = {
        /* of nobody's history features alone, of equal ones the file's order */
        {"\"history\":[]," ALONE("liked", "1"), "7,c,d,a,e,"},
        {"\"history\":[]," ALONE("liked", "-1"), "a,e,d,c,7,"},
        {"\"history\":[]," ALONE("liked", "1") ",\"top\":2", "7,c,"},
        {"\"history\":[]," ALONE("text", "1"), "a,7,c,d,e,"},
        {"\"history\":[]," ALONE("genres", "1"), "a,7,c,d,e,"},
        /* what was had is left out, unless it is to be kept */
        {"\"history\":[\"7\"]," ALONE("liked", "1"), "c,d,a,e,"},
        {"\"history\":[\"7\",\"7\"],\"exclude\":false," ALONE("liked", "1"), "7,c,d,a,e,"},
        /* near to 2000 are 1990, 1985, 1980, and none */
        {"\"history\":[\"7\"]," ALONE("year", "1"), "c,e,a,d,"},
        {"\"history\":[\"7\",\"c\"]," ALONE("genres", "1"), "a,d,e,"}, /* c has x, 7 has y */
        {"\"history\":[],\"query\":\"the of\",\"top\":1," ALONE("text", "1"), "7,"},
        {"\"history\":[{\"text\":\"anna\"}],\"top\":1," ALONE("text", "1"), "d,"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"read\":\"recommend\",%s}", cases[i].body);
        const char *ids = order(body);
        ck_assert_msg(!strcmp(ids, cases[i].ids), "%s: %s", body, ids);
    }
}
END_TEST

START_TEST(what_is_wrong_is_refused)
{
    static const struct {
        const char *body, *says;
    } cases[] = {
        {"\"history\":[\"a\",\"none\"]", "history[1]: there is no item \"none\""},
        {"\"history\":[],\"weights\":{\"price\":1}", "weights.price: the parts of a score are"},
        {"\"history\":[],\"truncate\":4096", "truncate_prompt_tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char body[256];
        snprintf(body, sizeof body, "{\"read\":\"recommend\",%s}", cases[i].body);
        ck_assert_ptr_null(ask(body));
        ck_assert_int_eq(e.code, ERR_USER);
        ck_assert_msg(strstr(e.text, cases[i].says), "%s", e.text);
    }
    struct recommend *none = rec;
    rec = NULL;
    ck_assert_ptr_null(ask("{\"read\":\"recommend\",\"history\":[]}"));
    ck_assert_msg(strstr(e.text, "spec.serve.recommend"), "%s", e.text);
    rec = none;
}
END_TEST

START_TEST(a_catalogue_must_fit)
{
    struct recommend *more = NULL;
    ck_assert_int_eq(recommend_open(&serve, r, 1000, &more, &e), -ERR_USER);
    ck_assert_msg(strstr(e.text, "items.jsonl"), "%s", e.text);
    ck_assert_ptr_null(more);
}
END_TEST

int main(void)
{
    return unit_run_with(&(struct unit){"recommend", 30, setup, done},
        (const TTest *const[]){scores_are_the_sums_of_their_parts, orders_are_those_worked_out,
            what_is_wrong_is_refused, a_catalogue_must_fit, kept_items_are_not_embedded_again,
            NULL});
}
