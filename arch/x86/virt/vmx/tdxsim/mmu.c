// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: the guest's translations.
 *
 * A TD runs on page tables that are filled as it touches memory, like a TLB in
 * software: an entry stands for a walk of the guest's own tables and of the
 * Secure or the shared EPT. They are thrown away at each TD exit, so nothing
 * that the host changes in either EPT is ever met by a stale one.
 */
#define pr_fmt(fmt) "tdxsim: " fmt

#include <linux/bitfield.h>
#include <linux/init.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <asm/pgtable_types.h>
#include <asm/processor-flags.h>
#include <asm/msr-index.h>
#include <asm/trap_pf.h>

#include "td.h"

/* Enough for what fits between two exits; if not, all is thrown away and filled anew. */
#define NR_TABLES	96
#define NR_OPEN		1024

struct mmu {
	struct tdxsim_td *td;
	u64 *tables[NR_TABLES];		/* [0] is the root */
	unsigned int nr_tables;
	u64 open[NR_OPEN];		/* private pages that this CPU has open */
	unsigned int nr_open;
};

static DEFINE_PER_CPU(struct mmu *, mmu);

void tdxsim_mmu_flush(void)
{
	struct mmu *m = this_cpu_read(mmu);

	memset(m->tables[0], 0, PAGE_SIZE);
	m->nr_tables = 1;
	while (m->nr_open)
		tdxsim_page_close(m->td, m->open[--m->nr_open]);
}

void tdxsim_mmu_begin(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu)
{
	this_cpu_read(mmu)->td = td;
	tdxsim_mmu_flush();
}

void tdxsim_mmu_end(void)
{
	tdxsim_mmu_flush();
	this_cpu_read(mmu)->td = NULL;
}

u64 tdxsim_mmu_root(void)
{
	return __pa(this_cpu_read(mmu)->tables[0]);
}

/* Open a private page for as long as this CPU's translations live. */
static void open_page(struct mmu *m, u64 hpa)
{
	unsigned int i;

	for (i = 0; i < m->nr_open; i++) {
		if (m->open[i] == hpa)
			return;
	}

	m->open[m->nr_open++] = hpa;
	tdxsim_page_open(m->td, hpa);
}

static void map(struct mmu *m, u64 gva, u64 hpa, u64 prot)
{
	u64 *table = m->tables[0];
	int shift;

	for (shift = 39; shift > PAGE_SHIFT; shift -= 9) {
		u64 *entry = &table[gva >> shift & 511];

		if (!*entry) {
			table = m->tables[m->nr_tables++];
			memset(table, 0, PAGE_SIZE);
			*entry = __pa(table) | _PAGE_PRESENT | _PAGE_RW | _PAGE_USER |
				 _PAGE_ACCESSED;
		} else {
			table = __va(*entry & PTE_PFN_MASK);
		}
	}

	table[gva >> PAGE_SHIFT & 511] = hpa | prot;
}

/* Bits of an EPT entry, and of an EPT violation's qualification. */
#define EPT_READ	BIT_ULL(0)
#define EPT_WRITE	BIT_ULL(1)
#define EPT_EXEC	BIT_ULL(2)
#define EPT_RWX		(EPT_READ | EPT_WRITE | EPT_EXEC)
#define EPT_LARGE	BIT_ULL(7)
#define EPT_SUPPRESS_VE	BIT_ULL(63)
#define EPT_HPA		GENMASK_ULL(51, 12)
#define QUAL_PROT_SHIFT	3
#define QUAL_GVA_VALID	BIT_ULL(7)
#define QUAL_IS_XLATE	BIT_ULL(8)
#define EXT_QUAL_PENDING 6

static u64 access_bit(enum tdxsim_access access)
{
	switch (access) {
	case ACCESS_WRITE:
		return EPT_WRITE;
	case ACCESS_EXEC:
		return EPT_EXEC;
	default:
		return EPT_READ;
	}
}

/* What the host wrote into the shared EPT must not lead to what is not the host's. */
static enum tdxsim_xlate not_the_hosts(struct tdxsim_fault *f, const char *why)
{
	f->why = why;
	return XLATE_FATAL;
}

static enum tdxsim_xlate shared_gpa_to_hpa(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu,
					   u64 gpa, enum tdxsim_access access,
					   struct tdxsim_fault *f)
{
	unsigned int level = FIELD_GET(GENMASK_ULL(5, 3), td->params.eptp_controls);
	u64 table = vcpu->shared_eptp;
	u64 entry, prot = EPT_RWX;
	unsigned int shift;

	/* A fetch from shared memory is never allowed. */
	if (access == ACCESS_EXEC)
		return XLATE_PF;

