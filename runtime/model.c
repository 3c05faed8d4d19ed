/*
 * model: life, memory and named tensors of the transformer. Sizes come from memplan; every family
 * is one device block that is cut up here, and a block that is cut beyond its plan is a bug that
 * stops at start. Seen from outside by canonical names only (parts); the forward and backward
 * halves have files of their own.
 */
#include "runtime/model_internal.h"

#include "base/mem.h"
#include "runtime/beat.h"

#include <assert.h>
#include <math.h>

#define STAGE_ELEMENTS (4 << 20) /* host staging of a load: bounded whatever the tensor */

static void *cut(struct arena_dev *a, int64_t bytes)
{
	void *p = a->base + a->used;

	a->used += (bytes + 63) / 64 * 64;
	assert(a->used <= a->size);
	return p;
}

static int arena_open(struct model *m, struct arena_dev *a, int64_t size, struct err *e)
{
	void *p;
	int rc;

	if (!size)
		return 0;
	rc = dev_alloc(m->dev, (size_t)size, &p, e);
	if (!rc)
		*a = (struct arena_dev){p, size, 0};
	return rc;
}

/* -- training: where weights and gradients stand -- */

static const void *weight_at(const struct model *m, int64_t offset, bool trained)
{
	if (!trained)
		return at_element(m->frozen, offset, m->act);
	return m->copy ? (const void *)(m->copy + offset) : (const void *)(m->master + offset);
}

static void wire_factors(struct model *m, int64_t layer, enum linear_kind kind)
{
	struct linear *l = &m->layers[layer].linear[kind];
	const struct linear_shape *s = &l->shape;
	int64_t row = 0;
	char name[128];

	for (int i = 0; i < s->pieces; row += s->rows[i++]) {
		const struct model_part *a, *b;

		if (!lora_targets(&m->conf, s, i))
			continue;
		parts_name(name, layer, s->name[i], "lora_A.weight");
		a = parts_find(&m->lora, name);
		parts_name(name, layer, s->name[i], "lora_B.weight");
		b = parts_find(&m->lora, name);
		if (!l->lora.count) {
			l->lora.a = weight_at(m, a->offset, true);
			l->lora.da = m->gradient + a->offset;
		}
		l->lora.factor[l->lora.count++] =
			(struct lora_factor){.row = row,
					     .rows = s->rows[i],
					     .b = weight_at(m, b->offset, true),
					     .db = m->gradient + b->offset};
	}
	l->lora.r = m->conf.lora_rank;
	l->lora.rank = l->lora.r * l->lora.count;
	l->lora.scale = l->lora.r ? m->conf.lora_alpha / (float)l->lora.r : 0;
}

static void wire_training(struct model *m)
{
	const struct model_config *c = &m->conf.config;
	bool full = !m->conf.lora_rank;
	const struct model_part *p = m->base.at;
	int64_t head = p[parts_index_head(c)].offset;
	int64_t final = p[parts_index_final_norm(c)].offset;

	m->embed = weight_at(m, p[0].offset, full);
	m->head = weight_at(m, head, full);
	m->final_norm = weight_at(m, final, full);
	if (full) {
		m->dembed = m->gradient + p[0].offset;
		m->dhead = m->gradient + head;
		m->dfinal_norm = m->gradient + final;
	}
	for (int64_t i = 0; i < c->layers; i++) {
		struct layer *l = &m->layers[i];

		for (enum linear_kind k = 0; k < LINEARS; k++) {
			int64_t offset = p[parts_index_linear(i, k)].offset;

			l->linear[k].w = weight_at(m, offset, full);
			if (full)
				l->linear[k].dw = m->gradient + offset;
			else
				wire_factors(m, i, k);
		}
		for (int j = 0; j < 2; j++) {
			int64_t offset = p[parts_index_norm(c, i, j)].offset;

			l->norm[j] = weight_at(m, offset, full);
			l->dnorm[j] = full ? m->gradient + offset : NULL;
		}
	}
}

/* -- activations -- */

static void *cut_act(struct model *m, struct arena_dev *a, int64_t columns)
{
	return cut(a, m->rows * columns * dtype_block_bytes(m->act));
}

