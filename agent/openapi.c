/*
 * openapi: objects and fields are read off the table. Answers, which no table decides, are short
 * schemas here: what a client may rely on; there may be more in them.
 *
 * Schemas are written with ' for " and @Name for a reference.
 */
#include "agent/openapi.h"

#include "agent/openai_items.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

#define LIST(name) \
    "{'type':'object','required':['model','usage','" name "'],'properties':{" \
    "'model':{'type':'string'},'usage':@ReadUsage,'" name "':{'type':'array','items':{" \
    "'type':'object',"

static const struct answer {
    enum openai_place place;
    const char *name, *schema;
    bool streams;
} answers[] = {
    {OPENAI_CHAT, "ChatAnswer",
        "{'type':'object','required':['id','object','created','model','choices','usage'],"
        "'properties':{'id':{'type':'string'},'object':{'const':'chat.completion'},"
        "'created':{'type':'integer'},'model':{'type':'string'},'usage':@Usage,"
        "'choices':{'type':'array','minItems':1,'items':{'type':'object',"
        "'required':['index','message','logprobs','finish_reason'],'properties':{"
        "'index':{'type':'integer'},'logprobs':{'type':['object','null']},"
        "'finish_reason':{'enum':['stop','length','tool_calls']},"
        "'message':{'type':'object','required':['role','content'],'properties':{"
        "'role':{'const':'assistant'},'content':{'type':['string','null']},"
        "'annotations':{'type':'array','items':@FileCitation},"
        "'tool_calls':{'type':'array','items':@ToolCall}}}}}}}}",
        true},
    {OPENAI_TEXT, "CompletionAnswer",
        "{'type':'object','required':['id','object','created','model','choices','usage'],"
        "'properties':{'id':{'type':'string'},'object':{'const':'text_completion'},"
        "'created':{'type':'integer'},'model':{'type':'string'},'usage':@Usage,"
        "'choices':{'type':'array','minItems':1,'items':{'type':'object',"
        "'required':['index','text','logprobs','finish_reason'],'properties':{"
        "'index':{'type':'integer'},'text':{'type':'string'},"
        "'logprobs':{'type':['object','null']},"
        "'finish_reason':{'enum':['stop','length']}}}}}}",
        true},
    {OPENAI_TOKENIZE, "Tokens",
        "{'type':'object','required':['count','max_model_len','tokens'],'properties':{"
        "'count':{'type':'integer'},'max_model_len':{'type':'integer'},"
        "'tokens':{'type':'array','items':{'type':'integer'}}}}",
        false},
    {OPENAI_DETOKENIZE, "Prompt",
        "{'type':'object','required':['prompt'],'properties':{'prompt':{'type':'string'}}}", false},
    {OPENAI_TEMPLATE, "Prompt", NULL, false},
    {OPENAI_EMBED, "Embeddings",
        LIST("data") "'required':['index','embedding'],'properties':{'index':{'type':'integer'},"
                     "'embedding':{'type':['array','string']}}}}}}",
        false},
    {OPENAI_CLASSIFY, "Classes",
        LIST("data") "'required':['index','num_classes'],'properties':{'index':{'type':'integer'},"
                     "'num_classes':{'type':'integer'}}}}}}",
        false},
    {OPENAI_SCORE, "Scores",
        LIST("data") "'required':['index','score'],'properties':{'index':{'type':'integer'},"
                     "'score':{'type':'number'}}}}}}",
        false},
    {OPENAI_RERANK, "Ranking",
        LIST("results") "'required':['index','relevance_score'],'properties':{"
                        "'index':{'type':'integer'},'relevance_score':{'type':'number'}}}}}}",
        false},
    {OPENAI_RECOMMEND, "Recommendations",
        LIST("results") "'required':['id','text','score','parts'],'properties':{"
                        "'id':{'type':'string'},'text':{'type':'string'},"
                        "'score':{'type':'number'},'parts':{'type':'object',"
                        "'additionalProperties':{'type':'number'}}}}}}}",
        false},
    {OPENAI_MESSAGES, "MessagesAnswer",
        "{'type':'object','required':['id','type','role','model','content','stop_reason',"
        "'stop_sequence','usage'],'properties':{'id':{'type':'string'},"
        "'type':{'const':'message'},'role':{'const':'assistant'},'model':{'type':'string'},"
        "'content':{'type':'array','items':{'type':'object','required':['type'],'properties':{"
        "'type':{'enum':['text','tool_use']}}}},'stop_sequence':{'type':['string','null']},"
        "'stop_reason':{'enum':['end_turn','max_tokens','stop_sequence','tool_use']},"
        "'usage':{'type':'object','required':['input_tokens','output_tokens'],'properties':{"
        "'input_tokens':{'type':'integer'},'output_tokens':{'type':'integer'}}}}}",
        true},
    {OPENAI_RESPONSES, "ResponsesAnswer",
        "{'type':'object','required':['id','object','created_at','status','error',"
        "'incomplete_details','model','output','parallel_tool_calls','tool_choice','tools',"
        "'usage'],"
        "'properties':{'id':{'type':'string'},'parallel_tool_calls':{'type':'boolean'},"
        "'tool_choice':{'type':['string','object']},'tools':{'type':'array'},"
        "'object':{'const':'response'},'created_at':{'type':'integer'},"
        "'status':{'enum':['completed','incomplete']},'error':{'type':'null'},"
        "'incomplete_details':{'type':['object','null']},'model':{'type':'string'},"
        "'output':{'type':'array','minItems':1,'items':{'type':'object',"
        "'required':['id','type','status'],'properties':{'id':{'type':'string'},"
        "'type':{'enum':['message','function_call']},"
        "'status':{'enum':['completed','incomplete']}}}},"
        "'usage':{'type':'object','required':['input_tokens','output_tokens','total_tokens'],"
        "'properties':{'input_tokens':{'type':'integer'},'output_tokens':{'type':'integer'},"
        "'total_tokens':{'type':'integer'}}}}}",
        true},
    {OPENAI_SEARCH, "SearchResults",
        "{'type':'object','required':['object','search_query','data','has_more','next_page'],"
        "'properties':{'object':{'const':'vector_store.search_results.page'},"
        "'search_query':{'type':'array','items':{'type':'string'}},'has_more':{'const':false},"
        "'next_page':{'type':'null'},'data':{'type':'array','items':{'type':'object',"
        "'required':['file_id','filename','score','attributes','content'],'properties':{"
        "'file_id':{'type':'string'},'filename':{'type':'string'},'score':{'type':'number'},"
        "'attributes':{'type':'object'},'content':{'type':'array','items':{'type':'object',"
        "'required':['type','text'],'properties':{'type':{'const':'text'},"
        "'text':{'type':'string'}}}}}}}}}",
        false},
    {OPENAI_LINE, "MonitorAnswer",
        "{'type':'object','required':['index'],'properties':{'index':{'type':'integer'},"
        "'id':{'type':['string','number']},'time':{'type':'string'},'label':{'type':'string'},"
        "'labels':{'type':'array','items':{'type':'string'}},"
        "'probs':{'type':'array','items':{'type':'number'}},'error':{'type':'string'}}}",
        false},
    {OPENAI_COUNT, "Count",
        "{'type':'object','required':['input_tokens'],'properties':{"
        "'input_tokens':{'type':'integer'}}}",
        false},
};

