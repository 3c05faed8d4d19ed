/*
 * monitor_keep: one file, {"alerts", "source", "told"}, which is replaced as a whole. A lock beside
 * it says who may: in a roll-out two pods have the same folder for a while.
 */
#include "agent/monitor_internal.h"

#include "base/io.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#define KEEP_FILE  "monitor.json"
#define LOCK_FILE  "monitor.lock"
#define KEEP_BYTES (1 << 20)
#define KEEP_MS    1000

void monitor_keep_init(struct monitor *m, const char *run_dir)
{
    const char *folder = m->spec->serve.classify.state ? m->spec->serve.classify.state : run_dir;
    snprintf(m->keep_file, sizeof m->keep_file, "%s/" KEEP_FILE, folder);
    snprintf(m->lock_file, sizeof m->lock_file, "%s/" LOCK_FILE, folder);
}

static void write_state(const struct monitor *m, struct buf *out)
{
    struct jsonw w;
    jsonw_init(&w, out);
    jsonw_open(&w, NULL, '{');
    jsonw_open(&w, "alerts", '{');
    alerts_write(m->alerts, &w);
    jsonw_close(&w);
    jsonw_open(&w, "source", '{');
    if (m->follow)
        follow_write(m->follow, &w);
    jsonw_close(&w);
    jsonw_open(&w, "told", '{'); /* to webhooks */
    for (int i = 0; i < m->spec->serve.classify.alert_count; i++)
        jsonw_int(&w, m->spec->serve.classify.alerts[i].name, hooks_view(m->hooks, i).told_ms);
    jsonw_close(&w);
    jsonw_close(&w);
    jsonw_end(&w);
}

static void keep(struct monitor *m)
{
    buf_auto struct buf out;
    struct err e = {0};
    buf_init(&out, KEEP_BYTES);
    write_state(m, &out);
    int rc = buf_ok(&out) ? io_write_file(m->keep_file, out.data, out.len, 0600, &e)
                          : err_set(&e, ERR_MEMORY, "out of memory");
    if (rc && !m->keep_fails)
        log_warn("what is watched is not kept", LOG_ERR(&e));
    m->keep_fails = rc;
    m->changed = false;
    m->keep_due_ms = m->now_ms + KEEP_MS;
}

/* Of what was told to nobody yet webhooks hear now. */
static void take_up(struct monitor *m)
{
    json_auto struct json *v = NULL;
    struct err e = {0};
    if (!io_exists(m->keep_file))
        return;
    if (json_read_file(m->keep_file, KEEP_BYTES, &v, &e)) {
        log_warn("what was watched is forgotten", LOG_ERR(&e));
        return;
    }
    if (!alerts_read(m->alerts, json_get(v, "alerts")))
        log_info("alerts that were changed, or not kept, begin anew");
    m->said_ms = alerts_now_ms(m->alerts);
    m->heard_ms = m->now_ms;
    if (m->follow)
        follow_read(m->follow, json_get(v, "source"));
    for (int i = 0; i < m->spec->serve.classify.alert_count; i++) {
        struct alerts_change c;
        const char *name = m->spec->serve.classify.alerts[i].name;
        if (alerts_last_change(m->alerts, i, &c) && c.ms > json_int(json_get(v, "told"), name, -1))
            hooks_add(m->hooks, &c, m->now_ms);
    }
}

static int take_lock(struct monitor *m, struct err *e)
{
    char folder[LIMIT_PATH_BYTES];
    snprintf(folder, sizeof folder, "%s", m->lock_file);
    *strrchr(folder, '/') = 0;
    int rc = io_mkdirs(folder, 0700, e);
    if (rc)
        return rc;
    int fd = open(m->lock_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(e, ERR_RETRY, errno, "opening %s", m->lock_file);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        rc = err_sys(e, ERR_RETRY, errno, "%s: another has it", m->lock_file);
        io_close(fd);
        return rc;
    }
    m->lock = fd;
    return 0;
}

void monitor_keep_tick(struct monitor *m)
{
    struct err e = {0};
    if (m->lock >= 0) {
        if (m->changed && m->now_ms >= m->keep_due_ms)
            keep(m);
        return;
    }
    if (m->now_ms < m->lock_due_ms)
        return;
    if (take_lock(m, &e)) {
        if (!m->lock_due_ms)
            log_warn("what is watched waits for its state", LOG_ERR(&e));
        m->lock_due_ms = m->now_ms + KEEP_MS;
        return;
    }
    take_up(m);
}

void monitor_keep_end(struct monitor *m)
{
    if (m->lock >= 0 && m->changed)
        keep(m);
    io_close(m->lock);
}