static void carve_layer_train(struct model *m, struct layer *l)
{
	const struct model_config *c = &m->conf.config;
	struct arena_dev *a = &m->saved;

	l->x_in = cut_act(m, a, c->dim);
	l->x_mid = cut_act(m, a, c->dim);
	l->qkv = cut_act(m, a, l->linear[LINEAR_QKV].shape.out);
	l->att = cut_act(m, a, c->heads * c->head_dim);
	l->gu = cut_act(m, a, 2 * c->ffn_dim);
	for (enum linear_kind k = 0; k < LINEARS; k++)
		if (l->linear[k].lora.count)
			l->linear[k].lora.u = cut_act(m, a, l->linear[k].lora.rank);
	l->rstd[0] = cut(a, m->rows * 4);
	l->rstd[1] = cut(a, m->rows * 4);
	l->lse = cut(a, m->rows * c->heads * 4);
}

static void carve_train(struct model *m)
{
	const struct model_config *c = &m->conf.config;
	int64_t q = c->heads * c->head_dim;
	struct arena_dev *s = &m->scratch;

	for (int64_t i = 0; i < c->layers; i++)
		carve_layer_train(m, &m->layers[i]);
	m->x_out = cut_act(m, &m->saved, c->dim);
	m->rstd_final = cut(&m->saved, m->rows * 4);
	m->h = cut_act(m, s, c->dim);
	m->dh = cut_act(m, s, c->dim);
	m->dx = cut_act(m, s, c->dim);
	m->datt = cut_act(m, s, q);
	m->dqkv = cut_act(m, s, q + 2 * c->kv_heads * c->head_dim);
	m->activated = cut_act(m, s, c->ffn_dim);
	m->dactivated = cut_act(m, s, c->ffn_dim);
	m->dgu = cut_act(m, s, 2 * c->ffn_dim);
	if (m->conf.lora_rank)
		m->du = cut_act(m, s, lora_rank_sum(&m->conf));
	m->loss = cut(s, m->rows * 4);
	m->ids = cut(s, m->rows * 4);
	m->targets = cut(s, m->rows * 4);
	m->position = cut(s, m->rows * 4);
	m->logits = cut(&m->logits_arena, m->logit_rows * c->vocab * 4);
	if (m->act == DTYPE_BF16)
		m->logits16 = cut(&m->logits_arena, m->logit_rows * c->vocab * 2);
}

static int64_t widest(const struct model_config *c)
{
	int64_t q = c->heads * c->head_dim, w = q > c->ffn_dim ? q : c->ffn_dim;

	return w > c->dim ? w : c->dim;
}

/* Serving keeps nothing: every layer works in the same blocks. */
static void carve_serve(struct model *m)
{
	const struct model_config *c = &m->conf.config;
	int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	struct arena_dev *s = &m->scratch;
	struct layer l = {.x_in = cut_act(m, s, c->dim)};

	m->x_out = l.x_mid = l.x_in;
	m->h = cut_act(m, s, c->dim);
	m->sum = cut_act(m, s, c->dim);
	l.qkv = cut_act(m, s, q + 2 * kv);
	l.att = cut_act(m, s, q);
	l.gu = cut_act(m, s, 2 * c->ffn_dim);
	l.rstd[0] = l.rstd[1] = m->rstd_final = cut(s, m->rows * 4);
	l.lse = cut(s, m->rows * c->heads * 4);
	m->activated = cut_act(m, s, c->ffn_dim);
	m->x16 = cut(s, m->rows * widest(c) * 2);
	m->decoded = cut(s, widest(c) * c->dim * 4);
	m->decoded16 = cut(s, widest(c) * c->dim * 2);
	m->position = cut(s, m->rows * 4);
	m->length = cut(s, m->rows * 4);
	m->logits = cut(&m->logits_arena, m->logit_rows * c->vocab * 4);
	for (int64_t i = 0; i < c->layers; i++) {
		struct layer *to = &m->layers[i];

		to->x_in = l.x_in;
		to->x_mid = l.x_mid;
		to->qkv = l.qkv;
		to->att = l.att;
		to->gu = l.gu;
		to->rstd[0] = to->rstd[1] = l.rstd[0];
		to->lse = l.lse;
	}
}

/* -- life -- */