	for (;; level--) {
		if (!tdxsim_hpa_is_memory(table, PAGE_SIZE, PAGE_SIZE))
			return not_the_hosts(f, "a shared EPT table is no memory of the host");

		shift = PAGE_SHIFT + 9 * level;
		entry = READ_ONCE(((u64 *)tdxsim_va(table))[gpa >> shift & 511]);
		prot &= entry;
		if (!(entry & EPT_RWX) || !level || (entry & EPT_LARGE))
			break;
		table = entry & EPT_HPA;
	}

	if (!(prot & access_bit(access))) {
		f->qual |= (prot & EPT_RWX) << QUAL_PROT_SHIFT;
		f->ext_qual = 0;
		return entry & EPT_SUPPRESS_VE ? XLATE_VIOLATION : XLATE_VE;
	}

	f->hpa = (entry & EPT_HPA & ~(BIT_ULL(shift) - 1)) | (gpa & (BIT_ULL(shift) - 1));
	f->writable = prot & EPT_WRITE;
	if (!tdxsim_hpa_is_memory(f->hpa & PAGE_MASK, PAGE_SIZE, PAGE_SIZE))
		return not_the_hosts(f, "a shared page is no memory of the host");

	return XLATE_OK;
}

enum tdxsim_xlate tdxsim_gpa_to_hpa(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u64 gpa,
				    enum tdxsim_access access, struct tdxsim_fault *f)
{
	u64 shared_bit = tdxsim_td_shared_bit(td);
	struct tdxsim_sept_walk walk;
	u64 entry = 0;

	f->gpa = gpa;
	f->qual = access_bit(access) | QUAL_GVA_VALID | QUAL_IS_XLATE;
	f->ext_qual = 0;
	if (gpa >= shared_bit << 1) {
		f->error = X86_PF_RSVD | X86_PF_PROT;
		return XLATE_PF;
	}
	if (gpa & shared_bit)
		return shared_gpa_to_hpa(td, vcpu, gpa, access, f);

	if (tdxsim_sept_walk(td, gpa, 0, &walk))
		entry = READ_ONCE(*walk.entry);

	switch (entry & SEPT_STATE) {
	case SEPT_MAPPED:
		f->hpa = (entry & SEPT_HPA) | offset_in_page(gpa);
		f->writable = true;
		return XLATE_OK;
	case SEPT_PENDING:
		if (!(td->params.attributes & TD_ATTR_SEPT_VE_DISABLE))
			return XLATE_VE;
		f->ext_qual = EXT_QUAL_PENDING;
		return XLATE_VIOLATION;
	default:
		return XLATE_VIOLATION;
	}
}

/* A guest's page table entry: where it is, for the host to read and write. */
static enum tdxsim_xlate guest_pte(struct mmu *m, struct tdxsim_vcpu *vcpu, u64 gpa, u64 **pte,
				   struct tdxsim_fault *f)
{
	enum tdxsim_xlate ret = tdxsim_gpa_to_hpa(m->td, vcpu, gpa, ACCESS_WRITE, f);

	if (ret != XLATE_OK)
		return ret;

	/* Page tables in shared memory would be the host's to write. */
	if (gpa & tdxsim_td_shared_bit(m->td)) {
		f->error = X86_PF_RSVD | X86_PF_PROT;
		return XLATE_PF;
	}

	open_page(m, f->hpa & PAGE_MASK);
	*pte = tdxsim_va(f->hpa);
	return XLATE_OK;
}

static bool paging(const struct tdxsim_vcpu *vcpu)
{
	return vcpu->cr0 & X86_CR0_PG;
}

/*
 * Walk the guest's tables. f->gpa is where it ends; f->writable, f->user and
 * f->nx are what all of its levels allow.
 */
static enum tdxsim_xlate guest_walk(struct mmu *m, struct tdxsim_vcpu *vcpu, u64 gva,
				    enum tdxsim_access access, bool user, struct tdxsim_fault *f)
{
	bool write = access == ACCESS_WRITE;
	u64 table = vcpu->cr3 & PTE_PFN_MASK;
	bool rw = true, us = true, nx = false, denied;
	enum tdxsim_xlate ret;
	unsigned int shift;
	u64 *pte = NULL;
	u64 entry;

	f->error = (write ? X86_PF_WRITE : 0) | (user ? X86_PF_USER : 0) |
		   (access == ACCESS_EXEC ? X86_PF_INSTR : 0);

	for (shift = vcpu->cr4 & X86_CR4_LA57 ? 48 : 39; ; shift -= 9) {
		u32 error = f->error;

		ret = guest_pte(m, vcpu, table + 8 * (gva >> shift & 511), &pte, f);
		if (ret != XLATE_OK)
			return ret;
		f->error = error;

		entry = READ_ONCE(*pte);
		if (!(entry & _PAGE_PRESENT))
			return XLATE_PF;
		rw &= !!(entry & _PAGE_RW);
		us &= !!(entry & _PAGE_USER);
		nx |= (entry & _PAGE_NX) && (vcpu->efer & EFER_NX);

		if (shift == PAGE_SHIFT || (shift <= 30 && (entry & _PAGE_PSE)))
			break;
		set_bit(_PAGE_BIT_ACCESSED, (unsigned long *)pte);
		table = entry & PTE_PFN_MASK;
	}

