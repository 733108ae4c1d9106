# SPDX-License-Identifier: GPL-2.0
#
# The front door; the work is done in tools/. "make help" lists what there is.

MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help

# Variables of the command line reach the tools in the environment. Their own makes, of the kernel, must
# not take them, or the jobs of this make, for theirs.
tool = @env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL tools/$(1)

.PHONY: help deps tree patches kernel selftests selftests-tar run test fuzz mutants coverage check vm clean distclean

help:	## this list
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1@\2/p' $(MAKEFILE_LIST) | \
		while IFS=@ read -r target text; do printf '%-14s %s\n' "$$target" "$$text"; done | sed 's/^/  /'
	@echo
	@echo 'Variables:'
	@echo '  V=1         all output of the long steps'
	@echo '  LINUX=DIR   a git tree of the base kernel, instead of the package; it is not modified'
	@echo '  CASE=GLOB   with "test": only cases with such a name; GROUP=NAME: of that group; LIST=1: list them'
	@echo '  TIME=S      with "fuzz": seconds in all, default 600; SEED=N: which calls there are'
	@echo '  DEBUG=1     with "test": on a kernel with KASAN, lockdep, kmemleak and more'
	@echo '  LONG=1      with "test": also the cases that take long or a kernel of their own'
	@echo '  ACCEL=NAME  QEMU accelerator; default tcg, the one that tdxsim is made for'
	@echo '  FORCE=1     with "tree": make linux/ anew though it has work of yours, which becomes a branch'
	@echo '  FRESH=1     with "check" and "mutants": also what has been checked before'
	@echo '  JOBS=N      compilers and VMs at once; default: one per CPU'

deps:	## install what is missing on this machine (Debian packages)
	$(call tool,deps)

tree:	deps ## make linux/: the base kernel and the series on top of it
	$(call tool,tree)

patches: ## export the commits of linux/ to patches/
	$(call tool,patches)

kernel:	deps ## build the kernel of linux/ with tdxsim
	$(call tool,kernel $(or $(VARIANT),full))

selftests: deps ## build the KVM selftests of the series
	$(call tool,selftests)

selftests-tar: deps ## pack them for a machine with TDX: build/tdx-selftests.tar.xz
	$(call tool,selftests-tar)

run:	deps ## boot it on a TDX module without and with Quoting, and show what KVM answers
	$(call tool,run)

test:	deps ## run all test cases (CASE=, GROUP=, LIST=1)
	$(call tool,test)

fuzz:	deps ## have hostile guests call for longer, on modules of all kinds (TIME=, SEED=, CASE=)
	$(call tool,fuzz)

mutants: deps ## break the kernel in many ways, one by one, and see that the cases notice (MUTANT=GLOB, LIST=1)
	$(call tool,mutants)

coverage: deps ## run the cases on a kernel that counts, and show which lines of the series are never run (CASE=)
	@env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL tools/coverage $(if $(CASE),'$(CASE)')

check:	deps ## check the series patch by patch, and our own code
	$(call tool,check)

vm:	deps ## a shell in the booted VM (VARIANT=, OPTIONS=, CPUS=, MEM=)
	$(call tool,vm)

clean:	## remove what was built
	$(call tool,clean)

distclean: ## remove linux/ as well, if it holds no work of yours (FORCE=1: even then); the cache stays
	$(call tool,distclean)
