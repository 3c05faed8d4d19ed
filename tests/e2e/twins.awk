# twins.awk: reads a watch on a job's pods: did two live pods of one replica ever stand side by side?
#
#   awk -f twins.awk <file>
#
# A line is "event uid replica phase deletionTimestamp", as the API server sent it: ADDED, MODIFIED
# or DELETED. A pod lives until it has finished or is told to end. Prints the twins and, last, how
# many pods there were.

{
	live = $1 != "DELETED" && $4 != "Succeeded" && $4 != "Failed" && $5 == ""
	known = $3 in pod
	if (live && known && pod[$3] != $2) {
		print FILENAME ": line " FNR ": replica " $3 " has live pods " pod[$3] " and " $2
		twins++
	}
	if (live) pod[$3] = $2
	else if (known && pod[$3] == $2) delete pod[$3]
	if (!($2 in seen)) pods++
	seen[$2]
}
END {
	print pods + 0
	exit twins > 0
}
