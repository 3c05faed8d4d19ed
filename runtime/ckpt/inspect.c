/*
 * ckpt_inspect: by the same functions as a training reads with, so that what is said to be whole
 * can be gone on from. A generation that a training removes meanwhile is passed over.
 */
#include "runtime/ckpt/inspect.h"

#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/utf8.h"
#include "runtime/ckpt/folder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

static void print(FILE *out, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void print(FILE *out, const char *fmt, ...)
{
    char text[2 * LIMIT_PATH_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    utf8_print(out, text);
    fputc('\n', out);
}

static int check_folder(const char *path, struct err *e)
{
    struct stat st;
    if (stat(path, &st))
        return err_sys(e, ERR_USER, errno, "%s", path);
    return S_ISDIR(st.st_mode) ? 0 : err_set(e, ERR_USER, "%s is no folder", path);
}

/* -- listing -- */

static int64_t size_of(const struct ckpt_manifest *m)
{
    int64_t bytes = 0;
    for (int i = 0; i < m->file_count && bytes <= NUMBER_EXACT; i++)
        bytes += m->files[i].bytes;
    return bytes;
}

static void format_size(int64_t bytes, char out[24])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double n = (double)bytes;
    int unit = 0;
    for (; n >= 1024 && unit < 5; unit++)
        n /= 1024;
    snprintf(out, 24, "%.*f %s", unit && n < 100, n, units[unit]);
}

/* What it was trained from, and how; of version 1 nothing is known. */
static void print_whole(
    FILE *out, const struct ckpt_manifest *m, int64_t written_ms, const char *state)
{
    const struct ckpt_state *s = &m->state;
    char size[24], time[32], world[64], from[CKPT_SOURCE_BYTES + 40];
    json_auto struct json *identity = NULL;
    if (json_parse(s->identity, strlen(s->identity), &identity, NULL))
        identity = NULL;
    const char *method = json_str(identity, "spec.train.method", "");
    const char *source = *s->source ? s->source : json_str(identity, "spec.model.source", "");
    format_size(size_of(m), size);
    clock_format(s->written_ms ? s->written_ms : written_ms, time, sizeof time);
    snprintf(world, sizeof world, "%d%s%s%s", s->world, *s->layout ? " (" : "", s->layout,
        *s->layout ? ")" : "");
    snprintf(from, sizeof from, "%s%s%s", method, *method && *source ? " of " : "", source);
    print(out, "%8" PRId64 "  %-20s  %10s  %-12s  %-9s  %-8s  %s", s->step, time, size, world,
        json_str(identity, "spec.precision", "-"), state, *from ? from : "-");
}

/* Its manifest's time of change, of versions that do not say it. */
static int64_t time_of(const char *manifest)
{
    struct stat st;
    return stat(manifest, &st) ? 0 : (int64_t)st.st_mtime * 1000;
}

static int list_one(const char *path, const struct ckpt_folder_entry *x, FILE *out, struct err *e)
{
    char manifest[LIMIT_PATH_BYTES];
    struct ckpt_manifest m;
    struct ckpt_reader *r = NULL;
    struct ckpt_state ignored;
    struct err why = {0};
    int rc = ckpt_folder_path(manifest, e, "%s/%s/manifest.json", path, x->name);
    if (rc)
        return rc;
    if (!x->aside && !io_exists(manifest)) {
        print(out, "%8" PRId64 "  unfinished: it has no manifest", x->step);
        return 0;
    }
    rc = ckpt_manifest_read(manifest, &m, &why);
    if (rc == -ERR_MEMORY) {
        *e = why;
        return rc;
    }
    if (rc) {
        print(out, "%8" PRId64 "  damaged: %s", x->step, why.text);
        return 0;
    }
    if (!x->aside)
        rc = ckpt_open_step(path, x->step, CKPT_HEADERS, &r, &ignored, &why);
    ckpt_close(r);
    print_whole(out, &m, time_of(manifest), x->aside || rc ? "damaged" : "complete");
    ckpt_manifest_done(&m);
    if (x->aside)
        print(out, "%8s  set aside as %s", "", x->name);
    else if (rc)
        print(out, "%8s  %s", "", why.text);
    return rc == -ERR_MEMORY ? err_set(e, ERR_MEMORY, "%s", why.text) : 0;
}

/* Of this nothing goes by itself. */
static int print_aside(const char *path, FILE *out, struct err *e)
{
    char size[24];
    int64_t bytes = 0;
    int count = 0, rc = ckpt_folder_aside(path, &count, &bytes, e);
    if (rc || !count)
        return rc;
    format_size(bytes, size);
    print(out, "%d folder%s set aside, %s: nothing removes %s but you", count,
        count == 1 ? "" : "s", size, count == 1 ? "it" : "them");
    return 0;
}

int ckpt_inspect_list(const char *path, FILE *out, struct err *e)
{
    mem_autofree struct ckpt_folder_entry *all = NULL;
    int count = 0, rc;
    if ((rc = check_folder(path, e)) || (rc = ckpt_folder_all(path, &all, &count, e)))
        return rc;
    if (!count) {
        print(out, "%s holds no checkpoint", path);
        return 0;
    }
    print(out, "%8s  %-20s  %10s  %-12s  %-9s  %-8s  %s", "STEP", "WRITTEN", "SIZE", "WORLD",
        "PRECISION", "STATE", "TRAINED FROM");
    for (int i = 0; i < count && !rc; i++)
        rc = list_one(path, &all[i], out, e);
    return rc ? rc : print_aside(path, out, e);
}

/* -- verifying -- */

/* The files that are not as written: how many, and what is wrong with the first. */
struct ckpt_damage {
    int bad;
    struct err first;
};

static void note_damage(struct ckpt_damage *f, int64_t step, FILE *out, const struct err *why)
{
    print(out, "step %" PRId64 ": damaged: %s", step, why->text);
    if (!f->bad++)
        f->first = *why;
}

static int verify_files(const char *folder, const struct ckpt_manifest *m, int64_t step,
    struct ckpt_damage *f, FILE *out)
{
    int bad = 0;
    for (int i = 0; i < m->file_count; i++) {
        struct err why = {0};
        if (!ckpt_folder_check(folder, &m->files[i], true, &why))
            continue;
        note_damage(f, step, out, &why);
        bad++;
    }
    return bad;
}

static int verify_step(
    const char *path, int64_t step, struct ckpt_damage *f, FILE *out, struct err *e)
{
    char folder[LIMIT_PATH_BYTES], manifest[LIMIT_PATH_BYTES], size[24];
    struct ckpt_manifest m;
    struct ckpt_reader *r = NULL;
    struct ckpt_state ignored;
    struct err why = {0};
    int rc;
    if ((rc = ckpt_folder_step(path, step, folder, e)) ||
        (rc = ckpt_folder_manifest(path, step, manifest, e)))
        return rc;
    if (ckpt_manifest_read(manifest, &m, &why)) {
        note_damage(f, step, out, &why);
        return 0;
    }
    if (!verify_files(folder, &m, step, f, out)) {
        if (ckpt_open_step(path, step, CKPT_HEADERS, &r, &ignored, &why)) {
            note_damage(f, step, out, &why);
        } else {
            format_size(size_of(&m), size);
            print(out, "step %" PRId64 ": whole: %d file%s, %s", step, m.file_count,
                m.file_count == 1 ? "" : "s", size);
        }
        ckpt_close(r);
    }
    ckpt_manifest_done(&m);
    return 0;
}

int ckpt_inspect_verify(const char *path, int64_t step, FILE *out, struct err *e)
{
    mem_autofree int64_t *steps = NULL;
    struct ckpt_damage f = {0};
    int count = 0, looked = 0, rc;
    if ((rc = check_folder(path, e)) || (rc = ckpt_folder_list(path, &steps, &count, e)))
        return rc;
    for (int i = 0; i < count; i++) {
        bool committed = false;
        if (step >= 0 && steps[i] != step)
            continue;
        if ((rc = ckpt_folder_committed(path, steps[i], &committed, e)) ||
            (committed && (rc = verify_step(path, steps[i], &f, out, e))))
            return rc;
        looked += committed;
    }
    if (!looked && step >= 0)
        return err_set(e, ERR_USER, "%s holds no checkpoint of step %" PRId64, path, step);
    if (!looked)
        return err_set(e, ERR_USER, "%s holds no checkpoint", path);
    return f.bad ? err_set(e, ERR_CORRUPT, "%s", f.first.text) : 0;
}

/* -- by name -- */

int ckpt_inspect_run(int argc, char **argv, FILE *out, struct err *e)
{
    int64_t step = -1;
    if (argc == 2 && !strcmp(argv[0], "ls"))
        return ckpt_inspect_list(argv[1], out, e);
    if (argc < 2 || argc > 3 || strcmp(argv[0], "verify") != 0)
        return err_set(e, ERR_USER, "ls PATH, or verify PATH [STEP], is expected");
    if (argc == 3 && !number_whole(argv[2], strlen(argv[2]), NUMBER_EXACT, &step))
        return err_set(e, ERR_USER, "%.40s is no step", argv[2]);
    return ckpt_inspect_verify(argv[1], step, out, e);
}
