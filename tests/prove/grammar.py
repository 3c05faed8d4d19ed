"""Random JSON schemas, and whether every answer that their grammars allow satisfies them.

    grammar.py WALKS SCHEMAS TEXTS SEED

Hypothesis draws schemas, with leaves that hypothesis-jsonschema draws from a schema of schemas, of
what runtime/grammar/schema.h supports and of some that it does not. The program WALKS (walks.c) compiles each and draws TEXTS
answers; jsonschema validates them. Until SCHEMAS were taken; what is refused is counted, and must
be refused by a path, as must be whatever is not supported.
"""

import json
import subprocess
import sys
import time
import warnings

import hypothesis
import jsonschema
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis_jsonschema import from_schema

warnings.simplefilter("ignore")
SMALL = {"type": "integer", "minimum": 0, "maximum": 4}
NUMBER = {"type": "integer", "minimum": -2000, "maximum": 2000}
SCALAR = {"enum": ["a", "ab", "é\n", "", "\"q\\", 0, 1, -3, 2.5, 1e-7, 10**20, True, False, None, [], [1, "x"], {"k": {}}]}
NAMES = ["a", "ab", "b", "c", "é", "x\"y", "a b"]
PATTERNS = ["^a*$", "b+", "^[^x-z]{1,3}$", "^(ab|c)?d$", "^\\d{2,4}-\\w$", "^\\S\\s\\D$", "a|^b$", "^.{0,5}$",
            "^(x(y|z){2})+$", "[\\u00e0-\\u00ff]", "^\\x41\\.\\/$", ""]


def some(**properties):
    return {"type": "object", "properties": properties, "required": list(properties),
            "additionalProperties": False}


def maybe(needed, /, **properties):
    return some(**properties) | {"required": needed}


def const(*values):
    return {"enum": list(values)}


LEAF = from_schema({"anyOf": [
    maybe(["type"], type=const("integer"), minimum=NUMBER, maximum=NUMBER),
    maybe(["type"], type=const("integer"), exclusiveMinimum=NUMBER, exclusiveMaximum=NUMBER),
    maybe(["type"], type=const("number"), minimum=NUMBER, maximum=NUMBER),
    maybe(["type"], type=const("string"), minLength=SMALL, maxLength={"type": "integer", "minimum": 2, "maximum": 9}),
    some(type=const("string"), pattern={"enum": PATTERNS}),
    some(type=const("string"), format=const("date", "time", "date-time", "uuid", "ipv4", "email")),
    maybe(["enum"], enum={"type": "array", "items": SCALAR, "minItems": 1, "maxItems": 5},
          type=const("string", "integer", "number", "object")),
    some(const=SCALAR),
    some(type=const("null", "boolean", "string", "object", "array", ["string", "null"], ["integer", "array"])),
]})
ODD = st.sampled_from([True, {}, {"title": "t", "default": 5}, {"x-y": 1}, {"uniqueItems": True, "type": "array"}, {"not": {}},
                       {"$ref": "#"}, {"$ref": "#/$defs/list"}, {"$ref": "#/$defs/none"}])


def larger(inner):
    """Schemas of schemas: two of three are closed objects, as clients send them."""
    few = st.lists(inner, min_size=1, max_size=3)
    names = st.lists(st.sampled_from(NAMES[:5]), max_size=3, unique=True)
    properties = st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=4)
    counts = {"minItems": st.integers(0, 3), "maxItems": st.integers(1, 6)}
    kind = st.just
    return st.one_of(
        st.builds(lambda p, n: {"type": "object", "properties": p, "required": [x for x in p if x in NAMES[:n]],
                                "additionalProperties": False}, properties, st.integers(0, len(NAMES))),
        st.fixed_dictionaries({"type": kind("object"), "properties": properties}, optional={
            "required": names, "additionalProperties": st.one_of(st.booleans(), inner)}),
        st.fixed_dictionaries({"type": kind("object"), "additionalProperties": inner}),
        st.fixed_dictionaries({"type": kind("array"), "items": inner}, optional=counts),
        st.fixed_dictionaries({"prefixItems": few}, optional={"items": st.one_of(st.booleans(), inner)} | counts),
        st.fixed_dictionaries({"anyOf": few}, optional={"description": kind("any"), "type": kind("object")}),
        st.fixed_dictionaries({"oneOf": few}),
        st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)}),
    )


SCHEMAS = st.recursive(st.one_of(LEAF, LEAF, LEAF, LEAF, LEAF, ODD), larger, max_leaves=8)
# What each drawn schema may refer to.
DEFS = {"list": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"anyOf": [
    {"$ref": "#/$defs/list"}, {"type": "null"}]}}, "required": ["v", "next"], "additionalProperties": False}}


def draw(count, start):
    """So many schemas, each once."""
    found = {}

    @seed(start)
    @settings(max_examples=count, phases=[Phase.generate], database=None, deadline=None,
              suppress_health_check=list(hypothesis.HealthCheck))
    @given(SCHEMAS)
    def take(schema):
        if isinstance(schema, dict) and len(found) < count:
            schema = schema | {"$defs": DEFS}
            found.setdefault(json.dumps(schema, sort_keys=True), schema)

    take()
    return list(found.values())


def main(walks, wanted, texts, start):
    taken = refused = answers = bad = 0
    slowest, reasons = 0, {}
    while taken < wanted:
        schemas = draw(wanted, start)
        began = time.monotonic()
        lines = "".join(json.dumps(s) + "\n" for s in schemas)
        out = subprocess.run([walks, str(texts), str(start)], input=lines, capture_output=True, text=True, timeout=3000)
        if out.returncode:
            print(out.stderr)
            return 1
        slowest = max(slowest, (time.monotonic() - began) / len(schemas))
        for schema, line in zip(schemas, out.stdout.rstrip("\n").split("\n"), strict=True):
            said = json.loads(line)
            if "refused" in said:
                refused += 1
                why = said["refused"].split(": ")[-1]
                reasons[why] = reasons.get(why, 0) + 1
                continue
            taken += 1
            jsonschema.Draft202012Validator.check_schema(schema)
            validator = jsonschema.Draft202012Validator(schema)
            for text in said["texts"]:
                answers += 1
                value = json.loads(text)
                try:
                    validator.validate(value)
                except jsonschema.ValidationError as e:
                    bad += 1
                    print(f"FAILED: {json.dumps(schema)} allows {text[:300]}: {e.message[:200]}")
        start += 1
    for why, n in sorted(reasons.items(), key=lambda x: -x[1])[:12]:
        print(f"refused {n} times: {why}")
    print(f"{taken} schemas taken, {refused} refused; {answers} answers, {bad} that do not satisfy their schema; "
          f"{1000 * slowest:.1f} ms a schema with its answers")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *(int(x) for x in sys.argv[2:5])))