static int alloc_flat(struct model *m, struct err *e)
{
	struct dev *d = m->dev;
	void *p;
	int rc = 0;

	if (m->plan.weights) {
		rc = dev_alloc(d, (size_t)m->plan.weights, &p, e);
		m->frozen = rc ? NULL : p;
	}
	if (!rc) {
		rc = dev_alloc(d, (size_t)m->plan.master, &p, e);
		m->master = rc ? NULL : p;
	}
	if (!rc && m->plan.copy) {
		rc = dev_alloc(d, (size_t)m->plan.copy, &p, e);
		m->copy = rc ? NULL : p;
	}
	if (rc)
		return rc;
	m->gradient_owned = !m->conf.coll;
	rc = m->conf.coll ? coll_alloc(m->conf.coll, (size_t)m->plan.gradient, &p, e)
			  : dev_alloc(d, (size_t)m->plan.gradient, &p, e);
	m->gradient = rc ? NULL : p;
	return rc;
}

static void upload_positions(struct model *m)
{
	/* host_loss serves as host staging: both hold one 32-bit word a row. */
	int32_t *p = (int32_t *)m->host_loss;

	for (int64_t i = 0; i < m->rows; i++)
		p[i] = (int32_t)(i % m->conf.sequence_length);
	dev_upload(m->dev, m->position, p, (size_t)m->rows * 4);
}

static int create_training(struct model *m, struct err *e)
{
	int rc = m->conf.lora_rank ? lora_parts(&m->conf, &m->lora, e) : 0;

	if (!rc)
		rc = alloc_flat(m, e);
	if (!rc)
		rc = arena_open(m, &m->saved, m->plan.saved, e);
	if (rc)
		return rc;
	wire_training(m);
	carve_train(m);
	upload_positions(m);
	return 0;
}

static int create_serving(struct model *m, struct err *e)
{
	const struct model_config *c = &m->conf.config;
	int rc = kvcache_create(m->dev, c->layers, m->conf.kv_capacity, c->kv_heads * c->head_dim,
				m->conf.t, &m->cache, e);

	if (!rc)
		carve_serve(m);
	return rc;
}

static int check_conf(const struct model_conf *c, struct err *e)
{
	if (c->t != DTYPE_F32 && c->t != DTYPE_BF16)
		return err_set(e, ERR_BUG, "compute type %s", dtype_name(c->t));
	if (c->train && (c->micro_sequences < 1 || c->sequence_length < 1))
		return err_set(e, ERR_USER,
			       "a micro-batch needs at least one sequence of one token");
	if (c->train && c->sequence_length > c->config.context)
		return err_set(
			e, ERR_USER,
			"spec.train.sequenceLength: %lld exceeds the model's context of %lld",
			(long long)c->sequence_length, (long long)c->config.context);
	if (!c->train && c->kv_capacity < 1)
		return err_set(e, ERR_USER, "serving needs a context of at least one token");
	return 0;
}

int model_create(struct dev *d, const struct model_conf *c, struct model **out, struct err *e)
{
	struct model *m = mem_zalloc(sizeof(*m));
	int rc;

	if (!m)
		return err_set(e, ERR_MEMORY, "no memory for a model");
	m->dev = d;
	m->ops = dev_ops(d);
	m->conf = *c;
	m->act = c->train ? c->t : DTYPE_F32;
	m->rows = c->train ? c->micro_sequences * c->sequence_length : MEMPLAN_SERVE_ROWS;
	m->logit_rows = memplan_logit_rows(c);
	rc = check_conf(c, e);
	if (!rc)
		rc = memplan_model(c, NULL, &m->plan, e);
	if (!rc)
		rc = parts_base(&c->config, &m->base, e);
	if (rc)
		goto fail;
	m->layers = mem_array((size_t)c->config.layers, sizeof(*m->layers));
	m->host_loss = mem_array((size_t)m->rows, sizeof(*m->host_loss));
	if (!m->layers || !m->host_loss) {
		rc = err_set(e, ERR_MEMORY, "no memory for %lld layers",
			     (long long)c->config.layers);
		goto fail;
	}
	for (int64_t i = 0; i < c->config.layers; i++)
		for (enum linear_kind k = 0; k < LINEARS; k++)
			parts_linear(&c->config, k, &m->layers[i].linear[k].shape);
	rc = arena_open(m, &m->scratch, m->plan.scratch, e);
	if (!rc)
		rc = arena_open(m, &m->logits_arena, m->plan.logits, e);
	if (!rc)
		rc = c->train ? create_training(m, e) : create_serving(m, e);
	if (!rc)
		rc = dev_sync(d, e);
	if (rc)
		goto fail;
	*out = m;
	return 0;
fail:
	model_destroy(m);
	return rc;
}

