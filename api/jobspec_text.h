/*
 * jobspec_text: formats of a spec's strings, and its fields that are no plain value, for the tables
 * of jobspec.c.
 */
#ifndef API_JOBSPEC_TEXT_H
#define API_JOBSPEC_TEXT_H

#include "base/field.h"

#define INTEGER_MAX 9007199254740991.0 /* the greatest that JSON carries exactly */
#define TEXT_BYTES  4096

extern const struct field_format jobspec_path_format, jobspec_label_format, jobspec_job_format,
    jobspec_subdomain_format, jobspec_qualified_format, jobspec_device_format,
    jobspec_manager_format, jobspec_sha256_format, jobspec_module_format, jobspec_operator_format,
    jobspec_effect_format, jobspec_model_format, jobspec_url_format, jobspec_key_format;
/* Bytes: an int64_t. The others: a struct jobspec_map. */
extern const struct field_custom jobspec_bytes_field, jobspec_quantities_field,
    jobspec_labels_field, jobspec_environment_field;
/* Whole bytes, at least one and less than 2^53: "10Gi". False: it is something else. */
bool jobspec_bytes(const char *text, int64_t *out);

#endif
