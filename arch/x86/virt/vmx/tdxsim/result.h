/* SPDX-License-Identifier: GPL-2.0 */
/*
 * tdxsim: for tests that take in other parts of the kernel, and do without the module.
 */
#ifndef _X86_VIRT_TDXSIM_RESULT_H
#define _X86_VIRT_TDXSIM_RESULT_H

#include <linux/types.h>

/* Short names in the tests, and none of them a global one. */
#define result			tdxsim_test_result
#define test_guest_driver	tdxsim_test_guest_driver
#define test_ext_memory		tdxsim_test_ext_memory

void result(const char *what, u64 got, u64 want);

void test_guest_driver(void);	/* drvtest.c */
void test_ext_memory(void);	/* exttest.c */

#endif /* _X86_VIRT_TDXSIM_RESULT_H */
