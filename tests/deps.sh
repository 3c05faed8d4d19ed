#!/bin/sh
# deps.sh: the Debian packages that the build and the tests need. Installs what is missing; silent when nothing is.
packages='gcc g++ libc6-dev make procps pkg-config libcurl4-openssl-dev libcjson-dev libwebsockets-dev check libsubunit-dev libssl-dev
	libyaml-dev libpcre2-dev libutf8proc-dev libxxhash-dev libdnnl-dev clang-format runc
	containernetworking-plugins nftables iproute2 bible-kjv-text bible-kjv python3-venv
	python3-pip jq curl openssl binutils ca-certificates'

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
apt-get install -qq -y --no-install-recommends $missing >/dev/null ||
	{ apt-get update -qq && apt-get install -qq -y --no-install-recommends $missing >/dev/null; }
