/*
 * openapi: goal: what is documented is what is taken: each object and field of the table stands in
 * the document, what is needed is said to be, and every reference leads somewhere. Method: pure;
 * the document is parsed again and walked. A schema's own meaning is for programs that read such
 * documents (tests/prove/outside.sh).
 * needs: faults
 */
#include "agent/openapi.h"

#include "base/json.h"
#include "tests/unit.h"

#include <string.h>

static const struct jobspec_served_adapter adapters[] = {{"fine", "/x"}};
static struct openai_conf conf = {.model = "m",
    .context_length = 4096,
    .most_choices = 20,
    .calls = WIRE_CALLS_HERMES,
    .documents = true,
    .watches = true,
    .adapters = adapters,
    .adapter_count = 1};
static struct json *doc;

static void make(void)
{
    buf_auto struct buf out;
    struct err e = {0};
    buf_init(&out, OPENAPI_BYTES);
    openapi_write(&out, &conf, true);
    ck_assert(buf_ok(&out));
    ck_assert_msg(!json_parse(out.data, out.len, &doc, &e), "%s", e.text);
}

static void unmake(void)
{
    json_destroy(doc);
    doc = NULL;
}

static const struct json *schemas(void)
{
    return json_path(doc, "components.schemas");
}

static bool lists(const struct json *list, const char *word)
{
    json_each (v, list)
        if (json_is_string(v) && !strcmp(json_string_value(v), word))
            return true;
    return false;
}

START_TEST(every_row_is_documented)
{
    size_t count, objects;
    uint64_t seen = 0, used = 0;
    const struct openai_field *fields = openai_fields(&count);
    const struct openai_object *o = openai_objects(&objects);
    make();
    for (size_t i = 0; i < objects; i++) {
        const struct json *schema = json_get(schemas(), o[i].name);
        ck_assert_msg(
            json_bool(schema, "additionalProperties", false) == !!(o[i].place & OPENAI_LINES), "%s",
            o[i].name);
        size_t rows = 0;
        for (size_t k = 0; k < count; k++) {
            if (!(fields[k].places & o[i].place))
                continue;
            ck_assert_msg(json_get(json_get(schema, "properties"), fields[k].name), "%s.%s",
                o[i].name, fields[k].name);
            ck_assert_msg(lists(json_get(schema, "required"), fields[k].name) == fields[k].needed,
                "%s.%s", o[i].name, fields[k].name);
            rows++;
        }
        ck_assert_uint_eq(json_count(json_get(schema, "properties")), rows);
        seen |= o[i].place;
        if (!o[i].path)
            continue;
        ck_assert(openai_place_of(o[i].path) == o[i].place);
        bool has = json_get(json_get(json_get(doc, "paths"), o[i].path), "post");
        ck_assert_msg(has == !(o[i].place & OPENAI_ITEMS), "%s", o[i].path);
    }
    for (size_t k = 0; k < count; k++)
        used |= fields[k].places;
    ck_assert_uint_eq(seen, used);
    ck_assert(!openai_place_of("/v2"));
    unmake();
}
END_TEST

/* What a field says beside its description. */
static const char *text_of(const struct json *field, struct buf *out)
{
    buf_reset(out);
    ck_assert(!json_print(field, out));
    return buf_cstr(out);
}

START_TEST(fields_say_what_they_take)
{
    static const struct {
        const char *object, *field, *text;
    } table[] = {
        {"ChatRequest", "temperature",
            "{\"type\":[\"number\",\"null\"],\"minimum\":0,\"maximum\":2,"},
        {"ChatRequest", "model", "{\"enum\":[\"m\",\"fine\",null],"},
        {"ChatRequest", "audio", "{\"enum\":[null],"},
        {"ChatRequest", "function_call", "{\"enum\":[\"none\",\"auto\",null],"},
        {"ChatRequest", "metadata", "{\"description\":"},
        {"ChatRequest", "stream_options",
            "{\"anyOf\":[{\"$ref\":\"#/components/schemas/StreamOptions\"},{\"type\":\"null\"}],"},
        {"Message", "role", "{\"type\":\"string\",\"description\":"},
        {"ToolCall", "type", "{\"enum\":[\"function\"],"},
    };
    buf_auto struct buf out;
    buf_init(&out, 65536);
    make();
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const struct json *object = json_get(schemas(), table[i].object);
        const char *text = text_of(json_get(json_get(object, "properties"), table[i].field), &out);
        ck_assert_msg(
            !strncmp(text, table[i].text, strlen(table[i].text)), "%s: %s", table[i].field, text);
    }
    unmake();
}
END_TEST