static const struct part { /* of answers */
    const char *name, *schema;
} parts[] = {
    {"Usage",
        "{'type':'object','required':['prompt_tokens','completion_tokens','total_tokens'],"
        "'properties':{'prompt_tokens':{'type':'integer'},'completion_tokens':{'type':'integer'},"
        "'total_tokens':{'type':'integer'},'prompt_tokens_details':{'type':'object',"
        "'properties':{'cached_tokens':{'type':'integer'}}}}}"},
    {"ReadUsage",
        "{'type':'object','required':['prompt_tokens','total_tokens'],'properties':{"
        "'prompt_tokens':{'type':'integer'},'total_tokens':{'type':'integer'}}}"},
    {"Model",
        "{'type':'object','required':['id','object','created','owned_by'],'properties':{"
        "'id':{'type':'string'},'object':{'const':'model'},'created':{'type':'integer'},"
        "'owned_by':{'type':'string'},'max_model_len':{'type':'integer'}}}"},
    {"Models",
        "{'type':'object','required':['object','data'],'properties':{'object':{'const':'list'},"
        "'data':{'type':'array','items':@Model}}}"},
    {"FileCitation",
        "{'type':'object','required':['type','file_id','filename','index','quote','start_index',"
        "'end_index'],'properties':{'type':{'const':'file_citation'},'file_id':{'type':'string'},"
        "'filename':{'type':'string'},'index':{'type':'integer'},'quote':{'type':'string'},"
        "'start_index':{'type':'integer'},'end_index':{'type':'integer'}}}"},
    {"VectorStore",
        "{'type':'object','required':['id','object','name','status','created_at','usage_bytes',"
        "'file_counts'],'properties':{'id':{'type':'string'},'object':{'const':'vector_store'},"
        "'name':{'type':'string'},'status':{'type':'string'},'created_at':{'type':'integer'},"
        "'usage_bytes':{'type':'integer'},'file_counts':{'type':'object'}}}"},
    {"VectorStores",
        "{'type':'object','required':['object','data'],'properties':{'object':{'const':'list'},"
        "'data':{'type':'array','items':@VectorStore}}}"},
    {"MonitorDisk",
        "{'type':'object','required':['state','lateSeconds','message'],'properties':{"
        "'state':{'enum':['waiting','reading','read','failing','late','kept']},"
        "'lateSeconds':{'type':'integer'},'message':{'type':'string'}}}"},
    {"MonitorAlert",
        "{'type':'object','required':['name','label','state','share','texts','since','fired',"
        "'resolved','windowSeconds','fireShare','clearShare','forSeconds','minItems'],"
        "'properties':{'name':{'type':'string'},'label':{'type':'string'},"
        "'state':{'enum':['firing','pending','inactive']},'share':{'type':'number'},"
        "'texts':{'type':'integer'},'since':{'type':['string','null']},"
        "'fired':{'type':['string','null']},'resolved':{'type':['string','null']},"
        "'windowSeconds':{'type':'integer'},'fireShare':{'type':'number'},"
        "'clearShare':{'type':'number'},'forSeconds':{'type':'integer'},"
        "'minItems':{'type':'integer'},'webhook':{'type':'object','required':['waiting',"
        "'delivered','retried','dropped'],'additionalProperties':{'type':'integer'}}}}"},
    {"Monitor",
        "{'type':'object','required':['object','model','now','texts','wrong','late','streams',"
        "'source','kept','alerts','curves'],'properties':{'object':{'const':'monitor'},"
        "'model':{'type':'string'},'now':{'type':['string','null']},'texts':{'type':'integer'},"
        "'wrong':{'type':'integer'},'late':{'type':'integer'},'streams':{'type':'integer'},"
        "'source':{'anyOf':[@MonitorDisk,{'type':'null'}]},'kept':@MonitorDisk,"
        "'alerts':{'type':'array','items':@MonitorAlert},'curves':{'type':'object',"
        "'required':['stepMs','lastMs','texts','labels']}}}"},
    {"Health", "{'type':'object','required':['status'],'properties':{'status':{'type':'string'}}}"},
    {"AnthropicError",
        "{'type':'object','required':['type','error'],'properties':{'type':{'const':'error'},"
        "'error':{'type':'object','required':['type','message'],'properties':{"
        "'type':{'type':'string'},'message':{'type':'string'}}}}}"},
    {"Error",
        "{'type':'object','required':['error'],'properties':{'error':{'type':'object',"
        "'required':['message','type','param','code'],'properties':{'message':{'type':'string'},"
        "'type':{'type':'string'},'param':{'type':['string','null']},"
        "'code':{'type':['string','null']}}}}}"},
};

