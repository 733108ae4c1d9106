# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# Work trees of linux/ and their configuration. To be sourced after lib.sh.

# check_out COMMIT DIR: only files that differ are written, so that make builds what is needed
check_out()
{
	if [[ -e $2 ]] && ! tree_git -C "$2" rev-parse -q --verify HEAD >/dev/null 2>&1; then
		rm -rf "$2"
	fi
	if [[ ! -e $2 ]]; then
		need_space "$BUILD" 2500 "building a kernel"
		tree_git -C "$LINUX_DIR" worktree prune
		tree_git -C "$LINUX_DIR" worktree add -q --detach --no-checkout "$2" "$1"
	fi
	rm -f "$(tree_git -C "$2" rev-parse --absolute-git-dir)/index.lock"
	tree_git -C "$2" checkout -q --detach -f "$1"
}

# copy_built FROM TO: another work tree with what was built in it, which make need not build again
copy_built()
{
	local git

	need_space "$BUILD" 2500 "building a kernel"
	rm -rf "$2"
	tree_git -C "$LINUX_DIR" worktree prune
	tree_git -C "$LINUX_DIR" worktree add -q --detach --no-checkout "$2" "$(tree_git -C "$1" rev-parse HEAD)"
	git=$(<"$2/.git")
	cp -aT "$1" "$2"
	echo "$git" >"$2/.git"
	cp "$(tree_git -C "$1" rev-parse --absolute-git-dir)/index" "$(tree_git -C "$2" rev-parse --absolute-git-dir)/"
	# Times of files are what make goes by, so git must not write them anew because of others.
	tree_git -C "$2" update-index -q --refresh
}

# configure FRAGMENT...: in the current directory, on top of tinyconfig
configure()
{
	KCONFIG_ALLCONFIG='' kmake tinyconfig
	scripts/kconfig/merge_config.sh -m .config "$@"
	kmake olddefconfig
}

# verify_config FRAGMENT...: Kconfig ignores what it does not know or what lacks a dependency
verify_config()
{
	local line symbol missed=""

	while read -r line; do
		case $line in
		CONFIG_*=n)
			symbol=${line%=n}
			! grep -q "^$symbol=" .config || missed+=" $line" ;;
		CONFIG_*)
			grep -qxF "$line" .config || missed+=" $line" ;;
		esac
	done < <(cat "$@")
	[[ -z $missed ]] || { echo "Kconfig does not take:$missed"; return 1; }
}

configure_exactly()
{
	configure "$@"
	verify_config "$@"
}
