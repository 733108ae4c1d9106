// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread that moves from one CPU to another while it initializes a TD's vCPU
 */
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "tdx.h"
#include "test_util.h"

#define NR_TDS	150

static pid_t main_tid;
static bool stop;

static void move_to(pid_t tid, int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	TEST_ASSERT(!sched_setaffinity(tid, sizeof(cpus), &cpus),
		    "No CPU %d, errno %d", cpu, errno);
}

/* As the scheduler does it now and then. What is moved does not run here meanwhile. */
static void *move_main_thread(void *arg)
{
	int cpu = 0;

	while (!READ_ONCE(stop)) {
		move_to(main_tid, cpu ^= 1);
		usleep(random() % 50);
	}

	return NULL;
}

static void guest_code(void)
{
	GUEST_DONE();
}

int main(void)
{
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	pthread_t thread;
	struct ucall uc;
	int i, done = 0;

	TEST_REQUIRE(kvm_has_tdx());
	TEST_REQUIRE(sysconf(_SC_NPROCESSORS_ONLN) > 1);

	ksft_print_header();
	ksft_set_plan(1);

	main_tid = syscall(SYS_gettid);
	TEST_ASSERT(!pthread_create(&thread, NULL, move_main_thread, NULL), "No thread");

	for (i = 0; i < NR_TDS; i++) {
		vm = vm_tdx_create_with_one_vcpu(guest_code, &vcpu);
		vm_tdx_launch(vm);
		vcpu_run(vcpu);
		done += get_ucall(vcpu, &uc) == UCALL_DONE;
		kvm_vm_free(vm);
	}

	WRITE_ONCE(stop, true);
	pthread_join(thread, NULL);
	ksft_test_result(done == NR_TDS, "%d TDs, made by a thread that moves\n", done);
	ksft_finished();
}
