// SPDX-License-Identifier: GPL-2.0
/*
 * tdxsim: TDH.QUOTE.GET.
 *
 * A Quote is bytes that depend on the TD, on the input and on a key, so that one
 * that ends up with the wrong TD, or is cut or mixed up, can be told. It says
 * of itself that it is a simulated one.
 */
#include <linux/bitfield.h>
#include <linux/delay.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/pfn.h>
#include <linux/siphash.h>
#include <linux/sort.h>
#include <linux/spinlock.h>
#include <linux/string.h>

#include "td.h"

/* Of the platform: the same for all TDs, and of no worth. */
static const siphash_key_t platform_key = { { 0x7464787369006d61, 0x632d6b6579000000 } };

#define MAX_SLOTS	64

/* A Quote in the making, known by TD and output list. */
static struct quote_slot {
	u64 tdr;			/* 0: free */
	u64 list;
	u64 rdx, r8, r9, r11;		/* what it was begun with */
	bool busy;			/* a CPU is at it */
	struct tdxsim_steps steps;
} slots[MAX_SLOTS];

static DEFINE_RAW_SPINLOCK(slots_lock);

#define REPORT_DATA	128
#define REPORT_MRTD	528
#define REPORT_MAC	224
#define REPORT_MAC_LEN	32
#define REPORT_LEN	1024

/* Over all of the report but the MAC itself. */
void tdxsim_make_report_mac(const u8 *report, u8 mac[32])
{
	u64 out[4];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(out); i++) {
		siphash_key_t key = platform_key;

		key.key[0] += i;
		key.key[1] ^= siphash(report, REPORT_MAC, &key);
		out[i] = siphash(report + REPORT_MAC + REPORT_MAC_LEN,
				 REPORT_LEN - REPORT_MAC - REPORT_MAC_LEN, &key);
	}
	memcpy(mac, out, sizeof(out));
}

static bool report_ok(const u8 *report)
{
	u8 mac[REPORT_MAC_LEN];

	tdxsim_make_report_mac(report, mac);
	return !memcmp(mac, report + REPORT_MAC, sizeof(mac));
}

/* HPA_LINKED_LIST */
#define LIST_PAGES	511
#define LIST_END	(~0ULL)

#define MAX_DATA_PAGES	(TDXSIM_MAX_QUOTE_SIZE >> PAGE_SHIFT)
#define MAX_NODES	DIV_ROUND_UP(MAX_DATA_PAGES, LIST_PAGES)

/* Handlers run with interrupts off: one of each for a CPU. */
static DEFINE_PER_CPU(struct {
	u8 page[PAGE_SIZE];
	u8 report[REPORT_LEN];
	u64 pages[MAX_NODES + MAX_DATA_PAGES + 1];	/* that a call names, and the input's */
}, scratch);

struct list_node {
	u64 page[LIST_PAGES];
	u64 next;
};

struct list_iter {
	struct list_node *node;
	unsigned int i;
};

/* The next data page of the list; NULL if there is none, or not a page that may be written. */
static void *list_next(struct list_iter *it)
{
	u64 pa;

	if (it->i == LIST_PAGES) {
		pa = READ_ONCE(it->node->next);
		if (!tdxsim_hpa_is_memory(pa, PAGE_SIZE, PAGE_SIZE))
			return NULL;
		it->node = tdxsim_va(pa);
		it->i = 0;
	}

	pa = READ_ONCE(it->node->page[it->i++]);
	return tdxsim_hpa_is_memory(pa, PAGE_SIZE, PAGE_SIZE) ? tdxsim_va(pa) : NULL;
}

/* Behind the pages that are needed there is nothing but ends. */
static bool list_ends(struct list_iter *it)
{
	for (; it->i < LIST_PAGES; it->i++) {
		if (READ_ONCE(it->node->page[it->i]) != LIST_END)
			return false;
	}

	return READ_ONCE(it->node->next) == LIST_END;
}

static int cmp_pages(const void *a, const void *b)
{
	return cmp_int(*(const u64 *)a, *(const u64 *)b);
}

static bool all_different(u64 *pages, unsigned int nr)
{
	unsigned int i;

	sort(pages, nr, sizeof(*pages), cmp_pages, NULL);
	for (i = 1; i < nr; i++) {
		if (pages[i] == pages[i - 1])
			return false;
	}

	return true;
}

