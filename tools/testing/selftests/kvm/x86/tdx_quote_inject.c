// SPDX-License-Identifier: GPL-2.0-only
/*
 * TDG.VP.VMCALL<GetQuote> on a TDX module that fails, or does not tell the truth
 *
 * Only a software TDX module can be told to: needs tdxsim's debugfs.
 */
#include <pthread.h>
#include <signal.h>

#include "tdx_quote_td.h"

#define GET		"TDH.QUOTE.GET:"
#define RD_MAX_SIZE	"TDH.SYS.RD/2300000200000002:"

static const struct fault {
	const char *what;
	const char *spec;
	u32 len;		/* of the Quote; 0: SERVICE_UNAVAILABLE */
} faults[] = {
	/* An error of each class, then and for good, or once the Quote has been begun */
	{ "operand invalid", GET "C000010000000000" },
	{ "operand invalid, after two steps", GET "C000010000000000:3" },
	{ "page metadata incorrect", GET "C000030000000000" },
	{ "wrong state of the module", GET "C000050800000000" },
	{ "wrong state of the TD", GET "C000060700000000" },
	{ "TD fatal", GET "E000060400000000" },
	{ "key state incorrect", GET "C000081100000000" },
	{ "of a class that nobody knows", GET "C000FF0000000000" },
	{ "a success that is none", GET "0000030100000000" },
	{ "all bits set", GET "FFFFFFFFFFFFFFFF" },
	{ "VMfailInvalid", GET "8000FF00FFFF0000" },
	{ "interrupted and not resumable", GET "8000000400000000" },
	/* What passes when it is tried again */
	{ "busy ten times", GET "8000020000000000:1:10", QUOTE_LEN },
	{ "busy after a step", GET "8000020000000000:2:10", QUOTE_LEN },
	{ "busy with an operand's id", GET "8000020000000080:1:3", QUOTE_LEN },
	{ "no entropy once", GET "8000020300000000:1:1", QUOTE_LEN },
	{ "no entropy ever", GET "8000020300000000" },
	{ "interrupted a thousand times", GET "8000000300000000:1:1000", QUOTE_LEN },
	{ "busy for ever", GET "8000020000000000" },
	{ "busy for ever once begun", GET "8000020000000000:2" },
	/* What no module should return */
	{ "length 0", GET "=0" },
	{ "length 1", GET "=1", 1 },
	{ "a byte more than there is memory", GET "=2001" },
	{ "4 GB", GET "=100000000" },
	{ "4 GB and something", GET "=100000001" },
	{ "negative length", GET "=FFFFFFFFFFFFFFFF" },
	{ "negative length in 32 bits", GET "=FFFFFFFF" },
	/* The size of the largest Quote is read for each of them */
	{ "largest Quote cannot be read", RD_MAX_SIZE "C0000C0200000000" },
	{ "largest Quote of 0 bytes", RD_MAX_SIZE "=0" },
	{ "largest Quote of 16 MB and a byte", RD_MAX_SIZE "=1000001" },
	{ "largest Quote of 4 GB", RD_MAX_SIZE "=100000000" },
	{ "largest Quote of 4 GB and 8 KB", RD_MAX_SIZE "=100002000" },
	{ "largest Quote smaller than what is made", RD_MAX_SIZE "=1000" },
	{ "largest Quote larger than what is made", RD_MAX_SIZE "=4000", QUOTE_LEN },
	{ "length for which nothing was made", RD_MAX_SIZE "=4000," GET "=4000", 0x4000 },
};

/* What the module has not written is not to be what others have left. */
static bool rest_is_zero(struct quote_td *td, u32 len)
{
	return len <= QUOTE_LEN || all_are(td->req->data + QUOTE_LEN, 0, len - QUOTE_LEN);
}

static void test_faults(struct quote_td *tds)
{
	const struct fault *f;
	bool ok;

	for (f = faults; f < faults + ARRAY_SIZE(faults); f++) {
		inject(f->spec);
		ok = get_quote(&tds[0], f->len) && rest_is_zero(&tds[0], f->len);
		inject("clear");
		/* And no harm is done to who comes next, or has nothing to do with it. */
		ok &= get_quote(&tds[0], QUOTE_LEN);
		ok &= get_quote(&tds[1], QUOTE_LEN);
		ksft_test_result(ok, "%s\n", f->what);
	}
}

static void ignore_signal(int sig)
{
}

static int run_errno;

static void *run_vcpu(void *arg)
{
	struct quote_td *td = arg;

	run_errno = __vcpu_run(td->vcpu.vcpu) ? errno : 0;
	return NULL;
}

/* Only as long as a Quote has not been begun does a signal make KVM take it up later. */
static void test_signal(struct quote_td *td)
{
	const struct sigaction sa = { .sa_handler = ignore_signal };
	long calls = status_of("TDH.QUOTE.GET");
	pthread_t thread;
	bool ok;

	sigaction(SIGUSR1, &sa, NULL);
	inject(GET "8000000300000000:1:1," GET "8000020000000000:1:1000");
	make_request(td);
	pthread_create(&thread, NULL, run_vcpu, td);
	while (status_of("TDH.QUOTE.GET") < calls + 3)
		usleep(1000);
	pthread_kill(thread, SIGUSR1);
	pthread_join(thread, NULL);

	/* The signal is delivered when the Quote is there. */
	ok = td->req->status == TDX_QUOTE_STATUS_SUCCESS;
	if (!ok)
		ksft_print_msg("KVM_RUN returned (errno %d) with status 0x%lx\n", run_errno,
			       td->req->status);
	inject("clear");
	if (run_errno)
		tdx_proxy_run_without_exit(&td->vcpu);
	ok &= answer_ok(td, QUOTE_LEN);
	ksft_test_result(ok, "a signal while a Quote that was begun waits\n");
}

int main(int argc, char *argv[])
{
	struct kvm_tdx_capabilities *caps;
	struct quote_td tds[2];
	int i;

	TEST_REQUIRE(kvm_has_tdx());
	TEST_REQUIRE(!access(DEBUGFS "fault", W_OK));

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(faults) + 2);

	for (i = 0; i < ARRAY_SIZE(tds); i++)
		quote_td_create(&tds[i]);
	caps = vm_tdx_get_capabilities(tds[0].vm);
	TEST_ASSERT(!caps->user_tdvmcallinfo_1_r11, "Quotes are made in userspace");
	free(caps);

	test_faults(tds);
	test_signal(&tds[0]);

	for (i = 0; i < ARRAY_SIZE(tds); i++)
		kvm_vm_free(tds[i].vm);
	ksft_test_result(!status_of("tds") && !status_of("quotes_running"),
			 "no TD and no Quote is left\n");

	ksft_finished();
}
