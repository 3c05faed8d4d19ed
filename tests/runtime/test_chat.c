/*
 * Goal: a conversation renders to the same text as jinja2 gives, with the templates of published
 * models and with one for each construct; what jinja2 refuses is refused. Method: golden renders;
 * malformed messages; templates that never end.
 */
#include "runtime/chat.h"

#include "runtime/weights.h"
#include "tests/runtime/golden.h"
#include "tests/unit.h"

static struct chat *open_group(const struct json *group)
{
	struct chat *c = NULL;
	struct err e = {0};
	const char *model = json_str(group, "model", NULL);
	char path[1024];
	int rc;
	if (!model) {
		rc = chat_parse(json_str(group, "template", ""), json_str(group, "bos", NULL),
				json_str(group, "eos", NULL), &c, &e);
	} else if (!golden_fetch(model, path)) {
		return NULL;
	} else if (strstr(path, ".gguf")) {
		struct weights *w = NULL;
		ck_assert_msg(weights_open(path, NULL, &w, &e) == 0, "%s", e.text);
		rc = chat_open(w, &c, &e);
		weights_close(w);
	} else {
		rc = chat_open_folder(path, &c, &e);
	}
	ck_assert_msg(rc == 0, "%s: %s", model ? model : json_str(group, "template", ""), e.text);
	return c;
}

static void check_case(struct chat *c, const struct json *group, const struct json *v)
{
	buf_auto struct buf out;
	buf_init(&out, 1 << 20);
	buf_str(&out, "before ");
	struct err e = {0};
	int rc = chat_render(c, json_get(v, "messages"),
			     json_bool(v, "add_generation_prompt", false), &out, &e);
	const char *want = json_str(v, "text", NULL), *name = json_str(group, "template", "");
	if (!want) {
		int code = json_bool(v, "raised", false) ? -ERR_USER : -ERR_DATA;
		ck_assert_msg(rc == code, "%s: %d, expected %d (%s): %s", name, rc, code,
			      json_str(v, "error", ""), e.text);
		ck_assert_str_eq(out.data, "before "); /* nothing is appended */
		if (code == -ERR_USER)
			ck_assert_str_eq(e.text, json_str(v, "error", ""));
		return;
	}
	ck_assert_msg(rc == 0, "%s: %s", name, e.text);
	ck_assert_msg(!strcmp(out.data + 7, want), "%s: got\n%s\nexpected\n%s", name, out.data + 7,
		      want);
}

START_TEST(renders_equal_jinja2)
{
	json_auto struct json *groups = golden_json(GOLDEN "chat.json");
	int cases = 0;
	json_each (group, groups) {
		struct chat *c = open_group(group);
		json_each (v, c ? json_get(group, "cases") : NULL) {
			check_case(c, group, v);
			cases++;
		}
		chat_close(c);
	}
	printf("%d renders\n", cases);
	ck_assert_int_ge(cases, 80);
}
END_TEST

static int render_text(const char *template, const char *messages, struct buf *out, struct err *e)
{
	struct chat *c = NULL;
	struct json *m = NULL;
	int rc = chat_parse(template, NULL, NULL, &c, e);
	if (!rc)
		rc = json_parse(messages, strlen(messages), &m, e);
	if (!rc)
		rc = chat_render(c, m, true, out, e);
	json_destroy(m);
	chat_close(c);
	return rc;
}

START_TEST(malformed_messages_are_the_clients_error)
{
	static const char *const bad[][2] = {
		{"{}", "messages"},
		{"[]", "messages"},
		{"[1]", "messages[0]"},
		{"[{\"content\":\"x\"}]", "messages[0].role"},
		{"[{\"role\":1,\"content\":\"x\"}]", "messages[0].role"},
		{"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"user\"}]",
		 "messages[1].content"},
		{"[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]",
		 "messages[0].content"},
	};
	buf_auto struct buf out;
	buf_init(&out, 1000);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct err e = {0};
		ck_assert_int_eq(render_text("{{ messages[0].content }}", bad[i][0], &out, &e),
				 -ERR_USER);
		ck_assert_msg(!strncmp(e.text, bad[i][1], strlen(bad[i][1])), "%s", e.text);
	}
}
END_TEST

START_TEST(text_parts_are_joined)
{
	buf_auto struct buf out;
	buf_init(&out, 1000);
	struct err e = {0};
	ck_assert_int_eq(
		render_text("{{ messages[0].content }}",
			    "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
			    "{\"type\":\"text\",\"text\":\"b\"}]}]",
			    &out, &e),
		0);
	ck_assert_str_eq(buf_cstr(&out), "ab");
}
END_TEST

START_TEST(work_and_output_are_bounded)
{
	const char *messages = "[{\"role\":\"user\",\"content\":\"x\"}]";
	buf_auto struct buf out;
	buf_init(&out, 1000);
	struct err e = {0};
	ck_assert_int_eq(render_text("{% for i in range(90000) %}{% for j in range(90000) %}"
				     "{% endfor %}{% endfor %}",
				     messages, &out, &e),
			 -ERR_MEMORY);
	ck_assert_int_eq(
		render_text("{% for i in range(9000) %}long{% endfor %}", messages, &out, &e),
		-ERR_USER);
	ck_assert_int_eq(render_text("{{ range(1000000000) }}", messages, &out, &e), -ERR_DATA);
}
END_TEST

static int open_and_render(void *user)
{
	(void)user;
	buf_auto struct buf out;
	buf_init(&out, 1000);
	struct err e = {0};
	int rc = render_text(
		"{% for m in messages %}{{ m.role + ': ' + m.content|trim }}{% endfor %}",
		"[{\"role\":\"user\",\"content\":\" x \"}]", &out, &e);
	if (!rc)
		ck_assert_str_eq(buf_cstr(&out), "user: x");
	return rc;
}

START_TEST(failed_allocations_are_reported)
{
	fault_each(FAULT_MEM, open_and_render, NULL);
}
END_TEST

UNIT_MAIN("chat", renders_equal_jinja2, malformed_messages_are_the_clients_error,
	  text_parts_are_joined, work_and_output_are_bounded, failed_allocations_are_reported)