/*
 * Nodes, data pages and input are all different pages: what is written would
 * be read after that. Only the input may be where the Quote begins.
 */
static bool list_ok(u64 list, u64 size, u64 input)
{
	u64 *pages = this_cpu_ptr(&scratch)->pages;
	struct list_iter it = { .node = tdxsim_va(list) };
	unsigned int nr = 0, left;
	u64 first = LIST_END;

	if (!tdxsim_hpa_is_memory(list, PAGE_SIZE, PAGE_SIZE))
		return false;
	pages[nr++] = list;

	for (left = PFN_UP(size); left; left--) {
		struct list_node *node = it.node;
		void *page = list_next(&it);

		if (!page)
			return false;
		if (it.node != node)
			pages[nr++] = __pa(it.node);
		if (first == LIST_END)
			first = __pa(page);
		pages[nr++] = __pa(page);
	}

	if (!list_ends(&it))
		return false;

	if (input != first)
		pages[nr++] = input;
	return all_different(pages, nr);
}

/*
 * The Quote: text, key generation, MRTD, REPORTDATA, then a stream of bytes that
 * depends on all of the report.
 */
struct quote_head {
	char text[64];
	u64 generation;
	u8 mrtd[48];
	u8 reportdata[64];
};

static u64 quote_digest(const struct tdxsim_td *td, const u8 *report)
{
	siphash_key_t key = platform_key;

	key.key[1] += tdxsim_sys.quote_key_generation;
	return siphash_2u64(siphash(report, REPORT_LEN, &key), td->key, &key);
}

static void quote_page(u8 *page, unsigned int nr, u64 digest, const u8 *report)
{
	u64 word = siphash_1u64(nr, &(siphash_key_t){ { digest } });
	u64 *p = (u64 *)page;
	unsigned int i;

	for (i = 0; i < PAGE_SIZE / sizeof(*p); i++) {
		word = (word ^ word >> 29) * 0xbf58476d1ce4e5b9ULL + i;
		p[i] = word;
	}

	if (!nr) {
		struct quote_head head = {
			.text = "tdxsim: this Quote is simulated and proves nothing\n",
			.generation = tdxsim_sys.quote_key_generation,
		};

		memcpy(head.mrtd, report + REPORT_MRTD, sizeof(head.mrtd));
		memcpy(head.reportdata, report + REPORT_DATA, sizeof(head.reportdata));
		memcpy(page, &head, sizeof(head));
	}
}

/* False: the host has changed the list since it was checked. */
static bool write_quote(u64 list, const struct tdxsim_td *td, const u8 *report, u32 size)
{
	u64 digest = quote_digest(td, report);
	struct list_iter it = { .node = tdxsim_va(list) };
	u8 *buf = this_cpu_ptr(&scratch)->page;
	unsigned int nr;

	for (nr = 0; nr * PAGE_SIZE < size; nr++) {
		void *to = list_next(&it);

		if (!to)
			return false;
		quote_page(buf, nr, digest, report);
		memcpy(to, buf, min_t(u32, PAGE_SIZE, size - nr * PAGE_SIZE));
	}

	return true;
}

static struct quote_slot *slot_get(u64 tdr, const struct pt_regs *regs)
{
	unsigned int max = min_t(unsigned int, tdxsim_opt(quote_slots), MAX_SLOTS);
	struct quote_slot *free = NULL, *slot = NULL;
	unsigned int i, used = 0;

	raw_spin_lock(&slots_lock);
	for (i = 0; i < MAX_SLOTS; i++) {
		if (slots[i].tdr == tdr && slots[i].list == regs->r10)
			slot = &slots[i];
		else if (slots[i].tdr)
			used++;
		else if (!free)
			free = &slots[i];
	}

	if (slot) {
		if (slot->busy)
			slot = NULL;
	} else if (free && used < max) {
		slot = free;
		*slot = (struct quote_slot) {
			.tdr = tdr, .list = regs->r10, .rdx = regs->dx, .r8 = regs->r8,
			.r9 = regs->r9, .r11 = regs->r11,
		};
		atomic_inc(&tdxsim_stats.quotes_running);
	}
	if (slot)
		slot->busy = true;
	raw_spin_unlock(&slots_lock);

	return slot;
}

