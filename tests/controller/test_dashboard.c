/*
 * Goal: probes tell whether the loop turns and the caches are complete; metrics are printed; other
 * paths are not there. Method: the real server on any port, asked by base/http.
 */
#include "controller/dashboard.h"

#include "base/http.h"
#include "tests/unit.h"

#include <stdio.h>
#include <string.h>

static int get(struct dashboard *d, const char *method, const char *path, struct buf *out)
{
	char url[128];
	struct err e = {0};
	snprintf(url, sizeof url, "http://127.0.0.1:%d%s", dashboard_port(d), path);
	const struct http_conf conf = {0};
	const struct http_request r = {.method = method, .url = url, .timeout_ms = 5000};
	buf_reset(out);
	int status = http_once(&conf, &r, out, &e);
	ck_assert_msg(status > 0, "%s", e.text);
	return status;
}

START_TEST(probes_tell_the_truth)
{
	struct dashboard *d = NULL;
	struct err e = {0};
	buf_auto struct buf out;
	buf_init(&out, 1 << 20);
	ck_assert_msg(!dashboard_start("127.0.0.1:0", &d, &e), "%s", e.text);
	ck_assert_int_eq(get(d, "GET", "/healthz", &out), 200);
	ck_assert_int_eq(get(d, "GET", "/readyz", &out), 503);
	dashboard_beat(d, true);
	ck_assert_int_eq(get(d, "GET", "/readyz", &out), 200);
	ck_assert_int_eq(get(d, "GET", "/metrics", &out), 200);
	ck_assert_int_eq(get(d, "GET", "/else", &out), 404);
	ck_assert_int_eq(get(d, "DELETE", "/healthz", &out), 405);
	dashboard_stop(d);
}
END_TEST

START_TEST(addresses_that_are_none_are_refused)
{
	static const char *const bad[] = {"", "8080", "a:", "a:b", "a:70000", "a:-1"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct dashboard *d = NULL;
		struct err e;
		ck_assert_int_eq(dashboard_start(bad[i], &d, &e), -ERR_USER);
		ck_assert_ptr_null(d);
	}
	dashboard_stop(NULL);
}
END_TEST

UNIT_MAIN("dashboard", probes_tell_the_truth, addresses_that_are_none_are_refused)
