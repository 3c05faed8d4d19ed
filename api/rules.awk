# The rules of manifests/crd.yaml that api/rules.c checks jobs by, as rows of a C table: where, the rule, the member that
# it names, the sentence. Left out are rules of changes (oldSelf), which only the API server sees, and those of what a
# text or map looks like (matches, map), which api/jobspec_text has. Of a list whose items are told apart by a member,
# or are texts that differ, a row without a rule.
function fail(why) { printf "%s:%d: %s\n", FILENAME, FNR, why >"/dev/stderr"; failed = 1; exit 1 }

# The text of a scalar as a C string.
function quoted(s) {
	if (s ~ /^".*"$/) return s
	if (s ~ /^['&*|>[{]/) fail("a rule, fieldPath or message in plain text or double quotes is expected")
	gsub(/\\/, "\\\\", s)
	gsub(/"/, "\\\"", s)
	return "\"" s "\""
}

# Names of the properties that the line is below, from those of the schema on; [] for the items of a list.
function place(  path, i) {
	path = ""
	for (i = 1; i <= depth; i++) {
		if (key[i] == "properties" && i < depth) path = path (path == "" ? "" : ".") key[++i]
		else if (key[i] == "items") path = path "[]"
	}
	return path
}

function flush() {
	if (rule == "") return
	if (message == "") fail("a rule without a message")
	if (rule !~ /oldSelf|matches\(|\.map\(/) printf "{\"%s\", %s, %s, %s},\n", where, rule, field == "" ? "\"\"" : field, message
	rule = field = message = ""
}

{
	match($0, /^ */)
	indent = RLENGTH
	line = substr($0, indent + 1)
}
line == "" || line ~ /^#/ { next }
line ~ /^- \{rule: / { if (line !~ /oldSelf/) fail("a rule on lines of its own is expected"); next }
line ~ /^- rule: / { flush(); where = place(); rule = quoted(substr(line, 9)); within = indent; next }
rule != "" && indent == within + 2 && line ~ /^fieldPath: / { field = quoted(substr(line, 12)); next }
rule != "" && indent == within + 2 && line ~ /^message: / { message = quoted(substr(line, 10)); next }
rule != "" && indent == within + 2 && line ~ /^reason: / { next }
{ flush() }
line ~ /^[A-Za-z0-9_$-]+:/ {
	while (depth && at[depth] >= indent) depth--
	depth++
	at[depth] = indent
	key[depth] = substr(line, 1, index(line, ":") - 1)
	if (key[depth] == "x-kubernetes-list-map-keys") {
		name = line
		gsub(/.*\[|\].*/, "", name)
		if (place() ~ /^spec/) printf "{\"%s\", NULL, \"%s\", \"%ss must differ from one another\"},\n", place(), name, name
	}
}
END { if (!failed) flush() }
