/*
 * name: see name.h. Of aarch64 the kernel tells "CPU implementer" and "CPU part", as lscpu reads
 * them, and no "model name".
 */
#include "kernels/cpu/name.h"

#include <string.h>

/* What stands behind the colon of a line that begins with `key`, or NULL. */
static const char *cpu_line_value(const char *line, const char *key)
{
    const char *colon = strchr(line, ':');
    return !strncmp(line, key, strlen(key)) && colon && colon[1] ? colon + 2 : NULL;
}

void cpu_name_of(FILE *f, char *out, size_t size)
{
    char line[256], maker[16] = "";
    const char *value;
    snprintf(out, size, "unknown processor");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        if ((value = cpu_line_value(line, "model name"))) {
            snprintf(out, size, "%s", value);
            return;
        }
        if ((value = cpu_line_value(line, "CPU implementer")))
            snprintf(maker, sizeof maker, "%s", value);
        if (*maker && (value = cpu_line_value(line, "CPU part"))) {
            snprintf(out, size, "aarch64 (implementer %s, part %s)", maker, value);
            return;
        }
    }
}