static const struct reading {
    const char *path, *name, *summary;
} readings[] = {
    {"/v1/models", "Models", "The models"},
    {"/v1/models/{model}", "Model", "A model"},
    {"/models", "Models", "The models, likewise"},
    {"/v1/vector_stores", "VectorStores", "The documents, as a list"},
    {"/v1/vector_stores/vs_documents", "VectorStore", "The documents"},
    {"/v1/monitor", "Monitor", "What is watched"},
    {"/health", "Health", "Whether requests are taken"},
    {"/openapi.json", NULL, "This document"},
};

/* -- schemas -- */

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void write_schema(struct jsonw *w, const char *key, const char *schema)
{
    jsonw_raw(w, key, "");
    for (const char *p = schema; *p; p++) {
        size_t n = 0;
        while (*p == '@' && is_letter(p[n + 1]))
            n++;
        if (n)
            buf_printf(w->out, "{\"$ref\":\"#/components/schemas/%.*s\"}", (int)n, p + 1);
        else
            buf_char(w->out, *p == '\'' ? '"' : *p);
        p += n;
    }
}

static void write_type(struct jsonw *w, const struct openai_field *f, const char *type)
{
    if (f->needed) {
        jsonw_str(w, "type", type);
        return;
    }
    jsonw_open(w, "type", '[');
    jsonw_str(w, NULL, type);
    jsonw_str(w, NULL, "null");
    jsonw_close(w);
}

