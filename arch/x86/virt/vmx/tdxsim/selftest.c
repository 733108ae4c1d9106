// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: does the module refuse what it has to refuse?
 *
 * Issues SEAMCALLs out of order and with bad operands, with memory and a TDMR
 * of its own, before the kernel brings up TDX (a subsys_initcall); at the end
 * the module is as it was loaded. Runs with tdxsim.selftest=1, prints TAP.
 */
#define pr_fmt(fmt) "tdxsim-test: " fmt

#include <linux/bitfield.h>
#include <linux/cpu.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/sizes.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/asm.h>
#include <asm/topology.h>
#include <asm/virt.h>

#include "selftest.h"

static bool selftest;
module_param(selftest, bool, 0444);
MODULE_PARM_DESC(selftest, "Test the module at boot, before the kernel uses it");

noinline u64 seamcall(u64 fn, struct args *args)
{
	u64 rax = fn, rcx = args->rcx, rdx = args->rdx, how = 0;

	/* R8 to R11 are loaded in here: a sanitizer's calls would not leave them alone. */
	asm volatile("	mov %c[r8](%[args]), %%r8\n"
		     "	mov %c[r9](%[args]), %%r9\n"
		     "	mov %c[r10](%[args]), %%r10\n"
		     "	mov %c[r11](%[args]), %%r11\n"
		     "1:	.byte 0x66, 0x0f, 0x01, 0xcf\n"
		     "	jnc 3f\n"
		     "	mov $1, %[how]\n"
		     "	jmp 3f\n"
		     "2:	mov $2, %[how]\n"
		     "3:	mov %%r8, %c[r8](%[args])\n"
		     "	mov %%r9, %c[r9](%[args])\n"
		     "	mov %%r10, %c[r10](%[args])\n"
		     "	mov %%r11, %c[r11](%[args])\n"
		     _ASM_EXTABLE(1b, 2b)
		     : "+a" (rax), "+c" (rcx), "+d" (rdx), [how] "+r" (how)
		     : [args] "r" (args),
		       [r8] "i" (offsetof(struct args, r8)), [r9] "i" (offsetof(struct args, r9)),
		       [r10] "i" (offsetof(struct args, r10)),
		       [r11] "i" (offsetof(struct args, r11))
		     : "r8", "r9", "r10", "r11", "memory", "cc");

	args->rcx = rcx;
	args->rdx = rdx;
	return how == 2 ? TRAPPED : how ? NO_MODULE : rax;
}

static unsigned int nr_tests, nr_failed;

void result(const char *what, u64 got, u64 want)
{
	nr_tests++;
	if (got == want) {
		pr_info("ok %u %s\n", nr_tests, what);
		return;
	}

	nr_failed++;
	pr_info("not ok %u %s\n", nr_tests, what);
	pr_info("# expected 0x%llx, got 0x%llx\n", want, got);
}

#define FIELD_EXT_REQUIRED	0x3100000000000001ULL
#define FIELD_EXT_PAGES		0x3100000200000000ULL
#define FIELD_MAX_QUOTE_SIZE	0x2300000200000002ULL

static void expect_field(const char *what, u64 field, u64 want)
{
	struct args args = { .rdx = field };
	u64 status = seamcall(LEAF_SYS_RD, &args);

	result(what, status ?: args.r8, want);
}

/* Calls a leaf until it does not say that it was interrupted. */
static u64 resume(u64 fn, struct args *args, unsigned int *interrupted)
{
	u64 status;

	*interrupted = 0;
	while ((status = seamcall(fn, args)) == ST_INTERRUPTED_RESUMABLE)
		(*interrupted)++;

	return status;
}

static void expect_resumable(const char *what, u64 fn)
{
	struct args args = {};
	unsigned int interrupted;

	result(what, resume(fn, &args, &interrupted), ST_SUCCESS);
	result("... and it is interrupted as often as the option says",
	       interrupted, tdxsim_opt(steps));
}

/*
 * Memory: one TDMR of 1 GB, of which NR_PAGES can be used and the rest is
 * reserved, the PAMTs among it.
 */
#define PAMT_4K_ORDER	get_order(SZ_1G / SZ_4K * TDXSIM_PAMT_ENTRY_SIZE)
#define PAMT_2M_ORDER	get_order(SZ_1G / SZ_2M * TDXSIM_PAMT_ENTRY_SIZE)
#define EXT_PAGES	5

struct tdmr_info {
	u64 base, size;
	u64 pamt[TDXSIM_NR_SIZES][2];	/* 1G, 2M, 4K: base, size */
	u64 rsvd[TDXSIM_MAX_RSVD][2];	/* offset, size */
};

static struct test_mem {
	void *pages, *pamt_4k, *pamt_2m, *pamt_1g, *array, *info, *list, *params;
} mem;

static u64 *tdmr_array;
static struct tdmr_info *info;

