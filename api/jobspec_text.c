/*
 * jobspec_text: what the texts of a spec may be, as the CRD's patterns say it: names, paths,
 * quantities, and small maps of them.
 */
#include "api/jobspec_text.h"

#include "api/jobspec.h"
#include "api/names.h"

#include <ctype.h>
#include <float.h>

/* -- formats of strings, as the CRD's patterns -- */

/* Absolute, no empty part, and no part of dots alone, so that a path cannot climb out of its
 * mount. */
static bool is_path(const char *s)
{
    while (*s == '/') {
        size_t n = strcspn(++s, "/");
        if (strspn(s, ".") == n)
            return false;
        s += n;
    }
    return !*s;
}

static bool is_lower_or_digit(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* A DNS label of Kubernetes, up to s[n]. */
static bool is_label_n(const char *s, size_t n)
{
    if (!n || !is_lower_or_digit(s[0]) || !is_lower_or_digit(s[n - 1]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!is_lower_or_digit(s[i]) && s[i] != '-')
            return false;
    return true;
}

static bool is_label(const char *s)
{
    return is_label_n(s, strlen(s));
}

/* Also the first label of Service and pod host names: a letter first. */
static bool is_job_name(const char *s)
{
    return is_label(s) && !(s[0] >= '0' && s[0] <= '9');
}

static bool is_subdomain_n(const char *s, size_t len)
{
    for (const char *end = s + len;; s++) {
        const char *dot = memchr(s, '.', (size_t)(end - s));
        if (!is_label_n(s, (size_t)((dot ? dot : end) - s)))
            return false;
        if (!dot)
            return true;
        s = dot;
    }
}

static bool is_subdomain(const char *s)
{
    return is_subdomain_n(s, strlen(s));
}

static bool is_qualified_part(const char *s)
{
    size_t n = strlen(s);
    if (!n || n > 63 || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[n - 1]))
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && !strchr("-_.", *s))
            return false;
    return true;
}

/* name or domain/name: keys of labels */
static bool is_qualified(const char *s)
{
    const char *slash = strchr(s, '/');
    return slash ? is_subdomain_n(s, (size_t)(slash - s)) && is_qualified_part(slash + 1)
                 : is_qualified_part(s);
}

/* "cpu", or an extended resource, which always has a domain */
static bool is_device(const char *s)
{
    return !strcmp(s, "cpu") || (strchr(s, '/') && is_qualified(s));
}

static bool is_manager(const char *s)
{
    return strchr(s, '/') && is_qualified(s);
}