	denied = (write && !rw && (user || (vcpu->cr0 & X86_CR0_WP))) || (user && !us) ||
		 (access == ACCESS_EXEC && nx) ||
		 (!user && us && access == ACCESS_EXEC && (vcpu->cr4 & X86_CR4_SMEP)) ||
		 (!user && us && access != ACCESS_EXEC && (vcpu->cr4 & X86_CR4_SMAP) &&
		  !(tdxsim_vmcb(vcpu)->save.rflags & X86_EFLAGS_AC));
	if (denied) {
		f->error |= X86_PF_PROT;
		return XLATE_PF;
	}

	set_bit(_PAGE_BIT_ACCESSED, (unsigned long *)pte);
	if (write)
		set_bit(_PAGE_BIT_DIRTY, (unsigned long *)pte);

	f->gpa = (entry & PTE_PFN_MASK & ~(BIT_ULL(shift) - 1)) | (gva & (BIT_ULL(shift) - 1));
	/* A first write has to come here: it sets the dirty bit. */
	f->writable = (rw || (!user && !(vcpu->cr0 & X86_CR0_WP))) &&
		      (READ_ONCE(*pte) & _PAGE_DIRTY);
	/* Writable because of CR0.WP = 0 is so for the supervisor only. */
	f->user = us && (rw || !f->writable);
	f->nx = nx;
	return XLATE_OK;
}

enum tdxsim_xlate tdxsim_mmu_fault(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u64 gva,
				   enum tdxsim_access access, bool user, struct tdxsim_fault *f)
{
	struct mmu *m = this_cpu_read(mmu);
	enum tdxsim_xlate ret;
	bool writable;

	/* Up to five levels of tables, and the page. */
	if (m->nr_tables + 3 > NR_TABLES || m->nr_open + 6 > NR_OPEN)
		tdxsim_mmu_flush();

	f->gva = gva;
	if (paging(vcpu)) {
		ret = guest_walk(m, vcpu, gva, access, user, f);
		if (ret != XLATE_OK)
			return ret;
	} else {
		f->gpa = (u32)gva;
		f->error = 0;
		f->writable = true;
		f->user = true;
		f->nx = false;
	}

	writable = f->writable;
	ret = tdxsim_gpa_to_hpa(td, vcpu, f->gpa, access, f);
	if (ret != XLATE_OK)
		return ret;

	if (!(f->gpa & tdxsim_td_shared_bit(td)))
		open_page(m, f->hpa & PAGE_MASK);

	map(m, gva, f->hpa & PAGE_MASK,
	    _PAGE_PRESENT | _PAGE_ACCESSED | _PAGE_DIRTY |
	    (writable && f->writable ? _PAGE_RW : 0) | (f->user ? _PAGE_USER : 0) |
	    (f->nx || (f->gpa & tdxsim_td_shared_bit(td)) ? _PAGE_NX : 0));
	return XLATE_OK;
}

enum tdxsim_xlate tdxsim_guest_fetch(struct tdxsim_td *td, struct tdxsim_vcpu *vcpu, u8 *buf,
				     unsigned int *len, struct tdxsim_fault *f)
{
	struct vmcb *vmcb = tdxsim_vmcb(vcpu);
	u64 ip = vmcb->save.cs.base + vmcb->save.rip;
	unsigned int done = 0;
	enum tdxsim_xlate ret = XLATE_OK;

	while (done < *len) {
		unsigned int n = min_t(unsigned int, *len - done,
				       PAGE_SIZE - offset_in_page(ip + done));

		ret = tdxsim_mmu_fault(td, vcpu, ip + done, ACCESS_EXEC, vmcb->save.cpl == 3, f);
		if (ret != XLATE_OK)
			break;
		memcpy(buf + done, tdxsim_va(f->hpa), n);
		done += n;
	}

	*len = done;
	return ret;
}

static int __init mmu_init(void)
{
	unsigned int i;
	int cpu;

	if (!tdxsim_platform.on)
		return 0;

	for_each_possible_cpu(cpu) {
		struct mmu *m = kzalloc_obj(*m);

		if (!m)
			return -ENOMEM;
		for (i = 0; i < NR_TABLES; i++) {
			m->tables[i] = (u64 *)get_zeroed_page(GFP_KERNEL);
			if (!m->tables[i])
				return -ENOMEM;
		}
		per_cpu(mmu, cpu) = m;
	}

	return 0;
}
early_initcall(mmu_init);