static void free_memory(void)
{
	free_pages((unsigned long)mem.pages, get_order(NR_PAGES * PAGE_SIZE));
	free_pages((unsigned long)mem.pamt_4k, PAMT_4K_ORDER);
	free_pages((unsigned long)mem.pamt_2m, PAMT_2M_ORDER);
	free_page((unsigned long)mem.pamt_1g);
	free_page((unsigned long)mem.array);
	free_page((unsigned long)mem.info);
	free_page((unsigned long)mem.list);
	free_page((unsigned long)mem.params);
}

static bool alloc_memory(void)
{
	mem.pages = (void *)__get_free_pages(GFP_KERNEL, get_order(NR_PAGES * PAGE_SIZE));
	mem.pamt_4k = (void *)__get_free_pages(GFP_KERNEL, PAMT_4K_ORDER);
	mem.pamt_2m = (void *)__get_free_pages(GFP_KERNEL, PAMT_2M_ORDER);
	mem.pamt_1g = (void *)get_zeroed_page(GFP_KERNEL);
	mem.array = (void *)get_zeroed_page(GFP_KERNEL);
	mem.info = (void *)get_zeroed_page(GFP_KERNEL);
	mem.list = (void *)get_zeroed_page(GFP_KERNEL);
	mem.params = (void *)get_zeroed_page(GFP_KERNEL);

	return mem.pages && mem.pamt_4k && mem.pamt_2m && mem.pamt_1g && mem.array &&
	       mem.info && mem.list && mem.params;
}

u64 page_pa(unsigned int i)
{
	return __pa(mem.pages) + i * PAGE_SIZE;
}

/* A TDMR in which nothing is wrong. */
static void good_tdmr(void)
{
	u64 base = ALIGN_DOWN(page_pa(0), SZ_1G);

	tdmr_array = mem.array;
	info = mem.info;
	tdmr_array[0] = __pa(info);
	tdmr_array[1] = __pa(info);
	*info = (struct tdmr_info) {
		.base = base,
		.size = SZ_1G,
		.pamt = {
			{ __pa(mem.pamt_1g), PAGE_SIZE },
			{ __pa(mem.pamt_2m), PAGE_SIZE << PAMT_2M_ORDER },
			{ __pa(mem.pamt_4k), PAGE_SIZE << PAMT_4K_ORDER },
		},
		.rsvd = {
			{ 0, page_pa(0) - base },
			{ page_pa(NR_PAGES) - base, base + SZ_1G - page_pa(NR_PAGES) },
		},
	};
}

static void lp_init_ipi(void *failed)
{
	struct args args = {};

	if (seamcall(LEAF_SYS_LP_INIT, &args))
		atomic_inc(failed);
}

static void lp_init_others(void)
{
	atomic_t failed = ATOMIC_INIT(0);

	smp_call_function(lp_init_ipi, &failed, true);
	result("LP.INIT on all other CPUs", atomic_read(&failed), 0);
}

static void key_config_ipi(void *status)
{
	struct args args = {};

	*(u64 *)status = seamcall(LEAF_SYS_KEY_CONFIG, &args);
}

/* On a CPU of each package but ours. */
static void key_config_others(void)
{
	int me = smp_processor_id();
	int cpu, other;
	u64 status;

	for_each_online_cpu(cpu) {
		other = cpumask_first(topology_core_cpumask(cpu));
		if (cpu != other || topology_physical_package_id(cpu) ==
				    topology_physical_package_id(me))
			continue;
		smp_call_function_single(cpu, key_config_ipi, &status, true);
		result("KEY.CONFIG on another package", status, ST_SUCCESS);
	}
}

static void test_rax(void)
{
	tdxsim_options.update = false;
	expect("P-SEAMLDR: there is none", NO_MODULE, TDXSIM_RAX_SEAMLDR);
	tdxsim_options.update = true;
	expect("P-SEAMLDR: unknown leaf", ST_SEAMLDR_EBADPARAM, TDXSIM_RAX_SEAMLDR | 0x99);
	expect("unknown leaf", INVALID(OPID_RAX), TDXSIM_NR_LEAVES);
	expect("leaf number that no leaf has", INVALID(OPID_RAX), 99);
	expect("reserved bits in RAX", INVALID(OPID_RAX), LEAF_SYS_INIT | BIT_ULL(24));
	expect("version that SYS.INIT has not", INVALID(OPID_RAX), LEAF_SYS_INIT | V1);
}

static void test_before_init(void)
{
	expect("LP.INIT before INIT", ST_SYS_LP_INIT_NOT_PENDING, LEAF_SYS_LP_INIT);
	expect("RD before INIT", ST_SYS_LP_INIT_NOT_DONE, LEAF_SYS_RD);
	expect("CONFIG before INIT", ST_SYS_CONFIG_NOT_PENDING, LEAF_SYS_CONFIG);
	expect("KEY.CONFIG before CONFIG", ST_SYS_KEY_CONFIG_NOT_PENDING, LEAF_SYS_KEY_CONFIG);
	expect("TDMR.INIT before CONFIG", ST_SYS_NOT_READY, LEAF_SYS_TDMR_INIT);
	expect("UPDATE before INIT", ST_SYS_STATE_INCORRECT, LEAF_SYS_UPDATE);
	expect("SHUTDOWN before there is anything", ST_SYS_NOT_READY, LEAF_SYS_SHUTDOWN);
	expect("EXT.INIT before INIT", ST_SYS_NOT_READY, LEAF_EXT_INIT);
	expect("PAGE.RDMD before INIT", ST_SYS_NOT_READY, LEAF_PHYMEM_PAGE_RDMD);
}

