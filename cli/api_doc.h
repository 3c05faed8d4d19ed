/*
 * api_doc: the reference of a CustomResourceDefinition as Markdown: a table row a field, made from
 * the schema's descriptions, types, defaults and bounds, and the rules that cross fields.
 * docs/api.md is its output for manifests/crd.yaml; tests/cli/test_api_doc.c holds the two
 * together.
 */
#ifndef CLI_API_DOC_H
#define CLI_API_DOC_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

int api_doc_render(const struct json *crd, struct buf *out, struct err *e);

#endif