void model_destroy(struct model *m)
{
	if (!m)
		return;
	if (m->gradient_owned)
		dev_free(m->dev, m->gradient);
	dev_free(m->dev, m->frozen);
	dev_free(m->dev, m->master);
	dev_free(m->dev, m->copy);
	dev_free(m->dev, m->saved.base);
	dev_free(m->dev, m->scratch.base);
	dev_free(m->dev, m->logits_arena.base);
	dev_free(m->dev, m->stored_arena.base);
	kvcache_destroy(m->cache);
	parts_done(&m->base);
	parts_done(&m->lora);
	mem_free(m->layers);
	mem_free(m->host_loss);
	mem_free(m);
}

/* -- filling -- */

static uint64_t mix(uint64_t x) /* splitmix64 (Steele, Lea, Flood 2014) */
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static uint64_t name_seed(uint64_t seed, const char *name)
{
	uint64_t h = 0xcbf29ce484222325u ^ mix(seed);

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3u;
	return mix(h);
}

static double uniform(uint64_t seed, int64_t i) /* (0, 1) */
{
	return ((double)(mix(seed + (uint64_t)i) >> 11) + 0.5) * 0x1p-53;
}

static float normal(uint64_t seed, int64_t i)
{
	return (float)(sqrt(-2 * log(uniform(seed, 2 * i))) *
		       cos(2 * M_PI * uniform(seed, 2 * i + 1)));
}

/* Elements [first, first + n) of a freshly initialised tensor. */
static void fresh(const struct model *m, const struct model_part *p, int64_t first, int64_t n,
		  float *out)
{
	uint64_t seed = name_seed(m->conf.seed, p->name);
	bool a = strstr(p->name, ".lora_A."), b = strstr(p->name, ".lora_B.");
	float bound = p->dims == 2 ? 1 / sqrtf((float)p->shape[1]) : 0;

	for (int64_t i = 0; i < n; i++)
		if (p->dims == 1)
			out[i] = 1;
		else if (a)
			out[i] = bound * (float)(2 * uniform(seed, first + i) - 1);
		else
			out[i] = b ? 0 : 0.02f * normal(seed, first + i);
}

/* Host F32 values to where the part lives: the master, or the frozen weights in their type. */
static void place(struct model *m, const struct model_part *p, bool trained, int64_t first,
		  int64_t n, float *stage)
{
	int64_t at = p->offset + first;

	if (trained) {
		dev_upload(m->dev, m->master + at, stage, (size_t)n * 4);
		return;
	}
	if (m->act == DTYPE_BF16) {
		uint16_t *narrow = (uint16_t *)stage;

		for (int64_t i = 0; i < n;
		     i++) /* in place: element i is read before byte 2i is written */
			narrow[i] = f32_to_bf16(stage[i]);
	}
	dev_upload(m->dev, at_element(m->frozen, at, m->act), stage,
		   (size_t)(n * dtype_block_bytes(m->act)));
}

static int fill_part(struct model *m, struct weights *w, const struct model_part *p, bool trained,
		     float *stage, struct err *e)
{
	int64_t cols = p->dims == 2 ? p->shape[1] : 1, rows = p->shape[0];
	int64_t chunk = STAGE_ELEMENTS / cols;

	for (int64_t row = 0, n; row < rows; row += n) {
		n = rows - row < chunk ? rows - row : chunk;
		if (w) {
			int rc = weights_read(w, p->name, rows, cols, row, n, DTYPE_F32, stage, e);

			if (rc)
				return rc;
		} else {
			fresh(m, p, row * cols, n * cols, stage);
		}
		place(m, p, trained, row * cols, n * cols, stage);
		beat(m->conf.page);
	}
	return 0;
}

static void refresh_copy(struct model *m)
{
	if (m->copy)
		m->ops->convert(m->dev, &(struct op_convert){.count = model_trainable(m),
							     .x = m->master,
							     .x_type = DTYPE_F32,
							     .y = m->copy,
							     .y_type = DTYPE_BF16});
}

static int fill(struct model *m, struct weights *w, struct err *e)
{
	mem_autofree float *stage = mem_array(STAGE_ELEMENTS, sizeof(float));
	bool full = !m->conf.lora_rank;
	int rc = 0;

	if (!stage)
		return err_set(e, ERR_MEMORY, "no memory to load the model");
	for (int i = 0; i < m->base.count && !rc; i++)
		rc = fill_part(m, w, &m->base.at[i], full, stage, e);
	for (int i = 0; i < m->lora.count && !rc; i++)
		rc = fill_part(m, NULL, &m->lora.at[i], true, stage, e);
	if (rc)
		return rc;
	refresh_copy(m);
	return dev_sync(m->dev, e);
}

