/*
 * schema: a JSON schema (2020-12) becomes a rule of an automaton, whose texts are values that
 * satisfy it. Not all of those that do: properties stand in the order in which they are declared,
 * spaces and digits are bounded, and where the schema leaves open what else may stand in an object
 * or array that it describes, nothing does.
 *
 * Supported: type, enum, const; properties, required, additionalProperties, minProperties and
 * maxProperties where they change nothing; items, prefixItems, minItems, maxItems; minLength,
 * maxLength, pattern (pattern.h), format (date, time, date-time, uuid, ipv4; another is an
 * annotation); minimum, maximum and of whole numbers exclusiveMinimum, exclusiveMaximum; anyOf,
 * oneOf whose branches exclude one another, allOf and $ref beside other keywords where one object
 * says what a property is; $ref within the schema, $defs. Annotations are ignored. Whatever else
 * there is is refused by its path, and so is a schema that no value, or none that may be written,
 * can satisfy.
 */
#ifndef RUNTIME_GRAMMAR_SCHEMA_H
#define RUNTIME_GRAMMAR_SCHEMA_H

#include "base/json.h"
#include "runtime/grammar/automaton.h"

#define SCHEMA_PATH       128
#define SCHEMA_PROPERTIES 1000  /* of an object */
#define SCHEMA_VALUES     4096  /* of an enum */
#define SCHEMA_DEPTH      128   /* of schemas in schemas, references followed */
#define SCHEMA_WORK       20000 /* schemas looked at, each combination of branches counted */

/* Adds a rule for the schema to a; name: what paths begin with. -ERR_USER: it is refused, *e names
   the path, which stands in `path`, too. What is too large shows in automaton_finish. */
int schema_rule(struct automaton *a, const struct json *schema, const char *name, int32_t *rule,
    char path[SCHEMA_PATH], struct err *e);
/* A rule for any object: {"type": "object"}. */
int schema_object(struct automaton *a, int32_t *rule, struct err *e);

#endif