static bool is_sha256(const char *s)
{
    return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static bool is_environment_name(const char *s)
{
    if (!isalpha((unsigned char)*s) && *s != '_')
        return false;
    while (isalnum((unsigned char)*s) || *s == '_')
        s++;
    return !*s;
}

static bool is_module_name(const char *s)
{
    if (!strcmp(s, "all-linear"))
        return true;
    while (isalnum((unsigned char)*s) || *s == '_')
        s++;
    return !*s;
}

static bool is_model_name(const char *s)
{
    while (isalnum((unsigned char)*s) || (*s && strchr("-_.:/@", *s)))
        s++;
    return !*s;
}

static bool is_operator(const char *s)
{
    return !strcmp(s, "Exists") || !strcmp(s, "Equal");
}

static bool is_effect(const char *s)
{
    return !strcmp(s, "NoSchedule") || !strcmp(s, "PreferNoSchedule") || !strcmp(s, "NoExecute");
}

/* A URL has no user information: what stands in a spec is read by many, and a browser's old way to
 * write a password misleads about where a request goes. */
static bool is_host(char c)
{
    return isalnum((unsigned char)c) || (c && strchr("-._~:[]", c));
}

/* http or https, a host, and perhaps a path of printable ASCII. */
static bool is_url(const char *s)
{
    if (strncmp(s, "http", 4) != 0)
        return false;
    s += s[4] == 's' ? 5 : 4;
    if (strncmp(s, "://", 3) != 0 || !is_host(s[3]))
        return false;
    for (s += 3; is_host(*s);)
        s++;
    if (*s && *s != '/')
        return false;
    while (*s > ' ' && *s <= '~')
        s++;
    return !*s;
}

static bool is_key(const char *s)
{
    if (*s == '.')
        return false;
    while (isalnum((unsigned char)*s) || (*s && strchr("-._", *s)))
        s++;
    return !*s;
}

const struct field_format jobspec_path_format = {is_path, "an absolute path without . or .. parts"};
const struct field_format jobspec_label_format = {is_label, "a DNS label"};
const struct field_format jobspec_job_format = {
    is_job_name, "a DNS label that begins with a letter"};
const struct field_format jobspec_subdomain_format = {is_subdomain, "a DNS subdomain"};
const struct field_format jobspec_qualified_format = {is_qualified, "a qualified name"};
const struct field_format jobspec_device_format = {
    is_device, "cpu or an extended resource such as nvidia.com/gpu"};
const struct field_format jobspec_manager_format = {is_manager, "a name such as " NAME_CONTROLLER};
const struct field_format jobspec_sha256_format = {is_sha256, "64 lower-case hexadecimal digits"};
const struct field_format jobspec_module_format = {is_module_name, "a module name such as q_proj"};
const struct field_format jobspec_operator_format = {is_operator, "Exists or Equal"};
const struct field_format jobspec_effect_format = {
    is_effect, "NoSchedule, PreferNoSchedule or NoExecute"};
const struct field_format jobspec_model_format = {is_model_name, "a model name"};
const struct field_format jobspec_url_format = {
    is_url, "a URL such as http://receiver:9095/hook, without user information"};
const struct field_format jobspec_key_format = {is_key,
    "a key of a Secret: letters, digits, \"-\", \"_\" and \".\", of which that does not begin it"};

/* -- quantities and maps -- */

/* A Kubernetes quantity that is not negative; *value in units, DBL_MAX at most. */
static bool parse_quantity(const char *s, double *value)
{
    static const struct {
        const char *suffix;
        double factor;
    } units[] = {
        {"", 1},
        {"n", 1e-9},
        {"u", 1e-6},
        {"m", 1e-3},
        {"k", 1e3},
        {"M", 1e6},
        {"G", 1e9},
        {"T", 1e12},
        {"P", 1e15},
        {"E", 1e18},
        {"Ki", 0x1p10},
        {"Mi", 0x1p20},
        {"Gi", 0x1p30},
        {"Ti", 0x1p40},
        {"Pi", 0x1p50},
        {"Ei", 0x1p60},
    };
    size_t digits = strspn(s, "0123456789"), n = digits;
    if (!digits || digits > 15)
        return false;
    if (s[n] == '.') {
        size_t decimals = strspn(s + n + 1, "0123456789");
        if (!decimals || decimals > 9)
            return false;
        n += 1 + decimals;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (!strcmp(s + n, units[i].suffix)) {
            *value = strtod(s, NULL) * units[i].factor;
            return true;
        }
    return false;
}

/* A size of at least 1 and less than 2^53 bytes, as the CRD's pattern. */
static bool is_bytes(const char *s)
{
    size_t n = strspn(s, "0123456789");
    const char *unit = s + n;
    if (*s < '1' || *s > '9')
        return false;
    if (!strcmp(unit, "T") || !strcmp(unit, "Ti"))
        return n <= 3;
    return n <= (*unit ? 6 : 15) && !strchr(unit, 'P') && !strchr(unit, 'E') &&
        !strpbrk(unit, ".num");
}

bool jobspec_bytes(const char *text, int64_t *out)
{
    double value;
    if (!is_bytes(text) || !parse_quantity(text, &value) || value > INTEGER_MAX)
        return false;
    *out = (int64_t)value;
    return true;
}

/* Text of a string, or of an integer, which Kubernetes allows in its place. */
static int text_of(const struct json *v, bool integers, struct arena *a, const char **out)
{
    double n = json_number_value(v);
    bool whole = json_is_number(v) && n >= 0 && n <= INTEGER_MAX && (double)(int64_t)n == n;
    if (!json_is_string(v) && !(whole && integers))
        return -ERR_USER;
    *out = whole ? arena_printf(a, "%lld", (long long)n) : arena_strdup(a, json_string_value(v));
    return *out ? 0 : -ERR_MEMORY;
}

/* A quantity of whole bytes, at least one. */
static int bytes_decode(
    const struct field_source *s, const char *path, const struct json *v, void *at, struct err *e)
{
    const char *text;
    int rc = text_of(v, true, s->arena, &text);
    if (rc == -ERR_MEMORY)
        return err_set(e, ERR_MEMORY, "out of memory reading %s", path);
    if (rc || !jobspec_bytes(text, at))
        return field_refuse(s, path, e, "must be a whole number of bytes such as 10Gi");
    return 0;
}

static void bytes_encode(struct jsonw *w, const char *key, const void *at)
{
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)*(const int64_t *)at);
    jsonw_str(w, key, text);
}