int model_init_random(struct model *m, struct err *e)
{
	if (!m->conf.train)
		return err_set(e, ERR_USER, "a model with random weights cannot be served");
	return fill(m, NULL, e);
}

/* -- serving: stored blocks -- */

static int64_t stored_size(const struct model *m, const struct weights_tensor *t)
{
	return t->type == DTYPE_F32 && m->conf.t == DTYPE_BF16 ? t->bytes / 2 : t->bytes;
}

static int load_stored(struct model *m, struct weights *w, const struct model_part *p,
		       struct stored *out, struct err *e)
{
	const struct weights_tensor *t = weights_find(w, p->name);
	const void *raw;
	enum dtype type;
	int rc;

	if (!t)
		return err_set(e, ERR_DATA, "the model has no tensor %s", p->name);
	if (t->dims != p->dims || t->shape[0] != p->shape[0] ||
	    (p->dims == 2 && t->shape[1] != p->shape[1]))
		return err_set(e, ERR_DATA,
			       "tensor %s has another shape than the configuration says", p->name);
	out->type = t->type == DTYPE_F32 && m->conf.t == DTYPE_BF16 ? DTYPE_BF16 : t->type;
	out->data = cut(&m->stored_arena, stored_size(m, t));
	if (out->type == t->type) {
		rc = weights_raw(w, p->name, &type, &raw, e);
		if (!rc)
			dev_upload(m->dev, out->data, raw, (size_t)t->bytes);
		return rc;
	}
	for (int64_t row = 0, n, chunk = STAGE_ELEMENTS / p->shape[1]; row < p->shape[0];
	     row += n) {
		mem_autofree void *stage = NULL;

		n = p->shape[0] - row < chunk ? p->shape[0] - row : chunk;
		stage = mem_array((size_t)(n * p->shape[1]), 2);
		if (!stage)
			return err_set(e, ERR_MEMORY, "no memory to load the model");
		rc = weights_read(w, p->name, p->shape[0], p->shape[1], row, n, DTYPE_BF16, stage,
				  e);
		if (rc)
			return rc;
		dev_upload(m->dev, at_element(out->data, row * p->shape[1], DTYPE_BF16), stage,
			   (size_t)(n * p->shape[1]) * 2);
	}
	return 0;
}

static int load_norm(struct model *m, struct weights *w, int index, const void **out, struct err *e)
{
	const struct model_part *p = &m->base.at[index];
	mem_autofree float *host = mem_array((size_t)p->count, sizeof(float));
	void *to = cut(&m->stored_arena, p->count * 4);
	int rc;

	if (!host)
		return err_set(e, ERR_MEMORY, "no memory to load the model");
	rc = weights_read(w, p->name, p->count, 1, 0, p->count, DTYPE_F32, host, e);
	if (rc)
		return rc;
	dev_upload(m->dev, to, host, (size_t)p->count * 4);
	*out = to;
	return 0;
}

static int load_layer(struct model *m, struct weights *w, int64_t i, struct err *e)
{
	const struct model_config *c = &m->conf.config;
	struct layer *l = &m->layers[i];
	int rc = 0;

	for (enum linear_kind k = 0; k < LINEARS; k++)
		for (int j = 0; j < l->linear[k].shape.pieces && !rc; j++)
			rc = load_stored(m, w, &m->base.at[parts_index_linear(i, k) + j],
					 &l->linear[k].stored[j], e);
	for (int j = 0; j < 2 && !rc; j++)
		rc = load_norm(m, w, parts_index_norm(c, i, j), &l->norm[j], e);
	beat(m->conf.page);
	return rc;
}

