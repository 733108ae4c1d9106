# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# apt with lists and sources of its own: packages of suites that the machine has not enabled, verified
# with the machine's own key, and nothing of the machine's apt settings touched. Needs no root.
#
# shellcheck disable=SC2034 # used by those who source it

APT_DIR=$CACHE/apt
SUITES=(trixie-backports forky testing unstable)

private_apt()
{
	local tool=$1
	shift

	"$tool" -o Dir::Etc::sourcelist="$APT_DIR/private.sources" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null \
		-o Dir::State="$APT_DIR/state" -o Dir::State::lists="$APT_DIR/lists" \
		-o Dir::State::status=/dev/null -o Dir::Cache="$APT_DIR/cache" \
		-o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 \
		-o APT::Get::List-Cleanup=false "$@"
}

# The machine's own Debian archive as "Types:"-less deb822 stanza: its URIs and its key. The source with
# the machine's own suite comes first; the archive of security updates is another one.
machine_source()
{
	local codename="" etc list parts

	# shellcheck disable=SC1091
	[[ ! -r /etc/os-release ]] || codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
	etc=$(apt-config shell list Dir::Etc::sourcelist/f parts Dir::Etc::sourceparts/d)
	eval "$etc"
	{
		find "$parts" -maxdepth 1 -name '*.sources' -exec cat {} \; -exec echo \; 2>/dev/null || true
		# One-line format, turned into the other one.
		{ find "$list" "$parts" -maxdepth 1 -name '*.list' -exec cat {} + 2>/dev/null || true; } | awk '
			$1 == "deb" {
				key = ""
				i = 2
				if ($2 ~ /^\[/) {
					for (; i <= NF; i++) {
						if (match($i, /signed-by=[^] ]+/))
							key = substr($i, RSTART + 10, RLENGTH - 10)
						if ($i ~ /\]$/)
							break
					}
					i++
				}
				print "\nTypes: deb\nURIs: " $i "\nSuites: " $(i + 1) "\nComponents: main"
				if (key != "")
					print "Signed-By: " key
			}'
	} | awk -v codename="$codename" '
		function done() {
			if (uris != "" && types ~ /deb/ && enabled && suites !~ /security/) {
				rank = suites ~ ("(^| )" codename "( |$)") ? 1 : 2
				if (best == 0 || rank < best) {
					best = rank
					found = "URIs:" uris "\n" key
				}
			}
			types = uris = suites = key = field = ""
			enabled = 1
		}
		BEGIN { done() }
		/^#/ { next }
		/^[ \t]*$/ { done(); next }
		/^[ \t]/ { if (field == "signed-by") key = key $0 "\n"; next }
		{
			field = tolower(substr($0, 1, index($0, ":") - 1))
			value = substr($0, index($0, ":") + 1)
			sub(/[ \t]+$/, "", value)
			if (field == "types") types = value
			if (field == "uris") uris = value
			if (field == "suites") suites = value
			if (field == "enabled" && value ~ /no/) enabled = 0
			if (field == "signed-by") key = $0 "\n"
		}
		END { done(); printf "%s", found }'
}

# use_suite SUITE: get its lists. What apt said is in $APT_DIR/update.log.
use_suite()
{
	local source

	source=$(machine_source)
	[[ -n $source ]] ||
		die "no Debian archive in this machine's apt sources to take URI and key from" \
			"on a machine that is not Debian: make LINUX=<git tree of v$KERNEL> ..."
	mkdir -p "$APT_DIR/lists/partial" "$APT_DIR/cache/archives/partial" "$APT_DIR/state"
	printf 'Types: deb deb-src\nSuites: %s\nComponents: main\n%s\n' "$1" "$source" \
		>"$APT_DIR/private.sources"
	private_apt apt-get update >"$APT_DIR/update.log" 2>&1 &&
		! grep -q '^[EW]:' "$APT_DIR/update.log"
}

apt_failure_reason()
{
	if grep -qiE 'could not resolve|temporary failure|could not connect|connection (failed|refused|timed)|network is unreach|unable to connect' \
		"$APT_DIR/update.log"; then
		echo "the archive cannot be reached"
	elif grep -qi 'no space left' "$APT_DIR/update.log"; then
		echo "the disk is full"
	elif grep -qiE 'does not have a release file|404' "$APT_DIR/update.log"; then
		echo "the archive has no such suite"
	elif grep -qiE 'NO_PUBKEY|not signed|invalid signature' "$APT_DIR/update.log"; then
		echo "its signature cannot be verified with this machine's keys (package debian-archive-keyring too old?)"
	else
		grep -m1 '^[EW]:' "$APT_DIR/update.log" || echo "apt-get update failed"
	fi
}