static void test_init(void)
{
	expect("INIT: reserved bits in RCX", INVALID(OPID_RCX), LEAF_SYS_INIT, .rcx = 1);
	expect("INIT", ST_SUCCESS, LEAF_SYS_INIT);
	expect("INIT again", ST_SYS_INIT_NOT_PENDING, LEAF_SYS_INIT);
	expect("RD before LP.INIT", ST_SYS_LP_INIT_NOT_DONE, LEAF_SYS_RD);
	expect("LP.INIT", ST_SUCCESS, LEAF_SYS_LP_INIT);
	expect("LP.INIT again", ST_SYS_LP_INIT_DONE, LEAF_SYS_LP_INIT);
	if (num_online_cpus() > 1)
		expect("CONFIG before LP.INIT on all CPUs", ST_SYS_CONFIG_NOT_PENDING,
		       LEAF_SYS_CONFIG, .rcx = __pa(tdmr_array), .rdx = 1, .r8 = HKID);
	lp_init_others();
}

static void test_rd(void)
{
	struct args args;
	unsigned int n = 0;
	u64 status;

	expect("RD: unknown field", ST_METADATA_FIELD_ID_INCORRECT, LEAF_SYS_RD, .rdx = 0x1234);
	args = expect("RD: the first field", ST_METADATA_FIRST_FIELD_ID_IN_CONTEXT, LEAF_SYS_RD,
		      .rdx = ~0ULL);
	do {
		status = seamcall(LEAF_SYS_RD, &args);
		n++;
	} while (!status && args.rdx != ~0ULL);
	/* Nothing is known about extensions yet: the first field that tells of them ends it. */
	result("RD: each field names the next, up to Quoting's", status,
	       ST_METADATA_FIELD_NOT_READABLE);
	result("... which is not the first", n > 1, true);
	expect("RD: ext_required before CONFIG", ST_METADATA_FIELD_NOT_READABLE, LEAF_SYS_RD,
	       .rdx = FIELD_EXT_REQUIRED);
	expect("RD: pool size before CONFIG", ST_METADATA_FIELD_NOT_READABLE, LEAF_SYS_RD,
	       .rdx = FIELD_EXT_PAGES);
}

/* CONFIG with the TDMR as it is now. */
static void expect_config(const char *what, u64 want)
{
	expect(what, want, LEAF_SYS_CONFIG, .rcx = __pa(tdmr_array), .rdx = 1, .r8 = HKID);
	good_tdmr();
}

static void test_config_operands(void)
{
	u64 pa = __pa(tdmr_array);

	expect("CONFIG: unaligned array", INVALID(OPID_RCX), LEAF_SYS_CONFIG,
	       .rcx = pa + 8, .rdx = 1, .r8 = HKID);
	expect("CONFIG: array with KeyID bits", INVALID(OPID_RCX), LEAF_SYS_CONFIG,
	       .rcx = pa | KEYID_BIT, .rdx = 1, .r8 = HKID);
	expect("CONFIG: array where no memory is", INVALID(OPID_RCX), LEAF_SYS_CONFIG,
	       .rcx = KEYID_BIT - PAGE_SIZE, .rdx = 1, .r8 = HKID);
	expect("CONFIG: no TDMR", INVALID(OPID_RDX), LEAF_SYS_CONFIG,
	       .rcx = pa, .rdx = 0, .r8 = HKID);
	expect("CONFIG: too many TDMRs", INVALID(OPID_RDX), LEAF_SYS_CONFIG,
	       .rcx = pa, .rdx = TDXSIM_MAX_TDMRS + 1, .r8 = HKID);
	expect("CONFIG: KeyID that is not private", INVALID(OPID_R8), LEAF_SYS_CONFIG,
	       .rcx = pa, .rdx = 1, .r8 = HKID - 1);
	expect("CONFIG: KeyID out of range", INVALID(OPID_R8), LEAF_SYS_CONFIG,
	       .rcx = pa, .rdx = 1, .r8 = HKID + TDXSIM_NR_TDX_KEYIDS);
	expect("CONFIG: reserved bits in R8", INVALID(OPID_R8), LEAF_SYS_CONFIG,
	       .rcx = pa, .rdx = 1, .r8 = HKID | BIT_ULL(16));
	expect("CONFIG: feature that is not offered", INVALID(OPID_R9), LEAF_SYS_CONFIG | V1,
	       .rcx = pa, .rdx = 1, .r8 = HKID, .r9 = BIT_ULL(63));
	expect("CONFIG: extensions by their own bit", INVALID(OPID_R9), LEAF_SYS_CONFIG | V1,
	       .rcx = pa, .rdx = 1, .r8 = HKID, .r9 = TDXSIM_FEATURE_EXT);
	expect("CONFIG: version 2", INVALID(OPID_RAX), LEAF_SYS_CONFIG | V2,
	       .rcx = pa, .rdx = 1, .r8 = HKID);

	tdmr_array[0] += 8;
	expect_config("CONFIG: unaligned TDMR_INFO", INVALID(OPID_RCX));
}

