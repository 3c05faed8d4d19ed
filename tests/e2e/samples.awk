# samples.awk: audits the sample logs of a training run: was every sample of every step consumed
# exactly once?
#
#   awk -v batch=G -v steps=N -f samples.awk <checkpoint path>/samples/<incarnation>-<rank>.log ...
#
# A line is "step first_position count s0 s1 ...": the rank consumed the samples s0.. that stand at
# positions first..first+count-1 of the data order. A step that an incarnation ran but lost (it
# ended before the checkpoint) is run again by a later one: the record that counts is that of the
# greatest incarnation. For each step 1..N these must cover the positions [step*G-G, step*G) once
# each; a position must hold the same sample whoever consumed it. Prints what is wrong, and a
# summary.

FNR == 1 {
	n = split(FILENAME, part, "/")
	split(part[n], name, /[-.]/)
	incarnation = name[1] + 0
}
{
	step = $1 + 0
	if (NF != $3 + 3) {
		wrong(FILENAME ": line " FNR ": " $3 " samples announced, " NF - 3 " listed")
		next
	}
	if (step < 1 || step > steps) {
		wrong(FILENAME ": step " step " is outside 1.." steps)
		next
	}
	if (!(step in last) || incarnation > last[step]) last[step] = incarnation
	if (incarnation > newest) newest = incarnation
	for (i = 0; i < $3; i++) {
		position = $2 + i
		if (position in sample && sample[position] != $(4 + i))
			wrong("position " position " held sample " sample[position] \
				", then " $(4 + i))
		sample[position] = $(4 + i)
		times[incarnation, step, position]++
		count[incarnation, step]++
	}
}
END {
	for (step = 1; step <= steps; step++) {
		if (!(step in last)) {
			wrong("step " step " was never run")
			continue
		}
		inc = last[step]
		where = "step " step ", incarnation " inc ": "
		for (position = (step - 1) * batch; position < step * batch; position++)
			if ((n = times[inc, step, position] + 0) != 1)
				wrong(where "position " position " consumed " n " times")
		if (count[inc, step] != batch)
			wrong(where count[inc, step] " samples, not " batch)
	}
	printf "%d steps of %d samples over %d incarnations: %d errors\n",
		steps, batch, newest, errors
	exit errors > 0
}
function wrong(text) {
	errors++
	if (errors <= 20) print text
}