static int load_serving(struct model *m, struct weights *w, struct err *e)
{
	const struct model_config *c = &m->conf.config;
	int64_t size = 0;
	int rc;

	for (int i = 0; i < m->base.count; i++) {
		const struct weights_tensor *t = weights_find(w, m->base.at[i].name);
		int64_t norm = m->base.at[i].dims == 1 ? m->base.at[i].count * 4 : 0;

		size = memplan_plus(size, norm ? norm : t ? stored_size(m, t) : 0);
		size = memplan_plus(size, 64);
	}
	rc = arena_open(m, &m->stored_arena, size, e);
	m->plan.total += size - m->plan.weights;
	m->plan.weights = size;
	if (!rc)
		rc = load_stored(m, w, &m->base.at[0], &m->stored_embed, e);
	m->stored_head = m->stored_embed;
	if (!rc && !c->tied_embeddings)
		rc = load_stored(m, w, &m->base.at[parts_index_head(c)], &m->stored_head, e);
	for (int64_t i = 0; i < c->layers && !rc; i++)
		rc = load_layer(m, w, i, e);
	if (!rc)
		rc = load_norm(m, w, parts_index_final_norm(c), &m->final_norm, e);
	return rc ? rc : dev_sync(m->dev, e);
}

int model_load(struct model *m, struct weights *w, struct err *e)
{
	return m->conf.train ? fill(m, w, e) : load_serving(m, w, e);
}

/* -- what others see -- */

int64_t model_parameters(const struct model *m)
{
	int64_t sum = 0;

	for (int i = 0; i < m->base.count; i++)
		sum += m->base.at[i].count;
	for (int i = 0; i < m->lora.count; i++)
		sum += m->lora.at[i].count;
	return sum;
}

int64_t model_memory_bytes(const struct model *m)
{
	return m->plan.total;
}

static const struct parts *trained_parts(const struct model *m)
{
	return m->conf.lora_rank ? &m->lora : &m->base;
}

int model_part_count(const struct model *m)
{
	return trained_parts(m)->count;
}

const struct model_part *model_part_at(const struct model *m, int i)
{
	return &trained_parts(m)->at[i];
}

int64_t model_trainable(const struct model *m)
{
	return trained_parts(m)->elements;
}

float *model_master(struct model *m)
{
	return m->master;
}

float *model_gradient(struct model *m)
{
	return m->gradient;
}

uint16_t *model_compute_copy(struct model *m)
{
	return m->copy;
}

void model_master_changed(struct model *m)
{
	refresh_copy(m);
}

void model_zero_gradient(struct model *m)
{
	dev_zero(m->dev, m->gradient, (size_t)model_trainable(m) * 4);
}

static int check_ids(const struct model *m, const int32_t *ids, int64_t n, int32_t least,
		     struct err *e)
{
	for (int64_t i = 0; i < n; i++)
		if (ids[i] < least || ids[i] >= m->conf.config.vocab)
			return err_set(e, ERR_DATA, "token %d is outside the vocabulary of %lld",
				       ids[i], (long long)m->conf.config.vocab);
	return 0;
}

int model_step(struct model *m, int64_t b, const int32_t *inputs, const int32_t *targets,
	       float scale, bool backward, double *loss_sum, struct err *e)
{
	struct batch s = {.b = b, .tokens = m->conf.sequence_length};
	int64_t n = b * s.tokens;
	double sum = 0;
	int rc;

	assert(m->conf.train && b >= 1 && n <= m->rows);
	rc = check_ids(m, inputs, n, 0, e);
	if (!rc)
		rc = check_ids(m, targets, n, -1, e);
	if (rc)
		return rc;
	dev_upload(m->dev, m->ids, inputs, (size_t)n * 4);
	dev_upload(m->dev, m->targets, targets, (size_t)n * 4);
	model_forward(m, &s);
	model_head(m, n, scale, backward);
	if (backward) {
		beat_phase(m->conf.page, WIRE_PHASE_BACKWARD);
		model_backward(m, &s);
	}
	dev_download(m->dev, m->host_loss, m->loss, (size_t)n * 4);
	rc = dev_sync(m->dev, e);
	if (rc)
		return rc;
	for (int64_t i = 0; i < n; i++)
		sum += (double)m->host_loss[i];
	*loss_sum = sum;
	return 0;
}