/* Between the values stands a space; null is as good as absent. */
static void write_values(struct jsonw *w, const struct openai_field *f)
{
    jsonw_raw(w, "enum", "[");
    for (const char *p = f->values; *p; p++)
        buf_char(w->out, *p == ' ' ? ',' : *p);
    if (!f->needed)
        buf_str(w->out, *f->values ? ",null" : "null");
    buf_char(w->out, ']');
}

static void write_shape(struct jsonw *w, const struct openai_field *f)
{
    jsonw_open(w, "anyOf", '[');
    write_schema(w, NULL, f->shape);
    if (!f->needed)
        jsonw_raw(w, NULL, "{\"type\":\"null\"}");
    jsonw_close(w);
}

static void write_field(
    struct jsonw *w, const struct openai_field *f, const struct openai_conf *conf, bool request)
{
    static const char *const types[] = {"number", "integer", "boolean", "string"};
    jsonw_open(w, f->name, '{');
    if (request && !strcmp(f->name, "model")) {
        jsonw_open(w, "enum", '[');
        jsonw_str(w, NULL, conf->model);
        for (int i = 0; i < conf->adapter_count; i++)
            jsonw_str(w, NULL, conf->adapters[i].name);
        jsonw_null(w, NULL);
        jsonw_close(w);
    } else if (f->kind == OPENAI_FIXED) {
        write_values(w, f);
    } else if (f->shape) {
        write_shape(w, f);
    } else if (f->kind <= OPENAI_STRING) {
        write_type(w, f, types[f->kind]);
    }
    if (f->kind == OPENAI_NUMBER || f->kind == OPENAI_WHOLE) {
        jsonw_num(w, "minimum", f->min);
        jsonw_num(w, "maximum", f->max);
    }
    if (*f->note)
        jsonw_str(w, "description", f->note);
    jsonw_close(w);
}

static void write_object(
    struct jsonw *w, const struct openai_object *o, const struct openai_conf *conf)
{
    size_t count;
    const struct openai_field *fields = openai_fields(&count);
    jsonw_open(w, o->name, '{');
    jsonw_str(w, "type", "object");
    jsonw_bool(w, "additionalProperties", o->place & OPENAI_LINES);
    jsonw_open(w, "required", '[');
    for (const struct openai_field *f = fields; f < fields + count; f++)
        if ((f->places & o->place) && f->needed)
            jsonw_str(w, NULL, f->name);
    jsonw_close(w);
    jsonw_open(w, "properties", '{');
    for (const struct openai_field *f = fields; f < fields + count; f++)
        if (f->places & o->place)
            write_field(w, f, conf, o->path != NULL);
    jsonw_close(w);
    jsonw_close(w);
}

static void write_components(struct jsonw *w, const struct openai_conf *conf, bool keyed)
{
    size_t count;
    const struct openai_object *objects = openai_objects(&count);
    jsonw_open(w, "components", '{');
    jsonw_open(w, "schemas", '{');
    for (size_t i = 0; i < count; i++)
        write_object(w, &objects[i], conf);
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (answers[i].schema)
            write_schema(w, answers[i].name, answers[i].schema);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        write_schema(w, parts[i].name, parts[i].schema);
    jsonw_close(w);
    if (keyed)
        jsonw_raw(w, "securitySchemes", "{\"key\":{\"type\":\"http\",\"scheme\":\"bearer\"}}");
    jsonw_close(w);
}

/* -- paths -- */

static const char *type_of(enum openai_place place)
{
    return place & OPENAI_LINES ? "application/x-ndjson" : "application/json";
}

/* name: of the schema, NULL: an object. */
static void write_content(struct jsonw *w, const char *type, const char *name, bool streams)
{
    char schema[64] = "{'type':'object'}";
    if (name)
        snprintf(schema, sizeof schema, "@%s", name);
    jsonw_open(w, "content", '{');
    jsonw_open(w, type, '{');
    write_schema(w, "schema", schema);
    jsonw_close(w);
    if (streams)
        jsonw_raw(w, "text/event-stream", "{\"schema\":{\"type\":\"string\"}}");
    jsonw_close(w);
}

