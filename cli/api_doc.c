/*
 * api_doc: a walk over the schema, and the command that prints what comes of it:
 *     llmjob api-doc manifests/crd.yaml >docs/api.md
 * Every field must have a description: one without is an error here, and so in the test of
 * docs/api.md.
 */
#include "cli/api_doc.h"

#include "api/names.h"
#include "base/yaml.h"
#include "cli/command.h"
#include "cli/pairs.h"

#define PATH_BYTES 256

static const char *type_of(const struct json *node)
{
    static char text[64];
    const struct json *items = json_get(node, "items");
    const struct json *values = json_get(node, "additionalProperties");
    const char *type = json_str(node, "type", "integer or string");
    if (items)
        snprintf(text, sizeof text, "list of %ss", json_str(items, "type", "value"));
    else if (values)
        snprintf(text, sizeof text, "map to %s", json_str(values, "type", "integer or string"));
    else if (json_get(node, "format") && !strcmp(type, "string"))
        snprintf(text, sizeof text, "%s", json_str(node, "format", ""));
    else
        snprintf(text, sizeof text, "%s", type);
    return text;
}

/* Text inside a table cell: a bar would end the cell. */
static void write_cell(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '|')
            buf_char(out, '\\');
        buf_char(out, *text);
    }
}

static void write_bound(
    struct buf *out, const struct json *node, const char *low, const char *high, const char *unit)
{
    const struct json *min = json_get(node, low), *max = json_get(node, high);
    if (!max)
        return;
    bool above = json_bool(node, "exclusiveMinimum", false);
    bool below = json_bool(node, "exclusiveMaximum", false);
    if (min)
        buf_printf(out, "%s%.10g to ", above ? "above " : "", json_number_value(min));
    else
        buf_str(out, "up to ");
    buf_printf(out, "%s%.16g%s", below ? "below " : "", json_number_value(max), unit);
}

static void write_bounds(struct buf *out, const struct json *node)
{
    const struct json *values = json_get(node, "enum");
    json_each (v, values)
        buf_printf(out, "%s%s", v == json_first(values) ? "" : ", ", json_string_value(v));
    if (values)
        return;
    write_bound(out, node, "minimum", "maximum", "");
    if (!json_get(node, "minimum"))
        write_bound(out, node, "minLength", "maxLength", " characters");
    write_bound(out, node, "minItems", "maxItems", " items");
    write_bound(out, node, "minProperties", "maxProperties", " entries");
}

static bool is_required(const struct json *parent, const char *name)
{
    json_each (v, json_get(parent, "required"))
        if (!strcmp(json_string_value(v), name))
            return true;
    return false;
}

static void write_rules(struct buf *out, const struct json *node, const char *path)
{
    const struct json *items = json_get(node, "items"), *parent = items ? items : node;
    char below[PATH_BYTES];
    json_each (rule, json_get(node, "x-kubernetes-validations"))
        buf_printf(out, "- `%s%s`: %s\n", path, json_str(rule, "fieldPath", ""),
            json_str(rule, "message", ""));
    json_each (rule, json_get(items, "x-kubernetes-validations"))
        buf_printf(out, "- `%s[]`: %s\n", path, json_str(rule, "message", ""));
    json_each (child, json_get(parent, "properties")) {
        snprintf(below, sizeof below, "%s%s.%s", path, items ? "[]" : "", json_key(child));
        write_rules(out, child, below);
    }
}

static int write_row(
    struct buf *out, const struct json *node, const char *path, bool required, struct err *e)
{
    const char *description = json_str(node, "description", NULL);
    if (!description)
        return err_set(e, ERR_USER, "%s: no description", path);
    const struct json *def = json_get(node, "default");
    buf_printf(out, "| `%s` | %s | ", path, type_of(node));
    if (required)
        buf_str(out, "required");
    else if (def && (!json_is_object(def) || json_count(def))) {
        buf_char(out, '`');
        json_print(def, out);
        buf_char(out, '`');
    }
    buf_str(out, " | ");
    write_bounds(out, node);
    buf_str(out, " | ");
    write_cell(out, description);
    buf_str(out, " |\n");
    return 0;
}

