/*
 * planner: the largest micro-batch that fits and still pays. Beyond the device's rows (PLANNER_ROWS
 * on a processor) a matrix product gains nothing and only costs memory. The losses of a step do not
 * depend on the choice (they are normalised by the global batch).
 */
#include "runtime/planner.h"

#define PLANNER_ROWS 2048

int planner_plan(const struct planner_input *in, struct planner_plan *out, struct err *e)
{
	struct planner_plan p = {.layout = {in->world, 1, 1, 1, 1}};
	struct model_conf c = in->model;
	int64_t share = (in->batch_sequences + in->world - 1) / in->world;
	int64_t rows = in->rows ? in->rows : PLANNER_ROWS;
	int64_t micro = rows / (c.sequence_length > 0 ? c.sequence_length : 1);
	int rc = layout_check(&p.layout, in->world, e);

	micro = micro < share ? micro : share;
	for (micro = micro < 1 ? 1 : micro; !rc; micro--) {
		c.micro_sequences = p.micro_sequences = micro;
		rc = memplan_model(&c, NULL, &p.memory, e);
		if (rc || p.memory.total <= in->budget_bytes)
			break;
		if (micro == 1)
			rc = memplan_require(&p.memory, in->budget_bytes, e);
	}
	if (!rc)
		*out = p;
	return rc;
}