static void test_config_tdmrs(void)
{
	info->size = 0;
	expect_config("CONFIG: TDMR of size 0", ST_INVALID_TDMR);
	info->size = SZ_512M;
	expect_config("CONFIG: TDMR of half a GB", ST_INVALID_TDMR);
	info->base += SZ_4K;
	expect_config("CONFIG: unaligned TDMR", ST_INVALID_TDMR);
	info->base |= KEYID_BIT;
	expect_config("CONFIG: TDMR with KeyID bits", ST_INVALID_TDMR);
	info->size = -(u64)SZ_1G;
	info->base = SZ_2G;
	expect_config("CONFIG: TDMR beyond all addresses", ST_INVALID_TDMR);

	expect("CONFIG: TDMRs that overlap", ST_NON_ORDERED_TDMR | 1, LEAF_SYS_CONFIG,
	       .rcx = __pa(tdmr_array), .rdx = 2, .r8 = HKID);

	swap(info->rsvd[0][0], info->rsvd[1][0]);
	swap(info->rsvd[0][1], info->rsvd[1][1]);
	expect_config("CONFIG: reserved areas in the wrong order",
		      ST_NON_ORDERED_RESERVED_IN_TDMR | 1 << 8);
	info->rsvd[1][0] = info->rsvd[0][1] - SZ_4K;
	expect_config("CONFIG: reserved areas that overlap",
		      ST_NON_ORDERED_RESERVED_IN_TDMR | 1 << 8);
	info->rsvd[0][1] -= 8;
	expect_config("CONFIG: unaligned reserved area", ST_INVALID_RESERVED_IN_TDMR);
	info->rsvd[1][1] += SZ_4K;
	expect_config("CONFIG: reserved area that leaves the TDMR",
		      ST_INVALID_RESERVED_IN_TDMR | 1 << 8);
	info->rsvd[3][0] = info->rsvd[1][0];
	info->rsvd[3][1] = SZ_4K;
	expect_config("CONFIG: reserved area after the end of the list",
		      ST_NON_ORDERED_RESERVED_IN_TDMR | 2 << 8);
	memset(info->rsvd, 0, sizeof(info->rsvd));
	expect_config("CONFIG: PAMT that is not in a reserved area", ST_PAMT_OVERLAP);

	info->pamt[2][1] -= SZ_4K;
	expect_config("CONFIG: PAMT too small", ST_INVALID_PAMT);
	info->pamt[2][0] += 16;
	expect_config("CONFIG: unaligned PAMT", ST_INVALID_PAMT);
	info->pamt[1][0] = info->pamt[2][0];
	expect_config("CONFIG: PAMTs that overlap", ST_PAMT_OVERLAP);
	info->pamt[0][0] = page_pa(0);
	expect_config("CONFIG: PAMT where memory can be used", ST_PAMT_OVERLAP | TDXSIM_1G << 8);
	info->pamt[0][0] = KEYID_BIT - SZ_1G;
	expect_config("CONFIG: PAMT where no memory is", ST_PAMT_OUTSIDE_CMRS | TDXSIM_1G << 8);

	info->base = KEYID_BIT - SZ_1G;
	expect_config("CONFIG: TDMR where no memory is", ST_TDMR_OUTSIDE_CMRS);
}

static void test_key_config(void)
{
	expect("TDMR.INIT before KEY.CONFIG", ST_SYS_NOT_READY, LEAF_SYS_TDMR_INIT,
	       .rcx = info->base);
	expect("KEY.CONFIG", ST_SUCCESS, LEAF_SYS_KEY_CONFIG);
	expect("KEY.CONFIG again on this package", topology_max_packages() > 1 ?
	       ST_KEY_CONFIGURED : ST_SYS_KEY_CONFIG_NOT_PENDING, LEAF_SYS_KEY_CONFIG);
	key_config_others();
}

static void test_tdmr_init(void)
{
	struct args args = {};
	unsigned int calls = 0;
	u64 status;

	expect("RDMD before TDMR.INIT", ST_OPERAND_ADDR_RANGE_ERROR | OPID_RCX,
	       LEAF_PHYMEM_PAGE_RDMD, .rcx = page_pa(0));
	expect("TDMR.INIT: no TDMR begins there", INVALID(OPID_RCX), LEAF_SYS_TDMR_INIT,
	       .rcx = info->base + SZ_1G);
	do {
		args.rcx = info->base;
		status = seamcall(LEAF_SYS_TDMR_INIT, &args);
		calls++;
	} while (!status && args.rdx < info->base + SZ_1G);
	result("TDMR.INIT", status, ST_SUCCESS);
	result("... takes more than one call", calls > 1, true);
	expect("TDMR.INIT again", ST_TDMR_ALREADY_INITIALIZED, LEAF_SYS_TDMR_INIT,
	       .rcx = info->base);
}

