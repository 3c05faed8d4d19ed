# tag.awk: tags the King James text with what WordNet says that names are.
#
#   awk -v name=train -v books="Genesis,Mark" -v verses=N -f tag.awk TEXT names.txt data.noun TEXT
#
# TEXT is read twice, first for the words that it writes in lower case: those are no names at the head of a sentence
# either, unless names.txt says so. Of data.noun (WordNet 3.0) a capitalised noun is a person, place or group when it is an
# instance of something below one of `roots`; a capitalised noun that is a kind of person ("Philistine") names a group,
# in its plural too, and so does any word in -ite. What is of two types is of none, unless names.txt says which.
# Neighbours of one type are one entity. N verses are taken, evenly spread; 0: all. The summary goes to stderr.

BEGIN {
	n = split("00007846 person PER,09504135 spiritual_being PER,00027167 location LOC,09287968 geological_formation LOC," \
		"09225146 body_of_water LOC,09334396 land LOC,07950920 social_group GRP,07942152 people GRP", roots, ",")
	for (i = 1; i <= n; i++) {
		split(roots[i], part, " ")
		root_word[part[1]] = part[2]
		class[part[1]] = part[3]
	}
	n = split(books, part, ",")
	for (i = 1; i <= n; i++) wanted[part[i]] = 1
}
FNR == 1 { file++ }

file == 1 || file == 4 {
	if ($0 ~ /^[0-9A-Z].* [0-9]+$/) {
		book = $0
		sub(/ [0-9]+$/, "", book)
	}
	if ($0 !~ /^ +[0-9]+ /) next
	sub(/^ +[0-9]+ /, "")
	gsub(/[^A-Za-z']/, " & ")
	gsub(/'/, " '")
}
file == 1 {
	for (i = 1; i <= NF; i++)
		if ($i ~ /^[a-z]/) common[$i] = 1
	if (book in wanted) have++
}
file == 2 && !/^#/ { # TYPE: name, name of several words, ...
	type = $1
	sub(/^[^:]*: */, "")
	n = split($0, part, / *, */)
	for (i = 1; i <= n; i++) hand[part[i]] = substr(type, 1, length(type) - 1)
}
file == 3 && /^[0-9]/ { # offset file n words(hexadecimal) word id ... pointers symbol offset part source/target ... | gloss
	count = index("0123456789abcdef", substr($4, 1, 1)) * 16 + index("0123456789abcdef", substr($4, 2)) - 17
	if (($1 in root_word) && $5 != root_word[$1]) {
		print "tag.awk: this is not WordNet 3.0: " $1 " is " $5 > "/dev/stderr"
		exit failed = 1
	}
	for (i = 5; i < 5 + 2 * count; i += 2)
		if ($i ~ /^[A-Z]/) words[$1] = words[$1] " " $i
	at = 5 + 2 * count
	for (i = at + 1; i < at + 1 + 4 * $at; i += 4) {
		if ($i == "@") kinds[$1] = kinds[$1] " " $(i + 1)
		if ($i == "@i") instance_of[$1] = instance_of[$1] " " $(i + 1)
	}
}
file == 4 && !learnt {
	learnt = 1
	learn()
}
file == 4 && (book in wanted) {
	seen++
	if (verses && int(seen * verses / have) == int((seen - 1) * verses / have)) next
	if (book != opened) print "-DOCSTART- O\n"
	opened = book
	tag()
}
END {
	if (failed) exit 1
	printf "%s: %d sentences, %d tokens, %d PER, %d LOC, %d GRP\n", name, sentences, tokens, total["PER"], total["LOC"],
		total["GRP"] > "/dev/stderr"
}

# PER, LOC or GRP of a synset by what it is a kind of, or "".
function class_of(synset,    part, n, i) {
	if (synset in class) return class[synset]
	class[synset] = ""
	n = split(kinds[synset], part, " ")
	for (i = 1; i <= n && class[synset] == ""; i++) class[synset] = class_of(part[i])
	return class[synset]
}
function learn(    synset, part, n, i, type) {
	for (synset in words) {
		type = ""
		n = split(instance_of[synset], part, " ")
		for (i = 1; i <= n && type == ""; i++) type = class_of(part[i])
		if (!n && class_of(synset) != "" && class_of(synset) != "LOC") type = "GRP"
		n = type == "" ? 0 : split(words[synset], part, " ")
		for (i = 1; i <= n; i++) {
			gsub(/_/, " ", part[i])
			learn_name(part[i], type)
			if (type == "GRP" && !instance_of[synset]) learn_name(part[i] "s", type)
		}
	}
	for (i in hand) names[i] = hand[i]
	for (i in names) {
		n = split(i, part, " ")
		if (n > longest) longest = n
	}
}
function learn_name(word, type) {
	if (tolower(word) in common) return
	if ((word in names) && names[word] != type) type = "O"
	names[word] = type
}
# The type of the words i.. of the line, and how many they are (span).
function type_at(i,    n, j, word) {
	for (n = longest; n > 0; n--) {
		if (i + n - 1 > NF) continue
		word = $i
		for (j = i + 1; j < i + n; j++) word = word " " $j
		if (!(word in names) || (n > 1 && names[word] == "O")) continue
		span = n
		return names[word]
	}
	span = 1
	return $i ~ /^[A-Z][a-z]+ite(s|ss)?$/ && !(tolower($i) in common) ? "GRP" : "O"
}
function tag(    i, j, type, before) {
	before = "O"
	for (i = 1; i <= NF; i += span) {
		type = $i ~ /^[A-Z]/ ? type_at(i) : "O"
		if (type == "O") span = 1
		for (j = i; j < i + span; j++) {
			print $j, type == "O" ? "O" : (type == before ? "I-" : "B-") type
			if (type != "O" && type != before) total[type]++
			before = type
		}
	}
	print ""
	sentences++
	tokens += NF
}