static int write_table(struct buf *out, const struct json *node, const char *path, struct err *e)
{
    const struct json *items = json_get(node, "items"), *parent = items ? items : node;
    json_each (child, json_get(parent, "properties")) {
        char below[PATH_BYTES];
        snprintf(below, sizeof below, "%s%s%s", path, items ? "[]." : ".", json_key(child));
        int rc = write_row(out, child, below, is_required(parent, json_key(child)), e);
        if (rc)
            return rc;
        rc = write_table(out, child, below, e);
        if (rc)
            return rc;
    }
    return 0;
}

static int write_section(
    struct buf *out, const struct json *schema, const char *name, struct err *e)
{
    const struct json *node = json_get(json_get(schema, "properties"), name);
    if (!node)
        return err_set(e, ERR_USER, "the schema has no %s", name);
    buf_printf(out, "\n## %s\n\n%s\n\n", name, json_str(node, "description", ""));
    buf_str(out, "| field | type | default | bounds | meaning |\n|---|---|---|---|---|\n");
    return write_table(out, node, name, e);
}

int api_doc_render(const struct json *crd, struct buf *out, struct err *e)
{
    const struct json *spec = json_get(crd, "spec");
    const struct json *version = json_first(json_get(spec, "versions"));
    const struct json *schema = json_path(version, "schema.openAPIV3Schema");
    if (!schema)
        return err_set(e, ERR_USER, "not a CustomResourceDefinition with a schema");
    buf_printf(out, "# %s, `%s/%s`\n\n", json_str(json_get(spec, "names"), "kind", ""),
        json_str(spec, "group", ""), json_str(version, "name", ""));
    buf_str(out,
        "<!-- made from manifests/crd.yaml by `llmjob api-doc manifests/crd.yaml "
        ">docs/api.md` -->\n\n");
    buf_printf(out, "%s\n\nColumns of `kubectl get`:", json_str(schema, "description", ""));
    json_each (column, json_get(version, "additionalPrinterColumns"))
        buf_printf(out, "%s %s (`%s`%s)",
            column == json_first(json_get(version, "additionalPrinterColumns")) ? "" : ",",
            json_str(column, "name", ""), json_str(column, "jsonPath", ""),
            json_int(column, "priority", 0) ? ", wide" : "");
    buf_str(out, ".\n");
    int rc = write_section(out, schema, "spec", e);
    if (rc)
        return rc;
    buf_str(out,
        "\n### Rules that cross fields\n\nThe API server refuses what breaks one of these.\n\n");
    json_each (rule, json_get(schema, "x-kubernetes-validations"))
        buf_printf(out, "- %s\n", json_str(rule, "message", ""));
    write_rules(out, json_path(schema, "properties.spec"), "spec");
    rc = write_section(out, schema, "status", e);
    if (rc)
        return rc;
    return buf_ok(out) ? 0 : err_set(e, ERR_MEMORY, "out of memory");
}

int command_api_doc(int argc, char **argv, int *status, struct err *e)
{
    static const struct conf_item items[] = {
        {"pairs", CONF_BOOL, 0, NULL, NULL, "print jobs with each two of what may go together"},
        {0}};
    static const char usage[] =
        "llmjob api-doc [--pairs] CRD.yaml\n\nPrints the reference of the CRD as Markdown.";
    *status = 0;
    const char *path;
    bool pairs = false;
    int rc = command_flags(items, usage, "file", argc, argv, &pairs, &path, e);
    if (rc <= 0)
        return rc;
    json_auto struct json *documents = NULL;
    rc = yaml_read_file(path, 1 << 20, &documents, e);
    if (rc)
        return rc;
    buf_auto struct buf out;
    buf_init(&out, 1 << 20);
    if (pairs)
        rc = pairs_write(&out, e);
    else if (!(rc = api_doc_render(json_first(documents), &out, e)))
        rc = pairs_render(&out, e);
    if (!rc)
        fputs(buf_cstr(&out), stdout);
    return rc;
}
