/*
 * fake_nvml: stands for libnvidia-ml.so.1 in test_nvml: the functions that kernels/cuda/nvml.c
 * uses, with the answers that the environment gives. FAKE_NVML_XIDS "79 48": the events in the
 * queue; FAKE_NVML_ECC, FAKE_NVML_ROWS ("failed", "pending"); FAKE_NVML_BROKEN: that call fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT     __attribute__((visibility("default")))
#define NOT_THERE  6 /* NVML_ERROR_NOT_FOUND */
#define NO_SUPPORT 3
#define TIMED_OUT  10
#define THE_DEVICE ((void *)7)
#define THE_SET    ((void *)9)

struct event {
    void *device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};

static int started;
static const char *queue;

static const char *given(const char *name)
{
    const char *text = getenv(name);
    return text ? text : "";
}

/* A call that was made out of turn ends the test. */
static int answer(const char *call, int in_turn)
{
    if (!in_turn) {
        fprintf(stderr, "fake_nvml: %s out of turn\n", call);
        abort();
    }
    return strcmp(given("FAKE_NVML_BROKEN"), call) ? 0 : NO_SUPPORT;
}

EXPORT int nvmlInit_v2(void);
EXPORT int nvmlInit_v2(void)
{
    int r = answer("init", 1);
    started += !r;
    return r;
}

EXPORT int nvmlShutdown(void);
EXPORT int nvmlShutdown(void)
{
    return answer("shutdown", started-- > 0);
}

EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned size);
EXPORT int nvmlSystemGetDriverVersion(char *out, unsigned size)
{
    snprintf(out, size, "580.65.06");
    return answer("version", started > 0);
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out);
EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **out)
{
    *out = THE_DEVICE;
    return answer("device", started > 0) || strcmp(bus, "0000:01:00.0") ? NOT_THERE : 0;
}

EXPORT int nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, unsigned long long *out);
EXPORT int nvmlDeviceGetTotalEccErrors(void *d, int type, int counter, unsigned long long *out)
{
    *out = strtoull(given("FAKE_NVML_ECC"), NULL, 10);
    return answer("ecc", started > 0 && d == THE_DEVICE && type == 1 && counter == 0);
}

EXPORT int nvmlDeviceGetRemappedRows(
    void *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed);
EXPORT int nvmlDeviceGetRemappedRows(
    void *d, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    *corrected = *uncorrected = 0;
    *pending = !strcmp(given("FAKE_NVML_ROWS"), "pending");
    *failed = !strcmp(given("FAKE_NVML_ROWS"), "failed");
    return answer("rows", started > 0 && d == THE_DEVICE);
}

EXPORT int nvmlEventSetCreate(void **set);
EXPORT int nvmlEventSetCreate(void **set)
{
    *set = THE_SET;
    queue = given("FAKE_NVML_XIDS");
    return answer("set", started > 0);
}

EXPORT int nvmlDeviceRegisterEvents(void *d, unsigned long long types, void *set);
EXPORT int nvmlDeviceRegisterEvents(void *d, unsigned long long types, void *set)
{
    return answer("register", d == THE_DEVICE && types == 8 && set == THE_SET);
}

EXPORT int nvmlEventSetWait_v2(void *set, struct event *out, unsigned timeout_ms);
EXPORT int nvmlEventSetWait_v2(void *set, struct event *out, unsigned timeout_ms)
{
    char *end = NULL;
    int r = answer("wait", set == THE_SET && timeout_ms <= 1000);
    unsigned long long xid = strtoull(queue, &end, 10);
    if (r || end == queue)
        return r ? r : TIMED_OUT;
    if (!getenv("FAKE_NVML_ENDLESS"))
        queue = end;
    *out = (struct event){.device = THE_DEVICE, .type = 8, .data = xid};
    return 0;
}

EXPORT int nvmlEventSetFree(void *set);
EXPORT int nvmlEventSetFree(void *set)
{
    return answer("free", set == THE_SET);
}