/* Type of a page, or the status if that cannot be told. */
void expect_page(const char *what, u64 pa, u64 want)
{
	struct args args = { .rcx = pa };
	u64 status = seamcall(LEAF_PHYMEM_PAGE_RDMD, &args);

	result(what, status ?: args.rcx, want);
}

static void test_rdmd(void)
{
	struct tdxsim_pamt *pamt = tdxsim_pamt_peek(page_pa(0));

	expect_page("RDMD: page that is nobody's", page_pa(0), PT_NDA);
	expect_page("RDMD: reserved page", __pa(mem.pamt_4k), PT_RSVD);
	expect_page("RDMD: unaligned", page_pa(0) + 8, INVALID(OPID_RCX));
	expect_page("RDMD: with KeyID bits", page_pa(0) | KEYID_BIT, INVALID(OPID_RCX));
	expect_page("RDMD: memory that the TDMRs leave out", info->base + SZ_1G,
		    ST_OPERAND_ADDR_RANGE_ERROR | OPID_RCX);

	/* As if a leaf on another CPU was at it. */
	tdxsim_trylock(&pamt->lock, TDXSIM_EXCLUSIVE);
	expect_page("RDMD: page that is in use", page_pa(0), ST_OPERAND_BUSY | OPID_RCX);
	tdxsim_unlock(&pamt->lock, TDXSIM_EXCLUSIVE);

	tdxsim_trylock(&tdxsim_sys.lock, TDXSIM_SHARED);
	expect("SHUTDOWN while a leaf runs elsewhere", ST_SYS_BUSY, LEAF_SYS_SHUTDOWN, .rcx = 1);
	tdxsim_unlock(&tdxsim_sys.lock, TDXSIM_SHARED);
}

static u64 list_info(unsigned int first, unsigned int last)
{
	return __pa(mem.list) | (u64)first << 3 | (u64)last << 55;
}

static u64 mem_add(struct args *args, u64 rcx)
{
	unsigned int interrupted;

	args->rcx = rcx;
	return resume(LEAF_EXT_MEM_ADD, args, &interrupted);
}

/* A list that has to be refused at entry @at, with what comes before taken. */
static void expect_bad_entry(const char *what, unsigned int first, u64 want)
{
	struct args args = {};

	result(what, mem_add(&args, list_info(first, 4)), want);
	result("... at that entry", FIELD_GET(GENMASK_ULL(11, 3), args.rcx), first);
}

static void test_ext_mem(void)
{
	u64 *list = mem.list;
	struct args args = {};
	unsigned int interrupted;

	expect_field("ext_required", FIELD_EXT_REQUIRED, 1);
	expect_field("pages that are needed", FIELD_EXT_PAGES, EXT_PAGES);
	expect("EXT.INIT before there is memory", ST_SYS_STATE_INCORRECT, LEAF_EXT_INIT);
	expect("QUOTE.INIT before EXT.INIT", ST_SYS_STATE_INCORRECT, LEAF_QUOTE_INIT);
	expect("max_quote_size before QUOTE.INIT", ST_METADATA_FIELD_NOT_READABLE, LEAF_SYS_RD,
	       .rdx = FIELD_MAX_QUOTE_SIZE);

	expect("EXT.MEM.ADD: reserved bits", INVALID(OPID_RCX), LEAF_EXT_MEM_ADD,
	       .rcx = list_info(0, 4) | 1);
	expect("EXT.MEM.ADD: list with KeyID bits", INVALID(OPID_RCX), LEAF_EXT_MEM_ADD,
	       .rcx = list_info(0, 4) | KEYID_BIT);
	expect("EXT.MEM.ADD: ends before it begins", INVALID(OPID_RCX), LEAF_EXT_MEM_ADD,
	       .rcx = list_info(2, 1));

	tdxsim_trylock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE);
	expect("EXT.MEM.ADD on two CPUs", ST_OPERAND_BUSY | OPID_SYS, LEAF_EXT_MEM_ADD,
	       .rcx = list_info(0, 0));
	expect("EXT.INIT on two CPUs", ST_OPERAND_BUSY | OPID_SYS, LEAF_EXT_INIT);
	expect("QUOTE.INIT on two CPUs", ST_OPERAND_BUSY | OPID_SYS, LEAF_QUOTE_INIT);
	tdxsim_unlock(&tdxsim_sys.ext_lock, TDXSIM_EXCLUSIVE);

	/* Entries 0 and 1 are good; what 2 has is refused; it is then put right. */
	list[0] = page_pa(0);
	list[1] = page_pa(1);
	list[2] = page_pa(1);
	list[3] = page_pa(3);
	list[4] = page_pa(4);
	result("EXT.MEM.ADD: same page twice", mem_add(&args, list_info(0, 2)),
	       ST_PAGE_METADATA_INCORRECT | OPID_RCX);
	result("... at the second", FIELD_GET(GENMASK_ULL(11, 3), args.rcx), 2);
	expect_field("... what came before is taken", FIELD_EXT_PAGES, EXT_PAGES - 2);
	list[2] = page_pa(2) + 8;
	expect_bad_entry("EXT.MEM.ADD: unaligned page", 2, INVALID(OPID_RCX));
	list[2] = page_pa(2) | KEYID_BIT;
	expect_bad_entry("EXT.MEM.ADD: page with KeyID bits", 2, INVALID(OPID_RCX));
	list[2] = __pa(mem.pamt_4k);
	expect_bad_entry("EXT.MEM.ADD: reserved page", 2, ST_PAGE_METADATA_INCORRECT | OPID_RCX);
	list[2] = info->base + SZ_1G;
	expect_bad_entry("EXT.MEM.ADD: page outside the TDMRs", 2,
			 ST_OPERAND_ADDR_RANGE_ERROR | OPID_RCX);
	list[2] = page_pa(2);
	expect("EXT.INIT before all memory is given", ST_SYS_STATE_INCORRECT, LEAF_EXT_INIT);

	args.rcx = list_info(2, 4);
	result("EXT.MEM.ADD", resume(LEAF_EXT_MEM_ADD, &args, &interrupted), ST_SUCCESS);
	result("... is interrupted as often as the option says", interrupted, tdxsim_opt(steps));
	expect_page("... the page is the module's", page_pa(4), PT_EXT);
	expect_page("... the list is not", __pa(list), PT_RSVD);
	expect_field("... no more is needed", FIELD_EXT_PAGES, 0);
	list[0] = page_pa(5);
	expect("EXT.MEM.ADD: more than needed", ST_EXT_MEM_POOL_FULL, LEAF_EXT_MEM_ADD,
	       .rcx = list_info(0, 0));
}

