// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: memory for the extensions that there is not enough of
 *
 * The kernel allocates it at boot, where it does not run out. So take in what does it, as
 * it is, with an allocator of our own that fails when it is told to, and with a TDX module
 * that keeps what it is given.
 */
#include <linux/compiler.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>

#include <asm/tdx.h>

#include "result.h"

/* Kernels before the series, and up to its patch that shares the layout, are built as well. */
#ifdef TDX_QUOTE_VERSION

#include "../tdx/seamcall_internal.h"

#define LIST_PAGES		512

/* Two lists, one of them not full */
#define POOL_PAGES		(LIST_PAGES + 88)
/* With the list itself, which is a page as well */
#define NR_ALLOCS		(POOL_PAGES + 1)

static struct {
	unsigned int fail_at, allocs;	/* which allocation fails, and how many there were */
	unsigned int refuse_at, lists;	/* which list the module refuses, and how many it saw */
	unsigned int nr_pages;		/* in use: allocated, and not freed */
	unsigned int nr_given;		/* of which the module has so many */
	unsigned int nr_init;		/* TDH.EXT.INIT */
	struct page *given[POOL_PAGES];
} mem;

static bool fails(void)
{
	return ++mem.allocs == mem.fail_at;
}

static struct page *test_alloc(gfp_t gfp)
{
	struct page *page = fails() ? NULL : alloc_pages(gfp, 0);

	mem.nr_pages += !!page;
	return page;
}

static void test_free(struct page *page)
{
	mem.nr_pages--;
	__free_pages(page, 0);
}

static unsigned long test_alloc_list(gfp_t gfp)
{
	return fails() ? 0 : __get_free_pages(gfp, 0);
}

static int test_seamcall(u64 fn, struct tdx_module_args *args, bool atomic)
{
	unsigned int nr = (args->rcx >> 55) + 1, i;
	u64 *list = phys_to_virt(args->rcx & GENMASK_ULL(51, 12));

	/* Booting, there is no reason not to let others have the CPU. */
	if (atomic)
		return -EINVAL;

	if (fn == TDH_EXT_INIT) {
		mem.nr_init++;
		return 0;
	}

	/* A module that refuses a list may have made some of its pages its own. */
	for (i = 0; i < nr && mem.nr_given < POOL_PAGES; i++)
		mem.given[mem.nr_given++] = pfn_to_page(PHYS_PFN(list[i]));

	return ++mem.lists == mem.refuse_at ? -EIO : 0;
}

static int test_field(u64 field, u64 *data)
{
	*data = field == 0x3100000000000001ULL ? 1 : POOL_PAGES;
	return 0;
}

#undef alloc_page
#undef __free_page
#undef __get_free_page
#define alloc_page(gfp)				test_alloc(gfp)
#define __free_page(page)			test_free(page)
#define __get_free_page(gfp)			test_alloc_list(gfp)
#define seamcall_prerr_resumable(fn, args, at)	test_seamcall(fn, args, at)
#define read_sys_metadata_field(field, data)	test_field(field, data)
#define tdx_ext_init				test_tdx_ext_init
/* There are hundreds of rounds. */
#undef pr_info
#define pr_info				no_printk

static int test_tdx_ext_init(bool update);

#undef pr_fmt
#include "../tdx/ext.c"

/* From the start: the allocation @fail_at fails, or the module refuses the list @refuse_at */
static int run(unsigned int fail_at, unsigned int refuse_at)
{
	int ret;

	memset(&mem, 0, sizeof(mem));
	mem.fail_at = fail_at;
	mem.refuse_at = refuse_at;
	ext_nr_pages = 0;
	ret = tdx_ext_init(false);

	return ret;
}

/* What the module has does not come back but here. Anything else has to be free by now. */
static bool all_freed(void)
{
	bool ok = mem.nr_pages == mem.nr_given;
	unsigned int i;

	for (i = 0; i < mem.nr_given; i++)
		test_free(mem.given[i]);

	return ok;
}

void test_ext_memory(void)
{
	unsigned int i, given, nr_wrong = 0, nr_leaks = 0, nr_kept = 0;

	for (i = 1; i <= NR_ALLOCS; i++) {
		/* Lists that were full before it went wrong */
		given = i < 2 ? 0 : (i - 2) / LIST_PAGES * LIST_PAGES;
		nr_wrong += run(i, 0) != -ENOMEM || mem.nr_init;
		nr_kept += mem.nr_given != given || ext_nr_pages != given;
		nr_leaks += !all_freed();
	}
	result("each allocation for the extensions fails: told", nr_wrong, 0);
	result("what the module has by then is what it was given", nr_kept, 0);
	result("the rest is freed", nr_leaks, 0);

	result("no allocation fails", run(i, 0), 0);
	result("all were made", mem.allocs, NR_ALLOCS);
	result("the module has all", mem.nr_given, POOL_PAGES);
	result("and starts", mem.nr_init, 1);
	result("nothing is lost", all_freed(), true);

	for (i = 1; i <= 2; i++) {
		given = min(i * LIST_PAGES, POOL_PAGES);
		result("a list is refused", run(0, i), -EIO);
		result("no other one is offered", mem.nr_given, given);
		result("what the module may have counts as gone", ext_nr_pages, given);
		result("and is not used by others", mem.nr_pages, given);
		all_freed();
	}
}

#else

void test_ext_memory(void)
{
}

#endif
