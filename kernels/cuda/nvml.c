/*
 * nvml: see nvml.h. The few functions used are declared here as the library exports them, so that
 * neither the toolkit's header nor its stub library is needed. XIDs are events: they are registered
 * for at open, and what has queued up since is read after an error. A driver without one of the
 * functions, or a GPU without ECC, answers with an error, which means "nothing known".
 */
#include "kernels/cuda/nvml.h"

#include "base/mem.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>

#define NVML_XID_CRITICAL   0x8ull
#define NVML_UNCORRECTED    1
#define NVML_SINCE_LOADED   0 /* counters since the driver was loaded */
#define NVML_WAIT_MS        100u
#define NVML_EVENTS_AT_MOST 64 /* a failing GPU may send them faster than they are read */

struct nvml_event {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

struct nvml_calls {
    int (*init)(void);
    int (*shutdown)(void);
    int (*driver_version)(char *out, unsigned size);
    int (*device)(const char *pci_bus_id, void **out);
    int (*ecc)(void *device, int error, int counter, unsigned long long *out);
    int (*rows)(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
        unsigned *failed);
    int (*set_create)(void **set);
    int (*set_register)(void *device, unsigned long long types, void *set);
    int (*set_wait)(void *set, struct nvml_event *out, unsigned timeout_ms);
    int (*set_free)(void *set);
};

struct nvml {
    void *library, *device, *set;
    struct nvml_calls call;
};

/* NULL when there is no library, or not all of it; else initialised. */
static void *nvml_library(struct nvml_calls *call)
{
    const struct {
        const char *symbol;
        void **at;
    } table[] = {
        {"nvmlInit_v2", (void **)&call->init},
        {"nvmlShutdown", (void **)&call->shutdown},
        {"nvmlSystemGetDriverVersion", (void **)&call->driver_version},
        {"nvmlDeviceGetHandleByPciBusId_v2", (void **)&call->device},
        {"nvmlDeviceGetTotalEccErrors", (void **)&call->ecc},
        {"nvmlDeviceGetRemappedRows", (void **)&call->rows},
        {"nvmlEventSetCreate", (void **)&call->set_create},
        {"nvmlDeviceRegisterEvents", (void **)&call->set_register},
        {"nvmlEventSetWait_v2", (void **)&call->set_wait},
        {"nvmlEventSetFree", (void **)&call->set_free},
    };
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool whole = library != NULL;
    for (size_t i = 0; whole && i < sizeof(table) / sizeof(*table); i++)
        whole = (*table[i].at = dlsym(library, table[i].symbol)) != NULL;
    if (whole && !call->init())
        return library;
    if (library)
        dlclose(library);
    return NULL;
}

struct nvml *nvml_open(const char *pci_bus_id)
{
    struct nvml *n = mem_zalloc(sizeof(*n));
    if (!n)
        return NULL;
    n->library = nvml_library(&n->call);
    if (!n->library || n->call.device(pci_bus_id, &n->device)) {
        nvml_close(n);
        return NULL;
    }
    if (n->call.set_create(&n->set))
        n->set = NULL;
    else if (n->call.set_register(n->device, NVML_XID_CRITICAL, n->set)) {
        n->call.set_free(n->set);
        n->set = NULL;
    }
    return n;
}

void nvml_close(struct nvml *n)
{
    if (!n)
        return;
    if (n->set)
        n->call.set_free(n->set);
    if (n->library) {
        n->call.shutdown();
        dlclose(n->library);
    }
    mem_free(n);
}

/* The XIDs that end jobs, as NVIDIA's "XID Errors" names them. */
static const char *nvml_xid_name(unsigned long long xid)
{
    switch (xid) {
    case 13:
        return "exception in a kernel";
    case 31:
        return "memory page fault";
    case 43:
        return "stopped processing";
    case 48:
        return "double-bit ECC error";
    case 62:
        return "microcontroller halt";
    case 63:
    case 64:
        return "row remapping";
    case 74:
        return "NVLink error";
    case 79:
        return "fallen off the bus";
    case 92:
        return "many single-bit ECC errors";
    case 94:
        return "contained ECC error";
    case 95:
        return "uncontained ECC error";
    case 119:
    case 120:
        return "system processor error";
    default:
        return "see NVIDIA's list of XIDs";
    }
}

static void nvml_say(char *out, size_t size, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void nvml_say(char *out, size_t size, const char *fmt, ...)
{
    size_t used = strlen(out);
    va_list ap;
    if (used)
        used += (size_t)snprintf(out + used, size - used, ", ");
    if (used >= size)
        return;
    va_start(ap, fmt);
    vsnprintf(out + used, size - used, fmt, ap);
    va_end(ap);
}

void nvml_health(struct nvml *n, char *out, size_t size)
{
    unsigned long long count = 0, last = 0;
    unsigned corrected, uncorrected, pending = 0, failed = 0, wait_ms = NVML_WAIT_MS;
    struct nvml_event event;

    out[0] = 0;
    if (!n)
        return;
    for (int i = 0; n->set && i < NVML_EVENTS_AT_MOST; i++) {
        event = (struct nvml_event){0};
        if (n->call.set_wait(n->set, &event, wait_ms))
            break;
        wait_ms = 0;
        if (event.type == NVML_XID_CRITICAL && event.data != last) {
            last = event.data;
            nvml_say(out, size, "XID %llu (%s)", last, nvml_xid_name(last));
        }
    }
    if (!n->call.ecc(n->device, NVML_UNCORRECTED, NVML_SINCE_LOADED, &count) && count)
        nvml_say(out, size, "%llu uncorrected memory errors", count);
    if (n->call.rows(n->device, &corrected, &uncorrected, &pending, &failed))
        return;
    if (failed)
        nvml_say(out, size, "a memory row could not be replaced");
    else if (pending)
        nvml_say(out, size, "memory rows wait for a reset to be replaced");
}

void nvml_driver_version(char *out, size_t size)
{
    struct nvml_calls call;
    void *library = nvml_library(&call);
    out[0] = 0;
    if (!library)
        return;
    if (call.driver_version(out, (unsigned)size))
        out[0] = 0;
    call.shutdown();
    dlclose(library);
}
