/*
 * device: opened once to be described and, where ranks share it, once more with this rank's share
 * of the threads.
 */
#include "runtime/model/device.h"

#include "api/jobspec.h"

#include <string.h>

int device_choose(
    const char *resource, int local_rank, const char **kind, int *index, struct err *e)
{
    *kind = device_kind(resource);
    *index = *kind && strcmp(*kind, "cpu") != 0 ? local_rank : 0;
    if (*kind)
        return 0;
    return err_set(e, ERR_USER,
        "spec.device.resource: %s: only spec.run can use it; spec.train and spec.serve know cpu, "
        "nvidia.com/gpu and nvidia.com/mig-*",
        resource);
}

int device_open(const char *resource, int local_rank, int local_world, struct dev **out,
    int64_t *budget_bytes, struct err *e)
{
    const char *kind = NULL;
    int index = 0, rc = device_choose(resource, local_rank, &kind, &index, e);
    if (rc)
        return rc;
    struct dev *dev = NULL;
    rc = dev_open(kind, index, 0, &dev, e);
    if (rc)
        return rc;
    struct dev_info info;
    dev_describe(dev, &info);
    if (info.host_readable && local_world > 1) {
        dev_close(dev);
        int threads = info.threads / local_world;
        rc = dev_open(kind, index, threads > 1 ? threads : 1, &dev, e);
        if (rc)
            return rc;
        info.memory_bytes /= local_world;
    }
    *budget_bytes = info.memory_bytes;
    *out = dev;
    return 0;
}