static int follow(const struct json *v)
{
    static const char start[] = "#/components/schemas/";
    const char *ref = json_str(v, "$ref", NULL);
    int n = ref != NULL;
    if (ref)
        ck_assert_msg(
            !strncmp(ref, start, sizeof start - 1) && json_get(schemas(), ref + sizeof start - 1),
            "%s", ref);
    json_each (inner, v)
        n += follow(inner);
    return n;
}

/* A model that embeds is asked for what it does. */
START_TEST(paths_are_what_the_model_does)
{
    conf.does = WIRE_DOES_EMBED;
    make();
    ck_assert(json_get(json_get(doc, "paths"), "/v1/embeddings"));
    ck_assert(json_get(json_get(doc, "paths"), "/v1/rerank"));
    ck_assert(!json_get(json_get(doc, "paths"), "/v1/classify"));
    ck_assert(!json_get(json_get(doc, "paths"), "/v1/completions"));
    ck_assert(!json_get(json_get(doc, "paths"), "/v1/recommend"));
    unmake();
    conf.does = WIRE_DOES_RECOMMEND;
    make();
    ck_assert(json_get(json_get(doc, "paths"), "/v1/embeddings"));
    ck_assert(json_get(json_get(doc, "paths"), "/v1/recommend"));
    unmake();
    conf.does = WIRE_DOES_CLASSIFY;
    make();
    const struct json *asked = json_get(json_get(doc, "paths"), "/v1/classify"),
                      *other = json_get(json_get(doc, "paths"), "/classify"),
                      *watched = json_get(json_get(doc, "paths"), "/v1/monitor");
    ck_assert_str_ne(json_str(json_get(asked, "post"), "operationId", "a"),
        json_str(json_get(other, "post"), "operationId", "a"));
    ck_assert(json_path(watched, "post.requestBody.content.application/x-ndjson"));
    ck_assert(json_path(watched, "post.responses.200.content.application/x-ndjson"));
    ck_assert(json_path(watched, "get.responses.200.content.application/json"));
    unmake();
    conf.watches = false;
    make();
    ck_assert(!json_get(json_get(doc, "paths"), "/v1/monitor"));
    unmake();
    conf.watches = true;
    conf.does = WIRE_DOES_GENERATE;
}
END_TEST

START_TEST(references_lead_somewhere)
{
    make();
    ck_assert_int_gt(follow(doc), 20);
    ck_assert(json_path(doc, "components.securitySchemes.key"));
    unmake();
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    openapi_write(&out, &conf, false);
    ck_assert(!strstr(buf_cstr(&out), "securitySchemes"));
}
END_TEST

static int write_under_faults(void *user)
{
    (void)user;
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    openapi_write(&out, &conf, true);
    return buf_ok(&out) ? 0 : -1;
}

START_TEST(out_of_memory)
{
    fault_each(FAULT_MEM, write_under_faults, NULL);
}
END_TEST

START_TEST(it_has_room_for_all_adapters)
{
    static struct jobspec_served_adapter many[LIMIT_ADAPTERS];
    char name[129];
    memset(name, 'a', 128);
    name[128] = 0;
    for (int i = 0; i < LIMIT_ADAPTERS; i++)
        many[i] = (struct jobspec_served_adapter){name, "/x"};
    conf.adapters = many;
    conf.adapter_count = LIMIT_ADAPTERS;
    make();
    unmake();
    conf.adapters = adapters;
    conf.adapter_count = 1;
}
END_TEST

UNIT_MAIN("openapi", it_has_room_for_all_adapters, every_row_is_documented,
    fields_say_what_they_take, paths_are_what_the_model_does, references_lead_somewhere,
    out_of_memory)
