/*
 * dev: the registry of device kinds.
 *
 * A kind is looked up first among the linked drivers (kernels/cpu/cpu.c), then as a plugin,
 * lib`llmjob-<kind>.so`, beside the program or in NAME_LIB_DIR; the first file that exists is the
 * one, whether it loads or not. A plugin is never unloaded: what it links (CUDA, NCCL) leaves
 * threads and exit handlers behind. Every entry of a driver's operation table must be filled: a
 * missing operation is an error here, never a silent fall-back later. This file knows no device and
 * computes nothing.
 */
#include "kernels/dev.h"

#include "api/names.h"
#include "kernels/cpu/cpu.h"
#include "kernels/driver.h"
#include "kernels/ops.h"

#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

static int dev_check_table(const struct driver *r, const struct ops *ops, struct err *e)
{
#define DEV_CHECK(name, args) \
    if (!ops->name) \
        return err_set(e, ERR_DEVICE, "device kind %s lacks the operation " #name, r->kind);
    LLMJOB_OPS(DEV_CHECK)
#undef DEV_CHECK
    return 0;
}

/* Puts <folder>/libllmjob-<kind>.so into path; false when there is no such file. */
static bool dev_plugin_at(const char *folder, const char *kind, char *path, size_t size)
{
    int n = snprintf(path, size, "%s/libllmjob-%s.so", folder, kind);
    return n > 0 && (size_t)n < size && !access(path, F_OK);
}

static bool dev_plugin_find(const char *kind, char *path, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) {
        *slash = 0;
        if (dev_plugin_at(self, kind, path, size))
            return true;
    }
    return dev_plugin_at(NAME_LIB_DIR, kind, path, size);
}

static int dev_open_plugin(
    const char *kind, int index, int threads, struct dev **out, struct err *e)
{
    char path[PATH_MAX];
    if (!dev_plugin_find(kind, path, sizeof path))
        return err_set(e, ERR_DEVICE,
            "device kind %s needs the plugin libllmjob-%s.so in " NAME_LIB_DIR
            " or beside the program: it is in neither",
            kind, kind);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!handle) {
        const char *why = dlerror();
        return err_set(e, ERR_DEVICE, "the plugin of device kind %s does not load: %s", kind,
            why ? why : path);
    }
    driver_plugin_fn *entry;
    *(void **)&entry = dlsym(handle, DRIVER_PLUGIN_SYMBOL);
    const struct driver *r = entry ? entry() : NULL;
    int rc;
    if (!r || r->abi != DRIVER_ABI)
        rc = err_set(e, ERR_DEVICE, "plugin %s is of another version than this program", path);
    else
        rc = r->open(index, threads, out, e);
    if (rc) {
        dlclose(handle);
        return rc;
    }
    (*out)->plugin = handle;
    return 0;
}

int dev_open(const char *kind, int index, int threads, struct dev **out, struct err *e)
{
    static const char *const plugins[] = {"cuda"};
    const struct driver *const linked[] = {&cpu_driver, &cpu_ref_driver};
    struct dev *d = NULL;
    int rc = -1;

    if (index < 0 || threads < 0)
        return err_set(e, ERR_USER, "device index %d, threads %d: negative", index, threads);
    for (size_t i = 0; i < sizeof linked / sizeof *linked && rc < 0; i++)
        if (!strcmp(kind, linked[i]->kind))
            if ((rc = linked[i]->open(index, threads, &d, e)))
                return rc;
    for (size_t i = 0; i < sizeof plugins / sizeof *plugins && rc < 0; i++)
        if (!strcmp(kind, plugins[i]))
            if ((rc = dev_open_plugin(kind, index, threads, &d, e)))
                return rc;
    if (!d)
        return err_set(e, ERR_USER, "unknown device kind \"%s\" (known: cpu, cpu-ref, cuda)", kind);
    if ((rc = dev_check_table(d->driver, d->ops, e))) {
        dev_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void dev_close(struct dev *d)
{
    if (!d)
        return;
    void *plugin = d->plugin;
    d->driver->close(d);
    if (plugin)
        dlclose(plugin);
}

const struct ops *dev_ops(const struct dev *d)
{
    return d->ops;
}

const struct driver_comms *dev_comms(const struct dev *d)
{
    return d->driver->comms;
}

void dev_describe(const struct dev *d, struct dev_info *out)
{
    d->driver->describe(d, out);
}

/* -- memory and order -- */
int dev_alloc(struct dev *d, size_t bytes, void **out, struct err *e)
{
    return d->driver->alloc(d, bytes, out, e);
}

int dev_reserve(struct dev *d, size_t bytes, void **out, struct err *e)
{
    return d->driver->reserve ? d->driver->reserve(d, bytes, out, e) : dev_alloc(d, bytes, out, e);
}

void dev_free(struct dev *d, void *p)
{
    if (p)
        d->driver->free(d, p);
}

void dev_upload(struct dev *d, void *dst, const void *host, size_t bytes)
{
    if (bytes)
        d->driver->upload(d, dst, host, bytes);
}

void dev_download(struct dev *d, void *host, const void *src, size_t bytes)
{
    if (bytes)
        d->driver->download(d, host, src, bytes);
}

void dev_zero(struct dev *d, void *dst, size_t bytes)
{
    if (bytes)
        d->driver->zero(d, dst, bytes);
}

void dev_copy(struct dev *d, void *dst, const void *src, size_t bytes)
{
    if (bytes)
        d->driver->copy(d, dst, src, bytes);
}

/* -- recordings -- */
static int dev_no_recordings(const struct dev *d, struct err *e)
{
    return err_set(e, ERR_BUG, "device kind %s records nothing", d->driver->kind);
}

bool dev_rows_alike(const struct dev *d)
{
    return d->driver->rows_alike;
}

bool dev_can_record(const struct dev *d)
{
    return d->driver->record_begin;
}

int dev_record_begin(struct dev *d, struct err *e)
{
    return dev_can_record(d) ? d->driver->record_begin(d, e) : dev_no_recordings(d, e);
}

int dev_record_end(struct dev *d, void **recording, struct err *e)
{
    return dev_can_record(d) ? d->driver->record_end(d, recording, e) : dev_no_recordings(d, e);
}

void dev_record_launch(struct dev *d, void *recording)
{
    d->driver->record_launch(d, recording);
}

void dev_record_free(struct dev *d, void *recording)
{
    if (recording)
        d->driver->record_free(d, recording);
}

int dev_sync(struct dev *d, struct err *e)
{
    d->driver->wait(d);
    if (d->failure.code == ERR_NONE)
        return 0;
    struct err first = d->failure;
    d->failure = (struct err){0};
    if (e)
        *e = first;
    return -(int)first.code;
}