static void test_ext_init(void)
{
	expect("QUOTE.INIT before EXT.INIT", ST_SYS_STATE_INCORRECT, LEAF_QUOTE_INIT);
	expect_resumable("EXT.INIT", LEAF_EXT_INIT);
	expect("EXT.INIT again", ST_SYS_STATE_INCORRECT, LEAF_EXT_INIT);
	expect_resumable("QUOTE.INIT", LEAF_QUOTE_INIT);
	expect("QUOTE.INIT again", ST_SYS_STATE_INCORRECT, LEAF_QUOTE_INIT);
	expect_field("max_quote_size", FIELD_MAX_QUOTE_SIZE, tdxsim_opt(quote_size));
}

static void start_module(void)
{
	expect("a module is loaded: INIT", ST_SUCCESS, LEAF_SYS_INIT);
	expect("... LP.INIT", ST_SUCCESS, LEAF_SYS_LP_INIT);
	lp_init_others();
}

#define SEAMLDR_INFO		TDXSIM_RAX_SEAMLDR
#define SEAMLDR_INSTALL		(TDXSIM_RAX_SEAMLDR | 1)

struct seamldr_params {
	u32 version, scenario;
	u64 sig;
	u8 reserved[104];
	u64 nr_pages;
	u64 pages[496];
};

enum { SCENARIO_LOAD, SCENARIO_UPDATE };

static void good_params(u32 scenario)
{
	struct seamldr_params *params = mem.params;

	*params = (struct seamldr_params){
		.scenario = scenario,
		.sig = __pa(mem.array),
		.nr_pages = 1,
		.pages = { __pa(mem.array) },
	};
}

static void expect_install(const char *what, u64 want)
{
	expect(what, want, SEAMLDR_INSTALL, .rcx = __pa(mem.params));
	good_params(SCENARIO_UPDATE);
}

static void install_ipi(void *failed)
{
	struct args args = { .rcx = __pa(mem.params) };

	if (seamcall(SEAMLDR_INSTALL, &args))
		atomic_inc(failed);
}

/* A new module in the place of the one that runs. */
static void install(u32 scenario)
{
	atomic_t failed = ATOMIC_INIT(0);

	good_params(scenario);
	expect_install("SEAMLDR.INSTALL on this CPU", ST_SUCCESS);
	good_params(scenario);
	if (num_online_cpus() > 1) {
		expect_install("... again", ST_SEAMLDR_EBADCALL);
		good_params(scenario);
		expect("... there is no module now", NO_MODULE, LEAF_SYS_INIT);
	}
	smp_call_function(install_ipi, &failed, true);
	result("... on all other CPUs", atomic_read(&failed), 0);
}

static void update(void)
{
	expect("SHUTDOWN", ST_SUCCESS, LEAF_SYS_SHUTDOWN, .rcx = 1);
	install(SCENARIO_UPDATE);
	start_module();
}

