/*
 * dev: the registry of device kinds and the element types.
 *
 * A kind is looked up first among the linked drivers (kernels/cpu/cpu.c), then as a plugin,
 * lib`llmjob-<kind>.so`, in NAME_LIB_DIR or beside the program. Every entry of a driver's operation
 * table must be filled: a missing operation is an error here, never a silent fall-back later. This
 * file knows no device and computes nothing but conversions of single numbers.
 */
#include "kernels/dev.h"

#include "base/names.h"
#include "kernels/cpu/cpu.h"
#include "kernels/driver.h"
#include "kernels/ops.h"

#include <assert.h>
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

/* ---- element types ---- */
static const struct {
	const char *name;
	int16_t block, bytes;
} dtypes[DTYPES] = {
	[DTYPE_F32] = {"f32", 1, 4},       [DTYPE_BF16] = {"bf16", 1, 2},
	[DTYPE_F16] = {"f16", 1, 2},       [DTYPE_I32] = {"i32", 1, 4},
	[DTYPE_Q8_0] = {"q8_0", 32, 34},   [DTYPE_Q4_0] = {"q4_0", 32, 18},
	[DTYPE_Q4_1] = {"q4_1", 32, 20},   [DTYPE_Q4_K] = {"q4_k", 256, 144},
	[DTYPE_Q6_K] = {"q6_k", 256, 210},
};

const char *dtype_name(enum dtype t)
{
	return (unsigned)t < DTYPES ? dtypes[t].name : "?";
}

int64_t dtype_block(enum dtype t)
{
	assert((unsigned)t < DTYPES);
	return dtypes[t].block;
}

int64_t dtype_block_bytes(enum dtype t)
{
	assert((unsigned)t < DTYPES);
	return dtypes[t].bytes;
}

int64_t dtype_bytes(enum dtype t, int64_t count)
{
	int64_t bytes;
	if ((unsigned)t >= DTYPES || count < 0 || count % dtypes[t].block)
		return -1;
	if (__builtin_mul_overflow(count / dtypes[t].block, (int64_t)dtypes[t].bytes, &bytes))
		return -1;
	return bytes;
}

float f16_to_f32(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u,
		 mantissa = h & 1023u;
	union {
		uint32_t u;
		float f;
	} v;
	if (exponent == 31) {
		v.u = sign | 0x7f800000u | (mantissa << 13);
	} else if (exponent) {
		v.u = sign | ((exponent + 112) << 23) | (mantissa << 13);
	} else { /* zero or subnormal: mantissa * 2^-24 */
		v.f = (float)mantissa * 0x1p-24f;
		v.u |= sign;
	}
	return v.f;
}

uint16_t f32_to_f16(float f)
{
	union {
		float f;
		uint32_t u;
	} v = {.f = f};
	uint16_t sign = (uint16_t)((v.u >> 16) & 0x8000u);
	v.u &= 0x7fffffffu;
	if (v.u >= 0x7f800000u) /* infinity; NaN keeps its high bits and stays one */
		return (uint16_t)(sign | 0x7c00u |
				  (v.u > 0x7f800000u ? 0x200u | ((v.u >> 13) & 0x3ffu) : 0));
	if (v.u >= 0x477ff000u) /* rounds to 65536 or more */
		return (uint16_t)(sign | 0x7c00u);
	if (v.u <
	    0x38800000u) { /* subnormal: adding 0.5 rounds to multiples of 2^-24, in the low bits */
		v.f += 0.5f;
		return (uint16_t)(sign | (v.u - 0x3f000000u));
	}
	v.u += 0xfffu + ((v.u >> 13) & 1u);
	return (uint16_t)(sign | ((v.u - 0x38000000u) >> 13));
}

/* ---- registry ---- */
static int dev_check_table(const struct driver *r, const struct ops *ops, struct err *e)
{
#define DEV_CHECK(name, args)                                                                      \
	if (!ops->name)                                                                            \
		return err_set(e, ERR_DEVICE, "device kind %s lacks the operation " #name, r->kind);
	LLMJOB_OPS(DEV_CHECK)
#undef DEV_CHECK
	return 0;
}

/* dlopen of <folder>/libllmjob-<kind>.so; NULL when there is no such file. */
static void *dev_plugin_at(const char *folder, const char *kind)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s/libllmjob-%s.so", folder, kind);
	if (n < 0 || (size_t)n >= sizeof(path))
		return NULL;
	return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static void *dev_plugin(const char *kind)
{
	char self[PATH_MAX];
	void *handle = dev_plugin_at(NAME_LIB_DIR, kind);
	if (handle)
		return handle;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return NULL;
	self[n] = 0;
	char *slash = strrchr(self, '/');
	if (!slash)
		return NULL;
	*slash = 0;
	return dev_plugin_at(self, kind);
}

static int dev_open_plugin(const char *kind, int index, int threads, struct dev **out,
			   struct err *e)
{
	void *handle = dev_plugin(kind);
	if (!handle) {
		const char *why = dlerror();
		return err_set(e, ERR_DEVICE,
			       "device kind %s needs the plugin libllmjob-%s.so in " NAME_LIB_DIR
			       " or beside the program: %s",
			       kind, kind, why ? why : "not found");
	}
	driver_plugin_fn *entry;
	*(void **)&entry = dlsym(handle, DRIVER_PLUGIN_SYMBOL);
	const struct driver *r = entry ? entry() : NULL;
	int rc;
	if (!r || r->abi != DRIVER_ABI)
		rc = err_set(e, ERR_DEVICE, "plugin libllmjob-%s.so is of another version", kind);
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
		return err_set(e, ERR_USER, "device index %d, threads %d: negative", index,
			       threads);
	for (size_t i = 0; i < sizeof(linked) / sizeof(*linked) && rc < 0; i++)
		if (!strcmp(kind, linked[i]->kind))
			if ((rc = linked[i]->open(index, threads, &d, e)))
				return rc;
	for (size_t i = 0; i < sizeof(plugins) / sizeof(*plugins) && rc < 0; i++)
		if (!strcmp(kind, plugins[i]))
			if ((rc = dev_open_plugin(kind, index, threads, &d, e)))
				return rc;
	if (!d)
		return err_set(e, ERR_USER,
			       "unknown device kind \"%s\" (known: cpu, cpu-ref, cuda)", kind);
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

void dev_describe(const struct dev *d, struct dev_info *out)
{
	d->driver->describe(d, out);
}

/* ---- memory and order ---- */
int dev_alloc(struct dev *d, size_t bytes, void **out, struct err *e)
{
	return d->driver->alloc(d, bytes, out, e);
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
