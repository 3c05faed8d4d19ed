/*
 * evaluated: one row a figure; what a report does not have is left out.
 */
#include "cli/evaluated.h"

#include "cli/command.h"

static void print_figure(FILE *to, const struct json *report, const char *key, const char *name)
{
    const struct json *v = json_get(report, key);
    if (json_is_number(v))
        command_print(to, "%-20s %12.4f", name, json_number_value(v));
}

/* A share and its standard error, if one is known. */
static void print_share(
    FILE *to, const struct json *report, const char *key, const char *error, const char *name)
{
    const struct json *e = json_get(report, error);
    if (json_is_number(e))
        command_print(
            to, "%-20s %12.4f +- %.4f", name, json_num(report, key, 0), json_number_value(e));
    else
        print_figure(to, report, key, name);
}

/* Of labels, or averages; what else stands beside them is passed over. */
static void print_rows(FILE *to, const struct json *rows)
{
    json_each (x, rows)
        if (json_get(x, "f1-score"))
            command_print(to, "%-20s %12.4f %9.4f %9.4f %9.0f", json_key(x),
                json_num(x, "precision", 0), json_num(x, "recall", 0), json_num(x, "f1-score", 0),
                json_num(x, "support", 0));
}

static void print_labels(FILE *to, const struct json *report)
{
    const struct json *classes = json_get(report, "classes");
    const struct json *entities = json_path(report, "entities.lenient");
    command_print(to, "%-20s %12s %9s %9s %9s", "", "precision", "recall", "f1-score", "support");
    print_rows(to, json_get(classes, "labels"));
    print_rows(to, classes);
    print_rows(to, entities);
    print_figure(to, classes ? classes : json_get(report, "entities"), "accuracy", "accuracy");
    print_figure(to, classes, "rocAuc", "ROC AUC");
}

void evaluated_print(FILE *to, const struct json *report, const char *path)
{
    if (json_get(report, "classes") || json_get(report, "entities"))
        print_labels(to, report);
    print_share(to, report, "accuracy", "accuracyStandardError", "accuracy");
    print_share(to, report, "accuracyNorm", "accuracyNormStandardError", "accuracy, normed");
    print_figure(to, report, "loss", "loss");
    print_figure(to, report, "perplexity", "perplexity");
    print_figure(to, report, "bitsPerByte", "bits per byte");
    command_print(to, "by %s", path);
}