/* One chunk of at most m->rows tokens; logits of its last row, or of all. */
static int extend_chunk(struct model *m, const int32_t *ids, int64_t n, int64_t past, bool all,
			float *logits, struct err *e)
{
	struct batch s = {.b = 1, .tokens = n, .past = past, .ids = ids};
	int64_t c = m->conf.config.dim, v = m->conf.config.vocab;
	int32_t *stage = (int32_t *)m->host_loss;

	for (int64_t i = 0; i < n; i++)
		stage[i] = (int32_t)(past + i);
	dev_upload(m->dev, m->position, stage, (size_t)n * 4);
	for (int64_t i = 0; i < n; i++)
		stage[i] = (int32_t)(past + i + 1);
	dev_upload(m->dev, m->length, stage, (size_t)n * 4);
	model_forward(m, &s);
	for (int64_t row = all ? 0 : n - 1, rows; logits && row < n; row += rows) {
		rows = n - row < m->logit_rows ? n - row : m->logit_rows;
		m->ops->quant_matmul(m->dev,
				     &(struct op_quant_matmul){.m = rows,
							       .n = v,
							       .k = c,
							       .x = (float *)m->h + row * c,
							       .w = m->stored_head.data,
							       .w_type = m->stored_head.type,
							       .y = m->logits});
		dev_download(m->dev, logits + (all ? row * v : 0), m->logits,
			     (size_t)(rows * v) * 4);
	}
	return dev_sync(m->dev, e);
}

int model_extend(struct model *m, const int32_t *ids, int64_t count, int64_t past, bool all_logits,
		 float *logits, struct err *e)
{
	int64_t n, v = m->conf.config.vocab;
	int rc = check_ids(m, ids, count, 0, e);

	assert(!m->conf.train && count >= 1);
	if (!rc && (past < 0 || past + count > m->conf.kv_capacity))
		rc = err_set(e, ERR_USER, "%lld tokens exceed the context of %lld",
			     (long long)(past + count), (long long)m->conf.kv_capacity);
	for (int64_t i = 0; i < count && !rc; i += n) {
		n = count - i < m->rows ? count - i : m->rows;
		rc = extend_chunk(m, ids + i, n, past + i, all_logits,
				  all_logits       ? logits + i * v
				  : i + n == count ? logits
						   : NULL,
				  e);
	}
	return rc;
}

static int merge(struct model *m, const struct model_part *p, float *dst, struct err *e)
{
	size_t stem = strlen(p->name) - strlen("weight");
	const struct model_part *a, *b;
	char name[160];

	snprintf(name, sizeof(name), "%.*slora_A.weight", (int)stem, p->name);
	a = parts_find(&m->lora, name);
	snprintf(name, sizeof(name), "%.*slora_B.weight", (int)stem, p->name);
	b = parts_find(&m->lora, name);
	if (!a || !b)
		return 0;
	mem_autofree float *fa = mem_array((size_t)a->count, 4);
	mem_autofree float *fb = mem_array((size_t)b->count, 4);
	if (!fa || !fb)
		return err_set(e, ERR_MEMORY, "no memory to merge %s", p->name);
	dev_download(m->dev, fa, m->master + a->offset, (size_t)a->count * 4);
	dev_download(m->dev, fb, m->master + b->offset, (size_t)b->count * 4);
	lora_merge(dst, fa, fb, p->shape[0], p->shape[1], m->conf.lora_rank,
		   m->conf.lora_alpha / (float)m->conf.lora_rank);
	return 0;
}

int model_read(struct model *m, const char *name, bool merged, float *dst, int64_t count,
	       struct err *e)
{
	const struct model_part *p = parts_find(trained_parts(m), name);
	bool frozen = !p && m->conf.train;

	if (frozen)
		p = parts_find(&m->base, name);
	if (!p || p->count != count || !m->conf.train)
		return err_set(e, ERR_BUG, "no tensor %s of %lld numbers", name, (long long)count);
	if (!frozen) {
		dev_download(m->dev, dst, m->master + p->offset, (size_t)count * 4);
	} else if (m->act == DTYPE_F32) {
		dev_download(m->dev, dst, at_element(m->frozen, p->offset, m->act),
			     (size_t)count * 4);
	} else {
		/* Into the upper half, then widened upwards: element i is read before it is
		 * overwritten. */
		uint16_t *half = (uint16_t *)dst + count;

		dev_download(m->dev, half, at_element(m->frozen, p->offset, m->act),
			     (size_t)count * 2);
		for (int64_t i = 0; i < count; i++)
			dst[i] = bf16_to_f32(half[i]);
	}
	if (merged && frozen) {
		int rc = merge(m, p, dst, e);

		if (rc)
			return rc;
	}
	return dev_sync(m->dev, e);
}

int model_base_count(const struct model *m)
{
	return m->base.count;
}

const struct model_part *model_base_at(const struct model *m, int i)
{
	return &m->base.at[i];
}
