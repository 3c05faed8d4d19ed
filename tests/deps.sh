#!/bin/sh
# deps.sh: the Debian packages that the build and the tests need. Installs what is missing; silent when nothing is.
packages='gcc g++ libc6-dev make procps pkg-config libcurl4-openssl-dev libcjson-dev libwebsockets-dev check libsubunit-dev libssl-dev
	libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev zlib1g-dev libzstd-dev libdnnl-dev clang-format runc
	containernetworking-plugins nftables iproute2 bible-kjv-text bible-kjv python3-venv
	python3-pip wordnet-base jq curl openssl binutils ca-certificates'

if ! command -v dpkg-query >/dev/null; then
	echo "deps: no Debian here; install the equivalents of:" $packages >&2
	exit 0
fi
missing=
for p in $packages; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
	echo "deps: not root; as root run: apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi
echo "deps: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# Another apt-get may be at work on a machine that has just started, and mirrors fail now and then.
apt='apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=5'
install() { $apt install -y --no-install-recommends $missing >/dev/null; }
install && exit 0
for seconds in 5 15 30 0; do
	$apt update && install && exit 0
	sleep $seconds
done
echo "deps: cannot install$missing" >&2
exit 1