static void test_seamldr(void)
{
	struct seamldr_params *params = mem.params;

	expect("SEAMLDR.INFO", ST_SUCCESS, SEAMLDR_INFO, .rcx = __pa(mem.list));
	expect("SEAMLDR.INFO: unaligned", ST_SEAMLDR_EBADPARAM, SEAMLDR_INFO,
	       .rcx = __pa(mem.list) + 8);
	expect("SEAMLDR.INFO: unknown version", ST_SEAMLDR_EBADPARAM, SEAMLDR_INFO | V1,
	       .rcx = __pa(mem.list));
	expect("SEAMLDR.INFO: reserved bit", ST_SEAMLDR_EBADPARAM, SEAMLDR_INFO | BIT_ULL(24),
	       .rcx = __pa(mem.list));
	tdxsim_trylock(&tdxsim_sys.lock, TDXSIM_EXCLUSIVE);
	expect("SEAMLDR.INFO while another CPU is at it", NO_MODULE, SEAMLDR_INFO,
	       .rcx = __pa(mem.list));
	tdxsim_unlock(&tdxsim_sys.lock, TDXSIM_EXCLUSIVE);

	good_params(SCENARIO_UPDATE);
	expect_install("SEAMLDR.INSTALL: the module runs", ST_SEAMLDR_EBADHANDOFF);
	expect("SEAMLDR.INSTALL: unaligned", ST_SEAMLDR_EBADPARAM, SEAMLDR_INSTALL,
	       .rcx = __pa(params) + 8);
	params->version = 1;
	expect_install("SEAMLDR.INSTALL: version", ST_SEAMLDR_EBADPARAM);
	params->scenario = 2;
	expect_install("SEAMLDR.INSTALL: scenario", ST_SEAMLDR_EBADPARAM);
	params->reserved[103] = 1;
	expect_install("SEAMLDR.INSTALL: reserved field", ST_SEAMLDR_EBADPARAM);
	params->nr_pages = 497;
	expect_install("SEAMLDR.INSTALL: too many pages", ST_SEAMLDR_EBADPARAM);
	params->pages[0]++;
	expect_install("SEAMLDR.INSTALL: unaligned page", ST_SEAMLDR_EBADPARAM);
	params->pages[0] = page_pa(4);
	expect_install("SEAMLDR.INSTALL: page of the module", ST_SEAMLDR_EBADPARAM);
}

static void test_update(void)
{
	expect("SHUTDOWN: unknown version of the state", INVALID(OPID_RCX), LEAF_SYS_SHUTDOWN,
	       .rcx = 0x1000);
	expect("SHUTDOWN", ST_SUCCESS, LEAF_SYS_SHUTDOWN, .rcx = 1);
	expect("RD after SHUTDOWN", ST_SYS_SHUTDOWN, LEAF_SYS_RD);
	expect("INIT after SHUTDOWN", ST_SYS_SHUTDOWN, LEAF_SYS_INIT);
	expect("UPDATE after SHUTDOWN", ST_SYS_SHUTDOWN, LEAF_SYS_UPDATE);

	/* The new one needs two pages more. */
	tdxsim_options.ext_pages = EXT_PAGES + 2;
	install(SCENARIO_UPDATE);
	start_module();
	expect("UPDATE: feature that is not offered", INVALID(OPID_R9), LEAF_SYS_UPDATE | V1,
	       .r9 = BIT_ULL(63));
	expect("UPDATE", ST_SUCCESS, LEAF_SYS_UPDATE | V1, .r9 = TDXSIM_FEATURE_QUOTING);
	expect("UPDATE again", ST_SYS_STATE_INCORRECT, LEAF_SYS_UPDATE);
	expect("KEY.CONFIG after UPDATE", ST_SYS_KEY_CONFIG_NOT_PENDING, LEAF_SYS_KEY_CONFIG);
	expect_page("the extensions' memory is still theirs", page_pa(4), PT_EXT);
	expect_field("only what is missing is needed", FIELD_EXT_PAGES, 2);
	expect("EXT.INIT without it", ST_SYS_STATE_INCORRECT, LEAF_EXT_INIT);

	/* The next one needs no more than the first. */
	tdxsim_options.ext_pages = EXT_PAGES;
	update();
	expect("UPDATE", ST_SUCCESS, LEAF_SYS_UPDATE | V1, .r9 = TDXSIM_FEATURE_QUOTING);
	expect_field("no page is needed", FIELD_EXT_PAGES, 0);
	expect("max_quote_size after UPDATE", ST_METADATA_FIELD_NOT_READABLE, LEAF_SYS_RD,
	       .rdx = FIELD_MAX_QUOTE_SIZE);
	expect_resumable("EXT.INIT after UPDATE", LEAF_EXT_INIT);
	expect_resumable("QUOTE.INIT after UPDATE", LEAF_QUOTE_INIT);

	/* A kernel that does not know of Quoting. */
	update();
	expect("UPDATE, version 0", ST_SUCCESS, LEAF_SYS_UPDATE);
	expect_field("no extensions then", FIELD_EXT_REQUIRED, 0);
	expect("... and no Quoting", ST_SYS_STATE_INCORRECT, LEAF_QUOTE_INIT);
}