static void write_response(struct jsonw *w, const char *status, const char *description,
    const char *type, const char *name, bool streams)
{
    jsonw_open(w, status, '{');
    jsonw_str(w, "description", description);
    write_content(w, type, name, streams);
    jsonw_close(w);
}

static void write_responses(
    struct jsonw *w, enum openai_place place, const char *name, bool streams, const char *error)
{
    const char *json = type_of(0);
    jsonw_open(w, "responses", '{');
    write_response(w, "200", "The answer", type_of(place), name, streams);
    write_response(w, "4XX", "The request is at fault, or comes too soon", json, error, false);
    write_response(w, "5XX", "The server is at fault, or does not serve now", json, error, false);
    jsonw_close(w);
}

static const struct answer *answer_of(enum openai_place place)
{
    size_t i = 0;
    while (i < sizeof answers / sizeof *answers && answers[i].place != place)
        i++;
    return i < sizeof answers / sizeof *answers ? &answers[i] : NULL;
}

/* alias: a number of its path's own; 0: it is the object's. */
static void write_asking(struct jsonw *w, const struct openai_object *o, size_t alias)
{
    const struct answer *answer = answer_of(o->place);
    char id[64];
    snprintf(id, sizeof id, alias ? "%s%zu" : "%s", o->name, alias);
    jsonw_open(w, "post", '{');
    jsonw_str(w, "operationId", id);
    jsonw_open(w, "requestBody", '{');
    jsonw_bool(w, "required", true);
    write_content(w, type_of(o->place), o->name, false);
    jsonw_close(w);
    write_responses(w, o->place, answer ? answer->name : NULL, answer && answer->streams,
        o->place & (OPENAI_MESSAGES | OPENAI_COUNT) ? "AnthropicError" : "Error");
    jsonw_close(w);
}

static void write_reading(struct jsonw *w, const struct reading *r)
{
    bool open = !strcmp(r->path, "/health");
    if (strchr(r->path, '{'))
        jsonw_raw(w, "parameters",
            "[{\"name\":\"model\",\"in\":\"path\",\"required\":true,"
            "\"schema\":{\"type\":\"string\"}}]");
    jsonw_open(w, "get", '{');
    jsonw_str(w, "summary", r->summary);
    if (open)
        jsonw_raw(w, "security", "[]");
    write_responses(w, 0, r->name, false, open ? "Health" : "Error");
    jsonw_close(w);
}

static const struct reading *reading_at(const char *path)
{
    size_t i = 0;
    while (i < sizeof readings / sizeof *readings && strcmp(readings[i].path, path) != 0)
        i++;
    return i < sizeof readings / sizeof *readings ? &readings[i] : NULL;
}

/* What is asked at its path and at others', and what is read there. */
static void write_object_paths(struct jsonw *w, const struct openai_object *o)
{
    size_t count;
    const struct openai_alias *aliases = openai_aliases(&count);
    const struct reading *r = reading_at(o->path);
    jsonw_open(w, o->path, '{');
    write_asking(w, o, 0);
    if (r)
        write_reading(w, r);
    jsonw_close(w);
    for (size_t i = 0; i < count; i++)
        if (aliases[i].place == o->place) {
            jsonw_open(w, aliases[i].path, '{');
            write_asking(w, o, i + 1);
            jsonw_close(w);
        }
}

static void write_paths(struct jsonw *w, const struct openai_conf *conf)
{
    size_t count;
    struct openai_refusal r;
    const struct openai_object *objects = openai_objects(&count);
    for (size_t i = 0; i < count; i++)
        if (objects[i].path && !openai_check_does(conf, objects[i].place, &r))
            write_object_paths(w, &objects[i]);
    for (size_t i = 0; i < sizeof readings / sizeof *readings; i++) {
        if (openai_place_of(readings[i].path)) /* it stands there */
            continue;
        jsonw_open(w, readings[i].path, '{');
        write_reading(w, &readings[i]);
        jsonw_close(w);
    }
}

void openapi_write(struct buf *out, const struct openai_conf *conf, bool keyed)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_str(&w, "openapi", "3.1.0");
    jsonw_raw(&w, "info", "{\"title\":\"llmjob\",\"version\":\"v1\"}");
    if (keyed)
        jsonw_raw(&w, "security", "[{\"key\":[]}]");
    jsonw_open(&w, "paths", '{');
    write_paths(&w, conf);
    jsonw_close(&w);
    write_components(&w, conf, keyed);
    jsonw_close(&w);
    jsonw_end(&w);
}
