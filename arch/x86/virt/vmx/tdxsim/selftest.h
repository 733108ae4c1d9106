/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tdxsim: what its own tests have in common.
 */
#ifndef _X86_VIRT_TDXSIM_SELFTEST_H
#define _X86_VIRT_TDXSIM_SELFTEST_H

#include <linux/bitfield.h>

#include "result.h"
#include "tdxsim.h"

/* What a SEAMCALL that gave no status ended in. */
#define TRAPPED		(~0ULL)
#define NO_MODULE	(~1ULL)

struct args {
	u64 rcx, rdx, r8, r9, r10, r11;
};

/* Short names in the tests, and none of them a global one. */
#define seamcall	tdxsim_test_seamcall
#define page_pa		tdxsim_test_page_pa
#define expect_page	tdxsim_test_expect_page
#define test_tds	tdxsim_test_tds

u64 seamcall(u64 fn, struct args *args);

/* A SEAMCALL, with these arguments, has to end in @want. */
#define expect(what, want, fn, ...)						\
({										\
	struct args _args = { __VA_ARGS__ };					\
										\
	result(what, seamcall(fn, &_args), want);				\
	_args;									\
})

#define V1			FIELD_PREP(TDXSIM_RAX_VERSION, 1)
#define V2			FIELD_PREP(TDXSIM_RAX_VERSION, 2)
#define INVALID(opid)		(ST_OPERAND_INVALID | (opid))
#define KEYID_BIT		BIT_ULL(TDXSIM_PHYS_BITS)
#define HKID			TDXSIM_FIRST_TDX_KEYID

/* Pages that the module may be given: those of the module's tests, then those of a TD. */
#define FIRST_TD_PAGE		8
#define NR_PAGES		64

u64 page_pa(unsigned int i);
void expect_page(const char *what, u64 pa, u64 want);

/* tdtest.c: needs a module that makes Quotes; leaves nothing behind. */
void test_tds(void);

#endif /* _X86_VIRT_TDXSIM_SELFTEST_H */
