/*
 * driver: what a kind of device implements, and the first bytes of every struct dev.
 *
 * kernels/dev.c looks a driver up by its kind and forwards each dev_* call to it. The two CPU
 * drivers are linked in; another one comes as a plugin, lib`llmjob-<kind>.so`, that exports
 * driver_plugin_fn under DRIVER_PLUGIN_SYMBOL. A plugin carries its own copy of base and is refused
 * when its abi number differs. Only dev.c and drivers include this.
 */
#ifndef KERNELS_DRIVER_H
#define KERNELS_DRIVER_H

#include "base/err.h"
#include "kernels/dev.h"
#include "kernels/ops.h"

#define DRIVER_ABI           1u /* raise when struct dev, struct ops or an op's arguments change */
#define DRIVER_PLUGIN_SYMBOL "llmjob_driver"

struct driver {
	uint32_t abi;
	const char *kind;
	/* Returns a device whose base.driver, base.ops are set. */
	int (*open)(int index, int threads, struct dev **out, struct err *e);
	void (*close)(struct dev *d);
	void (*describe)(const struct dev *d, struct dev_info *out);
	int (*alloc)(struct dev *d, size_t bytes, void **out, struct err *e);
	void (*free)(struct dev *d, void *p);
	void (*upload)(struct dev *d, void *dst, const void *host, size_t bytes);
	void (*download)(struct dev *d, void *host, const void *src, size_t bytes);
	void (*zero)(struct dev *d, void *dst, size_t bytes);
	void (*copy)(struct dev *d, void *dst, const void *src, size_t bytes);
	void (*wait)(struct dev *d); /* until every operation has ended; failures go to dev_fail */
};
typedef const struct driver *driver_plugin_fn(void);

struct dev { /* a driver embeds it as the first member of its own structure */
	const struct driver *driver;
	const struct ops *ops;
	void *plugin;       /* dlopen handle, or NULL */
	struct err failure; /* the first failure since the last dev_sync */
};

/* Records a failure of an operation; the first one stays. */
static inline void dev_fail(struct dev *d, const struct err *e)
{
	if (d->failure.code == ERR_NONE)
		d->failure = *e;
}

#endif