/* CONFIG of version 0 on a module that offers Quoting. */
static void test_not_asked_for(void)
{
	start_module();
	expect("UPDATE: nothing to take over", ST_SYS_INVALID_HANDOFF, LEAF_SYS_UPDATE);
	expect_config("CONFIG, version 0", ST_SUCCESS);
	expect("KEY.CONFIG", ST_SUCCESS, LEAF_SYS_KEY_CONFIG);
	key_config_others();
	expect_field("ext_required: not asked for", FIELD_EXT_REQUIRED, 0);
	expect_field("pages: not asked for", FIELD_EXT_PAGES, 0);
	expect("EXT.MEM.ADD: not asked for", ST_SYS_STATE_INCORRECT, LEAF_EXT_MEM_ADD,
	       .rcx = list_info(0, 0));
	expect("EXT.INIT: not asked for", ST_SYS_STATE_INCORRECT, LEAF_EXT_INIT);
	expect("QUOTE.INIT: not asked for", ST_SYS_STATE_INCORRECT, LEAF_QUOTE_INIT);
}

static void test_not_offered(void)
{
	start_module();
	expect("RD: field of Quoting, not offered", ST_METADATA_FIELD_ID_INCORRECT, LEAF_SYS_RD,
	       .rdx = FIELD_MAX_QUOTE_SIZE);
	expect("CONFIG: version 1, nothing offered", INVALID(OPID_RAX), LEAF_SYS_CONFIG | V1,
	       .rcx = __pa(tdmr_array), .rdx = 1, .r8 = HKID);
	expect_config("CONFIG, version 0", ST_SUCCESS);
	expect("KEY.CONFIG", ST_SUCCESS, LEAF_SYS_KEY_CONFIG);
	key_config_others();
	expect("EXT.INIT: not offered", INVALID(OPID_RAX), LEAF_EXT_INIT);
	expect("QUOTE.INIT: not offered", INVALID(OPID_RAX), LEAF_QUOTE_INIT);
}

static void test_disable(void)
{
	expect_resumable("DISABLE", LEAF_SYS_DISABLE);
	expect("INIT after DISABLE", ST_SYS_SHUTDOWN, LEAF_SYS_INIT);
	expect("DISABLE again", ST_SYS_SHUTDOWN, LEAF_SYS_DISABLE);
}

static void test_module(void)
{
	test_rax();
	test_before_init();
	test_init();
	test_rd();
	test_config_operands();
	test_config_tdmrs();
	expect("CONFIG", ST_SUCCESS, LEAF_SYS_CONFIG | V1, .rcx = __pa(tdmr_array), .rdx = 1,
	       .r8 = HKID, .r9 = TDXSIM_FEATURE_QUOTING);
	expect_config("CONFIG again", ST_SYS_CONFIG_NOT_PENDING);
	test_key_config();
	test_tdmr_init();
	test_rdmd();
	test_ext_mem();
	test_ext_init();
	test_tds();
	test_seamldr();
	test_update();

	install(SCENARIO_LOAD);
	test_not_asked_for();

	tdxsim_options.quoting = false;
	install(SCENARIO_LOAD);
	test_not_offered();
	test_disable();
}

static void vmxon_ipi(void *failed)
{
	if (x86_virt_get_ref(X86_FEATURE_VMX))
		atomic_inc(failed);
}

static void vmxoff_ipi(void *unused)
{
	x86_virt_put_ref(X86_FEATURE_VMX);
}

/* Before tdx_enable(), which is a subsys_initcall. */
static int __init tdxsim_selftest(void)
{
	struct tdxsim_options options = tdxsim_options;
	atomic_t failed = ATOMIC_INIT(0);

	if (!selftest || !tdxsim_platform.on)
		return 0;

	pr_info("TAP version 13\n");
	if (!alloc_memory()) {
		pr_info("Bail out! no memory\n");
		goto out;
	}
	test_guest_driver();
	test_ext_memory();
	good_tdmr();
	tdxsim_options.quoting = true;
	tdxsim_options.ext_pages = EXT_PAGES;

	cpus_read_lock();
	preempt_disable();
	expect("SEAMCALL before VMXON", TRAPPED, LEAF_SYS_INIT);
	on_each_cpu(vmxon_ipi, &failed, true);
	result("VMXON on all CPUs", atomic_read(&failed), 0);
	test_module();
	tdxsim_module_load(false);
	on_each_cpu(vmxoff_ipi, NULL, true);
	expect("SEAMCALL after VMXOFF", TRAPPED, LEAF_SYS_INIT);
	preempt_enable();
	cpus_read_unlock();

	pr_info("1..%u\n", nr_tests);
	pr_info("# %u passed, %u failed\n", nr_tests - nr_failed, nr_failed);
	tdxsim_options = options;
	memset(&tdxsim_stats, 0, sizeof(tdxsim_stats));
out:
	free_memory();
	return 0;
}
arch_initcall(tdxsim_selftest);
