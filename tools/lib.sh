# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What the scripts of this directory share: where things are, how they talk, how Kbuild is called.
#
# shellcheck disable=SC2034 # used by those who source it

set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
KERNEL=${KERNEL:-7.3}
LINUX_DIR=$TOP/linux
PATCHES=$TOP/patches
BUILD=$TOP/build
LOGS=$BUILD/logs
MUTATIONS=$TOP/tools/testing/mutations
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/kvm-tdx-quoting
JOBS=${JOBS:-$(nproc)}
V=${V:-0}
TDXSIM=arch/x86/virt/vmx/tdxsim
export TOP

# The same commands must give the same results whatever the locale and the user's own git settings are.
export LC_ALL=C.UTF-8 CCACHE_NOHASHDIR=1
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE CDPATH

note()
{
	printf '%s\n' "$*" >&2
}

die()
{
	printf 'error: %s\n' "$1" >&2
	shift
	[[ $# -eq 0 ]] || printf '%s\n' "$@" | sed 's/^/       /' >&2
	exit 1
}

have()
{
	command -v "$1" >/dev/null 2>&1
}

# git in a tree that "make" made: without hooks, signing, aliases or diff settings of the user.
tree_git()
{
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 git -c core.hooksPath=/dev/null \
		-c advice.detachedHead=false -c gc.auto=0 "$@"
}

duration()
{
	printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}

# Kbuild's one line per object, of any kind.
count_steps()
{
	grep -cE '^  (\[M\] )?[A-Z][A-Z0-9_]+ ' "$1" 2>/dev/null || true
}

# progress WHAT LOG STEPS PARENT: while PARENT lives, how far the log says that it is
progress()
{
	local what=$1 log=$2 steps=$3 parent=$4 start=$SECONDS last=$SECONDS every=30 line end='\n'

	if [[ -t 2 ]]; then
		every=1
		end='\r'
	fi
	# A sleep that outlives this must not hold the lock of the build.
	while sleep 1 9>&- && kill -0 "$parent" 2>/dev/null; do
		((SECONDS - last >= every)) || continue
		last=$SECONDS
		line="  $what: $(duration $((SECONDS - start)))"
		[[ $steps = - ]] || line+=", $(count_steps "$log") of about $steps objects"
		# shellcheck disable=SC2059 # "end" is an escape sequence
		printf "%-78s$end" "$line" >&2
	done
}

# logged WHAT LOG STEPS COMMAND...: run a long command with its output in LOG. STEPS is the number of
# objects that it is likely to build, "-" if it is not that kind of command.
logged()
{
	local what=$1 log=$2 steps=$3 start=$SECONDS status=0 ticker
	shift 3

	mkdir -p "$(dirname "$log")"
	# In a subshell of its own, and not as part of a condition: there "set -e" is not in force.
	if [[ $V = 1 ]]; then
		set +e
		(set -e; "$@") > >(tee "$log" >&2) 2>&1 </dev/null
		status=$?
		set -e
	else
		progress "$what" "$log" "$steps" $$ &
		ticker=$!
		set +e
		(set -e; "$@") >"$log" 2>&1 </dev/null
		status=$?
		set -e
		kill "$ticker" 2>/dev/null || true
		wait "$ticker" 2>/dev/null || true
		[[ ! -t 2 ]] || printf '%78s\r' '' >&2
	fi
	if [[ $status -ne 0 ]]; then
		note "--- the end of $log:"
		tail -n 30 "$log" | sed 's/^/    /' >&2
		# A log on that very disk cannot say so.
		if grep -q 'No space left on device' "$log" || (($(free_mb "$(dirname "$log")") < 50)); then
			die "$what: the disk is full" "$(df -h "$(dirname "$log")" | tail -n 1)"
		fi
		die "$what failed with status $status" "the whole log: $log"
	fi
	note "  $what: done in $(duration $((SECONDS - start)))"
}

free_mb()
{
	df -Pm "$1" | awk 'END { print $4 }'
}

# need_space DIR MB WHAT: better now than half-way
need_space()
{
	local free

	mkdir -p "$1"
	free=$(free_mb "$1")
	((free >= $2)) ||
		die "$3 needs about $2 MB in $1, and only $free MB are free there" \
			"make room, or point XDG_CACHE_HOME (the cache) or the checkout to another disk"
}

# One "make" at a time works in a checkout; scripts that call each other share the lock.
lock_build()
{
	[[ -z ${TDX_BUILD_LOCKED:-} ]] || return 0
	mkdir -p "$BUILD"
	exec 9>"$BUILD/.lock"
	if ! flock -n 9; then
		note "  another make works in this checkout, waiting for it"
		flock 9
	fi
	export TDX_BUILD_LOCKED=1
}

kernel_version()
{
	awk '/^VERSION =/ { v = $3 } /^PATCHLEVEL =/ { p = $3 } /^SUBLEVEL =/ { s = $3 }
	     /^EXTRAVERSION =/ { e = $3 } END { print v "." p "." s e }'
}

has_ccache()
{
	have ccache && [[ ${CCACHE_DISABLE:-} = "" ]]
}

compiler()
{
	if has_ccache; then
		printf 'ccache %s' "${1:-gcc}"
	else
		printf '%s' "${1:-gcc}"
	fi
}

# The fixed build identity lets ccache find what another checkout has built.
kmake()
{
	make CC="$(compiler "${KCC:-gcc}")" LOCALVERSION= KBUILD_BUILD_USER=make KBUILD_BUILD_HOST=test \
		KBUILD_BUILD_TIMESTAMP='1970-01-01' -j"$JOBS" "$@"
}

# The series in linux/, oldest first.
series_commits()
{
	tree_git -C "$LINUX_DIR" rev-list --reverse refs/tags/base..HEAD
}