static void slot_put(struct quote_slot *slot, bool done)
{
	raw_spin_lock(&slots_lock);
	slot->busy = false;
	if (done && slot->tdr) {
		slot->tdr = 0;
		atomic_dec(&tdxsim_stats.quotes_running);
	}
	raw_spin_unlock(&slots_lock);
}

static void drop(u64 tdr)
{
	unsigned int i;

	raw_spin_lock(&slots_lock);
	for (i = 0; i < MAX_SLOTS; i++) {
		if (slots[i].tdr && (!tdr || slots[i].tdr == tdr)) {
			slots[i].tdr = 0;
			atomic_dec(&tdxsim_stats.quotes_running);
		}
	}
	raw_spin_unlock(&slots_lock);
}

void tdxsim_quotes_drop(void)
{
	drop(0);
}

void tdxsim_quotes_drop_td(u64 tdr)
{
	drop(tdr);
}

#define QUOTE_FORMAT		GENMASK_ULL(47, 32)
#define QUOTE_FORMAT_DEFAULT	0xffff

static u64 check_operands(struct pt_regs *regs, u32 size)
{
	if ((regs->dx & ~QUOTE_FORMAT) ||
	    FIELD_GET(QUOTE_FORMAT, regs->dx) != QUOTE_FORMAT_DEFAULT)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RDX);
	if (regs->r9 != REPORT_LEN)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R9);
	if (!tdxsim_hpa_is_memory(regs->r8, PAGE_SIZE, PAGE_SIZE))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R8);
	if (regs->r11 < size || regs->r11 > TDXSIM_MAX_QUOTE_SIZE)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R11);
	if (!list_ok(regs->r10, regs->r11, regs->r8))
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R10);

	return ST_SUCCESS;
}

/* Who goes on with a Quote says the same as who began it. */
static u64 check_resumed(const struct quote_slot *slot, const struct pt_regs *regs)
{
	if (slot->rdx != regs->dx)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_RDX);
	if (slot->r8 != regs->r8)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R8);
	if (slot->r9 != regs->r9)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R9);
	if (slot->r11 != regs->r11)
		return tdxsim_status(ST_OPERAND_INVALID, OPID_R11);

	return ST_SUCCESS;
}

static void take_time(unsigned int us)
{
	mdelay(us / USEC_PER_MSEC);
	udelay(us % USEC_PER_MSEC);
}

static u64 step(struct tdxsim_td *td, struct pt_regs *regs, u32 size)
{
	struct quote_slot *slot = slot_get(td->tdr, regs);
	u8 *report = this_cpu_ptr(&scratch)->report;
	u64 status;

	if (!slot)
		return tdxsim_status(ST_OPERAND_BUSY, OPID_SYS);

	status = check_resumed(slot, regs);
	if (status) {
		slot_put(slot, false);
		return status;
	}

	take_time(tdxsim_opt(quote_step_us));
	if (tdxsim_step(&slot->steps)) {
		slot_put(slot, false);
		return ST_INTERRUPTED_RESUMABLE;
	}

	memcpy(report, tdxsim_va(regs->r8), REPORT_LEN);
	/* A report of this platform, and of this TD. */
	if (!report_ok(report) || memcmp(report + REPORT_MRTD, td->mrtd, sizeof(td->mrtd))) {
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_R8);
	} else if (!write_quote(regs->r10, td, report, size)) {
		status = tdxsim_status(ST_OPERAND_INVALID, OPID_R10);
	} else {
		regs->cx = size;
		atomic64_inc(&tdxsim_stats.quotes_made);
	}

	slot_put(slot, true);
	return status;
}

/*
 * RCX: TDR, RDX: format, R8: input, R9: its length, R10: list of output pages,
 * R11: size of the output. RCX out: length of the Quote.
 */
u64 tdxsim_quote_get(struct pt_regs *regs, u8 version)
{
	struct tdxsim_td_ref ref;
	u64 status;
	u32 size;

	status = tdxsim_quote_check_ready();
	if (status)
		return status;

	status = tdxsim_td_get_op(regs->cx, TDXSIM_SHARED, OPID_RCX, TD_RUNNABLE, &ref);
	if (status)
		return status;

	/* TDH.QUOTE.INIT may change it at any time. */
	size = READ_ONCE(tdxsim_sys.max_quote_size);
	status = check_operands(regs, size);
	if (!status)
		status = step(ref.td, regs, size);

	tdxsim_td_put(&ref);
	return status;
}