static bool bytes_absent(const void *at)
{
    return !*(const int64_t *)at;
}

enum map_kind { MAP_QUANTITIES, MAP_LABELS, MAP_ENVIRONMENT };

static bool map_entry_ok(enum map_kind kind, const char *key, const char *value)
{
    double unused;
    switch (kind) {
    case MAP_QUANTITIES:
        return is_qualified(key) && parse_quantity(value, &unused);
    case MAP_LABELS:
        return is_qualified(key) && (!*value || is_qualified_part(value));
    case MAP_ENVIRONMENT:
        return is_environment_name(key) && strlen(value) <= TEXT_BYTES;
    }
    return false;
}

static int map_decode(const struct field_source *s, const char *path, const struct json *v,
    struct jobspec_map *out, enum map_kind kind, struct err *e)
{
    static const char *const want[] = {"a quantity such as 500m or 2Gi", "a label value",
        "an environment variable of at most 4096 bytes"};
    if (!json_is_object(v))
        return field_refuse(s, path, e, "must be a map");
    size_t n = json_count(v);
    if (n > JOBSPEC_MAP_ENTRIES)
        return field_refuse(s, path, e, "more than %d entries", JOBSPEC_MAP_ENTRIES);
    struct jobspec_map m = {arena_array(s->arena, n + 1, sizeof(char *)),
        arena_array(s->arena, n + 1, sizeof(char *)), 0};
    if (!m.keys || !m.values)
        return err_set(e, ERR_MEMORY, "out of memory reading %s", path);
    json_each (item, v) {
        const char *key = json_key(item), *value;
        int rc = text_of(item, kind == MAP_QUANTITIES, s->arena, &value);
        if (rc == -ERR_USER || (!rc && !map_entry_ok(kind, key, value)))
            return field_refuse(s, path, e, "%.64s: must be %s", key, want[kind]);
        m.keys[m.count] = arena_strdup(s->arena, key);
        if (rc || !m.keys[m.count])
            return err_set(e, ERR_MEMORY, "out of memory reading %s", path);
        m.values[m.count++] = value;
    }
    *out = m;
    return 0;
}

static int quantities_decode(
    const struct field_source *s, const char *path, const struct json *v, void *at, struct err *e)
{
    return map_decode(s, path, v, at, MAP_QUANTITIES, e);
}

static int labels_decode(
    const struct field_source *s, const char *path, const struct json *v, void *at, struct err *e)
{
    return map_decode(s, path, v, at, MAP_LABELS, e);
}

static int environment_decode(
    const struct field_source *s, const char *path, const struct json *v, void *at, struct err *e)
{
    return map_decode(s, path, v, at, MAP_ENVIRONMENT, e);
}

static void map_encode(struct jsonw *w, const char *key, const void *at)
{
    const struct jobspec_map *m = at;
    jsonw_open(w, key, '{');
    for (int i = 0; i < m->count; i++)
        jsonw_str(w, m->keys[i], m->values[i]);
    jsonw_close(w);
}

static bool map_absent(const void *at)
{
    return !((const struct jobspec_map *)at)->count;
}

const struct field_custom jobspec_bytes_field = {
    bytes_decode, bytes_encode, bytes_absent, sizeof(int64_t)};
const struct field_custom jobspec_quantities_field = {quantities_decode, map_encode, map_absent, 0};
const struct field_custom jobspec_labels_field = {labels_decode, map_encode, map_absent, 0};
const struct field_custom jobspec_environment_field = {
    environment_decode, map_encode, map_absent, 0};
